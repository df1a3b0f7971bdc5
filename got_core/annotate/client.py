"""One chat completion over HTTP, through everything that a server under load does.

Belongs here: sending, limits of size and time, retries with back-off, waiting for a server that is gone. Not
here: the questions (`openai_annotator`), what a response says (`envelope`), how replies are read (`replies`).
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import aiohttp

from got_core.annotate.annotator import AnnotationError, AnnotationPaused, AskingFailed
from got_core.annotate.config import LENGTH_NAMES, OpenAIConfig
from got_core.annotate.envelope import (
    MAX_KEPT,
    Completion,
    RefusedError,
    RefusedSetting,
    TransientError,
    completion_of,
)
from got_core.annotate.refusals import help_with
from got_core.retry_after import retry_seconds

Notice = Callable[[str], None]
"""Called with a sentence when the server stops answering and when it is back."""

_NOTICE_SECONDS = 30.0


class Meter(Protocol):
    """Counts what the requests of a question cost."""

    async def begin(self) -> None:
        """Called before each request; may wait, or raise AnnotationPaused."""

    def end(self, completion: Completion | None, billed: bool) -> None:
        """Called after each: its reply, or None and whether it may have cost something all the same."""


class Tries:
    """Requests that one question may take: those that were answered or refused, may have been charged, or
    failed while others went well. Waiting for a server that is gone or busy takes none.

    Args:
        left: how many.
    """

    def __init__(self, left: int) -> None:
        self.left = left

    def check(self, last: Exception | None = None) -> None:
        """Raises AskingFailed where none is left."""
        if self.left < 1:
            why = f", the last one failed: {last}" if last else ""
            raise AskingFailed(f"the question has had all requests that it may take{why}") from last


class ChatClient:
    """Posts to OpenAI-compatible servers from one event loop.

    Args:
        config: limits and waiting times.
        notice: called when the server is gone or back.
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
        self._last_notice = float("-inf")
        self._length_names: dict[tuple[str, str], list[str]] = {}
        """Names for the limit of length that are left to try, by URL and model."""
        self.requests = 0
        """Requests sent, those that failed included."""

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def complete(
        self, url: str, body: dict[str, Any], meter: Meter, tries: Tries | None = None
    ) -> Completion:
        """Post until there is a reply, or no try is left.

        Raises RefusedError where the server does not take this request, AskingFailed where it fails time and
        again though others go well, and AnnotationPaused where the server is gone for longer than `patience`,
        or refuses everybody. A server that does not know the limit of length by the name that the body gives
        it is sent the other one, from then on.
        """
        wait, failures = self._config.first_wait, 0
        tries = tries or Tries(sys.maxsize)
        tries.check()
        first = last = time.monotonic()
        while True:
            sent = self._renamed(url, body)
            try:
                completion = await self._metered(url, sent, meter)
            except RefusedSetting as error:
                self._rename(url, sent, error)
                continue
            except AnnotationError:
                tries.left -= 1
                raise
            except TransientError as error:
                # Only what fails between others that go well is this request's own failure.
                own = not error.busy and self._last_good > last
                failures += own
                tries.left -= own or error.billed
                tries.check(error)
                last = time.monotonic()
                delay = self._delay(error, wait, failures, first)
                wait = min(2 * wait, self._config.longest_wait)
            else:
                tries.left -= 1
                self._mark_alive()
                return completion
            await asyncio.sleep(delay)

    async def _metered(self, url: str, body: dict[str, Any], meter: Meter) -> Completion:
        await meter.begin()
        billed = True
        completion = None
        try:
            completion = await self._post(url, body)
        except TransientError as error:
            billed = error.billed
            raise
        except (RefusedError, RefusedSetting, AnnotationPaused):
            billed = False
            raise
        finally:
            meter.end(completion, billed)
        return completion

    def _renamed(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        """The body with its limit of length by the name that the server takes."""
        names = self._length_names.get((url, body["model"]), [])
        if not names:
            return body
        return {names[0] if name in LENGTH_NAMES else name: value for name, value in body.items()}

    def _rename(self, url: str, sent: dict[str, Any], error: RefusedSetting) -> None:
        """Go on with the other name for the limit of length; AnnotationPaused where that does not help."""
        names = self._length_names.setdefault((url, sent["model"]), list(LENGTH_NAMES))
        if error.setting in LENGTH_NAMES and self._config.length_name is None:
            if error.setting in names and len(names) > 1:
                names.remove(error.setting)
            if error.setting not in names:
                return
        raise AnnotationPaused(
            f"{error}; {help_with(error.setting)}. Nothing was charged; run the step again"
        ) from error

    def _delay(self, error: TransientError, wait: float, failures: int, first: float) -> float:
        """Seconds until the next try; raises where there is none."""
        now = time.monotonic()
        if failures > self._config.retries:
            raise AskingFailed(f"{failures} requests failed while others went well, the last one: {error}")
        silent = now - max(self._last_good, first)
        delay = max(error.after, wait * random.uniform(0.5, 1.0))
        if silent + delay > self._config.patience:
            later = f" and asks to come back in {error.after:.0f} s" if error.after else ""
            raise AnnotationPaused(
                f"the server gave no reply for {silent:.0f} s ({error}){later}; what is answered is kept. "
                "Run the step again when the server is back"
            )
        if self._gone_since is None:
            self._gone_since = now
        if now - self._last_notice > _NOTICE_SECONDS:
            self._last_notice = now
            left = self._config.patience - silent
            self._notice(f"the server does not reply ({error}); waiting for {left:.0f} s at most")
        return delay

    def _mark_alive(self) -> None:
        self._last_good = time.monotonic()
        if self._gone_since is not None:
            self._notice(f"the server replies again, after {self._last_good - self._gone_since:.0f} s")
            self._gone_since, self._last_notice = None, float("-inf")

    async def _post(self, url: str, body: dict[str, Any]) -> Completion:
        self.requests += 1
        sent = json.dumps(body).encode()
        try:
            async with self._session.post(url, data=sent, allow_redirects=False) as response:
                data = await self._read_body(response)
                if response.status != 200 and self._config.api_key:
                    data = data.replace(self._config.api_key.encode(), b"***")
                return completion_of(response.status, retry_seconds(response.headers), data, body.keys())
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise TransientError(f"no connection: {_short(error)}", billed=False) from error
        except TimeoutError as error:
            raise TransientError(f"no reply within {self._config.timeout:g} s", billed=True) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise TransientError(f"the connection failed: {_short(error)}", billed=True) from error

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, never more of it than allowed. A longer one is closed, and its row quarantined."""
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise AnnotationPaused(
                "the server sent a compressed reply that nobody asked for; turn compression off there (or in "
                "what stands before it) and run the step again",
                retryable=True,
            )
        data = bytearray()
        async for chunk in response.content.iter_chunked(1 << 16):
            data += chunk
            if len(data) > self._config.max_reply_bytes:
                response.close()
                raise AnnotationError(
                    "reply_too_large",
                    f"more than {self._config.max_reply_bytes} bytes",
                    data[:MAX_KEPT].decode("utf-8", "replace"),
                )
        return bytes(data)


def _short(error: BaseException) -> str:
    return f"{type(error).__name__} {error}"[:200].strip()
