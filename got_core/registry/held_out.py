"""The loss on rows that training never saw: what promotion compares where a recipe names no benchmark.

Belongs here: its form in a version's tags, and the comparison. Not here: measuring it (`got_core.train`), and
comparing benchmarks (`rule`).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlflow.entities.model_registry import ModelVersion

from got_core.registry.rule import Comparison

HELD_OUT_TAG = "held_out"
LOSS, START_LOSS = "held_out/loss", "held_out/start_loss"
"""Metrics of a trained model's reference: its own loss, and that of the weights that its last stage started
from, on the same rows with the same noise."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What is known of a version's held-out loss."""

    loss: float
    rows: str
    """Names the rows and how they are looked at: two losses of unlike ones say nothing about each other."""

    start_loss: float | None = None
    """The same, of the weights that the training started from; None: not measured."""

    start_weights: str | None = None
    """Hash of those weights."""

    @classmethod
    def of_training(cls, model: Mapping[str, Any], start: Mapping[str, Any]) -> HeldOut | None:
        """From the references of a trained model and of what it started from; None without a held-out loss.

        The rows go by the reference's `held_out_rows`, else by its manifest, from which they are split.
        """
        metrics = model.get("metrics", {})
        if LOSS not in metrics:
            return None
        return cls(
            loss=metrics[LOSS],
            rows=model.get("held_out_rows") or model["manifest_hash"],
            start_loss=metrics.get(START_LOSS),
            start_weights=start["weights_hash"],
        )

    @classmethod
    def of_version(cls, version: ModelVersion) -> HeldOut | None:
        """What a version's tag holds; None without one, or where somebody has damaged it."""
        try:
            found = cls(**json.loads(version.tags.get(HELD_OUT_TAG) or ""))
            losses = [one for one in (found.loss, found.start_loss) if one is not None]
            return found if all(isinstance(one, int | float) for one in losses) else None
        except (TypeError, ValueError):
            return None

    def tags(self) -> dict[str, str]:
        """The tag of a version."""
        return {HELD_OUT_TAG: json.dumps(asdict(self), sort_keys=True)}

    def loss_of(self, champion: HeldOut | None, weights: str | None) -> float | None:
        """The champion's loss on these rows; None where nothing tells it."""
        if champion is not None and champion.rows == self.rows:
            return champion.loss
        return self.start_loss if weights and weights == self.start_weights else None


def loss_fault(challenger: HeldOut | None) -> str | None:
    """Why a model can never be champion; None where that is not known. It need not have a held-out loss."""
    if challenger is None or math.isfinite(challenger.loss):
        return None
    return f"has a held-out loss of {challenger.loss}; look at the training's losses in MLflow"


def compare_losses(champion: ModelVersion, challenger: ModelVersion, weights_tag: str) -> Comparison:
    """Whether the challenger replaces the champion: its held-out loss has to be lower, on the same rows.

    The champion's is the one that it was registered with, if of the same rows, else the one that it had at
    the start of the challenger's training. Without either the champion stays, and the reason says so.
    """
    ours, theirs = HeldOut.of_version(challenger), HeldOut.of_version(champion)
    before = ours and ours.loss_of(theirs, champion.tags.get(weights_tag))
    if ours is None or before is None:
        return Comparison(False, _incomparable(ours, theirs, champion, challenger))
    figures = f"({ours.loss:.4f} against {before:.4f}, {_spelled_rows(ours, theirs)})"
    if ours.loss < before:
        return Comparison(True, f"the recipe names no benchmark, and the held-out loss is lower {figures}")
    return Comparison(False, f"the held-out loss is not lower {figures}")


def _spelled_rows(ours: HeldOut, theirs: HeldOut | None) -> str:
    if theirs is not None and theirs.rows == ours.rows:
        return "on the same rows"
    return "the champion's measured at the start of this training"


def _incomparable(
    ours: HeldOut | None, theirs: HeldOut | None, champion: ModelVersion, challenger: ModelVersion
) -> str:
    who = f"version {challenger.version}"
    why = "it has no held-out loss"
    if ours is not None:
        lacks = "has no held-out loss" if theirs is None else "has one on other rows"
        why = f"champion version {champion.version} {lacks}, and {who} did not start from it"
    return (
        f"{who} cannot be compared: the recipe names no benchmark, and {why}; look at pictures of both, and "
        f"move the alias champion of {champion.name} to {who} by hand if it is the better one"
    )
