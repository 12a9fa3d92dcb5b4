"""Fault rows wait for lines of logs: a line that was worded otherwise would make a row fail after minutes."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_WAITS = frozenset({"_until_said", "with_any"})
_OF_OTHERS = frozenset({"1290", "Traceback"})
"""What MySQL and Python write."""
_PUT_TOGETHER = frozenset({"read-model: caught up, ", "read-model cannot be read", "this process may open 48 files"})
"""Their beginning, or a number in them, is filled in."""


def _awaited(row_file: Path) -> Iterator[str]:
    tree = ast.parse(row_file.read_text(encoding="utf-8"))
    constants = {
        name.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for name in node.targets
        if isinstance(name, ast.Name)
    }
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and _name_of(call) in _WAITS:
            for found in (node for argument in call.args for node in ast.walk(argument)):
                text = constants.get(found.id) if isinstance(found, ast.Name) else getattr(found, "value", None)
                if isinstance(text, str):
                    yield text


def _name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


AWAITED = sorted({text for path in (ROOT / "tests/faults/rows").glob("*.py") for text in _awaited(path)})


@pytest.mark.parametrize("text", [text for text in AWAITED if text not in _OF_OTHERS | _PUT_TOGETHER])
def test_a_text_that_a_row_waits_for_is_written_by_the_application(text: str) -> None:
    sources = [*(ROOT / "emis_streams").rglob("*.py"), *(ROOT / "agents").glob("*.py"), *(ROOT / "web").glob("*.py")]
    assert any(text in path.read_text(encoding="utf-8") for path in sources)


def test_texts_are_found_in_the_rows() -> None:
    assert {"has another number of partitions than its table", "made anew", *_OF_OTHERS, *_PUT_TOGETHER} <= set(AWAITED)
