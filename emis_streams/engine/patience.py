"""Waiting for a service that cannot be reached: with backoff and jitter, for as long as it takes."""

import re
import time
from collections.abc import Awaitable, Callable

import stamina

from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.denied import denied

Call = Callable[[], Awaitable[None]]

_REPEAT_SECONDS = 60.0
_LEAST_SECONDS = 5.0
_NO_BROKER = "Unable to bootstrap from "
_NUMBER = re.compile(r"^\[Error -?\d+\] ")
"""That aiokafka writes before the kind."""
_ADDRESS = re.compile(r"\('([^']+)', (\d+), ")
"""Of aiokafka's text behind that, which is the list of its addresses as Python writes it."""


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
    name, text = type(error).__name__, _NUMBER.sub("", str(error))
    addresses = _ADDRESS.findall(text) if _NO_BROKER in text else []
    if addresses:
        return f"no broker answers at {', '.join(f'{host}:{port}' for host, port in addresses)}"
    if isinstance(error, ConfigError):
        return text
    return text if text.startswith(name) else f"{name}: {text}".rstrip(": ")


class Reminder:
    """Says what is wrong at once, again every minute while it stays so, and soon when it is something else."""

    def __init__(self, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._say = say
        self._clock = clock
        self._text = ""
        self._said_at: float | None = None

    def note(self, text: str) -> None:
        """What is wrong now; empty: nothing."""
        now = self._clock()
        rest = _REPEAT_SECONDS if text == self._text else _LEAST_SECONDS
        if text and (self._said_at is None or now - self._said_at >= rest):
            self._say(text)
            self._text, self._said_at = text, now
        elif not text:
            self._text, self._said_at = "", None


class Waiting:
    """Whether something waits now, and for what; says so (see Reminder), and once when it goes on."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._reminder = Reminder(say)
        self._n_waiting = 0
        self.reason: str | None = None
        """None as well once nobody waits any more, whether or not it came."""

    async def for_(self, call: Call, *errors: type[Exception]) -> None:
        """Calls until it succeeds (see `patiently`)."""
        self._n_waiting += 1
        try:
            await patiently(call, errors, self._note)
        except BaseException:
            if self._n_waiting == 1:
                self.reason = None
            raise
        finally:
            self._n_waiting -= 1
        if self.reason is not None:
            self._say("goes on")
            self._reminder.note("")
            self.reason = None

    def _note(self, error: Exception) -> None:
        self.reason = in_words(error)
        self._reminder.note(f"waiting: {self.reason}")
