"""Assumptions of a training plan, as plain data (no torch here). What is trained is said by the recipe.

Belongs here: what a plan cannot know, with where it comes from. Not here: what follows from it (``hours``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from math import exp
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Accelerator:
    """One GPU, and what an hour of it costs."""

    name: str = "A100 80GB"
    memory_gb: float = 80.0
    """In units of 10^9 bytes."""
    peak_tflops: float = 312.0
    """Dense bfloat16 operations a second, 10^12; a multiplication and an addition are two."""
    price_per_hour: float = 2.0
    """In any currency."""
    overhead_gb: float = 4.0
    """Memory for the driver, communication buffers and what fragmentation loses."""

    def __post_init__(self) -> None:
        if min(self.memory_gb, self.peak_tflops) <= 0:
            raise ValueError("Accelerator.memory_gb and peak_tflops must be positive")


@dataclass(frozen=True)
class BoxCounts:
    """How many boxes samples of one kind have. Raises ValueError where the shares do not sum to 1."""

    shares: tuple[float, ...]
    """Share of the samples with no box, with one, two, ..."""

    def __post_init__(self) -> None:
        if not self.shares or min(self.shares) < 0 or abs(sum(self.shares) - 1) > 1e-6:
            raise ValueError(f"shares of samples by boxes are not negative and sum to 1, got {self.shares}")

    @classmethod
    def exactly(cls, boxes: int) -> Self:
        """The same number in each sample."""
        return cls((0.0,) * boxes + (1.0,))

    @classmethod
    def around(cls, mean: float, most: int = 16) -> Self:
        """One box, and a Poisson number of further ones up to ``most``; ``mean`` is from 1 to ``most``."""
        if not 1 <= mean <= most:
            raise ValueError(f"boxes a sample are from 1 to {most} on average, got {mean}")
        weights = [exp(1 - mean)]
        for further in range(1, most):
            weights.append(weights[-1] * (mean - 1) / further)
        return cls((0.0, *(weight / sum(weights) for weight in weights)))

    @property
    def mean(self) -> float:
        """Boxes a sample, on average."""
        return sum(number * share for number, share in enumerate(self.shares))

    @property
    def most(self) -> int:
        """The most that a sample has."""
        return max(number for number, share in enumerate(self.shares) if share)


@dataclass(frozen=True, kw_only=True)
class Assumptions:
    """One set of what is assumed of the machines and the data; the values here are what is expected.

    Rates are those of one worker: one GPU with its share of a machine. A GB is 10^9 bytes. Where no source is
    named a value is an estimate that nothing was measured for: what is measured goes in its place, for all
    three sets by :meth:`BudgetConfig.knowing`, or by the options of ``got estimate``.
    """

    utilisation: float = 0.35
    """Share of the peak that a pass reaches while it computes, recomputed operations counted as work done.
    An estimate, below what a language model of 540 billion parameters reached (PaLM, arXiv 2204.02311: .462,
    .578 with recomputation), for convolutions at a batch of two fill a GPU less."""
    float32_share: float = 0.5
    """Share of the bfloat16 peak that there is for work in float32. An A100 has 156 TFLOP/s in TF32, which
    cuDNN's convolutions take unless told otherwise, of 312; 19.5 without."""
    t2i_boxes: BoxCounts = field(default_factory=lambda: BoxCounts.around(3.94))
    """Boxes of a text-to-image chain. The mean is that of the paper's two sets by their rows (3.78 in
    3.77 M and 4.09 in 4.09 M); the shape is assumed, for the paper gives none. A chain without a box is
    rejected by the usual rules, so there is none."""
    edit_boxes: BoxCounts = field(default_factory=lambda: BoxCounts.around(1.5))
    """Boxes of an edit's chain: one a step, two where something moves. The paper gives no figure."""
    stored_pixels: float = 1.5
    """Pixels of a stored picture, as a multiple of those of the training size."""
    bytes_per_pixel: float = 0.4
    """Of a stored picture: JPEG .2 to .6, PNG of photographs 1.5 and more."""
    read_gb: float = 0.2
    """GB a second that a worker reads from the storage: two connections' worth (AWS's guidelines for S3,
    "Horizontal scaling and request parallelization": one request for each 85 to 90 MB/s)."""
    write_gb: float = 0.2
    """GB a second that a worker writes to the storage."""
    decoders: int = 4
    """Processes of a worker that decode, for stages that do not set ``decoders`` themselves."""
    decode_megapixels: float = 40.0
    """10^6 pixels a second that a decoder decodes and resizes. Pillow decodes 360 to 726 pictures of
    ImageNet's validation set a second on cores of servers (ternaus/imread_benchmark), which are about 70 to
    145. Resizing takes longer: of 1254 to 1024 pixels a side, bicubic, 1.45 times as long where both were
    measured on one core (154 decoded, 106 resized, 63 together)."""
    link_gb: float = 40.0
    """GB a second that a worker sends while all exchange (nccl-tests' bus bandwidth): that of a machine's
    network where there are several. 400 Gbit/s a machine are 50, 8 x 200 Gbit/s (DGX A100) are 200."""
    overlap: float = 0.7
    """Share of the exchange that takes place while the GPU computes. FSDP gathers the next layer meanwhile,
    DDP sums the gradients of layers behind; what starts and ends a pass stays visible."""
    copy_gb: float = 12.0
    """GB a second from GPU to pinned host memory and back; 32 is the limit of PCIe 4.0 with 16 lanes."""
    tokens_per_second: float = 20.0
    """Tokens a second that a call of the language model writes, for all prompts of the call together one
    each. At these sizes starting the kernels takes longer than reading the weights."""
    start_seconds: float = 120.0
    """Seconds until all workers have processes, libraries, their GPU and each other, before weights are
    read."""

    def __post_init__(self) -> None:
        for name in ("utilisation", "float32_share"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} is a share in (0, 1], got {getattr(self, name)}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap is a share from 0 to 1, got {self.overlap}")
        for one in fields(self):
            value = getattr(self, one.name)
            if not isinstance(value, BoxCounts) and one.name != "overlap" and not value > 0:
                raise ValueError(f"{one.name} must be positive, got {value}")

    def boxes(self, edit: bool) -> BoxCounts:
        """Boxes of the samples of a kind."""
        return self.edit_boxes if edit else self.t2i_boxes


