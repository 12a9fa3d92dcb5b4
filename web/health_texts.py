"""What the checks of `/health` say, in English, by key; the pages translate by the key.

Keys that begin with `reason.` are those of `emis_streams.lag_rules.REASONS`.
"""

from emis_streams.lag_rules import REASONS

_HELD = "{partition}: " + REASONS["open_transaction"]

OUTPUTS: dict[str, str] = {
    **{f"reason.{key}": text for key, text in REASONS.items()},
    "brokers.ok": "{brokers} broker(s) answer; all topics are there.",
    "brokers.not_asked": "The brokers were not asked yet.",
    "brokers.unreachable": "{error}. Pages go on from the local copy, which gets older.",
    "brokers.missing": "Topics are missing: {topics}. Run `emis-streams topics`.",
    "brokers.offline": "Partitions without a leader: {partitions}.",
    "brokers.under_replicated": "{count} partitions have fewer replicas in sync than they should.",
    "tables.ok": "{partitions} source partitions are assigned here, and the tables are caught up.",
    "tables.elsewhere": "{members} worker(s) elsewhere ingest.",
    "tables.nobody": "No worker ingests: events wait in the topics.",
    "tables.rebalancing": "The group is sharing out its partitions anew.",
    "tables.catching_up": "The tables are being caught up from their changelogs.",
    "tables.waiting": "Ingestion waits: {reason}",
    "tables.lost": "{lost} records left the log before they were read: run `emis-streams sync`.",
    "tables.unknown": "Workers elsewhere ingest, and the brokers cannot be asked how it goes.",
    "read_model.ok": "Caught up; {records} changelog records read.",
    "read_model.behind": "Caught up once, now {seconds:.1f} s behind the changelogs.",
    "read_model.catching_up": "Being caught up; until then the database answers.",
    "read_model.catching_up_alone": "Being caught up, and there is no database that could answer until then.",
    "read_model.open_transaction": _HELD,
    "read_model.waiting": "Waiting: {reason}",
    "replica.ok": "Caught up; {records} changelog records written.",
    "replica.behind": "{seconds:.1f} s behind the changelogs.",
    "replica.catching_up": "The database is being caught up from the changelogs.",
    "replica.open_transaction": _HELD,
    "replica.waiting": "Waiting for the database: {reason}",
    "replica.elsewhere": "{members} worker(s) elsewhere write the database.",
    "replica.nobody": "No worker writes the database now.",
    "dead_letters.ok": "No record was refused in the last hour; {count} in all.",
    "dead_letters.recent": (
        "Records were refused within the last hour, {count} in all: see `emis-streams dead-letters list`."
    ),
    "dead_letters.unknown": "The dead-letter topic cannot be asked.",
    "changelogs.ok": "Every record of the changelogs that was read since the start is a row.",
    "changelogs.recent": (
        "{count} records of changelogs that are no rows were left out since the start, the last within the hour: "
        "{where}. See `emis-streams changelogs check --repair`."
    ),
    "changelogs.old": (
        "{count} records of changelogs that are no rows were left out since the start, none within the last hour: "
        "{where}."
    ),
    "lag.over": "{lag} records behind: more than {limit}.",
    "lag.unsynced": "A partition was not level with its source for at least {seconds:.0f} s: more than {limit:.0f} s.",
    "latency.ok": "An event is visible after {seconds:.2f} s on average.",
    "latency.over": "An event is visible after {seconds:.2f} s on average: more than {limit:.0f} s.",
    "latency.none": "No event came in the last minute.",
    "clock.ok": "This machine's clock is right.",
    "clock.ahead": "This machine's clock is {seconds:.1f} s ahead of the brokers': set it right (chronyd).",
    "clock.behind": "This machine's clock is {seconds:.1f} s behind the brokers': set it right (chronyd).",
    "clock.unknown": "The brokers' clock was not measured yet.",
    "progress.ok": "Everything goes on.",
    "progress.none": "No progress: {reason}. The process ends if that goes on.",
    "memory.ok": "{percent:.0f} % of what this process may use.",
    "memory.high": "{percent:.0f} % of what this process may use.",
}
