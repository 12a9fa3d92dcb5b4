"""Verdicts as the Markdown tables of `docs/reliability.md`.

python -m tests.faults.report VERDICTS.jsonl [MUTANTS.jsonl]
"""

import json
import sys
from pathlib import Path
from typing import Any

from tests.faults.checker.findings import KINDS

_HEAD = (
    "| row | fault | events | keys | wrong | answers ok | p99 (× undisturbed) | recovered | ends by itself | verdict |",
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
)


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]


def markdown(verdicts: list[dict[str, Any]]) -> str:
    """One line per verdict, in the order in which they were run."""
    return "\n".join((*_HEAD, *(_line(v) for v in verdicts)))


def _line(v: dict[str, Any]) -> str:
    wrong = ", ".join(f"{kind} {v[kind]}" for kind in KINDS if v[kind]) or "0"
    cells = (
        v["row"],
        v["name"],
        f"{v['n_events']:,}",
        f"{v['n_keys']:,}",
        wrong if v["alarm_count"] is None else f"{wrong} (alarm: {v['alarm_count']:,})",
        f"{v['ok_pct']:.2f} %",
        _p99(v),
        "never" if v["rto_s"] is None else f"{v['rto_s']:.1f} s",
        str(v["unplanned_ends"]),
        "green" if v["valid"] and not v["broken"] + v["slow"] else f"**red**: {_short(v['broken'] + v['slow'])}",
    )
    return f"| {' | '.join(cells)} |"


def _p99(v: dict[str, Any]) -> str:
    during, before = v["p99_ms"], v["p99_control_ms"]
    if during is None:
        return "-"
    return f"{during:.0f} ms" + (f" ({during / before:.1f} ×)" if before else "")


def _short(broken: list[str]) -> str:
    return "; ".join(text.split(" (")[0].replace("|", "/") for text in broken[:2])


def mutants_markdown(lines: list[dict[str, Any]]) -> str:
    rows = [f"| {m['mutant']} | {m['caught_by']} | {'caught' if m['caught'] else '**not caught**'} |" for m in lines]
    return "\n".join(("| mutant | caught by | |", "| --- | --- | --- |", *rows))


if __name__ == "__main__":
    print(markdown(read(Path(sys.argv[1]))))
    if len(sys.argv) > 2:
        print()
        print(mutants_markdown(read(Path(sys.argv[2]))))
