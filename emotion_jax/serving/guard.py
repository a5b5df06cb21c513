"""Who may talk to the server, and what a browser may do with its pages."""

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PAGE = Path(__file__).parent / "page"
LOOPBACK = frozenset(["localhost", "127.0.0.1", "::1"])
DEFAULT_PORTS = {"http": 80, "https": 443}
COOKIE_SECONDS = 30 * 24 * 3600

# Nothing from elsewhere, nothing inline, no frame about it; text that comes in is text.
CONTENT = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    ]
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class Policy:
    """Whom the server answers.

    Attributes:
      hosts: names by which it may be called. A page elsewhere whose name an attacker has pointed
        to this machine (DNS rebinding) calls it by that other name.
      any_address: any IP address will do as well, since it cannot be pointed elsewhere.
      token: what clients have to show; None: nothing.
      is_secure: whether it is reached by HTTPS.
      port: of the server; one browser may know several.
    """

    hosts: frozenset[str] = LOOPBACK
    any_address: bool = False
    token: str | None = field(default=None, repr=False)
    is_secure: bool = False
    port: int = 8000

    @property
    def cookie(self) -> str:
        """Its name: a browser sends the cookies of a host to all its ports."""
        return f"emotion_jax_{self.port}"

    def knows(self, host: str) -> bool:
        """Whether the value of a Host header is one of ours."""
        name = _name(host)
        return name in self.hosts or (self.any_address and is_address(name))

    def admits(self, token: str | None) -> bool:
        """Whether a client that shows this may come in."""
        if self.token is None:
            return True
        return token is not None and secrets.compare_digest(token.encode(), self.token.encode())


class Guard:
    """Middleware that turns away whom the policy does not know, and adds the headers to answers."""

    def __init__(self, app: ASGIApp, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        is_page = not scope["path"].startswith("/api/")

        async def with_headers(message: Message) -> None:
            if message["type"].endswith("response.start"):
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                # A new version of the program has new pages, and no answer is to be kept.
                headers["Cache-Control"] = "no-cache" if is_page else "no-store"
            await send(message)

        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers, policy = Headers(scope=scope), self._policy
        host = headers.get("host", "")
        if not policy.knows(host):
            return _fault(421, "This server is not known by that name; see --allow-host.")
        origins = headers.getlist("origin")
        if origins and not all(_is_same(origin, host) for origin in origins):
            return _fault(403, "Pages of other origins are not served.")
        if policy.token is None:
            return None
        shown = _shown(scope, headers, policy.cookie)
        if not policy.admits(shown):
            return self._stranger(scope)
        if "token" in _query(scope):  # out of the address bar and the history
            return self._welcome()
        return None

    def _stranger(self, scope: Scope) -> Response | None:
        path = scope["path"]
        if scope["type"] == "http" and path == "/":
            return FileResponse(PAGE / "index.html", 401)
        # The page itself holds no secret, and asks for the token.
        if scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and _is_asset(path):
            return None
        return _fault(401, "The token is missing or wrong.", {"WWW-Authenticate": "Bearer"})

    def _welcome(self) -> Response:
        response = RedirectResponse("/", 303)
        assert self._policy.token is not None
        response.set_cookie(
            self._policy.cookie,
            self._policy.token,
            COOKIE_SECONDS,
            secure=self._policy.is_secure,
            httponly=True,
            samesite="strict",
        )
        return response


def _fault(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _query(scope: Scope) -> dict[str, list[str]]:
    if scope["type"] != "http" or scope["path"] != "/":
        return {}
    return parse_qs(scope["query_string"].decode("latin-1"))


def _shown(scope: Scope, headers: Headers, cookie: str) -> str | None:
    """The token that a request shows: in the address of the page, a header, or the cookie."""
    if token := _query(scope).get("token"):
        return token[0]
    scheme, _, token_text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token_text.strip()
    return HTTPConnection(scope).cookies.get(cookie)


def _is_asset(path: str) -> bool:
    return "/" not in path[1:] and (PAGE / path[1:]).suffix in (".js", ".css", ".svg")


def _name(host: str) -> str:
    """Of a Host header: in small letters, without port and final dot; empty if it is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").removesuffix(".")
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    """Whether it is an IP address, of either kind."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_same(origin: str, host: str) -> bool:
    """Whether an Origin header is of the page that the Host header's server has sent."""
    try:
        page = urlsplit(origin)
        if page.scheme not in DEFAULT_PORTS:
            return False
        here = urlsplit(f"{page.scheme}://{host}")
        default = DEFAULT_PORTS[page.scheme]
        return (page.hostname, page.port or default) == (here.hostname, here.port or default)
    except ValueError:
        return False
