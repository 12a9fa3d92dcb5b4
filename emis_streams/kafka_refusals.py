"""Why the brokers refuse, in one line that names the thing and the way out.

aiokafka says only that it could not bootstrap; the reason is in its log. So when it could not, one more
connection is made, and what goes wrong with that is put into words.
"""

import asyncio
import ssl

from aiokafka.conn import create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)

from emis_streams.engine.patience import in_words
from emis_streams.errors import Unavailable
from emis_streams.settings import Settings

_SAME = "no broker answers"
_TIMEOUT_MS = 5_000
_TIMEOUT_SECONDS = 5.0
_OTHER_HOST = (62, 64)
"""OpenSSL's verify codes: host name, address."""
_EXPIRED = 10
_NO_TLS = "does not speak TLS: KAFKA_SECURITY_PROTOCOL={} needs a listener that does"


async def unavailable(settings: Settings, error: Exception) -> Unavailable:
    """The error to raise when a client could not connect."""
    reason = await why(settings)
    brokers = f"KAFKA_BROKERS={settings.kafka_brokers!r}"
    if reason is not None:
        return Unavailable(f"{brokers}: {reason}")
    found = in_words(error)
    return Unavailable(f"no broker answers at {brokers}" + ("" if found.startswith(_SAME) else f": {found}"))


async def why(settings: Settings) -> str | None:
    """What the first broker that refuses is refusing for; None if it is not that (nobody answers, or all is well)."""
    for server in settings.bootstrap_servers:
        reason = await _why(settings, server)
        if reason is not None:
            return f"{server} {reason}"
    return None


async def _why(settings: Settings, server: str) -> str | None:
    host, _, port = server.rpartition(":")
    arguments = settings.kafka_client()
    del arguments["bootstrap_servers"]
    try:
        connection = await create_conn(host.strip("[]"), int(port), request_timeout_ms=_TIMEOUT_MS, **arguments)
    except (ssl.SSLError, KafkaError, OSError, TimeoutError) as error:
        return await _in_words(settings, error, host, int(port))
    connection.close()
    return None


async def _in_words(settings: Settings, error: Exception, host: str, port: int) -> str | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(settings, error, host)
    if isinstance(error, ssl.SSLError):
        return _tls(settings, error)
    if isinstance(error, SaslAuthenticationFailed):
        return (
            f"refuses the user {settings.kafka_username!r}: KAFKA_USERNAME or KAFKA_PASSWORD_FILE (KAFKA_PASSWORD) "
            f"is wrong, or the brokers do not know the user for KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism}"
        )
    if isinstance(error, UnsupportedSaslMechanismError | IllegalSaslStateError):
        return (
            f"does not take KAFKA_SASL_MECHANISM={settings.kafka_sasl_mechanism} there: "
            "set one of the brokers' sasl.enabled.mechanisms, or KAFKA_SECURITY_PROTOCOL=SSL if they take no users"
        )
    return await _cut_off(settings.kafka_security_protocol, host, port)


async def _cut_off(protocol: str, host: str, port: int) -> str | None:
    """Brokers that are spoken to in the wrong way often say nothing, and close the connection."""
    speaks_tls = await _speaks_tls(host, port)
    if protocol == "PLAINTEXT":
        return (
            "speaks TLS: set KAFKA_SECURITY_PROTOCOL to SASL_SSL (or SSL), as its listener is" if speaks_tls else None
        )
    if speaks_tls:
        return (
            f"ends the connection once TLS is agreed on: KAFKA_SECURITY_PROTOCOL={protocol} may not be its listener's, "
            "or it wants a client certificate (KAFKA_CERT_FILE, KAFKA_KEY_FILE)"
        )
    return _NO_TLS.format(protocol) if await _answers_in_the_clear(host, port) else None


def _certificate(settings: Settings, error: ssl.SSLCertVerificationError, host: str) -> str:
    if error.verify_code in _OTHER_HOST:
        return f"shows a certificate of another host: KAFKA_BROKERS must name it as its certificate does, not {host!r}"
    if error.verify_code == _EXPIRED:
        return "shows a certificate that has expired: renew it"
    where = f"KAFKA_CA_FILE={settings.kafka_ca_file!r}" if settings.kafka_ca_file else "the system (set KAFKA_CA_FILE)"
    return f"shows a certificate that no authority of {where} has signed: {error.verify_message}"


def _tls(settings: Settings, error: ssl.SSLError) -> str:
    if error.reason == "WRONG_VERSION_NUMBER":
        return _NO_TLS.format(settings.kafka_security_protocol)
    if "CERTIFICATE" in (error.reason or ""):
        return f"wants a client certificate: set KAFKA_CERT_FILE and KAFKA_KEY_FILE ({error.reason})"
    return f"cannot agree on TLS: {error.reason or error}"


async def _speaks_tls(host: str, port: int) -> bool:
    """Whether TLS is answered there; nothing is sent over it, so nobody needs to be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=context)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _answers_in_the_clear(host: str, port: int) -> bool:
    """Whether a broker answers without TLS which versions it speaks; no user is named to it."""
    try:
        connection = await create_conn(host, port, request_timeout_ms=_TIMEOUT_MS)
    except (KafkaError, OSError, TimeoutError):
        return False
    connection.close()
    return True


def no_topic(settings: Settings, topic: str) -> Unavailable:
    """Brokers with an authorizer hide topics from those who may not see them."""
    secured = settings.kafka_security_protocol != "PLAINTEXT"
    hidden = ", or it is hidden from this user: see `emis-streams topics --acls`" if secured else ""
    return Unavailable(
        f"no topic {topic} at KAFKA_BROKERS={settings.kafka_brokers!r}: make it with `emis-streams topics`{hidden}"
    )
