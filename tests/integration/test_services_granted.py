"""Services on brokers that deny by default, each as a user of its own: what is granted is enough, the rest is told."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from emis_streams import topics
from emis_streams.services.catalogue import SERVICES
from tests.integration.secure_kafka import SecureKafka, granted_kafka
from tests.integration.services_rig import BREAKER_MILLISECONDS, Process, User
from tests.services import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with granted_kafka(tmp_path_factory.mktemp("secure")) as kafka:
        yield kafka


@pytest.fixture(scope="module")
async def services(secure: SecureKafka) -> AsyncIterator[dict[str, Process]]:
    async with AsyncExitStack() as stack:
        yield {name: await stack.enter_async_context(process(secure, name).running(ready=False)) for name in SERVICES}


def process(secure: SecureKafka, name: str) -> Process:
    settings = secure.settings(
        f"emis-{name}",
        secure.folder / name / "data",
        service=name,
        session_timeout_seconds=6.0,
        circuit_breaker_timeout=BREAKER_MILLISECONDS,
    )
    return Process(name, settings, ("-m", "emis_streams", "run", name))


async def test_services_need_no_more_than_their_grants(services: dict[str, Process]) -> None:
    user = User(services["gateway"])

    async def is_created() -> bool:
        return (await user.create("one"))[0] == 201

    await until(is_created, 60)
    _, lesson = await user.create("one")
    await user.sees({lesson["lessonId"]})
    for name in ("lessons", "progress", "users"):

        async def is_healthy(name: str = name) -> bool:
            status, health = await services[name].ask("/health")
            return status == 200 and health["status"] == "healthy"

        await until(is_healthy)


async def test_what_the_gateway_may_not_ask_is_a_problem_that_names_the_topic(
    secure: SecureKafka, services: dict[str, Process]
) -> None:
    gateway, user = services["gateway"], User(services["gateway"])
    asked = topics.request_topic("lessons")
    secure.revoke("emis-gateway", "topic", asked, "Write")

    async def is_denied() -> bool:
        status, problem = await user.create()
        return status == 503 and asked in str(problem)

    try:
        await until(is_denied, 60)
        assert (await gateway.ask("/livez"))[0] == 200
    finally:
        secure.grant_all("emis-gateway")

    async def is_created() -> bool:
        return (await user.create())[0] == 201

    await until(is_created, 60)
