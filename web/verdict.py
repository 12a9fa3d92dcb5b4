"""One verdict a page: as bad as the worst of what the page shows, with what that is and since when. Pure.

Green says that all is well, amber that something needs attention, red that something needs action, grey that it cannot
be told. A page's headline is made from the same states as the lines below it, so the two cannot disagree.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from web.i18n import Texts

Look = Literal["ok", "warn", "bad", "off"]
LOOKS_BY_WEIGHT: tuple[Look, ...] = ("ok", "off", "warn", "bad")
"""From the best to the worst: not to know is worse than being well, and better than knowing of a fault."""
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class PartState:
    """What a page says of one part."""

    part: str
    """Which one: two states of one part count once, as the worse of them."""
    look: Look
    name: str
    text: str = ""
    """What is wrong, with its number."""
    since: datetime | None = None
    topic: str | None = None
    """The entry of the runbook that says what to do."""
    counts: bool = True
    """False: grey because there is nothing to tell (no new events), which is no fault."""


@dataclass(frozen=True)
class Verdict:
    """Of a whole page."""

    look: Look
    named: tuple[PartState, ...]
    """The states that are as bad as the whole; none if all is well."""
    main_is_well: bool
    """Whether what the page is mostly about is well, though something else is not."""

    @property
    def since(self) -> datetime | None:
        """Since when at the latest something is wrong; None if that is not known, or all is well."""
        return min((state.since for state in self.named if state.since is not None), default=None)


def verdict(states: Iterable[PartState], main: Collection[str] = ()) -> Verdict:
    """The worst of some states; `main` are parts that are worth a word while they are well."""
    counted = _worse_of_each_part(state for state in states if state.counts)
    if not counted:
        return Verdict("off", (), main_is_well=False)
    look = max((state.look for state in counted), key=LOOKS_BY_WEIGHT.index)
    named = () if look == "ok" else tuple(state for state in counted if state.look == look)
    mains = [state for state in counted if state.part in main]
    return Verdict(look, named, main_is_well=bool(mains) and all(state.look == "ok" for state in mains))


def _worse_of_each_part(states: Iterable[PartState]) -> list[PartState]:
    worse: dict[str, PartState] = {}
    for state in states:
        known = worse.get(state.part)
        if known is None or LOOKS_BY_WEIGHT.index(state.look) > LOOKS_BY_WEIGHT.index(known.look):
            worse[state.part] = state
    return list(worse.values())


def headline(t: Texts, found: Verdict) -> str:
    """In one sentence: what is well, what is not, and how far."""
    if found.look == "ok":
        return t("verdict.ok")
    if found.look == "off":
        names = "; ".join(state.name for state in found.named[:_MOST_NAMED])
        return t("verdict.off", names=names) if names else t("verdict.off.all")
    parts = [_in_words(state) for state in found.named[:_MOST_NAMED]]
    if len(found.named) > _MOST_NAMED:
        parts.append(t("verdict.more", n=len(found.named) - _MOST_NAMED))
    text = "; ".join(parts)
    return t("verdict.main_is_well", rest=text) if found.main_is_well else text


def _in_words(state: PartState) -> str:
    text = state.text.strip().removesuffix(".")
    return f"{state.name}: {text}" if text else state.name
