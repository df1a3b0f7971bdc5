"""When a server wants to be asked again: the Retry-After header. Belongs here: both of its forms."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

LONGEST = 86_400.0
"""Seconds; more is taken for that."""


def retry_seconds(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, 0 to LONGEST; None where there is none, or it is nonsense.

    A date counts from the server's own clock, which its Date header tells.
    """
    text = headers.get("Retry-After", "").strip()
    try:
        seconds = float(text)
    except ValueError:
        until, now = _moment(text), _moment(headers.get("Date", "")) or datetime.now(UTC)
        if until is None:
            return None
        seconds = (until - now).total_seconds()
    return min(max(seconds, 0.0), LONGEST) if seconds == seconds else None


def _moment(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