FAVOURABLE = Assumptions(
    utilisation=0.45,
    t2i_boxes=BoxCounts.around(3.0),
    edit_boxes=BoxCounts.around(1.2),
    stored_pixels=1.0,
    bytes_per_pixel=0.2,
    read_gb=1.0,
    write_gb=1.0,
    decoders=12,
    decode_megapixels=80.0,
    link_gb=180.0,
    overlap=0.9,
    copy_gb=24.0,
    tokens_per_second=40.0,
    start_seconds=60.0,
)
"""A tuned cluster: compiled or fused kernels, eight network cards a machine, fast storage, small pictures."""
UNFAVOURABLE = Assumptions(
    utilisation=0.25,
    float32_share=0.25,
    t2i_boxes=BoxCounts.around(5.0),
    edit_boxes=BoxCounts.around(2.0),
    stored_pixels=4.0,
    bytes_per_pixel=1.5,
    read_gb=0.05,
    write_gb=0.05,
    decoders=2,
    decode_megapixels=20.0,
    link_gb=10.0,
    overlap=0.4,
    copy_gb=6.0,
    tokens_per_second=10.0,
    start_seconds=300.0,
)
"""An ordinary one: 100 Gbit/s a machine, one connection to the storage a worker, large PNGs, few cores."""


@dataclass(frozen=True, kw_only=True)
class BudgetConfig:
    """The GPU, lengths of an average sample (the paper's averages: 130 and 860 characters), and three sets of
    assumptions: the plan is worked out with each."""

    gpu: Accelerator = Accelerator()
    prompt_tokens: int = 30
    """Tokens of a prompt, without the template around it."""
    chain_tokens: int = 300
    """Tokens of a chain; no more than the recipe's ``max_new_tokens`` are taken."""
    expected: Assumptions = Assumptions()
    favourable: Assumptions = FAVOURABLE
    """What makes training cheap."""
    unfavourable: Assumptions = UNFAVOURABLE
    """What makes it dear."""
    known: tuple[str, ...] = ()
    """Fields of ``Assumptions`` that are known (see :meth:`knowing`), by name."""
    rows: int | None = None
    """Samples in the training manifest; None: not known."""
    measured: str = ""
    """What was taken from data at hand, and from which; empty: nothing."""

    def knowing(self, values: Mapping[str, Any]) -> Self:
        """The same with fields of ``Assumptions`` that are known, so alike in all three sets.

        ``decoders`` then take the place of the stages' own."""
        sets = ("expected", "favourable", "unfavourable")
        alike = {name: replace(getattr(self, name), **values) for name in sets}
        return replace(self, **alike, known=tuple(sorted({*self.known, *values})))
