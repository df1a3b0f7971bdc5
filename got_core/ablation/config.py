"""The rows of the ablation and the sizes of its runs, as plain data (no torch here, so recipes load fast)."""

from __future__ import annotations

from dataclasses import dataclass

from got_core.digests import execution
from got_core.foundation.config import FoundationConfig, shortened, without_got


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model of the ablation: what it has, and how it is trained."""

    title: str
    reasoning: bool = True
    """See ``ModelConfig.reasoning``."""
    spatial_guidance: bool = True
    """See ``ModelConfig.spatial_guidance``."""
    pretrained: bool = False
    """GoT pretraining comes before finetuning."""
    prolonged: bool = False
    """Finetuning takes as many steps as pretraining and finetuning of other rows together."""
    published: float | None = None
    """GenEval overall in the paper's table 3, another protocol."""


ROWS = {
    "baseline": Row(title="baseline", reasoning=False, spatial_guidance=False, published=0.38),
    "chain": Row(title="+ chain", spatial_guidance=False, published=0.40),
    "ssgm": Row(title="+ SSGM", published=0.42),
    "got": Row(title="+ GoT pretraining", pretrained=True, published=0.64),
    "control": Row(title="+ SSGM, as many steps", prolonged=True),
}
"""The paper's four rows, and a control for the last: what its additional steps do without pretraining."""


@dataclass(frozen=True, kw_only=True)
class AblationConfig:
    """Which runs are made and how long they are. Everything else is the recipe's own pretraining, finetuning
    and benchmark.

    Raises ValueError for values that cannot be used; the message names the field.
    """

    rows: tuple[str, ...] = tuple(ROWS)
    """Names of ROWS, in the order of the table."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """One run of each row for each. A seed gives all rows the same batches of the finetuning stage."""
    pretrain_steps: int = 340
    finetune_steps: int = 260
    """Together such that the longest runs take at most 600 CPU-seconds (embedded recipe)."""
    images_per_task: int = 50
    """Benchmark pictures of each of the six tasks a run; the prompts are the same for all runs."""
    edit_images: int = 0
    """Scenes edited for `edits/scenes` a run; 0: edits are not scored."""
    finetune_rows: float = 1.0
    """Share of the manifest's rows that the last stage reads; the stages before it read all. Below 1,
    pretraining has a corpus of its own, of which finetuning's is a part, as in the paper."""
    without_got: bool = False
    """Whether runs start from foundation models of their own that know no chains, canvases or sources, as the
    paper's published weights, in place of the graph's."""
    foundation_share: float = 1.0
    """Length of these foundation models' training: a share of each number of steps."""
    peak_rate: float | None = None
    """Of all stages, in place of their own: what knows no chains has more to learn than the graph's models.
    None: the stages' own."""
    language_rate: float | None = None
    """Of the language model, likewise."""
    workers: int = execution(1)
    """Data-parallel workers of a run. Several runs train side by side where there is room, which wastes less
    than several workers of one."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.rows if name not in ROWS]
        if unknown:
            raise ValueError(f"AblationConfig.rows has {unknown}; known are {', '.join(ROWS)}")
        for name in ("rows", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ValueError(f"AblationConfig.{name} must be one or more unlike values, got {values}")
        if self.edit_images < 0:
            raise ValueError(f"AblationConfig.edit_images must not be negative, got {self.edit_images}")
        if not 0 < self.finetune_rows <= 1:
            raise ValueError(
                f"AblationConfig.finetune_rows is a share above 0, at most 1, got {self.finetune_rows}"
            )
        if not 0 < self.foundation_share <= 1:
            raise ValueError(
                f"AblationConfig.foundation_share is a share above 0, at most 1, got {self.foundation_share}"
            )
        for name in ("peak_rate", "language_rate"):
            rate = getattr(self, name)
            if rate is not None and rate <= 0:
                raise ValueError(f"AblationConfig.{name} must be above 0, or None, got {rate}")
        for name in ("pretrain_steps", "finetune_steps", "images_per_task", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"AblationConfig.{name} must be at least 1, got {getattr(self, name)}")

    def start_of(self, foundation: FoundationConfig) -> FoundationConfig:
        """How the foundation models without GoT are trained, where the graph's are trained so."""
        return shortened(without_got(foundation), self.foundation_share)
