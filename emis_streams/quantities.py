"""Numbers in English texts: `{lag:record|records} behind` becomes "1 record behind" or "5 records behind".

The texts of reasons and checks (`lag_rules.REASONS`, `web.health_texts.OUTPUTS`) and the catalogues of the pages are
written so. A text of a language without plural forms has the field without a choice: `{lag} bản ghi`.
"""

from collections.abc import Mapping


class Quantity:
    """A number in a text; a format with `|` chooses between the words for exactly one and for any other number."""

    def __init__(self, value: float, text: str | None = None) -> None:
        """`text` is the number as it is shown, such as with separators of thousands."""
        self._value = value
        self._text = str(value) if text is None else text

    def __format__(self, spec: str) -> str:
        """Raises ValueError for a format that numbers do not have."""
        one, has_choice, many = spec.partition("|")
        if has_choice:
            return f"{self._text} {one if self._value == 1 else many}"
        return format(self._value, spec) if spec else self._text

    def __str__(self) -> str:
        return self._text


def filled(text: str, values: Mapping[str, int | float | str]) -> str:
    """The text with its values; raises KeyError if one is missing."""
    return text.format_map({name: v if isinstance(v, str) else Quantity(v) for name, v in values.items()})


def counted(n: int, one: str, many: str | None = None) -> str:
    """`1 record`, `1,200 records`; `many` is the plural if it is not made with an s."""
    return f"{Quantity(n, f'{n:,}'):{one}|{many or one + 's'}}"
