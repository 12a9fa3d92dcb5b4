"""Findings: what was wrong, by kind, each with what shows it."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field

KINDS = ("lost", "dup_effect", "reorder", "resurrect", "divergent", "phantom", "unflagged_stale")
_EXAMPLES = 5


@dataclass
class Findings:
    """A thing is counted once for each kind of fault, wherever it was found."""

    found: dict[str, dict[object, str]] = field(default_factory=lambda: defaultdict(dict))
    notes: Counter[str] = field(default_factory=Counter)
    """What is allowed, and told all the same."""

    def add(self, kind: str, thing: object, said: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"{kind} is none of {', '.join(KINDS)}")
        self.found[kind].setdefault(thing, said)

    def count(self, kind: str) -> int:
        return len(self.found[kind])

    @property
    def is_clean(self) -> bool:
        return not any(self.found.values())

    def examples(self) -> list[str]:
        return [
            f"{kind}: {said} ({thing})" for kind in KINDS for thing, said in list(self.found[kind].items())[:_EXAMPLES]
        ]
