"""Pictures from URLs: politely, within limits, from public addresses only.

Belongs here: requests, retries, limits, opt-out headers. Does not belong here: which addresses are public
(``addresses``), what the bytes mean (``decode``), what was fetched before (``ingest``).
"""

from __future__ import annotations

import asyncio
import errno
import queue
import random
import re
import threading
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import NamedTuple

import aiohttp

from got_core.corpus.addresses import ForbiddenAddress, PublicResolver, check_host, networks
from got_core.corpus.config import FetchConfig, IngestConfig
from got_core.corpus.decode import ImageError
from got_core.corpus.webaddress import web_address
from got_core.retry_after import retry_seconds
from got_core.store_faults import machine_fault

_CHUNK = 64 * 1024
_LARGE = 8 * 1024**2
_LARGE_AT_ONCE = 4
"""Bodies above `_LARGE` bytes that are in memory at once; the others wait."""
_RETRYABLE = {408, 425, 429, 500, 502, 503, 504}
_OF_THIS_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.ENETDOWN}
_REDIRECTS = {301, 302, 303, 307, 308}
_FOR_EVERYBODY = {"noai", "noimageai"}


class Fetched(NamedTuple):
    """The bytes behind a URL, or the reason why there are none."""

    url: str
    data: bytes | None = None
    error: ImageError | None = None


class _Failure(Exception):
    """One try that failed. ``retryable``: another may go well; ``wait``: seconds, as the server wants."""

    def __init__(self, error: ImageError, *, retryable: bool = False, wait: float | None = None) -> None:
        super().__init__(str(error))
        self.error, self.retryable, self.wait = error, retryable, wait


def fetch_all(urls: Iterable[str], config: IngestConfig) -> Iterator[Fetched]:
    """Each URL's bytes or reason, in the order in which they come in.

    Requests run in a thread of their own; finished bodies wait until they are taken, at most as many as
    ``config.fetch.concurrency``. Closing the iterator ends all requests.
    """
    pending = list(dict.fromkeys(urls))
    results: queue.Queue[Fetched | BaseException | None] = queue.Queue(config.fetch.concurrency)
    loop = asyncio.new_event_loop()
    runner = _Runner(config, results)
    thread = threading.Thread(target=_run, args=(loop, runner, pending), name="fetch", daemon=True)
    thread.start()
    try:
        while (item := results.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        runner.stop()
        while thread.is_alive():
            try:
                results.get(timeout=0.05)
            except queue.Empty:
                continue
        thread.join()


def _run(loop: asyncio.AbstractEventLoop, runner: _Runner, urls: list[str]) -> None:
    try:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(runner.run(urls))
        runner.results.put(None)
    except asyncio.CancelledError:
        runner.results.put(None)
    except BaseException as error:  # a bug: raised where the results are taken
        runner.results.put(error)
    finally:
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()


class _Runner:
    """All requests of one call of :func:`fetch_all`, in one event loop."""

    def __init__(self, config: IngestConfig, results: queue.Queue) -> None:
        self.config, self.results = config, results
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task | None = None
        self._stopped = threading.Event()
        self._result_pool = ThreadPoolExecutor(1)  # apart from the default pool, which resolves names

    def stop(self) -> None:
        """End all requests; safe from any thread, also when they have ended."""
        self._stopped.set()
        if self._loop and self._task and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._task.cancel)

    async def run(self, urls: list[str]) -> None:
        """Fetch all; raises CancelledError if stopped."""
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        if self._stopped.is_set():
            raise asyncio.CancelledError
        fetch = self.config.fetch
        hosts: dict[str, deque[str]] = {}
        for url in urls:
            hosts.setdefault(_host(url), deque()).append(url)
        slots = asyncio.Semaphore(fetch.concurrency)
        try:
            async with _session(fetch) as session:
                client = _Client(session, self.config)
                async with asyncio.TaskGroup() as group:
                    for pending in hosts.values():
                        host = _Host(client, pending, slots, self._put, fetch)
                        for _ in range(min(fetch.per_host, len(pending))):
                            group.create_task(host.drain())
        finally:
            self._result_pool.shutdown(wait=False)

    async def _put(self, item: Fetched) -> None:
        assert self._loop
        await self._loop.run_in_executor(self._result_pool, self.results.put, item)


class _Host:
    """The URLs of one host, fetched by as many tasks as may send requests to it at once."""

    def __init__(
        self,
        client: _Client,
        pending: deque[str],
        slots: asyncio.Semaphore,
        put: Callable[[Fetched], Awaitable[None]],
        config: FetchConfig,
    ) -> None:
        self._client, self._pending, self._slots, self._put = client, pending, slots, put
        self._config, self._failures = config, 0

    async def drain(self) -> None:
        """Fetch until none is left; after too many failures in a row the rest is put off."""
        while self._pending:
            url = self._pending.popleft()
            if self._failures >= self._config.give_up_host_after:
                text = f"{self._failures} failures in a row; the host is left alone until the next run"
                await self._put(Fetched(url, error=ImageError("unreachable", text)))
                continue
            await self._put(await self._fetch(url))

    async def _fetch(self, url: str) -> Fetched:
        jitter = random.Random(url)
        for attempt in range(1, self._config.attempts + 1):
            try:
                async with self._slots:
                    data = await self._client.get(url)
                self._failures = 0
                return Fetched(url, data)
            except _Failure as failure:
                wait = self._config.backoff_seconds * 2 ** (attempt - 1) * jitter.uniform(0.5, 1.5)
                wait = failure.wait if failure.wait is not None else min(wait, self._config.max_wait_seconds)
                last = attempt == self._config.attempts or wait > self._config.max_wait_seconds
                if not failure.retryable or last:
                    self._failures = self._failures + 1 if failure.retryable else 0
                    return Fetched(url, error=failure.error)
                await asyncio.sleep(wait)
        raise AssertionError("the last attempt returns")


