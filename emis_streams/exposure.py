"""Who may reach the web views: nobody but this machine, or whoever brings a token over TLS."""

import hashlib
import hmac
import ipaddress
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from emis_streams.errors import InvalidSetting
from emis_streams.kafka_security import load_certificate
from emis_streams.secret_files import read_secret
from emis_streams.settings import Settings

Access = Literal["reader", "operator"]
"""A reader sees teachers and classes; an operator health, lag and metrics as well."""

LOOPBACK_NAMES = ("localhost", "ip6-localhost")
_LEAST_TOKEN_CHARACTERS = 24
_HASHED = re.compile(r"sha256:([0-9a-fA-F]{64})")


@dataclass(frozen=True)
class Tokens:
    """Hashes of the tokens, with what each may see; the tokens themselves are not kept."""

    _known: Sequence[tuple[bytes, Access]] = field(repr=False)

    def access(self, token: str) -> Access | None:
        """What the bearer may see; None if there is no such token. Takes as long for a nearly right one."""
        given = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        found: Access | None = None
        for known, access in self._known:
            if hmac.compare_digest(known, given):
                found = access
        return found


def check(settings: Settings) -> None:
    """Raises InvalidSetting for files that cannot be used, and for pages that all the world could read."""
    tokens_of(settings)
    ssl_context(settings)
    missing = [name for name in ("web_cert_file", "web_tokens_file") if not getattr(settings, name)]
    if missing and not settings.web_open and not is_loopback(settings.host):
        raise InvalidSetting(
            f"HOST={settings.host!r} is not allowed without {' and '.join(name.upper() for name in missing)}: "
            "everybody who reaches it could read names and addresses of teachers; "
            "set WEB_OPEN=true if something in front protects them"
        )


def check_host(host: str) -> None:
    """Raises InvalidSetting if nothing can listen there, whatever the port."""
    try:
        family, kind, protocol, _name, (address, *_rest) = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind((address, 0))
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidSetting(
            f"HOST={host!r} is not allowed: {reason}; an address of this machine, 0.0.0.0 for all of them"
        ) from None


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    """TLS of the web views, if they have a certificate; raises InvalidSetting."""
    if not settings.web_cert_file and not settings.web_key_file:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    load_certificate(context, "WEB", settings.web_cert_file, settings.web_key_file)
    return context


def tokens_of(settings: Settings) -> Tokens | None:
    """The tokens of WEB_TOKENS_FILE, None without one; raises InvalidSetting, which tells no token."""
    if not settings.web_tokens_file:
        return None
    found = list(_tokens(settings.web_tokens_file))
    if not found:
        raise InvalidSetting(f"WEB_TOKENS_FILE={settings.web_tokens_file!r} is not allowed: there is no token in it")
    return Tokens(found)


def _tokens(path: str) -> Iterator[tuple[bytes, Access]]:
    for n, line in enumerate(read_secret("WEB_TOKENS_FILE", path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        role, _, token = line.strip().partition(":")
        if role not in get_args(Access):
            raise InvalidSetting(
                f"WEB_TOKENS_FILE={path!r} is not allowed: line {n} is not reader:TOKEN or operator:TOKEN"
            )
        hashed = _HASHED.fullmatch(token)
        if hashed is None and len(token) < _LEAST_TOKEN_CHARACTERS:
            raise InvalidSetting(
                f"WEB_TOKENS_FILE={path!r} is not allowed: the token of line {n} has fewer than "
                f"{_LEAST_TOKEN_CHARACTERS} characters; `openssl rand -hex 32` makes a good one"
            )
        digest = bytes.fromhex(hashed[1]) if hashed else hashlib.sha256(token.encode()).digest()
        yield digest, role  # type: ignore[misc]


def own_names(settings: Settings) -> frozenset[str]:
    """Names of WEB_ALLOWED_HOSTS in lower case."""
    return frozenset(name.strip().lower() for name in settings.web_allowed_hosts.split(",") if name.strip())


def allowed_names(settings: Settings) -> frozenset[str] | None:
    """Names, in lower case, that a request's Host may have; None: any. Addresses always may: they cannot be rebound."""
    own = own_names(settings)
    if "*" in own:
        return None
    return frozenset({*own, *LOOPBACK_NAMES, settings.host.lower(), settings.reached_at.lower()})
