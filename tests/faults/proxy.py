"""A proxy on loopback before a real HTTP server, which goes wrong by rules and counts what comes by.

    with FaultProxy(server.url) as proxy:
        proxy.add(SLOW_DOWN, method="GET", path=r"images/.*\\.png", times=3)
        ...
        assert proxy.count("GET", "images/") == 12

Belongs here: passing requests on, faults, counts. Not here: kinds of faults (`rules`), what real servers
answer (`answers`), servers to put behind it (`stores`).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from tests.faults.answers import time_too_skewed
from tests.faults.rules import Answer, Bandwidth, Clock, Cut, Fault, Latency, Rule

T = TypeVar("T")
_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
_PIECE = 16 * 1024
_SKEW = timedelta(minutes=15)


@dataclass(frozen=True)
class Seen:
    """A request that came by."""

    method: str
    path: str
    query: str
    status: int
    """Of the answer; 0 where the connection was cut before it."""
    began: float
    ended: float
    """Both by `time.monotonic`."""

    @property
    def target(self) -> str:
        """Path and query."""
        return f"{self.path}?{self.query}" if self.query else self.path


class FaultProxy:
    """Stands before `upstream` from entering its `with` block on; every method may be called from any thread.

    Args:
        upstream: URL of the server; `url` is the proxy's own with the same path.
        split_bulk_delete: answer S3's bulk deletes by single ones, for servers that do not know them.
    """

    def __init__(self, upstream: str, *, split_bulk_delete: bool = False) -> None:
        parts = urlsplit(upstream)
        self._origin, self._path = f"{parts.scheme}://{parts.netloc}", parts.path
        self._split_bulk_delete = split_bulk_delete
        self._rules: list[Rule] = []
        self._seen: list[Seen] = []
        self.at_once = self.most_at_once = 0
        """Requests under way now, and at most."""
        self._lock = threading.Lock()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fault-proxy", daemon=True)
        self._port = 0

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._run(self._start())
        self.url = f"http://127.0.0.1:{self._port}{self._path}"
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # Faults

    def add(self, fault: Fault, **where: Any) -> Rule:
        """From now on this happens to requests (see `Rule` for `where`), beside all other rules.

        Of answers and cuts the first that applies counts.
        """
        rule = Rule(fault=fault, **where)
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Everything goes well from now on; counts stay."""
        with self._lock:
            self._rules.clear()

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody listens at the port for a while: connections are refused, and those that are open cut."""
        self._run(self._close_site())
        try:
            yield
        finally:
            self._run(self._open_site())

    # Counts

    @property
    def seen(self) -> list[Seen]:
        """The requests that have been answered or cut, in that order. Those that are under way are waited for
        a moment: whoever asked may have the answer before it is written down here."""
        until = time.monotonic() + 3
        while self.at_once and time.monotonic() < until:
            time.sleep(0.002)
        with self._lock:
            return list(self._seen)

    def count(self, method: str | None = None, path: str = "", status: int | None = None) -> int:
        """How many requests of a method, with a path and query that the pattern is found in."""
        rule = Rule(fault=Cut(), method=method, path=path)
        return sum(
            one.status == (status or one.status) and rule.applies(one.method, one.target) for one in self.seen
        )

    def by_method(self) -> Counter[str]:
        """Requests by method."""
        return Counter(one.method for one in self.seen)

    def by_path(self) -> Counter[tuple[str, str]]:
        """Requests by method and path."""
        return Counter((one.method, one.path) for one in self.seen)

    def forget(self) -> None:
        """Count from nothing again; rules stay."""
        with self._lock:
            self._seen.clear()
            self.most_at_once = self.at_once

    # In the event loop

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{rest:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await self._open_site()

    async def _open_site(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await self._site.start()
        self._port = self._port or self._runner.addresses[0][1]

    async def _close_site(self) -> None:
        await self._site.stop()
        for connection in list(self._runner.server.connections if self._runner.server else ()):
            if connection.transport is not None:
                connection.transport.abort()

    async def _stop(self) -> None:
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        began, status = time.monotonic(), 0
        with self._lock:
            faults = [rule.fault for rule in self._rules if rule.applies(request.method, request.raw_path)]
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            response = await self._answered(request, faults)
            status = response.status
            return response
        finally:
            with self._lock:
                self.at_once -= 1
                self._seen.append(Seen(request.method, path, query, status, began, time.monotonic()))

    async def _answered(self, request: web.Request, faults: list[Fault]) -> web.StreamResponse:
        rate = min((one.bytes_per_second for one in faults if isinstance(one, Bandwidth)), default=0.0)
        offset = sum(one.seconds for one in faults if isinstance(one, Clock))
        body = b"".join([piece async for piece in _paced(request.content.iter_any(), rate)])
        await asyncio.sleep(sum(one.seconds for one in faults if isinstance(one, Latency)))
        final = next((one for one in faults if isinstance(one, Answer | Cut)), None)
        if isinstance(final, Answer):
            return _own(request, final)
        if isinstance(final, Cut) and final.after is None:
            raise _reset(request)
        if offset and (refused := _skewed(request, offset)) is not None:
            return _own(request, refused)
        if self._split_bulk_delete and request.method == "POST" and "delete" in request.query:
            return _own(request, await self._deleted_singly(request, body))
        try:
            return await self._forwarded(request, body, rate, offset, final.after if final else None)
        except aiohttp.ClientError:  # the server behind is gone
            raise _reset(request) from None

    async def _forwarded(
        self, request: web.Request, body: bytes, rate: float, offset: float, cut: int | None
    ) -> web.StreamResponse:
        headers = _end_to_end(request.headers)
        async with self._session.request(
            request.method,
            URL(self._origin + request.raw_path, encoded=True),
            headers=headers,
            data=body if body or "Content-Length" in headers else None,
            allow_redirects=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        ) as reply:
            if cut == 0:
                raise _reset(request)
            kept = _end_to_end(reply.headers)
            if offset:
                kept["Date"] = format_datetime(datetime.now(UTC) + timedelta(seconds=offset), usegmt=True)
            response = web.StreamResponse(status=reply.status, reason=reply.reason, headers=kept)
            await response.prepare(request)
            await _write(request, response, _paced(reply.content.iter_any(), rate), cut)
            return response

    async def _deleted_singly(self, request: web.Request, body: bytes) -> Answer:
        """S3's answer to a bulk delete, made of single ones."""
        bucket, removed = request.raw_path.partition("?")[0].rstrip("/"), []
        for key in (one.text or "" for one in ElementTree.fromstring(body).iter() if one.tag.endswith("Key")):
            url = URL(f"{self._origin}{bucket}/{quote(key, safe='/')}", encoded=True)
            async with self._session.delete(url, headers=_identity(request)) as reply:
                state = "Deleted" if reply.status in (200, 204, 404) else "Error"
                code = "" if state == "Deleted" else f"<Code>{reply.status}</Code><Message/>"
                removed.append(f"<{state}><Key>{escape(key)}</Key>{code}</{state}>")
        found = (
            f'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{"".join(removed)}</DeleteResult>'
        )
        return Answer(status=200, body=found.encode(), headers={"Content-Type": "application/xml"})


