"""One chat completion over HTTP, through everything that a server under load does.

Belongs here: sending, limits of size and time, retries with back-off, waiting for a server that is gone. Not
here: what is asked (`openai_annotator`) and how replies are read (`replies`).
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import aiohttp

from got_core.annotate.annotator import AnnotationError, AnnotationPaused
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.replies import plain_text

Notice = Callable[[str], None]
"""Told in a sentence when the server stops answering and when it is back."""

_NOTICE_SECONDS = 30.0
_KEPT = 2000  # characters of a response that nobody can use
_WRONG_SETTINGS = {401: "the API key is refused", 403: "the API key is refused", 404: "no such URL or model"}
_LATER = {408, 409, 425, 429}


@dataclass(frozen=True)
class Completion:
    """What the server answered; token counts are None where it does not give them."""

    text: str
    cut: bool
    """Whether the reply ended at the limit of its length."""
    tokens_in: int | None
    tokens_out: int | None


class TransientError(Exception):
    """A request that may go well later. `billed`: the server may have done (and charged) the work."""

    def __init__(self, told: str, billed: bool, after: float = 0.0, busy: bool = False) -> None:
        super().__init__(told)
        self.billed, self.after, self.busy = billed, after, busy


class RefusedError(AnnotationError):
    """A request that the server will never answer."""

    billed = False


class Meter(Protocol):
    """Counts what the requests of a question cost."""

    async def begin(self) -> None:
        """Called before each request; may wait, or raise AnnotationPaused."""

    def end(self, completion: Completion | None, billed: bool) -> None:
        """Called after each: its reply, or None and whether it may have cost something all the same."""


class ChatClient:
    """Posts to OpenAI-compatible servers from one event loop.

    Args:
        config: limits and waiting times.
        notice: told when the server is gone or back.
    """

    def __init__(self, config: OpenAIConfig, notice: Notice | None = None) -> None:
        self._config = config
        self._notice = notice or (lambda _: None)
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if config.api_key:
            headers["Authorization"] = f"Bearer {config.api_key}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=config.timeout, sock_connect=min(10.0, config.timeout)),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._last_good = float("-inf")
        self._gone_since: float | None = None
        self._told = float("-inf")
        self.requests = 0
        """Requests sent, those that failed included."""

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def complete(self, url: str, body: bytes, meter: Meter) -> Completion:
        """Post until there is a reply.

        Raises AnnotationError where this request never goes well though others do, and AnnotationPaused where
        the server is gone for longer than it is waited for, or refuses everybody.
        """
        wait, failures = self._config.first_wait, 0
        first = last = time.monotonic()
        while True:
            try:
                completion = await self._metered(url, body, meter)
            except TransientError as error:
                # Only what fails between others that go well is this request's own failure.
                failures += not error.busy and self._last_good > last
                last = time.monotonic()
                delay = self._delay(error, wait, failures, first)
                wait = min(2 * wait, self._config.longest_wait)
            else:
                self._back()
                return completion
            await asyncio.sleep(delay)

    async def _metered(self, url: str, body: bytes, meter: Meter) -> Completion:
        await meter.begin()
        billed = True
        completion = None
        try:
            completion = await self._post(url, body)
        except (TransientError, RefusedError) as error:
            billed = error.billed
            raise
        except AnnotationPaused:
            billed = False
            raise
        finally:
            meter.end(completion, billed)
        return completion

    def _delay(self, error: TransientError, wait: float, failures: int, first: float) -> float:
        """Seconds until the next try; raises where there is none."""
        now = time.monotonic()
        if failures > self._config.retries:
            raise AnnotationError("server_error", f"{failures} requests failed, the last one: {error}")
        silent = now - max(self._last_good, first)
        delay = max(error.after, wait * random.uniform(0.5, 1.0))
        if silent + delay > self._config.patience:
            raise AnnotationPaused(
                f"the server gave no reply for {silent:.0f} s ({error}); what is answered is kept. "
                "Run the step again when the server is back"
            )
        if self._gone_since is None:
            self._gone_since = now
        if now - self._told > _NOTICE_SECONDS:
            self._told = now
            left = self._config.patience - silent
            self._notice(f"the server does not reply ({error}); waiting for {left:.0f} s at most")
        return delay

    def _back(self) -> None:
        self._last_good = time.monotonic()
        if self._gone_since is not None:
            self._notice(f"the server replies again, after {self._last_good - self._gone_since:.0f} s")
            self._gone_since, self._told = None, float("-inf")

    async def _post(self, url: str, body: bytes) -> Completion:
        self.requests += 1
        try:
            async with self._session.post(url, data=body, allow_redirects=False) as response:
                data = await self._limited(response)
                return _completion(response.status, response.headers.get("Retry-After"), data)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(f"no connection: {_short(error)}", billed=False) from error
        except TimeoutError as error:
            raise TransientError(f"no reply within {self._config.timeout:g} s", billed=True) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransientError(f"the connection failed: {_short(error)}", billed=True) from error

    async def _limited(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, never more of it than allowed. A longer one is closed, and its row quarantined."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise AnnotationError("refused_reply", "the server sent a compressed reply that nobody asked for")
        data = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > self._config.max_reply_bytes:
                response.close()
                raise AnnotationError(
                    "reply_too_large",
                    f"more than {self._config.max_reply_bytes} bytes",
                    data[:_KEPT].decode("utf-8", "replace"),
                )
        return bytes(data)


def _completion(status: int, retry_after: str | None, data: bytes) -> Completion:
    """What a response says; raises TransientError, RefusedError or AnnotationPaused where it is no reply."""
    if status == 200:
        return _envelope(data)
    told = f"HTTP {status}"
    if status in _WRONG_SETTINGS:
        raise AnnotationPaused(f"{told}: {_WRONG_SETTINGS[status]}; check the annotator's settings")
    if 300 <= status < 400:
        raise AnnotationPaused(f"{told}: redirects are not followed; set the annotator's final URL")
    raw = data[:_KEPT].decode("utf-8", "replace")
    if status in _LATER or status >= 500:
        raise TransientError(told, billed=False, after=_seconds(retry_after), busy=status == 429)
    raise RefusedError("refused", f"{told}: {' '.join(raw.split())[:300]}", raw)


def _envelope(data: bytes) -> Completion:
    try:
        reply = json.loads(data)
        choice = reply["choices"][0]
        text, finish = choice["message"].get("content"), choice.get("finish_reason")
        usage = reply.get("usage") or {}
        counts = [_count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
        raise TransientError(f"no chat completion ({type(error).__name__})", billed=True) from error
    return Completion(plain_text(text), finish == "length", *counts)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 10**9 else None


def _seconds(retry_after: str | None) -> float:
    """Seconds of a Retry-After header; a date, or nonsense, is 0."""
    try:
        return min(max(float(retry_after or 0), 0.0), 86_400.0)
    except ValueError:
        return 0.0


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"[:200].strip()
