"""What answers cost: tokens and money, counted for each row.

Belongs here: the sum and who it is counted for. Not here: limits (`spending`) and forecasts (`estimate`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Usage:
    """Tokens that a model read and wrote, and what that costs in the currency of the prices."""

    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in + other.tokens_in, self.tokens_out + other.tokens_out, self.cost + other.cost
        )

    def __sub__(self, other: Usage) -> Usage:
        return Usage(
            self.tokens_in - other.tokens_in, self.tokens_out - other.tokens_out, self.cost - other.cost
        )

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.tokens_in + self.tokens_out


NOTHING = Usage()


class Tally:
    """A running sum."""

    def __init__(self) -> None:
        self.total = NOTHING


_ROW: ContextVar[Tally | None] = ContextVar("usage of the row under way", default=None)


@contextmanager
def counting() -> Iterator[Tally]:
    """Sums up the calls of `count` within, in this thread."""
    tally = Tally()
    token = _ROW.set(tally)
    try:
        yield tally
    finally:
        _ROW.reset(token)


def count(usage: Usage) -> None:
    """Add to the row under way; nothing happens outside of `counting`."""
    tally = _ROW.get()
    if tally is not None:
        tally.total += usage
