"""The journal of a process's health: which check changed its state when. Bounded, and kept over restarts.

It is one file of DATA_DIR, written whole at each change: a reader sees the old one or the new one. What cannot be read
of it is left out with a line in the log: nobody's start depends on it.
"""

import logging
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec

from emis_streams.errors import UNREADABLE_JSON
from emis_streams.health_report import NOT_KNOWN, Check, CheckStatus, HealthChange
from emis_streams.lag_report import Camel

log = logging.getLogger(__name__)

FILE_NAME = "health-journal.json"
MOST_CHANGES = 200
_MOST_CHARACTERS = 500
"""Of one text: it may have been written by the brokers, or by a database."""
_MOST_BYTES = 4 << 20
"""A larger file is not ours: 200 changes are a tenth of it."""
_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
STARTED = "journal.started"
"""Key of the change that a start of the process is."""
_BEHIND = frozenset({"reason.trend_unknown", "reason.growing", "reason.steady", "lag.over", "lag.unsynced"})
"""Keys of one state: which trend a lag has right now changes every few seconds, and is no change of state."""


class _State(Camel, frozen=True, kw_only=True):
    """What a check says, as far as a change of it is worth a line."""

    status: CheckStatus
    key: str
    """Empty while it is well: one way of being well is as good as another."""
    since: Annotated[datetime, msgspec.Meta(tz=True)]


class _Kept(Camel, frozen=True, kw_only=True):
    """The file."""

    changes: tuple[HealthChange, ...]
    states: dict[str, _State]


class HealthJournal:
    """Changes of the checks' states; `load` once, then `note` what the checks say, and `save` if something changed."""

    def __init__(self, path: Path | None = None, most: int = MOST_CHANGES) -> None:
        """Without a path it is kept in memory only."""
        self._path = path
        self._most = most
        self._changes: list[HealthChange] = []
        self._states: dict[str, _State] = {}
        self._could_save = True
        self.is_saved = True
        """Whether the file has all that was noted."""

    @property
    def changes(self) -> tuple[HealthChange, ...]:
        """The newest first."""
        return tuple(reversed(self._changes))

    def load(self) -> None:
        """Read what an earlier process kept; a file that is missing, damaged or not ours leaves an empty journal."""
        if self._path is None:
            return
        try:
            if self._path.stat().st_size > _MOST_BYTES:
                raise msgspec.ValidationError(f"it has more than {_MOST_BYTES} bytes")
            kept = msgspec.json.decode(self._path.read_bytes(), type=_Kept)
            _check_times(kept)
        except FileNotFoundError:
            return
        except (OSError, *UNREADABLE_JSON) as error:
            log.warning("%s cannot be read and is begun again: %s", self._path, _short(str(error)))
            return
        self._changes = list(kept.changes[-self._most :])
        self._states = dict(kept.states)

    def note_start(self, version: str, at: datetime) -> None:
        """A process has started: gaps before it are not known."""
        self._add(
            HealthChange(
                at=at,
                part="process",
                before=None,
                after="pass",
                output=f"The process started, version {version}.",
                output_key=STARTED,
                output_params={"version": version},
            )
        )

    def note(self, checks: Mapping[str, Check], at: datetime) -> bool:
        """Compare what the checks say with what they said; returns whether something changed."""
        found = [self._note_one(part, check, at) for part, check in checks.items()]
        return any(found)

    def _note_one(self, part: str, check: Check, at: datetime) -> bool:
        before = self._states.get(part)
        if before is not None and (before.status, before.key) == (check.status, _key(check)):
            return False
        self.is_saved = False
        self._states[part] = _State(status=check.status, key=_key(check), since=at)
        if check.status == "pass" and (before is None or before.status == "pass"):
            return True  # What is not known passes: it has a time, and no line.
        self._add(
            HealthChange(
                at=at,
                part=part,
                before=None if before is None else before.status,
                after=check.status,
                output=_short(check.output),
                output_key=check.output_key,
                output_params={name: _short(v) if isinstance(v, str) else v for name, v in check.output_params.items()},
            )
        )
        return True

    def _add(self, change: HealthChange) -> None:
        """One check that changes all the time does not push out the changes of the others."""
        self.is_saved = False
        self._changes.append(change)
        if len(self._changes) > self._most:
            (part, _), *_ = Counter(one.part for one in self._changes).most_common(1)
            del self._changes[next(n for n, one in enumerate(self._changes) if one.part == part)]

    def since(self, part: str, check: Check) -> datetime | None:
        """Since when a check says what it says; None if it was not noted yet."""
        state = self._states.get(part)
        if state is None or (state.status, state.key) != (check.status, _key(check)):
            return None
        return state.since

    def with_since(self, checks: Mapping[str, Check]) -> dict[str, Check]:
        """The checks, each with since when it says what it says."""
        return {part: msgspec.structs.replace(check, since=self.since(part, check)) for part, check in checks.items()}

    def not_well_since(self, part: str) -> datetime | None:
        """Since when a check does not pass, or does not know; None if it is well or was not noted yet."""
        state = self._states.get(part)
        return None if state is None or not state.key else state.since

    def save(self) -> None:
        """Write the file. A disk that refuses is named in the log once: the journal goes on in memory."""
        self.is_saved = True
        if self._path is None:
            return
        body = msgspec.json.encode(_Kept(changes=tuple(self._changes), states=self._states))
        try:
            _replace(self._path, body)
        except OSError as error:
            if self._could_save:
                log.warning("%s cannot be written, and goes on in memory: %s", self._path, error.strerror)
            self._could_save = False
        else:
            self._could_save = True


def _check_times(kept: _Kept) -> None:
    """Raises ValidationError for a time that cannot be written in every zone, as pages do."""
    times = [*(change.at for change in kept.changes), *(state.since for state in kept.states.values())]
    if not all(_EARLIEST < time < _LATEST for time in times):
        raise msgspec.ValidationError("a time in it is too early or too late")


def _replace(path: Path, body: bytes) -> None:
    """Raises OSError; the file at `path` is the old one or the new one, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    with beside.open("wb") as file:
        file.write(body)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def _key(check: Check) -> str:
    if check.status == "pass" and check.output_key not in NOT_KNOWN:
        return ""
    return "behind" if check.output_key in _BEHIND else check.output_key


def _short(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 1] + "…"
