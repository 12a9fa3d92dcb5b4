"""Names of variables that are nearly those of settings, and whose values are used by nobody. Pure."""

from collections.abc import Collection, Iterable
from difflib import get_close_matches

_LEAST_CHARACTERS = 8
"""Shorter names are near to too many others."""
_LIKENESS = 0.885
"""A letter missing, doubled or swapped; not another word."""
_OF_OTHERS = frozenset({"LOGLEVEL"})
"""Near, and common for other programs."""
_PREFIX = "EMIS_"


def nearly_right(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """By name of a variable, the setting that is meant, perhaps.

    Where that one is set as well, the other variable is of another program. `known`: names of all settings.
    """
    names = set(names)
    found = {name: nearest for name in sorted(names - set(known)) if (nearest := _nearest(name, known)) is not None}
    return {name: nearest for name, nearest in found.items() if nearest not in names}


def _nearest(name: str, known: Collection[str]) -> str | None:
    if len(name) < _LEAST_CHARACTERS or name in _OF_OTHERS:
        return None
    same = next((one for one in (name.upper(), name.removeprefix(_PREFIX)) if one in known), None)
    if same is not None:
        return same
    return next(iter(get_close_matches(name, known, n=1, cutoff=_LIKENESS)), None)
