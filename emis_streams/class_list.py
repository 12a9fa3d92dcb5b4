"""The order of a teacher's list of classes, and the place in it where a page begins.

Pages follow each other by class id and assignment id: an order that a changed name does not change, so that no entry
is skipped or repeated for the changes of others. Within a page, homeroom classes come first, then the others, in the
natural order of their names.
"""

from typing import NamedTuple, Self

from emis_streams.ids import canonical_id

DEFAULT_LIMIT = 500
"""More than any honest teacher has: such a list is one page, in natural order."""
MOST_LIMIT = 500


class Cursor(NamedTuple):
    """The last entry of a page, by its ids; later entries have higher ones."""

    class_id: str
    assignment_id: str = ""
    """Empty for a homeroom class without an assignment, which comes before assignments of the same class."""

    @classmethod
    def of(cls, text: str) -> Self:
        """From the text of `nextAfter`, its ids in any usual form. Raises ValueError for any other text."""
        ids = [canonical_id(part) for part in text.split(".", 2)]
        if len(ids) > 2 or None in ids:
            raise ValueError("the nextAfter of the page before")
        return cls(*(id_ for id_ in ids if id_ is not None))

    def __str__(self) -> str:
        return f"{self.class_id}.{self.assignment_id}" if self.assignment_id else self.class_id
