"""How clients of Kafka prove who they are and see whom they talk to: TLS, and SASL within TLS only.

There is no SASL without TLS here: it would show the password (PLAIN), or what guessing it needs (SCRAM),
and every event. So no setting can make a client send a password in the clear.
"""

import ssl
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

from emis_streams.errors import InvalidSetting
from emis_streams.secret_files import Secret, check_private, read_secret, readable

if TYPE_CHECKING:
    from emis_streams.settings import Settings

_OF_TLS = ("kafka_ca_file", "kafka_cert_file", "kafka_key_file")
_OF_SASL = ("kafka_username", "kafka_password", "kafka_password_file")


def client_arguments(settings: "Settings") -> dict[str, Any]:
    """Arguments of every aiokafka client beside its servers; raises InvalidSetting."""
    if settings.kafka_security_protocol == "PLAINTEXT":
        return {}
    arguments: dict[str, Any] = {
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.kafka_security_protocol == "SASL_SSL":
        arguments["sasl_mechanism"] = settings.kafka_sasl_mechanism
        arguments["sasl_plain_username"] = settings.kafka_username
        arguments["sasl_plain_password"] = password(settings)
    return arguments


def ssl_context(settings: "Settings") -> ssl.SSLContext:
    """TLS that checks the brokers' certificates and host names, always; raises InvalidSetting."""
    return _ssl_context(settings.kafka_ca_file, settings.kafka_cert_file, settings.kafka_key_file)


def password(settings: "Settings") -> Secret:
    """Raises InvalidSetting."""
    if settings.kafka_password_file:
        return Secret(read_secret("KAFKA_PASSWORD_FILE", settings.kafka_password_file))
    return Secret(settings.kafka_password)


def check(settings: "Settings") -> None:
    """Raises InvalidSetting for settings that do not go together, or files that cannot be used."""
    protocol = settings.kafka_security_protocol
    unused = {"PLAINTEXT": (*_OF_SASL, *_OF_TLS), "SSL": _OF_SASL, "SASL_SSL": ()}[protocol]
    for name in unused:
        if getattr(settings, name):
            raise InvalidSetting(
                f"{name.upper()} is not allowed with KAFKA_SECURITY_PROTOCOL={protocol}, which does not use it: "
                f"set KAFKA_SECURITY_PROTOCOL={'SASL_SSL' if name in _OF_SASL else 'SSL or SASL_SSL'}, or leave it out"
            )
    if protocol == "SASL_SSL":
        _check_user(settings)
    client_arguments(settings)


def _check_user(settings: "Settings") -> None:
    if not settings.kafka_username:
        raise InvalidSetting("KAFKA_USERNAME is needed with KAFKA_SECURITY_PROTOCOL=SASL_SSL")
    if bool(settings.kafka_password) == bool(settings.kafka_password_file):
        raise InvalidSetting(
            "one of KAFKA_PASSWORD_FILE and KAFKA_PASSWORD is needed with KAFKA_SECURITY_PROTOCOL=SASL_SSL"
        )


@cache
def _ssl_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    if ca_file:
        readable("KAFKA_CA_FILE", ca_file)
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError as error:
        raise InvalidSetting(f"KAFKA_CA_FILE={ca_file!r} is not allowed: no certificates in it: {error}") from None
    load_certificate(context, "KAFKA", cert_file, key_file)
    return context


def load_certificate(context: ssl.SSLContext, kind: str, cert_file: str, key_file: str) -> None:
    """Certificate (with chain) and key of KIND_CERT_FILE and KIND_KEY_FILE, both or none; raises InvalidSetting."""
    cert, key = f"{kind}_CERT_FILE", f"{kind}_KEY_FILE"
    if bool(cert_file) != bool(key_file):
        raise InvalidSetting(f"{cert} and {key} are needed both, or none of them")
    if not cert_file:
        return
    readable(cert, cert_file)
    check_private(key, key_file)

    def no_password() -> NoReturn:
        raise InvalidSetting(f"{key}={key_file!r} is not allowed: it is encrypted; give it without a password")

    try:
        context.load_cert_chain(cert_file, key_file, password=no_password)
    except ssl.SSLError as error:
        raise InvalidSetting(
            f"{cert}={cert_file!r} with {key}={key_file!r} is not allowed: {error.reason or error}"
        ) from None
