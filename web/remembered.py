"""Teachers' answers as they go over the wire, remembered while the local copy does not change.

Pages are looked at far more often than classes change, and while nothing changes the same answer is
the right one; only its age goes on. A change of any row forgets them all: simpler than knowing which
teachers a class belongs to, and never wrong (measured in docs/benchmarks.md).
"""

import msgspec
from aiohttp import web

from emis_streams.answers import TeacherDetail
from emis_streams.events import is_canonical_id
from emis_streams.read_model.model import ReadModel

MAX_BYTES = 40 << 20
"""Of all answers together, some 10,000 of them; when there are more, all are forgotten."""

_encode = msgspec.json.Encoder().encode
_AGE = b',"ageSeconds":null,"stale":true}'
"""How an answer ends whose age is not filled in: the last two fields of the struct."""


class RememberedTeachers:
    """Encoded answers of the local copy, up to where their age belongs."""

    def __init__(self) -> None:
        self._bodies: dict[str, bytes] = {}
        self.n_bytes = 0
        self._changes = -1

    def body(self, model: ReadModel, teacher_id: str) -> bytes | None:
        """The JSON up to `ageSeconds`; None if there is no such teacher (or the id is malformed)."""
        if self._changes != model.changes or self.n_bytes >= MAX_BYTES:
            self._bodies.clear()
            self.n_bytes = 0
            self._changes = model.changes
        body = self._bodies.get(teacher_id)
        if body is None and is_canonical_id(teacher_id):
            found = model.teacher(teacher_id)
            if isinstance(found, TeacherDetail):
                body = _encode(found).removesuffix(_AGE)
                if found.total is not None:  # Else it changes while the list is counted.
                    self._bodies[teacher_id] = body
                    self.n_bytes += len(body)
        return body


REMEMBERED: web.AppKey[RememberedTeachers] = web.AppKey("remembered_teachers", RememberedTeachers)


def setup(app: web.Application) -> None:
    app[REMEMBERED] = RememberedTeachers()
