"""Memory and CPU are measured against the container's limit."""

from pathlib import Path

from emis_streams.resources import Resources, cpu_limit, memory_limit_bytes

MACHINE_BYTES = 8 * 2**30


def cgroup(tmp_path: Path, own: str, **files: str) -> tuple[Path, Path]:
    """A control group tree: `files` by path with `__` for `/`."""
    root = tmp_path / "cgroup"
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_max", ".max")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    of_process = tmp_path / "own"
    of_process.write_text(f"0::{own}\n")
    return of_process, root


def test_the_smallest_limit_from_the_process_upwards_counts(tmp_path: Path) -> None:
    own, root = cgroup(tmp_path, "/pod/box", pod__memory_max="1000", pod__box__memory_max="max")
    assert memory_limit_bytes(own, root, MACHINE_BYTES) == 1000


def test_without_a_limit_it_is_the_machine(tmp_path: Path) -> None:
    own, root = cgroup(tmp_path, "/", memory_max="max", cpu_max="max 100000")
    assert memory_limit_bytes(own, root, MACHINE_BYTES) == MACHINE_BYTES
    assert cpu_limit(own, root, 4.0) == 4.0
    assert memory_limit_bytes(tmp_path / "none", root, MACHINE_BYTES) == MACHINE_BYTES


def test_a_cpu_quota_counts(tmp_path: Path) -> None:
    own, root = cgroup(tmp_path, "/box", box__cpu_max="150000 100000")
    assert cpu_limit(own, root, 4.0) == 1.5


def test_this_process_uses_some_memory() -> None:
    usage = Resources().usage()
    assert 0 < usage.memory_used_bytes < usage.memory_total_bytes
    assert 0 < usage.memory_percent < 100
