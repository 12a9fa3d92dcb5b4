"""What has to be known of all dead letters before one is answered for, in a temporary file: memory stays the same,
however many there are."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import msgspec

from emis_streams.dead_letter_headers import Header
from emis_streams.dead_letters import DeadLetter
from emis_streams.errors import Unavailable
from emis_streams.replays import Replay

_CACHE_KIB = 16_384
_TABLES = """
CREATE TABLE Replays (Place TEXT, Origin TEXT);
CREATE TABLE Origins (Origin TEXT);
CREATE TABLE Again (Place TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE Headers (Place TEXT PRIMARY KEY, Own BLOB) WITHOUT ROWID;
"""
_FIND_AGAIN = """
CREATE INDEX OriginsByText ON Origins (Origin);
INSERT INTO Again SELECT DISTINCT Place FROM Replays WHERE Origin IN (SELECT Origin FROM Origins);
CREATE INDEX ReplaysByPlace ON Replays (Place);
"""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]]).decode


class LetterIndex:
    """Of one run of a command. Raises Unavailable if there is no room for the file (TMPDIR says where it is)."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)  # A file without a name, gone with the connection.
        self._has_replays = False
        with _room():
            self._db.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            self._db.execute("PRAGMA temp_store = FILE")
            self._db.execute("PRAGMA journal_mode = OFF")
            self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._db.close()

    def add(self, letters: Iterable[DeadLetter], replays: Sequence[Replay]) -> None:
        """Where letters came from, and which ones were sent again."""
        with self._transaction():
            self._db.executemany("INSERT INTO Origins VALUES (?)", ((letter.origin,) for letter in letters))
            self._db.executemany("INSERT INTO Replays VALUES (?, ?)", ((one.place, one.origin) for one in replays))
        self._has_replays = self._has_replays or bool(replays)

    def add_headers(self, letters: Iterable[DeadLetter]) -> None:
        """The headers of the refused records."""
        rows = ((letter.place, _encode(letter.own_headers)) for letter in letters)
        with self._transaction():
            self._db.executemany("INSERT OR REPLACE INTO Headers VALUES (?, ?)", rows)

    def complete(self) -> None:
        """After everything was added, before anything is asked."""
        if self._has_replays:
            with _room():
                self._db.executescript(_FIND_AGAIN)

    def refused_again(self, letter: DeadLetter) -> bool:
        """Whether it was sent again, and came back as another letter."""
        return self._has_replays and self._has("SELECT 1 FROM Again WHERE Place = ?", letter.place)

    def replayed(self, letter: DeadLetter) -> bool:
        """Whether it was sent again."""
        return self._has_replays and self._has("SELECT 1 FROM Replays WHERE Place = ?", letter.place)

    def headers_at(self, place: str) -> list[Header] | None:
        """The headers of the refused record; None if there is no letter at the place."""
        with _room():
            found = self._db.execute("SELECT Own FROM Headers WHERE Place = ?", (place,)).fetchone()
        return None if found is None else list(_decode(found[0]))

    def _has(self, question: str, place: str) -> bool:
        with _room():
            return self._db.execute(question, (place,)).fetchone() is not None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with _room():
            self._db.execute("BEGIN")
            yield
            self._db.execute("COMMIT")


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        raise Unavailable(
            f"no room for the temporary file of a command: {error}; set TMPDIR to a folder that has some"
        ) from None
