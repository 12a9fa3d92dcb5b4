"""Faust's agents and streams, without what would lose or repeat records here."""

import inspect
from collections.abc import Awaitable
from typing import Any

import faust
from faust.types import TopicT

from emis_streams.engine import fatal
from emis_streams.engine.config_error import ConfigError
from emis_streams.engine.slices import SliceSchema


def check_channel(what: str, channel: Any) -> None:
    """Raises ConfigError unless the channel is one of slices, or lives in memory only."""
    if isinstance(channel, TopicT) and not isinstance(channel.schema, SliceSchema):
        named = ", ".join(channel.topics) or str(channel)
        raise ConfigError(f"{what} reads app.topic({named!r}): records come in slices, read app.slices({named!r})")


class Agent(faust.Agent):
    """One that iterates for as long as the worker runs."""

    mundane_level = "debug"

    async def _execute_actor(self, coro: Awaitable[Any], aref: Any) -> None:
        await super()._execute_actor(self._for_ever(coro), aref)

    async def _for_ever(self, coro: Awaitable[Any]) -> None:
        """Whatever is fetched after its end would wait for it in vain."""
        await coro
        if not (self.should_stop or self.app.should_stop):
            fatal.end_process(self.app, f"agent {self.name} returned: it has to iterate over its slices for ever")


def check_agent_function(name: str, function: Any) -> None:
    """Raises ConfigError for what is no `async def`: Faust would fail when it starts it."""
    if not (inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)):
        raise ConfigError(f"agent {name}: {function!r} has to be an async def that iterates over its slices")


def _unsupported(name: str, instead: str) -> Any:
    def refuse(self: Any, *_args: Any, **_kwargs: Any) -> Any:
        raise ConfigError(f"{self.label}: the engine has no {name}() of slices: {instead}")

    refuse.__name__ = name
    return refuse


_SLICES = "an agent gets several hundred records at a time, set by Options.slice_records"
_KEYS = "have the records produced with that key, or send them to another topic by a producer of your own"
_TABLES = "keep what is to be joined in a table"


class Stream(faust.Stream):
    """Of slices. What acknowledges records by itself, or makes new messages of them, is not there."""

    mundane_level = "debug"

    def __init__(self, channel: Any, **kwargs: Any) -> None:
        check_channel("a stream", channel)
        super().__init__(channel, **kwargs)

    take = _unsupported("take", _SLICES)
    take_events = _unsupported("take_events", _SLICES)
    take_with_timestamp = _unsupported("take_with_timestamp", _SLICES)
    noack_take = _unsupported("noack_take", _SLICES)
    group_by = _unsupported("group_by", _KEYS)
    through = _unsupported("through", _KEYS)
    echo = _unsupported("echo", _KEYS)
    filter = _unsupported("filter", "leave records out in the agent, and acknowledge the slice as a whole")
    join = _unsupported("join", _TABLES)
    left_join = _unsupported("left_join", _TABLES)
    inner_join = _unsupported("inner_join", _TABLES)
    outer_join = _unsupported("outer_join", _TABLES)
    combine = _unsupported("combine", _TABLES)
