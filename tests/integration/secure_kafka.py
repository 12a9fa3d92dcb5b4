"""A broker as it should be in production: SCRAM users within TLS, and an authorizer that denies by default.

Clients under test use the secure listeners only; the rig itself is the super user of the plain one.
"""

import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from emis_streams import acls
from emis_streams.local import KafkaCluster, free_port
from emis_streams.local.kafka_config import Listener
from emis_streams.settings import Settings
from tests.integration.command_line import emis_streams
from tests.services import settings_for

PASSWORD = "canary-{user}-5fd924625f6ab16a"
WRONG_PASSWORD = "canary-wrong-6de9c5c4e2c4"
PLAIN_USER = "emis-plain"
"""Known to the brokers by name and password, for SASL PLAIN."""
OTHER_HOST = "other.example"

_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Create": AclOperation.CREATE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
_ANY = AclBindingFilter(
    ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
)
_KINDS = {"topic": ResourceType.TOPIC, "group": ResourceType.GROUP, "transactional-id": ResourceType.TRANSACTIONAL_ID}


@dataclass
class SecureKafka:
    """The broker, its ports by listener, and what clients need to know of its authorities."""

    cluster: KafkaCluster
    ports: dict[str, int]
    folder: Path
    admin: AdminClient

    def settings(self, user: str, data_dir: Path, **changes: Any) -> Settings:
        """Settings of a user who does all right; his password is in a file."""
        given: dict[str, Any] = {
            "kafka_security_protocol": "SASL_SSL",
            "kafka_username": user,
            "kafka_password_file": str(self.secret(f"{user}.password", PASSWORD.format(user=user))),
            "kafka_ca_file": str(self.folder / "ca.pem"),
        }
        return settings_for(f"localhost:{self.ports['SECURE']}", data_dir, **{**given, **changes})

    def secret(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return path

    def add_user(self, user: str, password: str) -> None:
        info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
        change = UserScramCredentialUpsertion(user, info, password.encode())
        for done in self.admin.alter_user_scram_credentials([change]).values():
            done.result(30)

    def grant(self, lines: Iterable[str]) -> None:
        """Makes the grants that lines of `emis-streams topics --acls` say."""
        bindings = [binding for line in lines for binding in _bindings(line)]
        for done in self.admin.create_acls(bindings).values():
            done.result(30)
        while not set(bindings) <= set(self.admin.describe_acls(_ANY).result(30)):  # the authorizer reads them later
            time.sleep(0.05)

    def grant_all(self, *users: str) -> None:
        """What `emis-streams topics --acls` lists for these users; of all by default."""
        wanted = [line for line in acls.lines("-") if not users or _user(line).removeprefix("User:") in users]
        self.grant(wanted)

    def revoke(self, user: str, kind: str, name: str, operation: str) -> None:
        """Takes away one operation of one user; fails if he did not have it."""
        taken = AclBindingFilter(
            _KINDS[kind],
            name,
            ResourcePatternType.LITERAL,
            f"User:{user}",
            "*",
            _OPERATIONS[operation],
            AclPermissionType.ALLOW,
        )
        for done in self.admin.delete_acls([taken]).values():
            assert len(done.result(30)) == 1
        while self.admin.describe_acls(taken).result(30):
            time.sleep(0.05)


def _user(line: str) -> str:
    words = shlex.split(line)
    return words[words.index("--allow-principal") + 1]


def _bindings(line: str) -> Iterator[AclBinding]:
    words = shlex.split(line)
    pairs = list(pairwise(words))
    operations = [value for name, value in pairs if name == "--operation"]
    things = [(name.removeprefix("--"), value) for name, value in pairs if name.removeprefix("--") in _KINDS]
    pattern = ResourcePatternType[next((v.upper() for n, v in pairs if n == "--resource-pattern-type"), "LITERAL")]
    for kind, name in things:
        for operation in operations:
            yield AclBinding(
                _KINDS[kind],
                name,
                pattern,
                _user(line),
                "*",
                _OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """SECURE and WRONGHOST (its certificate is of another host): SASL_SSL; MUTUAL: SSL with client certificates."""
    ca = trustme.CA()
    _write_certificates(folder, ca)
    protocols = {"SECURE": "SASL_SSL", "WRONGHOST": "SASL_SSL", "MUTUAL": "SSL"}
    ports = {name: free_port() for name in protocols}
    listeners = [Listener(name, ports[name], protocol) for name, protocol in protocols.items()]
    with KafkaCluster(folder / "cluster", listeners=[listeners], changes=_changes(folder)) as cluster:
        ports["PLAINTEXT"] = cluster.nodes[0].endpoint.broker_port
        admin = AdminClient({"bootstrap.servers": cluster.bootstrap})
        secure = SecureKafka(cluster, ports, folder, admin)
        for user in acls.GRANTS:
            secure.add_user(user, PASSWORD.format(user=user))
        yield secure


@contextmanager
def granted_kafka(folder: Path) -> Iterator[SecureKafka]:
    """With the grants of all users, and the topics, made by the operator."""
    with secure_kafka(folder) as kafka:
        kafka.grant_all()
        made = emis_streams(kafka.settings("emis-operator", kafka.folder / "operator"), "topics")
        assert made.returncode == 0, made.stderr
        yield kafka


def _write_certificates(folder: Path, ca: trustme.CA) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ca.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other-ca.pem")
    (folder / "broker.pem").write_bytes(_keystore(ca.issue_cert("localhost", "127.0.0.1")))
    (folder / "other-host.pem").write_bytes(_keystore(ca.issue_cert(OTHER_HOST)))
    client = ca.issue_cert("client.example", common_name="emis-client")
    client.cert_chain_pems[0].write_to_path(folder / "client.pem")
    (folder / "client.key").touch(mode=0o600)
    client.private_key_pem.write_to_path(folder / "client.key")


def _keystore(cert: trustme.LeafCert) -> bytes:
    """Key and chain as Kafka reads them: the key as PKCS#8."""
    key = load_pem_private_key(cert.private_key_pem.bytes(), None)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return pem + b"".join(part.bytes() for part in cert.cert_chain_pems)


def _changes(folder: Path) -> dict[str, str]:
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    password = PASSWORD.format(user=PLAIN_USER)
    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{PLAIN_USER}="{password}";'
    changes = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "false",
        "super.users": "User:ANONYMOUS",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,PLAIN",
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.mutual.ssl.truststore.type": "PEM",
        "listener.name.mutual.ssl.truststore.location": str(folder / "ca.pem"),
    }
    for listener, pem in {"secure": "broker", "wronghost": "other-host", "mutual": "broker"}.items():
        changes[f"listener.name.{listener}.ssl.keystore.type"] = "PEM"
        changes[f"listener.name.{listener}.ssl.keystore.location"] = str(folder / f"{pem}.pem")
        changes[f"listener.name.{listener}.scram-sha-512.sasl.jaas.config"] = scram
        changes[f"listener.name.{listener}.plain.sasl.jaas.config"] = plain
    return changes
