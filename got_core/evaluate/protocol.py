"""A benchmark protocol as data: two scores may stand in one column only if their protocols are the same.

Belongs here: the record, its digest, and the comparison. Not here: how a benchmark is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from got_core.scenes.world import FULL, NARROW, World


class UnlikeProtocolsError(ValueError):
    """Scores of different protocols were about to be compared."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that a score depends on besides the model that is judged."""

    name: str
    """Such as `geneval/scenes`; a different detector or corpus has a different name."""

    version: int
    """Raised when code that changes a verdict changes."""

    rules: dict[str, Any]
    """Thresholds and limits of the rules."""

    detector: dict[str, Any]
    """Name and version of what reads the pictures."""

    prompts: dict[str, Any]
    """How the prompts were made, their number a task, and the digest of the list itself."""

    sampler: dict[str, Any]
    """Steps and scales forced on the model; an empty dict means the model's own defaults."""

    aggregation: dict[str, Any]
    """How images become a task's score, tasks the overall score, and how the interval is found."""

    world: dict[str, Any] = field(default_factory=dict)
    """The corpus's world (name, shapes, colours, sizes), for benchmarks on rendered scenes."""

    excluded: tuple[str, ...] = ()
    """Samples left out, by id."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the digest under `digest`."""
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        return {**plain, "digest": self.digest()}

    def digest(self) -> str:
        """12 hex digits of SHA-256 over the canonical JSON of all fields."""
        return digest_of(dataclasses.asdict(self))


def protocol_figures(protocol: Protocol) -> dict[str, Any]:
    """The protocol as a score dict carries it."""
    return {
        "protocol": protocol.name,
        "protocol_digest": protocol.digest(),
        "protocol_record": protocol.to_dict(),
    }


def world_record(world: World) -> dict[str, Any]:
    """A world with its name: `narrow` or `full` for the two of the library, `own` for another."""
    names = {NARROW: "narrow", FULL: "full"}
    return {"name": names.get(world, "own"), **dataclasses.asdict(world)}


def digest_of(value: Any) -> str:
    """12 hex digits of SHA-256 over the canonical JSON of `value`, dataclasses as objects of their fields."""
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=dataclasses.asdict
    )
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def require_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Check that two score dicts were got under one protocol.

    Raises UnlikeProtocolsError naming both, since a mean of unlike protocols means nothing.
    """
    if left["protocol_digest"] != right["protocol_digest"]:
        raise UnlikeProtocolsError(
            f"{left['protocol']} ({left['protocol_digest']}) and {right['protocol']} "
            f"({right['protocol_digest']}) are different protocols: their scores cannot be compared; "
            "score both models under one protocol"
        )
