"""Bad requests of all kinds, and what is expected of each: one table, by number of the list of bad inputs.

The numbers are those of the list of 94 kinds that tests are held to (61 to 94 are requests; the events
are in `bad_events.py`). Every row is sent as raw bytes to a real site; none may cause a 5xx, a traceback
or more than one bounded line in the log.
"""

import gzip
from dataclasses import dataclass, field

from tests.pages import HOMEROOM_CLASS, TEACHER

OK, REFUSED_AS_SUCH, NOWHERE = frozenset({200}), frozenset({400}), frozenset({404})


@dataclass(frozen=True)
class Answered:
    """With one of these statuses."""

    statuses: frozenset[int]
    without: str = ""
    """What the answer must not contain."""


@dataclass(frozen=True)
class Elsewhere:
    """More than one request: a test of its own shows it (file::name)."""

    test: str


@dataclass(frozen=True)
class NotForUs:
    """There is nothing here that it could be aimed at."""

    why: str


Outcome = Answered | Elsewhere | NotForUs


@dataclass(frozen=True)
class Kind:
    number: int
    name: str
    outcome: Outcome
    request: bytes = field(default=b"", repr=False)

    @property
    def id(self) -> str:
        return f"{self.number} {self.name}"


def _get(path: str, *headers: str) -> bytes:
    return _raw(f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers)


def _raw(*lines: str, body: bytes = b"") -> bytes:
    return "".join(f"{line}\r\n" for line in (*lines, "Connection: close", "")).encode("latin-1") + body


def _answered(number: int, name: str, statuses: frozenset[int], request: bytes, without: str = "") -> Kind:
    return Kind(number, name, Answered(statuses, without), request)


def _malformed(number: int, name: str, request: bytes) -> Kind:
    return _answered(number, name, REFUSED_AS_SUCH, request)


def _elsewhere(number: int, name: str, test: str) -> Kind:
    return Kind(number, name, Elsewhere(test))


_LIMITS = "tests/unit/test_limits.py::"
_HTML = "Accept: text/html"
_BOMB = gzip.compress(bytes(20_000_000))
_POST = ("POST / HTTP/1.1", "Host: 127.0.0.1")

_ADDRESSES = [
    _malformed(61, "NUL as an id", _get("/api/teachers/%00")),
    _malformed(61, "NUL behind an id", _get(f"/api/teachers/{TEACHER}%00")),
    _malformed(61, "NUL in a query", _get("/find?id=%00")),
    _answered(61, "NUL in a file's name", NOWHERE, _get("/static/%00")),
    _answered(62, "way out of the folder", NOWHERE, _get("/static/%2e%2e%2f%2e%2e%2fsetup.cfg")),
    _answered(62, "way out of the folder, plain", NOWHERE, _get("/static/../site.py")),
    _answered(62, "way out as an id", NOWHERE | REFUSED_AS_SUCH, _get("/api/teachers/%2e%2e%2fclasses")),
    _answered(63, "encoded twice", NOWHERE, _get("/static/%252e%252e%252fsite.py")),
    _malformed(63, "id encoded twice", _get("/api/teachers/%2530a000000-0000-4000-8000-000000000001")),
    _malformed(64, "percent without digits", _get("/api/teachers/%zz")),
    _malformed(64, "percent at the end", _get("/api/teachers/%")),
    _malformed(64, "bytes that are not UTF-8", _get("/api/teachers/%ff%fe")),
    _malformed(65, "path of 8,200 bytes", _get("/" + "x" * 8_200)),
    _malformed(65, "path of 20 kB", _get("/" + "x" * 20_000)),
    _answered(65, "path of 8,000 bytes", NOWHERE, _get("/" + "x" * 8_000)),
]

