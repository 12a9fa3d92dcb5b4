"""What an application declares wrongly is refused: by the declaration itself, or as a whole before anything starts."""

from collections.abc import AsyncIterable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.auth import SASLCredentials

from emis_streams.engine import App, ConfigError, Options, Slice, Table
from emis_streams.engine.declarations import check
from emis_streams.engine.options import client_of

Declare = Callable[[App], Any]


def keep(row: bytes, stored: bytes | None) -> bytes:
    return row if stored is None else max(row, stored)


async def agent(slices: AsyncIterable[Slice]) -> None:
    async for batch in slices:
        batch.done_when()


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., App]:
    def app(options: Options | None = None, **settings: Any) -> App:
        given: dict[str, Any] = {"broker": "slices://127.0.0.1:1", "datadir": tmp_path, **settings}
        return App("counters", engine_options=options, **given)

    return app


@pytest.fixture
def app(make: Callable[..., App]) -> App:
    return make()


def test_an_application_that_is_declared_well_is_not_refused(app: App) -> None:
    app.Table("counts", topics=["clicks"], merge=keep)
    app.agent(app.slices("clicks"))(agent)
    check(app)


async def _no_agent_at_all() -> None: ...


REFUSED_AT_ONCE: dict[str, tuple[Declare, str]] = {
    "no topics": (lambda app: app.Table("counts", merge=keep), r"table counts: topics=\(\) has to be a list"),
    "topics in one text": (lambda app: app.Table("counts", topics="clicks"), "has to be a list"),
    "an empty topic": (lambda app: app.Table("counts", topics=[""]), "has to be a list"),
    "a default": (lambda app: app.Table("counts", topics=["clicks"], default=int), "the engine has no default"),
    "a type": (lambda app: app.Table("counts", topics=["clicks"], value_type=int), "the engine has no value_type"),
    "a window": (lambda app: app.Table("counts", topics=["clicks"]).tumbling(10), "the engine has no windows"),
    "hops": (lambda app: app.Table("counts", topics=["clicks"]).hopping(10, 5), "the engine has no windows"),
    "a global table": (lambda app: app.GlobalTable("counts"), "no global tables"),
    "a set": (lambda app: app.SetTable("counts"), "no tables of sets"),
    "concurrency": (lambda app: app.agent(app.slices("clicks"), concurrency=2)(agent), "start more workers"),
    "isolated": (lambda app: app.agent(app.slices("clicks"), isolated_partitions=True)(agent), "start more workers"),
    "records": (lambda app: app.agent(app.topic("clicks"))(agent), r"read app\.slices\('clicks'\)"),
    "no topic": (lambda app: app.agent()(agent), "agent agent reads no topic"),
    "no async def": (lambda app: app.agent(app.slices("clicks"))(lambda slices: None), "has to be an async def"),
    "a stream of records": (lambda app: app.topic("clicks").stream(), r"read app\.slices\('clicks'\)"),
    "take": (lambda app: app.slices("clicks").stream().take(100, 1), r"the engine has no take\(\)"),
    "group_by": (lambda app: app.slices("clicks").stream().group_by(str), r"the engine has no group_by\(\)"),
    "join": (lambda app: app.slices("clicks").stream().join(), r"the engine has no join\(\)"),
}


@pytest.mark.parametrize("what", REFUSED_AT_ONCE)
async def test_a_declaration_that_would_not_work_is_refused_with_the_way_out(app: App, what: str) -> None:
    declare, said = REFUSED_AT_ONCE[what]
    with pytest.raises(ConfigError, match=said):
        declare(app)


def test_two_agents_on_one_topic_are_refused(app: App) -> None:
    app.agent(app.slices("clicks"), name="one")(agent)
    with pytest.raises(ConfigError, match="agents one and two both read clicks"):
        app.agent(app.slices("views", "clicks"), name="two")(agent)


SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "another transport": (
        {"broker": "kafka://127.0.0.1:1"},
        r"broker=kafka://127\.0\.0\.1:1 has to begin with slices://",
    ),
    "another store": ({"store": "memory://"}, "store=memory: has to be slices://|store=memory:// has to be slices://"),
    "transactions": ({"processing_guarantee": "exactly_once"}, "processing_guarantee=exactly_once is not supported"),
    "standbys": ({"table_standby_replicas": 1}, "table_standby_replicas=1 is not supported, only 0"),
    "the end": ({"consumer_auto_offset_reset": "latest"}, "consumer_auto_offset_reset='latest' is not supported"),
    "no waiting": ({"stream_wait_empty": False}, "stream_wait_empty=False is not supported"),
    "topics by workers": ({"topic_allow_declare": True}, "topic_allow_declare=True is not supported"),
    "a leader": ({"topic_disable_leader": False}, "topic_disable_leader=False is not supported"),
    "another assignor": (
        {"PartitionAssignor": "faust.assignor:PartitionAssignor"},
        "PartitionAssignor=PartitionAssignor has to be the engine's own",
    ),
    "other brokers": (
        {"options": Options(client={"bootstrap_servers": "other:9092"})},
        r"broker= names 127\.0\.0\.1:1, and bootstrap_servers of Options\.client other:9092",
    ),
}


