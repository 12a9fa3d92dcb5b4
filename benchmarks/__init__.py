"""The project measured beside its peers, on the same events, in one run: `make bench` (docs/benchmarks.md)."""
