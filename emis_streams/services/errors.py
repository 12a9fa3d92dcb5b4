"""How a call of another service can end, if not with its result."""


class Refused(Exception):
    """The service answered that it will not do it: an answer, which no retry changes.

    `kind` is a word for programs (`not-found`, `invalid`, `key-reused`), the text is for people.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail


class CallFailed(Exception):
    """There is no answer. The call may have been carried out all the same."""

    may_retry = True
    """Whether the next attempt may succeed."""


class NoAnswer(CallFailed):
    """None came within the time-out of the attempt."""


class NotSent(CallFailed):
    """The brokers did not take the request."""


class NoSuchTopic(NotSent):
    """There is no such topic or partition (yet)."""


class Denied(NotSent):
    """They deny it to this user: only who grants it can help."""

    may_retry = False


class ServiceUnavailable(CallFailed):
    """The service answered that it cannot do it now: what it needs itself is away."""


class ServiceOverloaded(CallFailed):
    """The service answered at once that it has too much to do; whoever asks again soon makes that worse."""

    may_retry = False


class NotReady(CallFailed):
    """This process cannot ask yet: it does not know the end of its reply topic. Says nothing about the service."""

    may_retry = False


class ServiceBroken(CallFailed):
    """The service answered that it failed by a mistake of its own; it would fail again."""

    may_retry = False


class DeadlineExceeded(CallFailed):
    """The time for the whole call is over."""

    may_retry = False
