"""What Faust lacks for this work: slices, acknowledgements without gaps, one follower, a watchdog.

Any Faust application could use it: it imports nothing of ours. An app takes it by three settings:
`broker="slices://…"`, `store="slices://"` and the classes `Table` and `TableManager` from here.

The way of a slice: `fetch` (columns of records off the wire) → `transport` (one Faust message a
slice, entered into the partition's `chain`) → the agent → `table` (rows to RocksDB, changelog to
the brokers) → acknowledged → the chain's done offset → commit.
"""

SCHEME = "slices"
"""Of the URLs of broker and store that choose this transport and this store."""
