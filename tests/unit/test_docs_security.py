"""docs/security.md names tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SECURITY = (ROOT / "docs" / "security.md").read_text()
ROWS = [line for line in SECURITY[SECURITY.index("## Checklist") :].splitlines() if line.startswith("| ")][2:]
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", SECURITY)))


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_each_line_of_the_checklist_has_a_test_or_a_reason(row: str) -> None:
    _, what, shown, _ = re.split(r"(?<!\\)\|", row)
    assert what.strip()
    assert "`tests/" in shown or "not applicable: " in shown
