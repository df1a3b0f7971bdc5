"""Who may come in, and with how much: before a request is read.

Belongs here: the token, host and origin, the size of bodies. Not here: what a request says (`reading`).
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
from typing import Any

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from got_core.memory import give_back_memory
from got_core.serving.errors import ApiError

OPEN = ("/health", "/ready")
"""Paths that need no token: probes of a cluster have none."""


_TOGETHER = 16
"""Times the largest request: bytes of all requests under way, at most."""


_LARGE = 4 << 20
"""Bytes of a request after which memory is given back."""
_MOMENT = 5.0
"""Seconds from its answer until then: it takes a part of one."""


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
        self.app, self.max_bytes, self._under_way = app, max_bytes, 0
        self._giving_back: asyncio.TimerHandle | None = None
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
            host, origin = _name_of(headers.get("host", "")), headers.get("origin")
            if not is_loopback(host):
                return ApiError(403, f"this server answers to localhost only, not to {host!r}")
            if origin is not None and not is_loopback(_name_of(origin.partition("://")[2])):
                return ApiError(403, "pages of other sites may not ask a server without a token")
        elif path not in OPEN:
            given = headers.get("authorization", "").encode("latin-1", "replace")
            if not hmac.compare_digest(given, self._expected):
                return ApiError(
                    401, "send the server's token: Authorization: Bearer ...", code="invalid_api_key"
                )
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:20]) > self.max_bytes:
            return _too_large(self.max_bytes)
        return self._no_room(int(length[:20]))

    def _no_room(self, length: int) -> ApiError | None:
        if self._under_way + length <= _TOGETHER * self.max_bytes:
            return None
        return ApiError(
            429,
            "requests under way are too large together; try again later",
            code="rate_limit_exceeded",
            retry_after=1,
        )

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Bodies as they come, whether they say how long they are or not, up to the limits."""
        seen, begun = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            length = len(message.get("body", b""))
            if (fault := self._no_room(length)) is not None:
                raise fault
            seen += length
            self._under_way += length
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
        finally:
            self._under_way -= seen
            if seen >= _LARGE:
                self._give_back_soon()

    def _give_back_soon(self) -> None:
        """Large bodies leave their memory with the process: it goes back once no such one is under way."""
        if self._giving_back is None:
            self._giving_back = asyncio.get_running_loop().call_later(_MOMENT, self._give_back)

    def _give_back(self) -> None:
        self._giving_back = None
        if self._under_way >= _LARGE:
            self._give_back_soon()
        else:
            give_back_memory()


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
