"""A stage of another kind than GoT's own, in one module: it learns to write chains, and no picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from got_core.train.objective import JointObjective

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from got_core.model.got import GoTModel


@dataclass(frozen=True)
class ChainOnly(JointObjective):
    """The chain's cross-entropy alone, times a weight."""

    weight: float = 0.5

    def prepare(self, model: GoTModel) -> None:
        model.unet.requires_grad_(False)
        model.projector.requires_grad_(False)

    def losses(self, model: GoTModel, batch: dict[str, Any], rng: torch.Generator) -> dict[str, Tensor]:
        text, _ = model.read(batch)
        return {"loss": self.weight * batch["text_share"] * text, "chains": text.detach()}
