"""A worker whose pages are reachable from elsewhere: TLS, tokens, and no start without them. No broker is needed."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
import trustme

from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams
from tests.integration.worker_rig import Worker
from tests.services import free_port, settings_for, until

READER = "canary-reader-3b1f0c9e7f7a4d55"
OPERATOR = "canary-operator-9a0c4a5d3e11b2c6"
DATABASE_PASSWORD = "canary-database-51c9be0d"


def exposed(folder: Path, ca: trustme.CA) -> Settings:
    """On all addresses, by TLS, for who has a token."""
    cert = ca.issue_cert("localhost")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    for name in ("key.pem", "tokens"):
        (folder / name).touch(mode=0o600)
    cert.private_key_pem.write_to_path(folder / "key.pem")
    (folder / "tokens").write_text(f"reader:{READER}\noperator:{OPERATOR}\n")
    return settings_for(
        f"127.0.0.1:{free_port()}",
        folder / "data",
        roles="serve",
        host="0.0.0.0",
        log_level="debug",
        database_url=f"mysql://emis:{DATABASE_PASSWORD}@127.0.0.1:{free_port()}/emis",
        web_cert_file=str(folder / "cert.pem"),
        web_key_file=str(folder / "key.pem"),
        web_tokens_file=str(folder / "tokens"),
    )


class Client:
    """Trusts the authority of the test, and nobody else."""

    def __init__(self, session: aiohttp.ClientSession, base: str) -> None:
        self._session = session
        self.base = base

    async def get(self, path: str, token: str | None = None) -> tuple[int, str, Any]:
        """Status, body and headers; (0, …) while nothing answers."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.get(self.base + path, headers=headers) as response:
                return response.status, await response.text(), response.headers
        except aiohttp.ClientConnectorError:
            return 0, "", {}


@pytest.fixture(scope="module")
async def worker_and_client(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Worker, Client]]:
    folder, ca = tmp_path_factory.mktemp("exposed"), trustme.CA()
    worker = Worker("exposed-worker", exposed(folder, ca))
    trusting = ssl.create_default_context()
    ca.configure_trust(trusting)
    worker.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusting)) as session:
        client = Client(session, f"https://localhost:{worker.settings.port}")

        async def alive() -> bool:
            assert worker.process.running, worker.log()
            return (await client.get("/livez"))[0] == 200

        await until(alive)
        yield worker, client
    worker.process.stop()


async def test_pages_come_by_tls_to_who_has_a_token(worker_and_client: tuple[Worker, Client]) -> None:
    _, client = worker_and_client
    assert (await client.get("/health"))[0] == 401
    assert (await client.get("/health", READER))[0] == 403
    status, body, headers = await client.get("/info", OPERATOR)
    assert (status, json.loads(body)["name"]) == (200, "emis-teacher-service")
    assert headers["Strict-Transport-Security"] == "max-age=31536000"
    assert (await client.get("/", READER))[0] == 200


async def test_without_tls_nothing_is_answered(worker_and_client: tuple[Worker, Client]) -> None:
    worker, _ = worker_and_client
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"http://localhost:{worker.settings.port}/livez")


async def test_no_secret_is_told_in_log_pages_or_command_line(worker_and_client: tuple[Worker, Client]) -> None:
    worker, client = worker_and_client

    async def says_why() -> bool:
        return "No broker answers" in (await client.get("/health", OPERATOR))[1]

    await until(says_why)
    said = [
        (await client.get(path, OPERATOR))[1] for path in ("/health", "/info", "/metrics", "/", "/api/consumer-lag")
    ]
    said += [worker.log(), " ".join(psutil.Process(worker.process.pid).cmdline())]
    for secret in (READER, OPERATOR, DATABASE_PASSWORD):
        assert not [text for text in said if secret in text]


@pytest.mark.parametrize("changes", [{}, {"web_tokens_file": "tokens"}])
def test_a_worker_that_all_the_world_could_ask_does_not_start(tmp_path: Path, changes: dict[str, str]) -> None:
    (tmp_path / "tokens").touch(mode=0o600)
    (tmp_path / "tokens").write_text(f"reader:{READER}\n")
    files = {name: str(tmp_path / file) for name, file in changes.items()}
    done = emis_streams(settings_for("127.0.0.1:1", tmp_path / "data", host="0.0.0.0", **files), "worker")
    line = done.stderr.decode()
    assert done.returncode == 2
    assert line.count("\n") == 1
    assert "HOST='0.0.0.0'" in line
    assert "WEB_OPEN=true" in line
    assert READER not in line
