"""Which calls of a kind are made at all: as many at once as its service manages, and no user more than a share of them.

What is above is refused at once, before anything is asked, and outside the circuit breaker: a refusal of ours says
nothing about the service.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from emis_streams.services.concurrency_limit import Bounds, ConcurrencyLimit
from emis_streams.services.errors import DeadlineExceeded, NoAnswer, ServiceOverloaded

RETRY_AFTER_SECONDS = 1.0
_LEAST_USERS = 2
"""Between whom the limit is shared out: one user alone leaves room for another."""


_NOBODY: Mapping[str, int] = MappingProxyType({})


class NotAdmitted(Exception):
    """The call was not made."""


class LimitReached(NotAdmitted):
    """As many calls are under way as the service manages."""


class ShareReached(NotAdmitted):
    """This user has as many under way as its share is."""


@dataclass
class Counts:
    """Of calls that were not made, since the start."""

    limit: int = 0
    share: int = 0


class Admission:
    """Around the calls of one kind: `with admission.slot(user): await …`.

    Users are remembered only while they have calls under way: never more than the limit.
    """

    def __init__(self, name: str, bounds: Bounds, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.refused = Counts()
        self._limit = ConcurrencyLimit(bounds, clock)
        self._clock = clock
        self._in_flight = 0
        self._of_user: dict[str, int] = {}

    @property
    def bounds(self) -> Bounds:
        return self._limit.bounds

    @property
    def limit(self) -> int:
        """Calls that may be under way at once, now."""
        return self._limit.value

    @property
    def in_flight(self) -> int:
        """Calls under way."""
        return self._in_flight

    @property
    def n_users(self) -> int:
        """Users with calls under way."""
        return len(self._of_user)

    @contextmanager
    def slot(self, user: str) -> Iterator[None]:
        """Around one call. Raises LimitReached or ShareReached if it must not be made; what it raises passes through.

        Results and time-outs tell how long calls take. Refusals of the service do not: what is wrong with a request is
        found out at once, also while others wait for seconds.
        """
        self._enter(user)
        begun = self._clock()
        try:
            yield
        except ServiceOverloaded:
            self._limit.overloaded(self._in_flight)
            raise
        except (NoAnswer, DeadlineExceeded):
            self._limit.ended(begun, self._in_flight)
            raise
        else:
            self._limit.ended(begun, self._in_flight)
        finally:
            self._leave(user)

    def refusal(self, user: str, expected: Mapping[str, int] = _NOBODY, n_expected: int = 0) -> NotAdmitted | None:
        """Why a call of the user would not be made now; it counts as refused then.

        `expected` are calls that are about to be made, by user, and `n_expected` their number.
        """
        if self._in_flight + n_expected >= self._limit.value:
            self.refused.limit += 1
            return LimitReached(f"{self.name}: as many calls are under way as it manages now")
        own = self._of_user.get(user, 0) + expected.get(user, 0)
        if own and own >= self._share(len(self._of_user) or 1):
            self.refused.share += 1
            return ShareReached(f"{self.name}: this user has as many calls under way as its share of them is")
        return None

    def _enter(self, user: str) -> None:
        refusal = self.refusal(user)
        if refusal is not None:
            raise refusal
        self._in_flight += 1
        self._of_user[user] = self._of_user.get(user, 0) + 1

    def _share(self, n_users: int) -> int:
        return max(1, self.limit // max(_LEAST_USERS, n_users))

    def _leave(self, user: str) -> None:
        self._in_flight -= 1
        own = self._of_user[user] - 1
        if own:
            self._of_user[user] = own
        else:
            del self._of_user[user]
