"""Sending a message to a webhook: one POST of JSON.

Belongs here: the request, and errors without the address, which holds a token with most receivers. Not here:
what is sent (`finding`), and when it is tried again, which is the caller's.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Mapping
from urllib.parse import SplitResult, urlsplit

from pydantic import SecretStr

SECONDS = 10.0
"""For connecting, and for the answer."""


class WebhookError(Exception):
    """The receiver did not take the message. Never names the address."""


def check_webhook(url: SecretStr) -> SplitResult:
    """The parts of an address. Raises ValueError, without the address, for one that cannot be used."""
    try:
        parts = urlsplit(url.get_secret_value())
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("GOT_ALERT_WEBHOOK is no http:// or https:// URL with a host")
    return parts


def send(url: SecretStr, document: Mapping[str, str], *, seconds: float = SECONDS) -> None:
    """POST a document as JSON. Redirects are not followed: they would carry the message elsewhere.

    Raises WebhookError where the receiver cannot be reached or answers with another status than 2xx, and
    ValueError as `check_webhook`.
    """
    parts = check_webhook(url)
    body = json.dumps(document, ensure_ascii=False).encode()
    path = parts.path or "/"
    target = f"{path}?{parts.query}" if parts.query else path
    connection = _connection(parts, seconds)
    try:
        connection.request("POST", target, body, {"Content-Type": "application/json; charset=utf-8"})
        answer = connection.getresponse()
        answer.read(65536)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # `from None`: texts of these errors may have the address in them.
        raise WebhookError(f"the alert webhook cannot be reached: {type(error).__name__}") from None
    finally:
        connection.close()
    if not 200 <= answer.status < 300:
        raise WebhookError(f"the alert webhook answered with HTTP {answer.status}")


def _connection(parts: SplitResult, seconds: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, parts.port, timeout=seconds, context=context)
    return http.client.HTTPConnection(host, parts.port, timeout=seconds)
