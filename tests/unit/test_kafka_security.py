"""Settings of TLS and SASL: what does not go together, or would show a password, stops the start."""

import os
import ssl
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import faust
import pytest
import trustme
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth
from rich.console import Console

from emis_streams import rows
from emis_streams.app import broker_credentials
from emis_streams.engine.follower import Follower
from emis_streams.engine.options import Options
from emis_streams.errors import InvalidSetting
from emis_streams.settings import Settings, read

CANARY = "canary-4f5b1e0d"
SASL = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_USERNAME": "emis-ingest", "KAFKA_PASSWORD": CANARY}


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an authority, and a certificate of it with its key."""
    folder = tmp_path_factory.mktemp("pem")
    ca = trustme.CA()
    cert = ca.issue_cert("localhost")
    ca.cert_pem.write_to_path(folder / "ca.pem")
    cert.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    for name in ("key.pem", "open-key.pem"):
        cert.private_key_pem.write_to_path(folder / name)
    (folder / "key.pem").chmod(0o600)
    (folder / "open-key.pem").chmod(0o644)
    return folder


def secret(folder: Path, text: str, mode: int = 0o600) -> str:
    path = folder / "password"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def test_without_security_nothing_is_said_of_it() -> None:
    assert Settings().kafka_client() == {"bootstrap_servers": ["localhost:9092"]}
    assert broker_credentials(Settings()) is None


def test_a_user_is_named_within_tls_only_and_host_names_are_checked(pem: Path) -> None:
    settings = read({**SASL, "KAFKA_CA_FILE": str(pem / "ca.pem")})
    client = settings.kafka_client()
    context = client.pop("ssl_context")
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert len(context.get_ca_certs()) == 1
    assert client == {
        "bootstrap_servers": ["localhost:9092"],
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "emis-ingest",
        "sasl_plain_password": CANARY,
    }


@pytest.mark.parametrize(
    "changes", [{}, {"KAFKA_SECURITY_PROTOCOL": "SSL", "KAFKA_USERNAME": "", "KAFKA_PASSWORD": ""}]
)
def test_faust_makes_its_consumer_with_the_same(changes: dict[str, str]) -> None:
    settings = read({**SASL, **changes})
    app = faust.App("unused", broker_credentials=broker_credentials(settings), web_enabled=False)
    made = credentials_to_aiokafka_auth(app.conf.broker_credentials, app.conf.ssl_context)
    ours = {"security_protocol": "PLAINTEXT", **settings.kafka_client()}
    del ours["bootstrap_servers"]
    assert made == ours


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o440, 0o640])
def test_a_password_is_read_from_a_file_of_ones_own(tmp_path: Path, mode: int) -> None:
    environment = {**SASL, "KAFKA_PASSWORD": "", "KAFKA_PASSWORD_FILE": secret(tmp_path, f"{CANARY}\n", mode)}
    assert read(environment).kafka_client()["sasl_plain_password"] == CANARY


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602, 0o660, 0o666])
def test_a_password_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    environment = {**SASL, "KAFKA_PASSWORD": "", "KAFKA_PASSWORD_FILE": secret(tmp_path, CANARY, mode)}
    with pytest.raises(InvalidSetting, match=rf"KAFKA_PASSWORD_FILE=.*{mode:04o}.*chmod 600") as told:
        read(environment)
    assert CANARY not in str(told.value)


def in_tls(**files: str) -> dict[str, str]:
    return {"KAFKA_SECURITY_PROTOCOL": "SSL", **{f"KAFKA_{name.upper()}_FILE": path for name, path in files.items()}}


def encrypted_key(folder: Path) -> str:
    from cryptography.hazmat.primitives import serialization as keys

    key = keys.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    path = folder / "encrypted.pem"
    encryption = keys.BestAvailableEncryption(CANARY.encode())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(keys.Encoding.PEM, keys.PrivateFormat.PKCS8, encryption))
    return str(path)


WRONG: dict[str, tuple[Callable[[Path], dict[str, str]], str]] = {
    "SASL in the clear": (lambda _: {**SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "KAFKA_SECURITY_PROTOCOL="),
    "a user without security": (lambda _: {"KAFKA_USERNAME": "a"}, "KAFKA_USERNAME is not allowed .*=PLAINTEXT"),
    "a password without security": (lambda _: {"KAFKA_PASSWORD": CANARY}, "KAFKA_PASSWORD is not allowed .*SASL_SSL"),
    "an authority without TLS": (lambda d: {"KAFKA_CA_FILE": str(d / "ca.pem")}, "KAFKA_CA_FILE .*SSL or SASL_SSL"),
    "a user without SASL": (lambda _: {**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, "KAFKA_USERNAME is not allowed"),
    "no user": (lambda _: {**SASL, "KAFKA_USERNAME": ""}, "KAFKA_USERNAME is needed"),
    "no password": (lambda _: {**SASL, "KAFKA_PASSWORD": ""}, "one of KAFKA_PASSWORD_FILE and KAFKA_PASSWORD"),
    "two passwords": (lambda d: {**SASL, "KAFKA_PASSWORD_FILE": secret(d, CANARY)}, "one of KAFKA_PASSWORD_FILE"),
    "no password file": (
        lambda d: {**SASL, "KAFKA_PASSWORD": "", "KAFKA_PASSWORD_FILE": str(d / "nowhere")},
        "KAFKA_PASSWORD_FILE=.*No such file",
    ),
    "an empty password file": (
        lambda d: {**SASL, "KAFKA_PASSWORD": "", "KAFKA_PASSWORD_FILE": secret(d, "\n")},
        "the file is empty",
    ),
    "no authorities": (lambda d: in_tls(ca=str(d / "key.pem")), "KAFKA_CA_FILE=.*no certificates in it"),
    "no such file": (lambda d: in_tls(ca=str(d / "nowhere")), "KAFKA_CA_FILE=.*No such file"),
    "a certificate without key": (lambda d: in_tls(cert=str(d / "cert.pem")), "KAFKA_CERT_FILE and KAFKA_KEY_FILE"),
    "a key that others may read": (
        lambda d: in_tls(cert=str(d / "cert.pem"), key=str(d / "open-key.pem")),
        "KAFKA_KEY_FILE=.*0644",
    ),
    "a key that is none": (
        lambda d: in_tls(cert=str(d / "cert.pem"), key=secret(d, "no key")),
        "KAFKA_CERT_FILE=.*KAFKA_KEY_FILE=",
    ),
    "a key with a password": (
        lambda d: in_tls(cert=str(d / "cert.pem"), key=encrypted_key(d)),
        "KAFKA_KEY_FILE=.*encrypted",
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_go_together_stops_the_start_with_one_line(pem: Path, kind: str) -> None:
    environment, told = WRONG[kind]
    with pytest.raises(InvalidSetting, match=told) as error:
        read(environment(pem))
    assert "\n" not in str(error.value)
    assert CANARY not in str(error.value)


def test_whatever_holds_a_password_does_not_show_it(tmp_path: Path) -> None:
    settings = read({**SASL, "DATABASE_URL": f"mysql://emis:{CANARY}@127.0.0.1/emis"})
    client = settings.kafka_client()
    holders: list[Any] = [settings, client, Options(client=client), broker_credentials(settings)]
    holders.append(Follower(name="read-model", client=client, sink=None, merge=rows.merged))  # type: ignore[arg-type]
    for holder in holders:
        written = StringIO()
        Console(file=written, width=1000).print(holder)
        assert CANARY not in repr(holder) + str(holder) + written.getvalue()
    assert "emis-ingest" in repr(settings)


def test_a_file_that_this_user_may_not_read_is_named(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        path = tmp_path  # root may read every file, but no folder as one
    else:
        path = tmp_path / "not-mine"
        path.touch(mode=0o000)
    with pytest.raises(InvalidSetting, match=r"KAFKA_CA_FILE=.*cannot be read"):
        read(in_tls(ca=str(path)))
