"""What `up` tells: a spinner per step on a terminal, plain lines elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


class Progress:
    """Steps with the time each took."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, what: str) -> Iterator[Callable[[str], None]]:
        """Show that it goes on, then how long it took; yields a function that tells more about the state."""
        began = time.monotonic()
        if not self._console.is_terminal:
            self.say(f"{what} …")
            yield lambda _detail: None
        else:
            with self._console.status(what) as status:
                yield lambda detail: status.update(f"{what}: {detail}")
        self.say(f"{what}: done in {time.monotonic() - began:.1f} s")
