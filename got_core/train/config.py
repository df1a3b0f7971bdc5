"""Hyper-parameters of the training stages, as plain data (no torch here, so recipes load fast)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from got_core.model.config import LossConfig

Geometry = Literal["stretch", "crop", "bucket"]
Sharding = Literal["ddp", "fsdp"]
SAMPLE_PICTURES = 12
"""Pictures in a grid of samples."""
Device = Literal["auto", "cpu", "cuda"]
OptimizerName = Literal["adamw", "muon"]
"""``adamw``, the paper's; ``muon``: weights between hidden layers go to Muon, all others to AdamW."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One joint stage: GoT pretraining or finetuning (paper section 4.4).

    Raises ValueError for values that do not go together; the message names the fields.
    """

    steps: int
    workers: int = 1
    """Data-parallel Ray Train workers."""
    batch_size: int = 1
    """Samples a worker and forward pass."""
    global_batch: int | None = None
    """Samples an optimizer step, over all workers and passes: a multiple of workers x batch_size, from which
    the number of passes follows. None: one pass."""
    mixture: dict[str, float] = field(default_factory=lambda: {"t2i": 0.5, "edit": 0.5})
    """Shares of batches by group; they sum to 1. A group is ``t2i``, ``edit``, or of the edits only
    ``single-turn`` or ``multi-turn``; ``t2i/NAME`` takes the rows whose ``source`` is NAME. The share of a
    kind that the manifest does not hold goes to the others."""
    geometry: Geometry = "stretch"
    """How a picture becomes one of training size: ``stretch`` to the square, ``crop`` a square from it, or
    ``bucket``: crop to the nearest of several shapes of the same area, a batch being of one shape."""
    random_crop: bool = True
    """Of ``crop`` and ``bucket``: a picture longer than its frame is cut at random, else from the middle."""
    bucket_multiple: int = 64
    """Of ``bucket``: sides are multiples of this many pixels."""
    cache_megabytes: int = 2048
    """Decoded pictures that a worker keeps, the least recently used going first."""
    peak_rate: float = 1e-4
    language_rate: float | None = None
    """Peak rate of the language model's parts; None means ``peak_rate``, 0 leaves them as they are."""
    warmup_steps: int = 0
    final_rate: float = 0.0
    """Share of the peak rate that cosine decay ends at."""
    optimizer: OptimizerName = "adamw"
    """Of ``muon``, the U-Net's weights; the language model has LoRA and stays with AdamW."""
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.05
    """Of matrices. That vectors (norms, biases) have none is this project's choice; the paper is silent."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of all trained parameters together. This project's choice as well."""
    lora_rank: int = 32
    """Of the language model's LoRA."""
    language_whole: bool = True
    """Whether the language model's embeddings, head and norms are trained whole, beside LoRA. A model that
    has learned GoT's tokens can do without, in half of the memory."""
    drawing_lora_rank: int = 0
    """Of LoRA on the drawing network's attention and feed-forward layers, all else of it staying as it is;
    0: it is trained whole."""
    lora_alpha: int = 32
    """Of both: what LoRA adds is multiplied by alpha / rank."""
    lora_dropout: float = 0.0
    """0.05 in the paper; on a CPU it costs a fifth of a step."""
    loss: LossConfig = field(default_factory=LossConfig)
    ema_decay: float = 0.0
    """0 switches the moving average of the weights off."""
    bf16: bool = True
    """Compute in bfloat16 where the device can; elsewhere in float32."""
    frozen_bf16: bool = False
    """Keep what language model and drawing network do not train in bfloat16, too, where ``bf16`` computes in
    it. The model that comes out has those weights rounded so."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass, and encode pictures one by one: slower, less memory."""
    sharding: Sharding = "ddp"
    """``ddp``: every worker holds everything. ``fsdp``: parameters, gradients, moments and averages are
    spread over the workers; checkpoints still hold everything, so the number of workers may change."""
    device: Device = "auto"
    """Where workers train; ``auto``: on GPUs if the cluster has one for each worker."""
    max_failures: int = 2
    """Losses of workers that a run survives, each going on from the last checkpoint."""
    checkpoint_every: int = 200
    """Steps between checkpoints, at least 1."""
    sample_every: int = 0
    """Steps between grids of sample pictures; 0 draws one at the end only."""
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.workers, self.batch_size) < 1:
            raise ValueError("steps, workers and batch_size must be at least 1")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is at least 1 step, got {self.checkpoint_every}")
        if self.sample_every < 0:
            raise ValueError(f"sample_every is 0 or a number of steps, got {self.sample_every}")
        for name, rate in (("peak_rate", self.peak_rate), ("language_rate", self.language_rate)):
            if rate is not None and rate < 0:
                raise ValueError(f"{name} is not negative, got {rate}")
        if self.samples_per_step % (self.workers * self.batch_size) or self.samples_per_step < 1:
            raise ValueError(
                f"global_batch {self.global_batch} is not a multiple of workers {self.workers} x batch_size "
                f"{self.batch_size} = {self.workers * self.batch_size}; change one of the three"
            )
        if min(self.mixture.values(), default=0) <= 0 or abs(sum(self.mixture.values()) - 1) > 1e-6:
            raise ValueError(f"the shares of a mixture are positive and sum to 1, got {self.mixture}")
        choices = (
            ("geometry", Geometry),
            ("sharding", Sharding),
            ("device", Device),
            ("optimizer", OptimizerName),
        )
        for name, known in choices:
            if getattr(self, name) not in get_args(known):
                raise ValueError(f"{name} is one of {get_args(known)}, got {getattr(self, name)!r}")
        if min(self.lora_rank - 1, self.drawing_lora_rank) < 0:
            raise ValueError(
                f"lora_rank is at least 1 and drawing_lora_rank at least 0, got {self.lora_rank} and "
                f"{self.drawing_lora_rank}"
            )
        if self.optimizer == "muon" and self.drawing_lora_rank:
            raise ValueError("optimizer muon takes whole weights, not LoRA's: set optimizer to adamw")
        if self.sharding not in self.shardings:
            cause = "optimizer muon" if self.optimizer == "muon" else "frozen_bf16"
            raise ValueError(f"{cause} needs whole weights on each worker: set sharding to ddp")

    @property
    def samples_per_step(self) -> int:
        """The global batch, whether given or not."""
        return self.workers * self.batch_size if self.global_batch is None else self.global_batch

    @property
    def accumulation(self) -> int:
        """Forward passes of a worker an optimizer step."""
        return self.samples_per_step // (self.workers * self.batch_size)

    @property
    def shardings(self) -> tuple[Sharding, ...]:
        """Those that go: Muon needs whole weights on each worker, and FSDP one format for all weights."""
        return ("ddp",) if self.optimizer == "muon" or self.frozen_bf16 else get_args(Sharding)

    @property
    def samples_at_once(self) -> int:
        """Sample pictures that are drawn in one call: one by one where memory is short."""
        short = self.sharding == "fsdp" or self.gradient_checkpointing
        return 1 if short else min(self.batch_size, SAMPLE_PICTURES)

    def identity(self) -> dict[str, Any]:
        """What makes a trained model a different one: everything but how the work is spread and watched.

        A run that was cut off goes on under the same identity, with another number of workers too if
        ``global_batch`` stays.
        """
        return {k: v for k, v in asdict(self).items() if k not in _EXECUTION} | {
            "global_batch": self.samples_per_step
        }


_EXECUTION = {
    "workers",
    "batch_size",
    "cache_megabytes",
    "gradient_checkpointing",
    "sharding",
    "device",
    "max_failures",
    "checkpoint_every",
    "sample_every",
}