class _Client:
    """Single tries."""

    def __init__(self, session: aiohttp.ClientSession, config: IngestConfig) -> None:
        self._session, self._config = session, config
        self._allowed = networks(config.fetch.allow_networks)
        self._large = asyncio.Semaphore(_LARGE_AT_ONCE)

    async def get(self, url: str) -> bytes:
        """The body. Raises _Failure."""
        seconds = self._config.fetch.timeout_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._follow(url)
        except ImageError as error:
            raise _Failure(error) from None
        except TimeoutError:
            timed_out = ImageError("timed_out", f"not complete after {seconds:g} s")
            raise _Failure(timed_out, retryable=True) from None
        except (aiohttp.InvalidURL, ValueError) as error:
            raise _Failure(ImageError("bad_url", _short(error))) from None
        except aiohttp.ClientConnectorError as error:
            inner = error.os_error
            if inner.errno in _OF_THIS_MACHINE:
                raise machine_fault(inner, f"{_host(url)} cannot be reached") from None
            if isinstance(inner, ForbiddenAddress):
                raise _Failure(ImageError("forbidden_address", str(inner))) from None
            raise _Failure(ImageError("unreachable", _short(inner)), retryable=True) from None
        except (aiohttp.ClientError, OSError) as error:
            raise _Failure(ImageError("bad_response", _short(error)), retryable=True) from None

    async def _follow(self, address: str) -> bytes:
        here = web_address(address)
        for _ in range(self._config.fetch.max_redirects + 1):
            check_host(here.host, self._allowed)
            async with self._session.get(here.url(), allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await self._body(response)
                target = response.headers.get("Location")
                if not target:
                    raise ImageError("bad_response", f"status {response.status} without a Location")
                here = here.joined(target)
        raise ImageError("too_many_redirects", f"more than {self._config.fetch.max_redirects}")

    async def _body(self, response: aiohttp.ClientResponse) -> bytes:
        if response.status != 200:
            error = ImageError("http_error", f"status {response.status}")
            retryable = response.status in _RETRYABLE
            raise _Failure(
                error, retryable=retryable, wait=retry_seconds(response.headers) if retryable else None
            )
        reason = opted_out(response.headers, self._config.fetch)
        if reason:
            raise ImageError("opted_out", reason)
        if response.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ImageError(
                "bad_response", f"Content-Encoding {response.headers['Content-Encoding'][:40]!r}"
            )
        limit = self._config.max_bytes
        if (response.content_length or 0) > limit:
            raise ImageError("too_large", f"{response.content_length} bytes announced, limit {limit}")
        return await self._read(response, limit)

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        body, large = bytearray(), False
        try:
            async for chunk in response.content.iter_chunked(_CHUNK):
                body += chunk
                if len(body) > limit:
                    raise ImageError("too_large", f"more than {limit} bytes; the rest was not read")
                if len(body) > _LARGE and not large:
                    await self._large.acquire()
                    large = True
            return bytes(body)
        finally:
            if large:
                self._large.release()


def opted_out(headers: object, config: FetchConfig) -> str | None:
    """The header by which the owner opts out, or None.

    X-Robots-Tag may hold several directives, and an agent before a colon; TDM-Reservation is 1 for reserved.
    """
    get, get_all = headers.get, getattr(headers, "getall", None)  # type: ignore[attr-defined]
    if (get("TDM-Reservation") or "").strip() == "1":
        return "TDM-Reservation: 1"
    values = get_all("X-Robots-Tag", []) if get_all else [get("X-Robots-Tag") or ""]
    for value in values:
        agent = ""
        for part in value.split(","):
            before, colon, after = part.partition(":")
            if colon:
                agent = before.strip().lower()
            directive = (after if colon else before).strip().lower()
            ours = not agent or config.user_agent.lower().startswith(agent)
            if directive in config.opt_out and (ours or directive in _FOR_EVERYBODY):
                return f"X-Robots-Tag: {value[:100]}"
    return None


@asynccontextmanager
async def _session(config: FetchConfig) -> AsyncIterator[aiohttp.ClientSession]:
    """No cookies, no proxies (a proxy would connect where it likes), no decompression."""
    connector = aiohttp.TCPConnector(
        limit=0,
        resolver=PublicResolver(networks(config.allow_networks)),
        use_dns_cache=False,
        force_close=False,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
        timeout=aiohttp.ClientTimeout(total=None),
        headers={"User-Agent": config.user_agent, "Accept": "image/*", "Accept-Encoding": "identity"},
    ) as session:
        yield session


def _host(url: str) -> str:
    try:
        address = web_address(url)
        return f"{address.host}:{address.port or address.scheme}"
    except ImageError:
        return ""


def _short(error: BaseException) -> str:
    """The error in short, without queries of addresses, which may hold signatures."""
    text = " ".join(f"{type(error).__name__} {error}".split())
    return re.sub(r"\?[^\s'\"]+", "?...", text)[:200]