def _identity(request: web.Request) -> dict[str, str]:
    """Who asks; its signature is for another request, which servers for tests do not check."""
    return {
        name: request.headers[name] for name in ("Authorization", "X-Amz-Date") if name in request.headers
    }


def _end_to_end(headers: Any) -> CIMultiDict[str]:
    """Headers that are not about one connection alone."""
    kept = ((name, value) for name, value in headers.items() if name.lower() not in _HOP | {"expect"})
    return CIMultiDict(kept)


def _own(request: web.Request, answer: Answer) -> web.Response:
    body = b"" if request.method == "HEAD" else answer.body
    return web.Response(status=answer.status, body=body, headers=dict(answer.headers))


def _reset(request: web.Request) -> BaseException:
    """Cuts the connection; what to raise then."""
    if request.transport is not None:
        request.transport.abort()
    return asyncio.CancelledError()


async def _write(
    request: web.Request, response: web.StreamResponse, pieces: AsyncIterator[bytes], cut: int | None
) -> None:
    written = 0
    async for piece in pieces:
        if cut is not None and written + len(piece) >= cut:
            if cut > written:
                await response.write(piece[: cut - written])
            break
        await response.write(piece)
        written += len(piece)
    if cut is not None:
        await asyncio.sleep(0)
        raise _reset(request)
    await response.write_eof()


async def _paced(pieces: Any, bytes_per_second: float) -> AsyncIterator[bytes]:
    """The same pieces, no faster than that; 0: at once."""
    async for whole in pieces:
        for start in range(0, len(whole), _PIECE):
            piece = whole[start : start + _PIECE]
            if bytes_per_second:
                await asyncio.sleep(len(piece) / bytes_per_second)
            yield piece


def _skewed(request: web.Request, offset: float) -> Answer | None:
    """S3's refusal of a request that was signed at another time than it is at the server."""
    signed, now = _signed_at(request), datetime.now(UTC) + timedelta(seconds=offset)
    if signed is None or abs(signed - now) <= _SKEW:
        return None
    refused = time_too_skewed(now.strftime("%Y-%m-%dT%H:%M:%SZ"))
    date = {"Date": format_datetime(now, usegmt=True)}
    return Answer(status=refused.status, body=refused.body, headers={**refused.headers, **date})


def _signed_at(request: web.Request) -> datetime | None:
    stamp = request.headers.get("X-Amz-Date") or request.query.get("X-Amz-Date")
    if stamp:
        return datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return parsedate_to_datetime(date) if (date := request.headers.get("Date")) else None
