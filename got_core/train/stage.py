"""A training stage as a recipe lists it: a name, a configuration and an objective (no torch here).

Belongs here: the plain data of a stage. Not here: training one (``stages``), what it minimises
(``objective``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from got_core.train.config import StageConfig
from got_core.train.objective import JointObjective, Objective


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of training, from the model of the stage before (or foundation models) to its own."""

    name: str
    """Word in keys, folders and progress lines, such as ``pretrain``."""
    asset: str
    """Key of the asset that holds its model, such as ``pretrained_model``."""
    title: str
    """What a summary calls it, such as ``pretraining``."""
    description: str = ""
    """What the asset's page says."""
    config: StageConfig
    objective: Objective = field(default_factory=JointObjective)

    def identity(self) -> dict[str, Any]:
        """What makes its trained model a different one, and a stored one out of date when it changes (see
        ``StageConfig.identity``)."""
        return self.config.identity() | self._objective_identity()

    def whole(self) -> dict[str, Any]:
        """All of it: what a plan of its training depends on."""
        return asdict(self.config) | self._objective_identity()

    def _objective_identity(self) -> dict[str, Any]:
        # The joint objective adds nothing, so that models from before there were others keep their keys.
        if self.objective == JointObjective():
            return {}
        kind, fields = type(self.objective), asdict(self.objective)  # type: ignore[call-overload]
        return {"objective": {"class": f"{kind.__module__}.{kind.__qualname__}", **fields}}


def pretraining(config: StageConfig) -> Stage:
    """GoT pretraining (paper, section 4.4)."""
    return Stage(
        name="pretrain",
        asset="pretrained_model",
        title="pretraining",
        description="GoT pretraining: language model and U-Net learn together, the picture's loss flows back "
        "into the\nchain's hidden states.",
        config=config,
    )


def finetuning(config: StageConfig) -> Stage:
    """GoT finetuning (paper, section 4.4)."""
    return Stage(
        name="finetune",
        asset="finetuned_model",
        title="finetuning",
        description="GoT finetuning: the candidate model, saved as a diffusers pipeline that\n"
        "`GoTPipeline.from_pretrained` loads.",
        config=config,
    )


def check_stages(stages: Iterable[Stage]) -> None:
    """Raise ValueError where there is no stage, two share a name or an asset, or they hold out other rows."""
    stages = list(stages)
    shares = {stage.name: stage.config.held_out for stage in stages}
    if len(set(shares.values())) > 1:
        raise ValueError(
            f"held_out differs between the stages ({shares}): one would train on what another holds out; "
            "make it the same for all"
        )
    if not stages:
        raise ValueError("a recipe has at least one training stage")
    for kind in ("name", "asset"):
        counts = Counter(getattr(stage, kind) for stage in stages)
        if twice := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"two training stages have the {kind} {twice[0]!r}; give each its own")


def reads_latents(stages: Iterable[Stage]) -> bool:
    """Whether any stage reads stored latents in place of pictures."""
    return any(stage.config.latents is not None for stage in stages)


def check_predictions(prediction: str, stages: Iterable[Stage]) -> None:
    """Raise ValueError where a stage's loss predicts something else than the model draws with."""
    found = {one.name: one.config.loss.prediction for one in stages}
    wrong = [f"{name}.loss.prediction is {one!r}" for name, one in found.items() if one != prediction]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)}, but the recipe's model.scheduler.prediction is {prediction!r}: make them "
            "the same"
        )


def check_start(stages: Iterable[Stage], weights: str | None) -> None:
    """Raise ValueError where the first stage leaves most of the model as it is, and there is none that has
    learned GoT."""
    first = next(iter(stages))
    if not weights and (first.config.drawing_lora_rank or not first.config.language_whole):
        raise ValueError(
            f"stage {first.name!r} trains adapters of a model that has learned GoT already: set GOT_WEIGHTS "
            "to one, a saved pipeline, a checkpoint in the released layout, or a registered model such as "
            "models:/got@champion"
        )
