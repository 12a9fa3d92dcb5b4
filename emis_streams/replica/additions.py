"""What releases since 0.1.0 added to the replica's tables: columns that may be null, and indexes.

They are no revision of Alembic. A worker of the release before ends at a revision that it does not know, and during a
rolling upgrade it asks for the revision at each rebalance. A table with more columns or indexes does not disturb it.
"""

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Column, Connection, Table, inspect, update
from sqlalchemy.engine.reflection import Inspector

from emis_streams.replica.schema import metadata, replica_positions


def add_missing(connection: Connection) -> None:
    """Adds what is missing to tables that exist. Raises SQLAlchemyError, also if the user has no right to do it."""
    existing = inspect(connection)
    operations = Operations(MigrationContext.configure(connection))
    for table in metadata.tables.values():
        added = _add_columns(table, existing, operations)
        if replica_positions.c.WrittenOffset.name in added and table is replica_positions:
            # All that is there was written when rows of format 2 did not exist yet.
            connection.execute(update(table).values(WrittenOffset=table.c.NextOffset))
        _add_indexes(table, existing, operations)


def _add_columns(table: Table, existing: Inspector, operations: Operations) -> list[str]:
    """Returns their names."""
    names = {str(column["name"]) for column in existing.get_columns(table.name)}
    missing = [c for c in table.columns if c.name not in names and c.nullable and c.computed is None]
    for column in missing:
        operations.add_column(table.name, Column(column.name, column.type))
    return [str(column.name) for column in missing]


def _add_indexes(table: Table, existing: Inspector, operations: Operations) -> None:
    names = {index["name"] for index in existing.get_indexes(table.name)}
    for index in table.indexes:
        if index.name not in names:
            operations.create_index(index.name, table.name, [column.name for column in index.columns])
