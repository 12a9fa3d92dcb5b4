"""What the checks of `/health` say, in English, by key; the pages translate by the key.

Keys that begin with `reason.` are those of `emis_streams.lag_rules.REASONS`.
"""

from emis_streams.lag_rules import ERRORS, REASONS

_OLDER = " Pages are served from the local copy, which gets older."
_HELD = "{partition}: " + REASONS["open_transaction"]

OUTPUTS: dict[str, str] = {
    **{f"reason.{key}": text for key, text in REASONS.items()},
    "brokers.ok": "Brokers that answer: {brokers}. All topics exist.",
    "brokers.not_asked": "The brokers have not been queried yet.",
    "brokers.no_broker": ERRORS["no_broker"] + _OLDER,
    "brokers.no_broker_alone": ERRORS["no_broker"],
    "brokers.refused": ERRORS["refused"] + _OLDER,
    "brokers.refused_alone": ERRORS["refused"],
    "brokers.missing": "Topics are missing: {topics}. Run `emis-streams topics`.",
    "brokers.offline": "Partitions without a leader: {partitions}.",
    "brokers.under_replicated": "{count:partition is|partitions are} under-replicated.",
    "tables.ok": "{partitions:source partition is|source partitions are} assigned here; the tables are caught up.",
    "tables.elsewhere": "{members:other worker ingests|other workers ingest}.",
    "tables.elsewhere_one": "Another worker ingests.",
    "tables.nobody": "No worker ingests: events wait in the topics.",
    "tables.rebalancing": "The consumer group is rebalancing.",
    "tables.catching_up": "The tables are being restored from their changelogs.",
    "tables.waiting": "Ingestion waits: {reason}",
    "tables.lost": "{lost:record|records} expired before being read: run `emis-streams sync`.",
    "tables.unknown": "It is not known whether a worker ingests: the brokers do not answer.",
    "read_model.ok": "Caught up; {records:changelog record|changelog records} read.",
    "read_model.behind": "{seconds:.1f} s behind the changelogs.",
    "read_model.catching_up": "Catching up; meanwhile the database answers.",
    "read_model.stalled": "Catching up, but nothing was read for {seconds:.0f} s; meanwhile the database answers.",
    "read_model.catching_up_alone": "Catching up, and no database can answer meanwhile.",
    "read_model.open_transaction": _HELD,
    "read_model.waiting": "Waiting: {reason}",
    "replica.ok": "Caught up; {records:changelog record|changelog records} written.",
    "replica.behind": "{seconds:.1f} s behind the changelogs.",
    "replica.catching_up": "The database is catching up with the changelogs.",
    "replica.stalled": "The database is catching up with the changelogs, but nothing was written for {seconds:.0f} s.",
    "replica.open_transaction": _HELD,
    "replica.waiting": "Waiting for the database: {reason}",
    "replica.elsewhere": "{members:other worker writes|other workers write} the database.",
    "replica.elsewhere_one": "Another worker writes the database.",
    "replica.nobody": "No worker writes the database now.",
    "dead_letters.ok": "No event was rejected in the last hour; {count} in all.",
    "dead_letters.recent": (
        "An event was rejected within the last hour; {count} in all: see `emis-streams dead-letters list`."
    ),
    "dead_letters.unknown": "The dead-letter topic cannot be read.",
    "changelogs.ok": "Every changelog record that was read since the start is valid.",
    "changelogs.recent": (
        "{count:invalid changelog record was|invalid changelog records were} skipped since the start, the last within "
        "the hour: {where}. See `emis-streams changelogs check --repair`."
    ),
    "changelogs.old": (
        "{count:invalid changelog record was|invalid changelog records were} skipped since the start, none within the "
        "last hour: {where}."
    ),
    "lag.over": "{lag:record|records} behind, over the limit of {limit}.",
    "lag.from_before": "{lag:record|records} behind, from before this process started; they are being processed.",
    "lag.unsynced": "A partition has not been caught up for at least {seconds:.0f} s, over the limit of {limit:.0f} s.",
    "latency.ok": "An event is visible after {seconds:.2f} s on average.",
    "latency.over": "An event is visible after {seconds:.2f} s on average, over the limit of {limit:.0f} s.",
    "latency.none": "No new events in the last minute.",
    "latency.waiting": (
        "No event became visible in the last minute, and {lag:event is|events are} waiting: the latency is not known."
    ),
    "latency.unknown": "No event became visible in the last minute. It is not known whether events are waiting.",
    "clock.ok": "The clock of this machine is correct.",
    "clock.ahead": "The clock of this machine is {seconds:.1f} s ahead of the brokers: synchronize it (chronyd).",
    "clock.behind": "The clock of this machine is {seconds:.1f} s behind the brokers: synchronize it (chronyd).",
    "clock.unknown": "The clock was not compared with that of the brokers yet.",
    "progress.ok": "All work makes progress.",
    "progress.none": "No progress: {reason}. The process exits if this continues.",
    "memory.ok": "{percent:.0f}% of what this process may use.",
    "journal.started": "The process started, version {version}.",
    "memory.high": "{percent:.0f}% of what this process may use.",
}
