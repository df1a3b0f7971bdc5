"""Who may come in, and with how much: before a request is read.

Belongs here: the token, the host header, the size of a body. Not here: what a request says (`reading`).
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from got_core.serving.errors import ApiError

OPEN = ("/health", "/ready")
"""Paths that need no token: probes of a cluster have none."""


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_listening(host: str, token: str | None, variable: str = "GOT_SERVE_TOKEN") -> None:
    """Raise ValueError where anybody on a network could use the server. `variable` is named in it."""
    if token is None and not is_loopback(host):
        raise ValueError(
            f"listening at {host} needs a token that clients send: set {variable}, or take 127.0.0.1"
        )
    if token is not None and (len(token) < 8 or not token.isascii() or not token.isprintable()):
        raise ValueError(f"{variable} needs at least 8 characters, printable ASCII")


class Gate:
    """Answers what may not come in by itself, and hands on the rest."""

    def __init__(self, app: ASGIApp, *, token: str | None, max_bytes: int) -> None:
        """`token` None: from this machine alone, by a name of it, so that no web page can reach it by one of
        its own (DNS rebinding)."""
        self.app, self.max_bytes = app, max_bytes
        self._expected = None if token is None else f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        fault = self._fault(scope["path"], headers)
        if fault is not None:
            await fault.response()(scope, receive, send)
            return
        await self._counted(scope, receive, send)

    def _fault(self, path: str, headers: Headers) -> ApiError | None:
        if self._expected is None:
            host = _name_of(headers.get("host", ""))
            if not is_loopback(host):
                return ApiError(403, f"this server answers to localhost only, not to {host!r}")
        elif path not in OPEN:
            given = headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self._expected):
                return ApiError(
                    401, "send the server's token: Authorization: Bearer ...", code="invalid_api_key"
                )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.max_bytes:
            return _too_large(self.max_bytes)
        return None

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bodies that do not say how long they are, up to the limit."""
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.max_bytes:
                raise _too_large(self.max_bytes)
            return message

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, counted, noted)
        except ApiError as error:
            if begun:
                raise
            await error.response()(scope, receive, send)


def _name_of(host: str) -> str:
    """The name in a host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _too_large(most: int) -> ApiError:
    return ApiError(413, f"a request may have {most} bytes (GOT_SERVE_MAX_BYTES)")


def bearer_scheme() -> dict[str, Any]:
    """How OpenAPI describes the token."""
    return {"type": "http", "scheme": "bearer", "description": "GOT_SERVE_TOKEN, where the server has one"}
