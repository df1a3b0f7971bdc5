"""A benchmark protocol as data: two scores may stand in one column only if their protocols are the same.

Belongs here: the record, its digest, and the comparison, field by field. Not here: how a benchmark is run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from got_core.scenes.world import FULL, NARROW, World


class UnlikeProtocolsError(ValueError):
    """Scores of different protocols were about to be compared."""


def _stated(default: Any = None, *, factory: Any = None) -> Any:
    """A field that is part of the record and its digest only where a benchmark states it: protocols that were
    stored before the field was there keep their digests."""
    made = {"default_factory": factory} if factory else {"default": default}
    return field(**made, metadata={"where_stated": True})  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network or judge that a score depends on. ValueError where nothing tells its version."""

    name: str
    """Such as `facebook/mask2former-swin-small-coco-instance`, or the architecture for a folder."""

    revision: str | None = None
    """Commit of its repository, or the dated name of a served model."""

    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 (64 hex digits) of its files, by name; weights and what they are read with."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else moves its answers: dtype, normalisation, temperature."""

    def __post_init__(self) -> None:
        if not self.revision and not self.files:
            raise ValueError(
                f"the network {self.name!r} has neither a revision nor hashes of its files, so a score made "
                "with it could be compared with no other; give one of them"
            )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that a score depends on besides the model that is judged."""

    name: str
    """Such as `geneval/scenes`; a different detector or corpus has a different name."""

    version: int
    """Raised when code that changes a verdict changes."""

    rules: dict[str, Any] = field(default_factory=dict)
    """Thresholds and limits of the rules."""

    detector: dict[str, Any] = field(default_factory=dict)
    """Name and version of what reads the pictures."""

    prompts: dict[str, Any] = field(default_factory=dict)
    """How the prompts were made, their number a task, and the digest of the list itself."""

    sampler: dict[str, Any] = field(default_factory=dict)
    """Steps and scales forced on the model; an empty dict means the model's own defaults."""

    aggregation: dict[str, Any]
    """How images become a task's score, tasks the overall score, and how the interval is found."""

    world: dict[str, Any] = field(default_factory=dict)
    """The corpus's world (name, shapes, colours, sizes), for benchmarks on rendered scenes."""

    excluded: tuple[str, ...] = ()
    """Samples left out, by id."""

    networks: Mapping[str, Network] = _stated(factory=dict)
    """Networks and judges with their versions, by what they do: `detector`, `colours`, `judge`."""

    prompt_texts: Mapping[str, str] = _stated(factory=dict)
    """SHA-256 of each text that a network or judge is prompted with (`text_sha256`), by its name."""

    resize: Mapping[str, Any] = _stated(factory=dict)
    """How pictures are brought to the size that a network takes, by what the network does."""

    samples: Mapping[str, Any] = _stated(factory=dict)
    """The list of samples: how many, how many pictures each, and the SHA-256 of the list."""

    plan: bool | None = _stated(None)
    """Whether the model drew from a plan that it wrote; None: not stated."""

    def record(self) -> dict[str, Any]:
        """All fields as plain JSON types; those that came later only where they are stated."""
        plain = json.loads(json.dumps(dataclasses.asdict(self)))
        later = {one.name for one in dataclasses.fields(self) if one.metadata.get("where_stated")}
        return {name: value for name, value in plain.items() if name not in later or value not in (None, {})}

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, with the digest under `digest`."""
        return {**self.record(), "digest": self.digest()}

    def digest(self) -> str:
        """12 hex digits of SHA-256 over the canonical JSON of `record`."""
        return digest_of(self.record())


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


def text_sha256(text: str) -> str:
    """SHA-256 of a prompt's text in UTF-8, 64 hex digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def why_unlike(left: Protocol | Mapping[str, Any], right: Protocol | Mapping[str, Any]) -> list[str]:
    """In which fields two protocols differ, one line each: `rules.threshold: 0.3 and 0.5`.

    Takes protocols or their records as scores carry them (`protocol_record`). Empty: they are the same.
    """
    records = [one.record() if isinstance(one, Protocol) else _without_digest(one) for one in (left, right)]
    return list(_unlike_fields("", *records))


def _without_digest(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name != "digest"}


def _unlike_fields(path: str, left: Any, right: Any) -> Iterator[str]:
    if isinstance(left, Mapping) and isinstance(right, Mapping):
        for name in dict.fromkeys([*left, *right]):
            inner = f"{path}.{name}" if path else str(name)
            yield from _unlike_fields(inner, left.get(name, _NOT_STATED), right.get(name, _NOT_STATED))
    elif (one := _text(left)) != (other := _text(right)):  # of 1 and 1.0 too
        yield f"{path}: {_cut(one)} and {_cut(other)}"


_NOT_STATED = object()
_SHOWN = 80


def _text(value: Any) -> str:
    return "not stated" if value is _NOT_STATED else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def require_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    """Check that two score dicts were got under one protocol.

    Raises UnlikeProtocolsError naming both and the fields in which they differ, since a mean of unlike
    protocols means nothing.
    """
    if left["protocol_digest"] == right["protocol_digest"]:
        return
    records = left.get("protocol_record"), right.get("protocol_record")
    why = why_unlike(*records) if records[0] and records[1] else []
    raise UnlikeProtocolsError(
        f"{left['protocol']} ({left['protocol_digest']}) and {right['protocol']} "
        f"({right['protocol_digest']}) are different protocols: their scores cannot be compared"
        f"{f' ({_bounded(why)})' if why else ''}; score both models under one protocol"
    )


_NAMED = 5


def _bounded(lines: list[str]) -> str:
    more = f"; and {len(lines) - _NAMED} more" if len(lines) > _NAMED else ""
    return "; ".join(lines[:_NAMED]) + more
