"""Hyper-parameters of the training stages, as plain data (no torch here, so recipes load fast)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from got_core.model.config import LossConfig
from got_core.train.layout import StepLayout

Geometry = Literal["stretch", "crop", "bucket"]
Sharding = Literal["ddp", "fsdp"]
SAMPLE_PICTURES = 12
"""Pictures in a grid of samples."""
Device = Literal["auto", "cpu", "cuda"]
"""Where to train: ``auto``, on GPUs, and on processors only where there is none and the model is small."""
KINDS = ("t2i", "edit")
"""Kinds of samples."""
GROUPS = (*KINDS, "single-turn", "multi-turn", "reasoning")
"""Groups that a mixture may draw from, each also as ``GROUP/SOURCE``."""
LatentFormat = Literal["float16", "float32"]
"""Numbers of stored latents."""
OptimizerName = Literal["adamw", "muon"]
"""``adamw``, the paper's; ``muon``: weights between hidden layers go to Muon, all others to AdamW."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One joint stage: GoT pretraining or finetuning (paper section 4.4).

    Raises ValueError for values that do not go together; the message names the fields.
    """

    steps: int
    workers: int = 1
    """Data-parallel Ray Train workers that the stage needs, one GPU each; where there are more GPUs, it takes
    more (see ``ray.workers``). On processors, as many as it takes."""
    batch_size: int = 1
    """Most samples of a worker and forward pass. The real number, and that of passes, follows from
    ``global_batch``, ``draws_per_step`` and the number of workers."""
    global_batch: int | None = None
    """Samples an optimizer step, over all workers and passes. None: ``workers`` x ``batch_size``."""
    draws_per_step: int = 1
    """How often a step draws from the mixture. Each draw is an equal part of the global batch, of one group
    and one picture size, and is shared evenly by all workers."""
    mixture: dict[str, float] = field(default_factory=lambda: {"t2i": 0.5, "edit": 0.5})
    """Shares of draws by group; they sum to 1. A group is ``t2i``, ``edit``, or of the edits only
    ``single-turn``, ``multi-turn``, or ``reasoning`` (whatever its turns: the instruction lacks words by
    which the chain names an object); ``t2i/NAME`` takes the rows whose ``source`` is NAME. The share of a
    kind that the manifest does not hold goes to the others."""
    geometry: Geometry = "stretch"
    """How a picture becomes one of training size: ``stretch`` to the square, ``crop`` a square from it, or
    ``bucket``: crop to the nearest of several shapes of the same area, a batch being of one shape. Edits are
    never cropped: they are stretched, to the square or to the bucket, and the model draws them so."""
    random_crop: bool = True
    """Of ``crop`` and ``bucket``: a picture longer than its frame is cut at random, else from the middle."""
    bucket_multiple: int = 64
    """Of ``bucket``: sides are multiples of this many pixels."""
    latents: LatentFormat | None = None
    """Read stored latents in numbers of this format in place of pictures (the asset ``latent_shards``); None:
    pictures are read, and encoded anew in each step. Each picture is stored with one cut, that of the middle,
    so ``random_crop`` has to be off where the geometry crops."""
    cache_megabytes: int = 2048
    """Decoded pictures that a worker keeps, the least recently used going first; decoder processes keep
    none."""
    decoders: int = 0
    """Processes of each worker that read and decode pictures while it computes; 0: it reads them itself."""
    prefetch: int = 2
    """Passes that each decoder process has ready at most."""
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
    """Of matrices but the language model's embedding and head, whose rows of tokens that no data holds would
    only shrink. That those and vectors (norms, biases) have none is this project's choice; the paper is
    silent."""
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
    """Recompute activations in the backward pass, and encode fewer pictures a call: slower, less memory."""
    selective_checkpointing: bool = False
    """Of ``gradient_checkpointing``: keep results of matrix products, convolutions and attention, and
    recompute only the rest. Hardly slower than to keep everything, and half of its memory."""
    sharding: Sharding = "ddp"
    """``ddp``: every worker holds everything. ``fsdp``: parameters, gradients, moments and averages are
    spread over the workers; checkpoints still hold everything, so the number of workers may change."""
    shard_within: int = 0
    """Of ``fsdp``: workers that a whole model is spread over, such as those of one node; groups of so many
    hold it each, and add their gradients up. 0: it is spread over all. It divides the number of workers."""
    replicate_frozen: bool = False
    """Of ``fsdp``: every worker holds whole what is not trained, which is then never gathered."""
    compile: bool = False
    """Compile the blocks of the drawing network and of the language model (``torch.compile``), once for each
    size that they meet. Sample pictures and held-out losses are computed without."""
    max_failures: int = 2
    """Losses of workers that a run survives, each going on from the last checkpoint."""
    held_out: float = 0.0
    """Share of the manifest's rows, by a hash of their ids, that no stage trains on: their loss is measured
    instead."""
    row_share: float = 1.0
    """Share of the manifest's other rows, by the same hash, that this stage draws from. A smaller one's rows
    are among those of a larger one: pretraining may read a larger corpus than finetuning."""
    held_out_samples: int = 256
    """Held-out rows that are measured at most."""
    held_out_every: int = 0
    """Steps between measurements, each at the first checkpoint at or after a multiple; 0: at each one."""
    max_skipped_steps: int = 20
    """Steps in a row whose loss or gradient was not finite that end the training; fewer are skipped."""
    checkpoint_every: int = 200
    """Steps between checkpoints, at least 1."""
    milestone_every: int = 0
    """Steps between checkpoints that are kept for good, each the first at or after a multiple; 0 keeps none
    once the stage is finished. The last two are kept until then in any case."""
    sample_every: int = 0
    """Steps between grids of sample pictures; 0 draws one at the end only."""
    first_samples: int = 0
    """Steps after which a first grid is drawn, to see soon what comes out; 0: with the others."""
    picture_retries: int = 3
    """Tries, after the first, to read a picture after a fault that may pass, with growing waits."""
    picture_timeout: float = 60.0
    """Seconds for a picture, all tries together, after which it counts as one that cannot be read; 0 sets no
    limit."""
    max_substituted: float = 0.01
    """Largest share of samples, among a worker's last 2,000, that another row may take the place of because
    their pictures cannot be read (up to ten are never too many; 0 allows none). Above it training stops."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "workers", "batch_size", "draws_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.samples_per_step < 1:
            raise ValueError(f"global_batch must be at least 1, got {self.global_batch}")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out is a share of the rows from 0 to below 1, got {self.held_out}")
        if not 0 < self.row_share <= 1:
            raise ValueError(f"row_share is a share of the rows above 0, at most 1, got {self.row_share}")
        if self.held_out_samples < 1 or self.held_out_every < 0:
            raise ValueError(
                "held_out_samples is at least 1 and held_out_every not negative, got "
                f"{self.held_out_samples} and {self.held_out_every}"
            )
        if self.shard_within < 0:
            raise ValueError(f"shard_within is 0 or a number of workers, got {self.shard_within}")
        if self.max_skipped_steps < 1:
            raise ValueError(f"max_skipped_steps is at least 1 step, got {self.max_skipped_steps}")
        if self.checkpoint_every < 1:
            raise ValueError(f"checkpoint_every is at least 1 step, got {self.checkpoint_every}")
        for name in ("sample_every", "first_samples", "milestone_every"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is 0 or a number of steps, got {getattr(self, name)}")
        if self.decoders < 0 or self.prefetch < 1:
            raise ValueError(
                f"decoders is not negative and prefetch at least 1, got {self.decoders} and {self.prefetch}"
            )
        if min(self.picture_retries, self.picture_timeout) < 0:
            raise ValueError(
                f"picture_retries {self.picture_retries} and picture_timeout {self.picture_timeout} must not "
                "be negative"
            )
        if not 0 <= self.max_substituted <= 1:
            raise ValueError(f"max_substituted is a share from 0 to 1, got {self.max_substituted}")
        for name, rate in (("peak_rate", self.peak_rate), ("language_rate", self.language_rate)):
            if rate is not None and rate < 0:
                raise ValueError(f"{name} is not negative, got {rate}")
        self.layout()
        check_mixture(self.mixture)
        if self.latents is not None and self.geometry != "stretch" and self.random_crop:
            raise ValueError(
                f"stored latents (latents={self.latents!r}) hold one cut of each picture, and geometry "
                f"{self.geometry!r} cuts at random: set random_crop to False, or latents to None"
            )
        choices = (
            ("latents", Literal[LatentFormat, None]),
            ("geometry", Geometry),
            ("sharding", Sharding),
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
            if self.optimizer == "muon":
                raise ValueError("optimizer muon needs whole weights on each worker: set sharding to ddp")
            raise ValueError(
                "frozen_bf16 needs whole weights on each worker: set sharding to ddp, or replicate_frozen"
            )

    @property
    def edit_bucket_multiple(self) -> int | None:
        """What the trained model knows of its edits' buckets (see ``GoTPipeline``); None: it has none."""
        return self.bucket_multiple if self.geometry == "bucket" else None

    @property
    def samples_per_step(self) -> int:
        """The global batch, whether given or not."""
        return self.workers * self.batch_size if self.global_batch is None else self.global_batch

    def layout(self, workers: int | None = None) -> StepLayout:
        """How a step is spread over so many workers; over ``self.workers`` where no number is given.

        Raises ValueError where they cannot share a draw evenly.
        """
        return StepLayout(
            samples=self.samples_per_step,
            draws=self.draws_per_step,
            workers=self.workers if workers is None else workers,
            largest_batch=self.batch_size,
        )

    @property
    def shardings(self) -> tuple[Sharding, ...]:
        """Those that go: Muon needs whole weights on each worker, and FSDP one format for what it spreads."""
        whole = self.optimizer == "muon" or (self.frozen_bf16 and not self.replicate_frozen)
        return ("ddp",) if whole else get_args(Sharding)

    @property
    def samples_at_once(self) -> int:
        """Sample pictures that are drawn in one call: one by one where memory is short."""
        short = self.sharding == "fsdp" or self.gradient_checkpointing
        return 1 if short else min(self.batch_size, SAMPLE_PICTURES)

    def is_milestone(self, step: int) -> bool:
        """Whether the checkpoint of a step is kept for good."""
        if not self.milestone_every:
            return False
        before = (step - 1) // self.checkpoint_every * self.checkpoint_every
        return step // self.milestone_every > before // self.milestone_every

    def identity(self) -> dict[str, Any]:
        """What makes a trained model a different one: everything but how the work is spread and watched.

        A run that was cut off goes on under the same identity, with another number of workers too.
        """
        return {k: v for k, v in asdict(self).items() if k not in _EXECUTION} | {
            "global_batch": self.samples_per_step
        }


def check_mixture(mixture: Mapping[str, float]) -> None:
    """Raise ValueError where a name is no group, or the shares are not positive or do not sum to 1."""
    if faults := [fault for name in mixture if (fault := group_fault(name))]:
        raise ValueError("; ".join(faults))
    total = sum(mixture.values())
    # Written so that a share that is no number fails, too.
    if not (min(mixture.values(), default=0) > 0 and abs(total - 1) <= 1e-6):
        raise ValueError(f"the shares of a mixture are positive and sum to 1, got {dict(mixture)}: {total:g}")


def group_fault(name: str) -> str | None:
    """Why a name is no group of a mixture; None: it is one."""
    kind, separator, source = name.partition("/")
    if kind not in GROUPS:
        return f"mixture group {name!r} is none of {', '.join(GROUPS)}, nor one of these with /SOURCE"
    return f"mixture group {name!r} names no source behind the /" if separator and not source else None


# How the work is spread, watched and protected.
_EXECUTION = {
    "workers",
    "batch_size",
    "cache_megabytes",
    "decoders",
    "prefetch",
    "gradient_checkpointing",
    "selective_checkpointing",
    "sharding",
    "shard_within",
    "replicate_frozen",
    "compile",
    "max_failures",
    "max_skipped_steps",
    "held_out_samples",
    "held_out_every",
    "checkpoint_every",
    "milestone_every",
    "sample_every",
    "first_samples",
    "picture_retries",
    "picture_timeout",
    "max_substituted",
}
