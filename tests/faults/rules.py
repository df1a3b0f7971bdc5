"""What a fault proxy can do to a request, and which requests it does it to.

Belongs here: kinds of faults, rules and their counting. Not here: sockets (`proxy`), the wordings of real
servers (`answers`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The proxy answers itself; the server behind it is not asked."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """The request is passed on so many seconds later."""

    seconds: float


@dataclass(frozen=True)
class Bandwidth:
    """Bodies go through at so many bytes a second, in both directions."""

    bytes_per_second: float


@dataclass(frozen=True)
class Cut:
    """The connection is reset.

    After so many bytes of the answer's body, whose headers promise all of them; None: before the request is
    passed on. With 0 the server has done its work, and its answer never comes.
    """

    after: int | None = None


@dataclass(frozen=True)
class Clock:
    """The server's clock is so many seconds ahead: S3 refuses what is signed 15 minutes off."""

    seconds: float


Fault = Answer | Latency | Bandwidth | Cut | Clock


@dataclass(kw_only=True)
class Rule:
    """A fault for the requests that fit: of a method, and whose path and query a pattern is found in."""

    fault: Fault
    method: str | None = None
    path: str = ""
    times: int | None = None
    """How many of them; None: all."""
    skip: int = 0
    """How many go well before the first."""
    fitting: int = 0
    """Requests that fitted so far."""

    def applies(self, method: str, target: str) -> bool:
        """Whether the fault happens to this request, which is counted."""
        if self.method not in (None, method) or not re.search(self.path, target):
            return False
        self.fitting += 1
        last = float("inf") if self.times is None else self.skip + self.times
        return self.skip < self.fitting <= last

    @property
    def used(self) -> int:
        """How often the fault happened."""
        later = max(self.fitting - self.skip, 0)
        return later if self.times is None else min(later, self.times)
