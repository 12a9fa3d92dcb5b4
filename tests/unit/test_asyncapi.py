"""docs/asyncapi.yaml says what the code does."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
import yaml

from emis_streams import topics
from emis_streams.dead_letter_headers import as_dead_letter, headers_for
from emis_streams.events import CONTRACTS, camel, decode, is_canonical_id

DOCUMENT: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[2] / "docs" / "asyncapi.yaml").read_text(encoding="utf-8")
)
MESSAGES = DOCUMENT["components"]["messages"]
NOW_MS = 2**41
DOCUMENTED = [*topics.teacher_topics(), *topics.lesson_event_topics()]
"""What services of others may send to, and what the teacher service makes of it; not the calls between ours."""


def resolve(reference: str) -> Any:
    found: Any = DOCUMENT
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    return found


def bare(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema without what msgspec does not know: references, descriptions, patterns, ways to write the same."""
    if "$ref" in schema:
        schema = resolve(schema["$ref"])
    ignored = ("description", "pattern", "title", "default", "additionalProperties")
    kept = {name: value for name, value in schema.items() if name not in ignored}
    if "const" in kept:
        return {"enum": [kept["const"]]}
    if "properties" in kept:
        kept["properties"] = {name: bare(value) for name, value in kept["properties"].items()}
        kept["required"] = sorted(kept["required"])
    if "anyOf" in kept:
        kept["anyOf"] = [bare(one) for one in kept["anyOf"]]
    return kept


@pytest.mark.parametrize("topic", CONTRACTS)
def test_payloads_are_those_of_the_structs(topic: str) -> None:
    event = CONTRACTS[topic].event
    _, components = msgspec.json.schema_components([event])
    documented = bare(DOCUMENT["components"]["schemas"][event.__name__])
    assert documented == bare(components[event.__name__])


@pytest.mark.parametrize("topic", DOCUMENTED, ids=lambda topic: topic.name)
def test_every_topic_is_there_as_it_is_made(topic: topics.Topic) -> None:
    channel = DOCUMENT["channels"][topic.name]
    kafka = channel["bindings"]["kafka"]
    configs = {**kafka["topicConfiguration"], **kafka.get("x-topic-configuration", {})}
    assert (channel["address"], kafka["topic"]) == (topic.name, topic.name)
    assert kafka["partitions"] == topics.PARTITIONS
    assert configs.pop("cleanup.policy") == [topic.config["cleanup.policy"]]
    assert {name: str(value) for name, value in configs.items()} == {
        name: value for name, value in topic.config.items() if name != "cleanup.policy"
    }


def test_no_other_topic_is_there() -> None:
    assert set(DOCUMENT["channels"]) == {topic.name for topic in DOCUMENTED}


@pytest.mark.parametrize("topic", CONTRACTS)
def test_a_topic_carries_the_message_of_its_event_under_its_key(topic: str) -> None:
    contract = CONTRACTS[topic]
    name = contract.event.__name__
    assert DOCUMENT["channels"][topic]["messages"] == {name: {"$ref": f"#/components/messages/{name}"}}
    key = MESSAGES[name]["bindings"]["kafka"]["key"]
    assert key["allOf"] == [{"$ref": "#/components/schemas/Id"}]
    assert camel(contract.key) in key["description"]


@pytest.mark.parametrize("topic", CONTRACTS)
def test_examples_are_accepted(topic: str) -> None:
    contract = CONTRACTS[topic]
    examples = [example["payload"] for example in MESSAGES[contract.event.__name__]["examples"]]
    keys = [example[camel(contract.key)].encode() for example in examples]
    values = [json.dumps(example).encode() for example in examples]
    decoded = decode(contract, keys, values, [NOW_MS] * len(examples))
    assert (len(decoded.keys), decoded.refused, decoded.unknown_fields) == (len(examples), [], 0)
    assert len(examples) >= 1


def test_ids_are_those_that_the_code_takes() -> None:
    schema = jsonschema.Draft7Validator(DOCUMENT["components"]["schemas"]["Id"])
    good = MESSAGES["ClassCreated"]["examples"][0]["payload"]["classId"]
    for text in (good, good.upper(), good[:-1], good + "0", good + "\n", good.replace("-", "0"), "é" * 36, ""):
        assert schema.is_valid(text) is is_canonical_id(text)


def test_headers_of_dead_letters_are_those_that_are_sent() -> None:
    documented = MESSAGES["DeadLetter"]["headers"]
    ours = headers_for("t", 0, 0, 0, "", 0)
    whole, cut = ([name for name, _ in as_dead_letter(None, value, [], ours)[2]] for value in (b"", b"x" * 2_000_000))
    assert documented["required"] == whole
    assert list(documented["properties"]) == cut


def test_all_references_lead_somewhere() -> None:
    def references(part: Any) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [found for value in part.values() for found in references(value)]
        return [found for value in part for found in references(value)] if isinstance(part, list) else []

    assert len(references(DOCUMENT)) > 50
    for reference in references(DOCUMENT):
        resolve(reference)
