"""Waiting for a service that cannot be reached: with backoff and jitter, for as long as it takes."""

from collections.abc import Awaitable, Callable

import stamina

from emis_streams.engine.denied import denied

Call = Callable[[], Awaitable[None]]


async def patiently(
    call: Call, errors: tuple[type[Exception], ...], on_waiting: Callable[[Exception], None] = lambda _error: None
) -> None:
    """Calls until it succeeds, as long as it fails with one of `errors`; each failure is told to `on_waiting`.

    Only what has failed once is handed to stamina, which costs 60 µs a call: more than most calls themselves.
    """
    try:
        await call()
        return
    except errors as error:
        on_waiting(error)
        first = error
    async for attempt in stamina.retry_context(
        on=errors, attempts=None, timeout=None, wait_initial=0.1, wait_max=5.0, wait_jitter=1.0
    ):
        with attempt:
            if attempt.num == 1:
                raise first
            try:
                await call()
            except errors as error:
                on_waiting(error)
                raise


def in_words(error: Exception) -> str:
    """Kind and text of the error (Kafka's own texts begin with the kind), or what is to be done about it."""
    refusal = denied(error)
    if refusal is not None:
        return refusal
    name, text = type(error).__name__, str(error)
    return text if text.startswith(name) else f"{name}: {text}".rstrip(": ")


class Waiting:
    """Whether something waits now, and for what; says so once, and once when it goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.reason: str | None = None

    async def for_(self, call: Call, *errors: type[Exception]) -> None:
        """Calls until it succeeds (see `patiently`)."""
        await patiently(call, errors, self._note)
        if self.reason is not None:
            self._say("goes on")
            self.reason = None

    def _note(self, error: Exception) -> None:
        if self.reason is None:
            self._say(f"waiting: {in_words(error)}")
        self.reason = in_words(error)
