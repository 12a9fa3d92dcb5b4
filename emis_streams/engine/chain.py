"""From fetch to acknowledgement: what of a partition is done, without a gap.

Every slice is a link that carries the fetch position before and after it. A link can only be
entered where the last one ended, and "done" moves over a link only when everything before it is
done. So an offset that is committed is durable, and nothing before it was dropped: not by a cleared
queue, not by a cancelled callback, not by a fetch that was thrown away (design, 2.4). Faust's own
arithmetic takes such holes for compaction gaps and commits over them (faust-streaming issue 596).
"""

from collections import deque
from dataclasses import dataclass


class Broken(Exception):
    """Records between the last link and this one were dropped: fetch again from `expected`."""

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(f"expected the fetch position {expected}, got {got}")
        self.expected = expected
        self.got = got


@dataclass(slots=True, eq=False)
class Link:
    """A slice's place in its chain."""

    base: int
    end: int
    done: bool = False


class Chain:
    """The slices under way of one partition, in the order of the log."""

    def __init__(self, start: int, topic_id: str = "") -> None:
        self.topic_id = topic_id
        """Offsets of one topic mean nothing in another one of the same name."""
        self.done_offset = start
        """Everything before it is durable: this may be committed."""
        self.tail = start
        """Where the next link has to begin."""
        self._links: deque[Link] = deque()

    def __len__(self) -> int:
        return len(self._links)

    def enter(self, base: int, end: int) -> Link:
        """A new link; raises Broken if it does not begin where the last one ended."""
        if base != self.tail:
            raise Broken(self.tail, base)
        link = Link(base, end)
        self._links.append(link)
        self.tail = end
        return link

    def finish(self, link: Link) -> None:
        """The link's records are durable; "done" moves as far as there is no gap."""
        link.done = True
        while self._links and self._links[0].done:
            self.done_offset = self._links.popleft().end
