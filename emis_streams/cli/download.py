"""A text behind an address, as it comes: bounded, and from the host that was named only."""

from collections.abc import AsyncIterator

import aiohttp
from yarl import URL

from emis_streams.cli.lines import CHUNK_BYTES
from emis_streams.errors import Unavailable
from emis_streams.secret_urls import masked

_MOST_REDIRECTS = 5
_SHOWN_CHARACTERS = 80
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


async def download(url: str, max_bytes: int) -> AsyncIterator[bytes]:
    """Blocks of the text, unpacked. Redirects are followed on the same host only.

    Raises Unavailable, which shows no password, when there is no answer of status 200, when it breaks off, leads to
    another host, or is of more than `max_bytes` bytes unpacked.
    """
    try:
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session, await _answer(session, _parsed(url)) as answer:
            n_bytes = 0
            async for block in answer.content.iter_chunked(CHUNK_BYTES):
                n_bytes += len(block)
                if n_bytes > max_bytes:
                    raise Unavailable(f"{masked(url)} gives more than {max_bytes:,} bytes unpacked: see --max-gib")
                yield block
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        raise Unavailable(f"{masked(url)} could not be read to its end: {_said(error, url)}") from None


async def _answer(session: aiohttp.ClientSession, url: URL) -> aiohttp.ClientResponse:
    """The answer of status 200. Raises Unavailable."""
    asked = url
    for _ in range(_MOST_REDIRECTS + 1):
        answer = await session.get(asked, allow_redirects=False)
        if answer.status == 200:
            return answer
        answer.close()
        location = answer.headers.get("Location")
        if answer.status not in (301, 302, 303, 307, 308) or location is None:
            reason = ascii(answer.reason or "")[1:-1][:_SHOWN_CHARACTERS]
            raise Unavailable(f"{masked(str(asked))} answers {answer.status} {reason}, not 200")
        asked = _redirected(asked, location)
    raise Unavailable(f"{masked(str(url))} leads on more than {_MOST_REDIRECTS} times")


def _redirected(asked: URL, location: str) -> URL:
    """Where a redirect leads to, with the same user and password. Raises Unavailable for another host."""
    try:
        to = asked.join(URL(location))
        host, port, scheme = to.host, to.port, to.scheme
    except ValueError:
        host = port = scheme = None
    may_change = (asked.scheme, asked.port, scheme, port) == ("http", 80, "https", 443)
    if host != asked.host or (not may_change and (port, scheme) != (asked.port, asked.scheme)):
        shown = ascii(masked(location))[1:-1][:_SHOWN_CHARACTERS]
        raise Unavailable(f"{masked(str(asked))} leads to {shown}, another host: give that address itself")
    return to.with_user(asked.user).with_password(asked.password)


def _parsed(url: str) -> URL:
    """Raises Unavailable."""
    try:
        parsed = URL(url)
    except ValueError:
        raise Unavailable(f"{masked(url)} is no address; write % and two digits for characters like @ and ?") from None
    if not parsed.host:
        raise Unavailable(f"{masked(url)} is no address: it names no host")
    return parsed


def _said(error: Exception, url: str) -> str:
    """What an error says, in one line of visible characters; not if it shows the address, with what is secret in it."""
    text = str(error)
    secrets = (url, url.partition("://")[2].partition("@")[0])
    if not text or any(secret and secret in text for secret in secrets):
        return type(error).__name__
    return ascii(text)[1:-1][: 3 * _SHOWN_CHARACTERS]
