"""One GET, bounded in time and size, that follows no redirect and shows no secret.

Belongs here: sending it. Not here: what the answer means.
"""

from __future__ import annotations

import base64
import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

SECONDS = 5.0
MOST_BYTES = 1 << 20


class Answer(NamedTuple):
    """Of a server."""

    status: int
    body: bytes


class NoAnswerError(RuntimeError):
    """No server, or none that speaks HTTP. The message holds neither key nor password."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirect may lead anywhere; the key must not go there."""

    def redirect_request(self, *_: object) -> None:
        return None


def get(url: str, key: str | None = None, *, proxies: bool = True) -> Answer:
    """The answer to a GET, whatever its status.

    `key`: sent as a bearer token; `proxies`: heed those of the environment. Raises NoAnswerError.
    """
    parts = _parts(url)
    headers = _headers(key, parts.username, parts.password)
    place = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    handlers = [_NoRedirects(), *([] if proxies else [urllib.request.ProxyHandler({})])]
    try:
        with urllib.request.build_opener(*handlers).open(
            urllib.request.Request(place, headers=headers), timeout=SECONDS
        ) as response:
            return Answer(response.status, response.read(MOST_BYTES))
    except urllib.error.HTTPError as error:
        return Answer(error.code, b"")
    except urllib.error.URLError as error:
        raise NoAnswerError(f"no connection: {error.reason}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise NoAnswerError(f"no HTTP answer: {type(error).__name__}") from None


def _parts(url: str) -> SplitResult:
    with suppress(ValueError):  # of a host or port that is none
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return parts
    raise NoAnswerError("it is no http or https address")


def _headers(key: str | None, user: str | None, password: str | None) -> dict[str, str]:
    if key is not None:
        if not key.isascii() or not key.isprintable():
            raise NoAnswerError("the key holds characters that no HTTP header can hold")
        return {"Authorization": f"Bearer {key}"}
    if user is None:
        return {}
    pair = f"{unquote(user)}:{unquote(password or '')}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