_HEADERS = [
    _malformed(66, "129 headers", _get("/", *(f"X-{n}: x" for n in range(129)))),
    _malformed(67, "header of 8,200 bytes", _get("/", "X: " + "x" * 8_200)),
    _malformed(67, "header of 20 kB", _get("/", "X: " + "x" * 20_000)),
    _malformed(67, "NUL in a header", _get("/", "X: <script>\x00")),
    _malformed(67, "header without a name", _get("/", ": x")),
    _malformed(67, "blank before the colon", _get("/", "X : x")),
    _malformed(68, "length and chunks", _raw(*_POST, "Content-Length: 3", "Transfer-Encoding: chunked", body=b"abc")),
    _malformed(68, "two lengths", _raw(*_POST, "Content-Length: 3", "Content-Length: 4", body=b"abcd")),
    _malformed(68, "negative length", _raw(*_POST, "Content-Length: -1")),
    _malformed(68, "length with a sign", _raw(*_POST, "Content-Length: +3", body=b"abc")),
    _malformed(68, "chunked, but not last", _raw(*_POST, "Transfer-Encoding: chunked, gzip")),
    _answered(68, "bad chunk", frozenset({400, 413}), _raw(*_POST, "Transfer-Encoding: chunked", body=b"zz\r\n\r\n")),
    _malformed(69, "folded header", _get("/", "X: a\r\n b")),
    _malformed(70, "no Host", _raw("GET / HTTP/1.1")),
    _malformed(70, "two Hosts", _get("/", "Host: evil.example")),
    _answered(70, "another Host", frozenset({421}), _raw("GET / HTTP/1.1", "Host: evil.example")),
    _answered(70, "no Host in HTTP/1.0", OK, _raw("GET / HTTP/1.0")),
    # No address is made of what a request calls this host, and no browser sends this but to a proxy.
    _answered(71, "whole address of another host", OK, _get("http://evil.example/", _HTML), "evil"),
    _answered(71, "path that begins with two slashes", NOWHERE, _get("//evil.example/", _HTML), 'href="//'),
    _answered(72, "X-Forwarded-Host", OK, _get("/", _HTML, "X-Forwarded-Host: evil.example"), "evil"),
    _answered(72, "Forwarded", OK, _get("/", _HTML, "Forwarded: for=evil.example;host=evil.example"), "evil"),
]

_METHODS = [
    *(
        _answered(73, method, frozenset({405}), _raw(f"{method} / HTTP/1.1", "Host: 127.0.0.1"))
        for method in ("TRACE", "PUT", "DELETE", "PATCH", "OPTIONS")
    ),
    _answered(73, "CONNECT", frozenset({400, 404, 405}), _raw("CONNECT 10.0.0.1:22 HTTP/1.1", "Host: 10.0.0.1:22")),
    _malformed(73, "method that there is not", _raw("BREW / HTTP/1.1", "Host: 127.0.0.1")),
    _malformed(73, "method in small letters", _raw("get / HTTP/1.1", "Host: 127.0.0.1")),
    _malformed(73, "version that there is not", _raw("GET / HTTP/9.9", "Host: 127.0.0.1")),
    _answered(74, "GET with a body", OK, _raw("GET / HTTP/1.1", "Host: 127.0.0.1", "Content-Length: 3", body=b"abc")),
    _answered(74, "POST", frozenset({405}), _raw(*_POST, "Content-Length: 3", body=b"abc")),
    _answered(74, "too large a body", frozenset({413}), _raw(*_POST, "Content-Length: 2000000000", body=b"abc")),
    _answered(75, "20 MB in a packed body of 20 kB", frozenset({405}),
              _raw(*_POST, "Content-Encoding: gzip", f"Content-Length: {len(_BOMB)}", body=_BOMB)),
    _answered(75, "body that is not what it says", OK,
              _raw("GET / HTTP/1.1", "Host: 127.0.0.1", "Content-Encoding: gzip", "Content-Length: 3", body=b"abc")),
]  # fmt: skip

