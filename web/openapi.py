"""The schemas of the JSON that the web views answer with, from the structs themselves.

`docs/openapi.yaml` holds them; a test keeps both equal, `scripts/write-openapi-schemas` writes them.
"""

import inspect
from typing import Any

import msgspec

from emis_streams.answers import ClassDetail, ClassTeachers, Gone, SearchPage, TeacherDetail
from emis_streams.dead_letter_list import LetterPage
from emis_streams.health_report import ConsumerLag, HealthChanges, HealthReport, InfoReport, LiveReport, ReadyReport
from web.dead_letter_pages import LetterDetail
from web.help import HelpEntry, HelpTitles
from web.instances import InstancesReport

BODIES = (
    *(TeacherDetail, ClassDetail, ClassTeachers, SearchPage, Gone, ConsumerLag),
    *(LetterPage, LetterDetail, InstancesReport),
    *(HealthReport, HealthChanges, ReadyReport, LiveReport, InfoReport),
    *(HelpTitles, HelpEntry),
)


def schemas() -> dict[str, Any]:
    """JSON Schemas by name, as `components/schemas` has them."""
    _, found = msgspec.json.schema_components(BODIES, ref_template="#/components/schemas/{name}")
    return {name: _as_answered(schema) for name, schema in sorted(found.items())}


def _as_answered(schema: dict[str, Any]) -> dict[str, Any]:
    """An answer has every field, also those with a default; times are RFC 3339."""
    properties = {name: _property(name, dict(about)) for name, about in schema["properties"].items()}
    return {
        **schema,
        "description": inspect.cleandoc(schema["description"]),
        "properties": properties,
        "required": list(properties),
    }


def _property(name: str, about: dict[str, Any]) -> dict[str, Any]:
    about.pop("default", None)
    if name in ("at", "since", "time", "timestamp") or name.endswith(("At", "Time")):
        return {**about, "format": "date-time"}
    return about
