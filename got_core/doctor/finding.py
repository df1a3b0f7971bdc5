"""What a check found.

Belongs here: the form. Not here: any check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warn", "fail"]
LIGHT_CORE = "pip install 'got[pipeline]' (in a source checkout: `make run` installs it)"
"""What to do where the light core alone is installed."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the report."""

    name: str
    state: State
    """`warn`: works, but worse than it could or not everything; `fail`: something will not work."""

    found: str
    advice: str = ""
    """What to do; empty where there is nothing to do."""


def ok(name: str, found: str) -> Finding:
    """All is well."""
    return Finding(name=name, state="ok", found=found)


def warn(name: str, found: str, advice: str) -> Finding:
    """It works, with limits."""
    return Finding(name=name, state="warn", found=found, advice=advice)


def fail(name: str, found: str, advice: str) -> Finding:
    """It does not work."""
    return Finding(name=name, state="fail", found=found, advice=advice)


def worst(findings: list[Finding]) -> State:
    """The state of all together."""
    states = {one.state for one in findings}
    return "fail" if "fail" in states else "warn" if "warn" in states else "ok"
