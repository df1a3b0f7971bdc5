"""What bringing a shard, or the models, up to date came to.

Belongs here: the record of it, and what several of them mean together. Not here: doing it (`runner`),
printing it (`run_report`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Outcome:
    """What happened to the assets of one partition (or to the unpartitioned ones)."""

    made: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    """Asset that could not be made, and the parent whose check failed."""

    failed: dict[str, str] = field(default_factory=dict)
    """Asset whose check failed, and what the check said."""

    error: str = ""
    waits: bool = False
    """Whether something needed was left out because of a pause of the line."""


def nothing_passes(outcomes: Mapping[str, Outcome]) -> bool:
    """Whether all shards of images, or all of edits, are stopped by a failed check, or the models are."""
    kinds: dict[str, list[bool]] = {}
    for name, outcome in outcomes.items():
        kinds.setdefault(name.rpartition("-")[0] or name, []).append(bool(outcome.failed))
    return any(all(stopped) for stopped in kinds.values())


def waiting(outcomes: Mapping[str, Outcome]) -> int:
    """How many shards wait for what could not be asked."""
    return sum(outcome.waits for outcome in outcomes.values())
