"""Every kind of bad event of the table has the outcome that the table says, and costs no neighbour."""

import itertools
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import yaml

from emis_streams import rows
from emis_streams.events import CONTRACTS, Decoded, decode
from emis_streams.fold import fold
from tests.bad_events import (
    CLASS_ID,
    KINDS,
    NOW_MS,
    REACHING_US,
    Applied,
    DeadLetter,
    Event,
    Kind,
    NotForUs,
    Record,
    a_class,
    json_of,
)

ROOT = Path(__file__).parents[2]
ALONE, AMONG_OTHERS = 0, 3
MAX_CPU_SECONDS = 1.0
"""For one slice: a partition waits for a record that takes longer, and so does the page of the worker."""


@dataclass
class Ran:
    """What the records of a kind came to."""

    table: dict[bytes, bytes] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    unknown_fields: int = 0


def a_neighbour(topic: str) -> tuple[bytes, bytes]:
    """Key and value of a good event of the topic, of a class of its own."""
    class_id = str(uuid.uuid4())
    return class_id.encode(), json_of(a_class(60, classId=class_id, eventType=topic))


def decoded_in_a_slice(record: Record, n_neighbours: int) -> tuple[Decoded, Decoded]:
    """What the record's slice says, and what its good neighbours say without it."""
    good = [a_neighbour(record.topic) for _ in range(2 * n_neighbours)]
    keys, values = [key for key, _ in good], [value for _, value in good]
    stamps = [NOW_MS] * len(good)
    contract = CONTRACTS[record.topic]
    without = decode(contract, keys, values, stamps)
    at = n_neighbours
    stamp = NOW_MS if record.timestamp_ms is None else record.timestamp_ms
    began = time.process_time()
    whole = decode(
        contract,
        [*keys[:at], record.key, *keys[at:]],
        [*values[:at], record.value, *values[at:]],
        [*stamps[:at], stamp, *stamps[at:]],
    )
    assert time.process_time() - began < MAX_CPU_SECONDS
    return whole, without


def own_part(whole: Decoded, without: Decoded, n_neighbours: int) -> Decoded:
    """What is left of a slice without the neighbours, which must be in it as if they were alone."""
    at, n_own = n_neighbours, len(whole.keys) - len(without.keys)
    assert (n_own, len(whole.refused)) in [(1, 0), (0, 1)]
    for of_whole, of_good in [
        (whole.keys, without.keys),
        (whole.versions, without.versions),
        (whole.bodies, without.bodies),
    ]:
        assert [*of_whole[:at], *of_whole[at + n_own :]] == of_good
    assert [place for place, _ in whole.refused] in ([], [at])
    own = slice(at, at + n_own)
    return Decoded(whole.keys[own], whole.versions[own], whole.bodies[own], whole.refused, whole.unknown_fields)


def run(records: Sequence[Record], n_neighbours: int) -> Ran:
    """Each record comes in a slice of its own topic, and what it says is folded into the table."""
    ran = Ran()
    for record in records:
        own = own_part(*decoded_in_a_slice(record, n_neighbours), n_neighbours)
        ran.reasons += [str(reason) for _, reason in own.refused]
        ran.unknown_fields += own.unknown_fields
        ran.table.update(fold(own, {key: ran.table.get(key) for key in own.keys}).rows)
    return ran


def said_by(row: bytes, fields: Event) -> Event:
    """Those fields of a row, by their names in the JSON."""
    body = rows.body_of(row, rows.ClassRow)
    assert body is not None
    of_row = {"className": body.class_name, "totalStudents": body.total_students}
    return {name: of_row[name] for name in fields}


def check_applied(outcome: Applied, ran: Ran) -> None:
    assert [key.decode() for key in ran.table] == list(outcome.rows)
    for key, fields in outcome.rows.items():
        row = ran.table[key.encode()]
        assert rows.is_deleted(row) == (fields is None)
        if fields is not None:
            assert said_by(row, fields) == fields
    assert ran.unknown_fields == outcome.unknown_fields
    assert len(ran.reasons) == bool(outcome.refused)
    assert outcome.refused in "".join(ran.reasons)


@pytest.mark.parametrize("n_neighbours", [ALONE, AMONG_OTHERS], ids=["alone", "among others"])
@pytest.mark.parametrize("kind", REACHING_US, ids=lambda kind: kind.id)
def test_each_kind_comes_to_what_the_table_says_and_costs_no_neighbour(kind: Kind, n_neighbours: int) -> None:
    for order in itertools.permutations(kind.records):
        ran = run(order, n_neighbours)
        if isinstance(kind.outcome, Applied):
            check_applied(kind.outcome, ran)
        else:
            assert isinstance(kind.outcome, DeadLetter)
            assert (ran.table, len(ran.reasons)) == ({}, 1)
            assert kind.outcome.reason in ran.reasons[0]
            assert "Traceback" not in ran.reasons[0]


def test_the_table_has_all_sixty_kinds() -> None:
    assert {kind.number for kind in KINDS} == set(range(1, 61))


def test_no_two_rows_of_the_table_have_the_same_name() -> None:
    ids = [kind.id for kind in KINDS]
    assert len(set(ids)) == len(ids)


def test_a_kind_has_records_unless_it_never_comes_to_the_decoder() -> None:
    for kind in KINDS:
        assert isinstance(kind.outcome, NotForUs) == (not kind.records), kind.id


def test_the_tests_that_are_named_for_what_never_comes_here_exist() -> None:
    named = [k.outcome.test for k in KINDS if isinstance(k.outcome, NotForUs) and k.outcome.test is not None]
    assert len(named) >= 5
    for test in named:
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), test


@pytest.fixture(scope="module")
def components() -> Any:
    return yaml.safe_load((ROOT / "docs" / "asyncapi.yaml").read_text(encoding="utf-8"))["components"]


def fits_the_document(components: Any, value: bytes, topic: str) -> bool:
    """Whether docs/asyncapi.yaml allows the payload; formats of times are not looked at."""
    of_topic = {"$ref": f"#/components/schemas/{CONTRACTS[topic].event.__name__}", "components": components}
    # As floats, since Python reads no integer of 5,000 digits.
    payload = json.loads(value.decode("utf-8", "replace"), parse_int=float)
    return bool(jsonschema.Draft7Validator(of_topic).is_valid(payload))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in REACHING_US if isinstance(kind.outcome, Applied) and not kind.outcome.refused],
    ids=lambda kind: kind.id,
)
def test_what_is_applied_is_allowed_by_the_document(components: Any, kind: Kind) -> None:
    for record in kind.records:
        assert record.value is not None
        assert fits_the_document(components, record.value, record.topic)


def test_nothing_else_is_about_the_class_of_the_bad_events() -> None:
    for kind in REACHING_US:
        if isinstance(kind.outcome, Applied):
            assert list(kind.outcome.rows) == [CLASS_ID]
