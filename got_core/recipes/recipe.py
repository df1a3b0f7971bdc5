"""What a recipe is: every size and number of a run of the graph.

Belongs here: the parts of a recipe. Not here: the recipes (one file each beside this), and what a part
configures (a ``config`` module in its room).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from got_core.ablation.config import AblationConfig
from got_core.corpus.config import IngestConfig
from got_core.curate.config import CurateConfig
from got_core.evaluate.config import SCENE_ASSETS, EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import ModelConfig
from got_core.registry.config import PromotionConfig
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.stage import Stage, check_stages

OTHERS = (
    "name published benchmarks (geneval, emu_edit/base and others) in evaluate.benchmarks and one of their "
    "scores as promotion.primary, or no benchmark: the held-out loss is compared then"
)
"""What a recipe may name in place of benchmarks on scenes."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that can be chosen about a run of the graph, by part.

    Raises ValueError where there is no stage, two have one name or one asset, promotion goes by a benchmark
    that the recipe does not name, or a model of photographs is to be scored on rendered scenes.
    """

    name: str
    world: World
    """The world of scenes: corpus and benchmark of the embedded default."""
    corpus: CorpusConfig
    ingest: IngestConfig
    curate: CurateConfig
    model: ModelConfig
    foundation: FoundationConfig
    stages: tuple[Stage, ...]
    """Training stages in order, each starting from the model of the one before. The last one's model is the
    candidate that is scored and registered."""
    evaluate: EvaluateConfig
    ablation: AblationConfig
    promotion: PromotionConfig = field(default_factory=PromotionConfig)

    def __post_init__(self) -> None:
        check_stages(self.stages)
        benchmarks, primary = self.evaluate.benchmarks, self.promotion.primary
        if benchmarks and primary.rpartition("/")[0] not in benchmarks:
            raise ValueError(
                f"recipe {self.name!r}: promotion.primary is {primary!r}, but evaluate.benchmarks names "
                f"{', '.join(benchmarks)}: take a score of one of these"
            )
        if self.evaluate.on_scenes and not self.draws_scenes:
            what = f"evaluate.benchmarks names {', '.join(self.evaluate.on_scenes)}"
            raise ValueError(f"{self.no_scenes(what)}; {OTHERS}")

    @property
    def draws_scenes(self) -> bool:
        """Whether its model draws pictures as large as rendered scenes are: others are of photographs."""
        return self.model.resolution == self.world.size

    def no_scenes(self, what: str) -> str:
        """Why a model of photographs is not scored on scenes; ``what`` would score it."""
        return (
            f"recipe {self.name!r}: {what}, rendered scenes of {self.world.size} pixels, but its model draws "
            f"pictures of {self.model.resolution}, and scenes say nothing about a model of photographs"
        )

    def check_ablation(self) -> None:
        """Raise ValueError where models cannot be scored on scenes, as all runs of the ablation are."""
        if not self.draws_scenes:
            what = f"the ablation scores its runs by {SCENE_ASSETS['geneval']}"
            raise ValueError(f"{self.no_scenes(what)}; take a recipe of scenes, such as embedded")

    @property
    def candidate(self) -> str:
        """Asset of the model that is scored and registered: the last stage's."""
        return self.stages[-1].asset

    def stage(self, name: str) -> Stage:
        """The stage of this name. Raises ValueError, which lists the names, for an unknown one."""
        for stage in self.stages:
            if stage.name == name:
                return stage
        known = ", ".join(stage.name for stage in self.stages)
        raise ValueError(f"recipe {self.name!r} has no stage {name!r}; it has {known}")

    def with_stage(self, name: str, **changes: Any) -> Recipe:
        """The same recipe with changes to the configuration of one stage, such as ``steps=100``.

        Raises ValueError for an unknown stage, and TypeError for an unknown field of ``StageConfig``.
        """
        stage = self.stage(name)
        changed = replace(stage, config=replace(stage.config, **changes))
        return replace(self, stages=tuple(changed if one is stage else one for one in self.stages))
