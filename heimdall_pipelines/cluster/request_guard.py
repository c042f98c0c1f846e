"""Refuses requests that a page of another site has a browser send to the Dagster UI, which has no login and no tokens.

Dagster executes GraphQL that comes by GET, or by POST as a form, and looks at neither Origin nor Host. Any page open in
the operator's browser could start runs or wipe assets. Refused are unknown hosts (names that an attacker lets point to
this machine), origins other than the UI's own, and GraphQL by any other way than POST of JSON. Programs that are no
browser send no Origin and are not affected.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from heimdall_pipelines.settings import LocalSettings

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "[::1]"})
_METHODS = ("GET", "HEAD", "POST", "OPTIONS")
_GRAPHQL_TYPES = ("application/json", "application/graphql")
_DEFAULT_PORTS = (":80", ":443")
_POLICY_VIOLATION = 1008  # of RFC 6455; before the handshake, servers answer with 403


@dataclass(frozen=True)
class Refusal:
    """Why a request is refused, with its HTTP status."""

    status: int
    reason: str


class RequestGuard:
    """ASGI middleware in front of the UI.

    Parameters
    ----------
    app : callable
        The UI.
    allowed_hosts : iterable of str
        Names by which it may be requested, beside those of loopback; lower case, without port, IPv6 in brackets.
    """

    def __init__(self, app: App, allowed_hosts: Iterable[str] = ()) -> None:
        self._app = app
        self._allowed_hosts = LOOPBACK_HOSTS | frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it."""
        if scope["type"] not in ("http", "websocket"):  # the start and end of the server
            await self._app(scope, receive, send)
            return
        refusal = self.refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": refusal.reason})
        else:
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
            await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
            await send({"type": "http.response.body", "body": f"{refusal.reason}\n".encode()})

    def refusal(self, scope: Scope) -> Refusal | None:
        """Why a request is refused; None if it is not."""
        headers = _Headers(scope)
        host = headers.only("host")
        if host is None or _name_of(host) not in self._allowed_hosts:
            return Refusal(
                421, "Host is not a name of this UI; HEIMDALL_UI_ALLOWED_HOSTS names others, separated by commas"
            )
        if not _is_own(headers.all("origin"), host):
            return Refusal(403, "requests of pages of other origins are refused")
        is_socket = scope["type"] == "websocket"
        method = "GET" if is_socket else scope["method"]
        is_link = method == "GET" and headers.only("sec-fetch-mode") == "navigate"
        if headers.only("sec-fetch-site") in ("cross-site", "same-site") and not is_link:
            return Refusal(403, "requests of pages of other sites are refused")
        if method not in _METHODS:
            return Refusal(405, f"{method} is not allowed")
        if is_socket or scope["path"].rstrip("/").rpartition("/")[2] != "graphql":
            return None
        if method in ("GET", "HEAD") and "text/html" not in (headers.only("accept") or ""):  # of GraphiQL's page
            return Refusal(405, "GraphQL is not executed by GET; send it by POST as application/json")
        content_type = (headers.only("content-type") or "").partition(";")[0].strip().lower()
        if method == "POST" and content_type not in _GRAPHQL_TYPES:
            return Refusal(415, "GraphQL is executed as application/json only")
        return None


def allowed_hosts(settings: LocalSettings) -> frozenset[str]:
    """Names of HEIMDALL_UI_URL and HEIMDALL_UI_ALLOWED_HOSTS, as `RequestGuard` takes them."""
    named = [*(settings.ui_allowed_hosts or "").split(","), settings.ui_url or ""]
    authorities = [urlsplit(name if "://" in name else f"//{name}").netloc for name in map(str.strip, named)]
    return frozenset(_name_of(authority.rpartition("@")[2]) for authority in authorities if authority)


class _Headers:
    """Headers of a request; one that must be single and is not counts as malformed."""

    def __init__(self, scope: Scope) -> None:
        self._pairs = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in scope["headers"]]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self._pairs if key == name]

    def only(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if len(values) == 1 else None


def _is_own(origins: list[str], host: str) -> bool:
    """Whether a request has no origin, or the one of the UI; the scheme is that of a proxy, so only the rest counts."""
    if not origins:
        return True
    scheme, separator, authority = origins[0].partition("://")
    if len(origins) > 1 or not separator or scheme not in ("http", "https"):
        return False
    return _without_default_port(authority) == _without_default_port(host)


def _without_default_port(authority: str) -> str:
    lower = authority.lower()
    for port in _DEFAULT_PORTS:
        lower = lower.removesuffix(port)
    return lower


def _name_of(authority: str) -> str:
    """Host name of host:port.

    >>> _name_of("Localhost:3000"), _name_of("[::1]:3000"), _name_of("example.org.")
    ('localhost', '[::1]', 'example.org')
    """
    lower = authority.lower()
    name, colon, port = lower.rpartition(":")
    if colon and port.isdigit() and (":" not in name or name.endswith("]")):
        lower = name
    return lower.removesuffix(".")
