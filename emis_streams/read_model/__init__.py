"""The local copy: every serving node follows the changelogs into one RocksDB and answers from it."""