_SLOW = [
    _elsewhere(76, "slow headers", _LIMITS + "test_who_does_not_finish_a_request_in_time_is_cut_off"),
    _elsewhere(77, "slow body", _LIMITS + "test_who_does_not_finish_a_request_in_time_is_cut_off"),
    _elsewhere(78, "slow reader", _LIMITS + "test_who_does_not_read_is_cut_off"),
    _elsewhere(79, "idle connections", _LIMITS + "test_idle_connections_do_not_keep_others_out"),
    # Two thousand there; all ten on a real worker: tests/integration/test_worker_limits.py, make load.
    _elsewhere(80, "10,000 at once", _LIMITS + "test_many_requests_at_once_on_one_connection_are_all_answered"),
    _elsewhere(81, "gone in the middle of the answer", _LIMITS + "test_clients_that_go_leave_nothing_behind"),
]

_QUERIES = [
    _malformed(82, "SQL as an id", _get("/api/teachers/'%20OR%201=1--")),
    _malformed(82, "SQL in a query", _get("/find?id='%20UNION%20SELECT%201--")),
    _answered(82, "script in a query", REFUSED_AS_SUCH, _get("/find?id=<script>alert(1)", _HTML), "<script>alert"),
    _answered(82, "script as an id", REFUSED_AS_SUCH, _get("/teachers/%3Cscript%3Ealert(1)", _HTML), "<script>alert"),
    _answered(82, "script in the path", NOWHERE, _get("/%22%3E%3Cscript%3Ealert(1)", _HTML), "<script>alert"),
    _answered(82, "script as a language", OK, _get("/?lang=%22%3E%3Cscript%3Ealert(1)", _HTML), "<script>alert"),
    _malformed(83, "parameter twice", _get(f"/find?id=x&id={TEACHER}")),
    _malformed(83, "flag twice", _get("/api/consumer-lag?history=false&history=true")),
    *(_malformed(84, f"limit {n}", _get(f"/api/teachers/{TEACHER}?limit={n}")) for n in (-1, 0, 501, "01")),
    _malformed(84, "limit where there is no list", _get("/api/consumer-lag?limit=1")),
    _malformed(85, "id that looks like one for long", _get("/find?id=" + "0-" * 3_000)),
    _answered(85, "languages without end", OK, _get("/", _HTML, "Accept-Language: " + "vi;q=0.1," * 800)),
]  # fmt: skip

_REST = [
    *(
        _answered(86, f"Accept: {accept[:20]}", OK, _get("/", f"Accept: {accept}"))
        for accept in ("/", "text/html;q=x;;,", "*/*;q=-1", "\xff\xfe", "application/xml", "text/html" * 800)
    ),
    _answered(86, "charset that there is not", OK, _get("/", "Accept-Charset: klingon", "Content-Type: a;charset=x")),
    Kind(87, "target of the gateway", NotForUs("there is no gateway yet: it comes with the service layer, and tests")),
    Kind(88, "loop of gateways", NotForUs("there is no gateway yet: it comes with the service layer, and tests")),
    *(
        _answered(89, path, NOWHERE, _get(path))
        for path in ("/table/", "/table/classes/x/", "/router/", "/router/classes/x/", "/graph/", "/stats/")
    ),
    _answered(90, "WebSocket", OK, _get("/", "Upgrade: websocket", "Sec-WebSocket-Key: x")),
    *(
        _answered(91, f"Range: {given}", OK, _get("/static/site.css", f"Range: {given}"))
        for given in ("bytes=99999999-", "bytes=x-y", "lines=1-2")
    ),
    _answered(91, "Range of what is no file", OK, _get(f"/api/classes/{HOMEROOM_CLASS}", "Range: bytes=x")),
    _malformed(92, "TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200))),
    _malformed(92, "HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    _elsewhere(93, "ids one after the other", "tests/unit/test_bad_requests.py::test_trying_ids_leaves_nothing_behind"),
    _answered(94, "cookies that contradict", OK, _get("/", _HTML, "Cookie: lang=vi; lang=en", "Cookie: lang=xx")),
    _answered(94, "cookie that is none", OK, _get("/", _HTML, "Cookie: \xff;=;;lang")),
]  # fmt: skip

KINDS: list[Kind] = [*_ADDRESSES, *_HEADERS, *_METHODS, *_SLOW, *_QUERIES, *_REST]
SENT = [kind for kind in KINDS if kind.request]
