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
from got_core.evaluate.config import EvaluateConfig
from got_core.foundation.config import FoundationConfig
from got_core.model.config import ModelConfig
from got_core.registry.config import PromotionConfig
from got_core.scenes.config import CorpusConfig
from got_core.scenes.world import World
from got_core.train.stage import Stage, check_stages


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that can be chosen about a run of the graph, by part.

    Raises ValueError where there is no stage, two have one name or one asset, or promotion goes by a
    benchmark that the recipe does not name.
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
