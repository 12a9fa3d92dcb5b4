"""A run's JSON lines as the Markdown tables of docs/benchmarks.md: medians over the repeats, ratios within the run."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from benchmarks.watching import median

Line = dict[str, Any]
OURS = "ours"


def markdown(lines: Sequence[Line]) -> str:
    """All tables for which there are results."""
    parts = [_machine(lines), _ingest(lines), _rebuild(lines), _pipeline(lines), _teacher(lines), _latency(lines)]
    return "\n\n".join([part for part in [*parts, _failures(lines)] if part]) + "\n"


def _of(lines: Sequence[Line], phase: str) -> list[Line]:
    return [line for line in lines if line["phase"] == phase]


def _by_contender(lines: Iterable[Line]) -> dict[str, list[Line]]:
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line["contender"], []).append(line)
    return found


def _middle(lines: Sequence[Line], name: str) -> float:
    return median([line[name] for line in lines])


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _ratio(ours: Sequence[Line] | None, theirs: Sequence[Line], name: str) -> str:
    """How many times ours is theirs; only if all the tables compared were right."""
    if not ours or not all(line.get("table_equal", True) for line in [*ours, *theirs]):
        return "–"
    value = _middle(theirs, name)
    return f"{_middle(ours, name) / value:.2f} ×" if value else "–"


def _machine(lines: Sequence[Line]) -> str:
    machine = _of(lines, "machine")[0]
    return (
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gb']} GB, Linux {machine['kernel']},"
        f" Python {machine['python']}, {machine['java']}; commit {machine['commit']}, {machine['at'][:10]}."
        f" Other processes took {_others(lines)}."
    )


def _others(lines: Sequence[Line]) -> str:
    """A machine that is not left alone gives figures that mean nothing: said at the top."""
    shares = [line["others_cores"] for line in lines if line["phase"] != "machine"]
    return f"{median(shares):.2f} cores (most: {max(shares):.2f})" if shares else "an unknown share"


def _ingest(lines: Sequence[Line]) -> str:
    found = _by_contender(_of(lines, "ingest"))
    if not found:
        return ""
    head = (
        "ingest",
        "events/s",
        "last fifth",
        "ours is",
        "events",
        "CPU cores",
        "RSS max",
        "changelog",
        "runs",
        "table",
    )
    rows = []
    for runs in found.values():
        said = sorted({run["table_said"] for run in runs})
        cores = median([run["cpu_seconds"] / run["seconds"] for run in runs])
        rows.append(
            (
                runs[0]["label"],
                f"{_middle(runs, 'events_per_second'):,.0f}",
                f"{_middle(runs, 'last_fifth_per_second'):,.0f}",
                _ratio(found.get(OURS), runs, "events_per_second"),
                f"{_middle(runs, 'events'):,.0f}",
                f"{cores:.2f}",
                f"{_middle(runs, 'rss_max_mb'):.0f} MB",
                f"{_middle(runs, 'changelog_records'):,.0f}",
                str(len(runs)),
                ", ".join(said),
            )
        )
    return _table(head, rows)


def _rebuild(lines: Sequence[Line]) -> str:
    found = _by_contender(_of(lines, "rebuild"))
    if not found:
        return ""
    return _table(
        ("rebuild of a lost table", "changelog records/s", "ours is", "records", "seconds, start included", "runs"),
        (
            (
                runs[0]["label"],
                f"{_middle(runs, 'records_per_second'):,.0f}",
                _ratio(found.get(OURS), runs, "records_per_second"),
                f"{_middle(runs, 'records'):,.0f}",
                f"{_middle(runs, 'seconds'):.1f}",
                str(len(runs)),
            )
            for runs in found.values()
        ),
    )


def _pipeline(lines: Sequence[Line]) -> str:
    runs = _of(lines, "pipeline")
    if not runs:
        return ""
    head = ("whole pipeline into MariaDB", "events/s", "changelog records/s", "rows", "RSS max", "table")
    row = (
        runs[0]["label"],
        f"{_middle(runs, 'events_per_second'):,.0f}",
        f"{_middle(runs, 'records_per_second'):,.0f}",
        f"{_middle(runs, 'rows'):,.0f}",
        f"{_middle(runs, 'rss_max_mb'):.0f} MB",
        ", ".join(sorted({run["table_said"] for run in runs})),
    )
    return _table(head, [row])


def _teacher(lines: Sequence[Line]) -> str:
    runs = _of(lines, "teacher")
    if not runs:
        return ""
    grouped = _by_contender({**run, "contender": f"{run['contender']}, {run['when']}"} for run in runs)
    constant = grouped.get("constant, idle", [])
    names = ("average_ms", "p50_ms", "p99_ms")
    table = _table(
        (
            "teacher with 10 classes, `ab -l -n 10000 -c 100`",
            "requests/s",
            "of the constant",
            "average",
            "p50",
            "p99",
            "errors",
        ),
        (
            (
                label,
                f"{_middle(group, 'requests_per_second'):,.0f}",
                _share(group, constant),
                *(f"{_middle(group, name):.0f} ms" for name in names),
                str(sum(run["errors"] for run in group)),
            )
            for label, group in grouped.items()
        ),
    )
    return f"{table}\n\n{_one_client(lines)}"


def _share(group: Sequence[Line], constant: Sequence[Line]) -> str:
    if not constant:
        return "–"
    return f"{_middle(group, 'requests_per_second') / _middle(constant, 'requests_per_second'):.0%}"


def _one_client(lines: Sequence[Line]) -> str:
    grouped = _by_contender(_of(lines, "one-client"))
    return _table(
        ("teacher with 10 classes, one client", "p50", "p99"),
        (
            (label, f"{_middle(group, 'p50_ms'):.2f} ms", f"{_middle(group, 'p99_ms'):.2f} ms")
            for label, group in grouped.items()
        ),
    )


def _latency(lines: Sequence[Line]) -> str:
    runs = _of(lines, "event-to-page")
    if not runs:
        return ""
    text: Callable[[Line, str], str] = lambda run, name: "–" if run[name] is None else f"{run[name]:.0f} ms"  # noqa: E731
    return _table(
        ("event sent → visible in `/api/teachers/…`, 1,000 events/s", "p50", "p99", "max", "measured", "never seen"),
        (
            (
                run["contender"],
                *(text(run, n) for n in ("p50_ms", "p99_ms", "max_ms")),
                str(run["measured"]),
                str(run["never_seen"]),
            )
            for run in runs
        ),
    )


def _failures(lines: Sequence[Line]) -> str:
    return "\n".join(
        f"Failed: {line['label']}, run {line['repeat']}: {line['said'].splitlines()[0]}"
        for line in _of(lines, "failure")
    )