@pytest.mark.parametrize("what", SETTINGS)
def test_a_setting_of_faust_without_its_effect_is_refused_at_the_start(make: Callable[..., App], what: str) -> None:
    given, said = SETTINGS[what]
    with pytest.raises(ConfigError, match=said):
        check(make(**given))


AS_A_WHOLE: dict[str, tuple[Declare, str]] = {
    "a topic that nobody reads": (
        lambda app: app.Table("counts", topics=["clicks", "views"]),
        "table counts: no agent reads views",
    ),
    "one changelog for two": (
        lambda app: [
            app.Table("one", topics=["clicks"], changelog_topic=app.topic("kept")),
            app.Table("two", topics=["clicks"], changelog_topic=app.topic("kept")),
        ],
        "tables one and two have the same changelog kept",
    ),
    "a changelog that is a source": (
        lambda app: app.Table("counts", topics=["clicks"], changelog_topic=app.topic("clicks")),
        "clicks is the changelog of table counts, and read as a source as well",
    ),
    "a name that no topic has": (lambda app: app.Table("so many", topics=["clicks"]), "is no name of a topic"),
}


@pytest.mark.parametrize("what", AS_A_WHOLE)
def test_declarations_that_do_not_fit_together_are_refused_at_the_start(app: App, what: str) -> None:
    declare, said = AS_A_WHOLE[what]
    app.agent(app.slices("clicks"))(agent)
    declare(app)
    with pytest.raises(ConfigError, match=said):
        check(app)


def test_all_that_is_wrong_is_in_one_line(make: Callable[..., App]) -> None:
    app = make(table_standby_replicas=2, store="memory://")
    app.Table("counts", topics=["clicks"])
    with pytest.raises(ConfigError, match=r"store=.*table_standby_replicas=2.*no agent reads clicks"):
        check(app)


def test_a_process_that_does_not_ingest_needs_no_agents(make: Callable[..., App]) -> None:
    app = make(ingests=False)
    app.Table("counts", topics=["clicks"])
    check(app)


def test_the_engines_clients_go_to_the_brokers_of_the_app_with_its_credentials(make: Callable[..., App]) -> None:
    app = make(
        broker="slices://one:9093;slices://two:9093",
        broker_credentials=SASLCredentials(username="anna", password="secret", mechanism="PLAIN"),
    )
    client = client_of(app)
    assert client["bootstrap_servers"] == ["one:9093", "two:9093"]
    assert (client["sasl_plain_username"], client["sasl_plain_password"]) == ("anna", "secret")
    assert client_of(make(options=Options(client={"client_id": "me"})))["client_id"] == "me"


# -- using a table ------------------------------------------------------------------------------


@pytest.fixture
def table(app: App) -> Table:
    return app.Table("counts", topics=["clicks"], merge=keep)


def a_slice(topic: str) -> Any:
    return SimpleNamespace(topic=topic, partition=0)


def test_a_slice_of_another_topic_is_refused(table: Table) -> None:
    for use in (lambda: table.write(a_slice("views"), {b"k": b"v"}), lambda: table.stored(a_slice("views"), [b"k"])):
        with pytest.raises(ConfigError, match=r"table counts is used with .*: its topics are clicks"):
            use()


@pytest.mark.parametrize("rows", [{None: b"v"}, {"k": b"v"}, {b"k": None}, {b"k": "v"}, {b"a": b"v", b"k": 1}])
def test_what_is_not_bytes_is_refused_and_the_table_goes_on(table: Table, rows: Any) -> None:
    with pytest.raises(TypeError, match=r"table counts: .* keys and rows are bytes"):
        table.write(a_slice("clicks"), rows)
    table.store.partition(0).write({b"k": b"v"})
    assert dict(table.store.partition(0).items()) == {b"k": b"v"}
    table.store.close_partition(0)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.__setitem__(b"k", b"v"),
        lambda table: table.__delitem__(b"k"),
        lambda table: table.update({b"k": b"v"}),
        lambda table: table.pop(b"k"),
        lambda table: table.clear(),
    ],
    ids=["set", "delete", "update", "pop", "clear"],
)
def test_a_table_is_not_changed_as_a_mapping(table: Table, change: Callable[[Table], Any]) -> None:
    table.store.partition(0).write({b"k": b"v"})
    with pytest.raises(TypeError, match=r"table counts: .*Table\.write"):
        change(table)
    assert dict(table.store.partition(0).items()) == {b"k": b"v"}
    table.store.close_partition(0)


def test_any_key_can_be_kept_also_those_of_the_stores_own_notes(table: Table) -> None:
    rows = {key: b"row of " + key for key in (b"", b"\x00", b"\x00position", b"\x00position\x00", b"\x00checked", b"z")}
    store = table.store.partition(0)
    store.write(rows)
    assert store.get_many(rows) == rows
    assert dict(store.items()) == rows
    assert dict(store.items(after=b"\x00position")).keys() == {key for key in rows if key > b"\x00position"}
    assert store.position is None
    table.store.close_partition(0)
