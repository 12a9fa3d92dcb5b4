"""The replica in MySQL (or SQLite): schema, writer, three-query reader, migrations."""
