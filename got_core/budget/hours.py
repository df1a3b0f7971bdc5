"""Where the hours of a stage go: a line for each thing that takes time, under one set of assumptions.

Belongs here: seconds by the clock of all workers together, and how each line is worked out. Not here: what
was counted (``measure``), memory (``memory``), assumptions (``config``) and words of the page (``page``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import ceil, prod

from got_core.budget.config import Accelerator, Assumptions
from got_core.budget.measure import FULL, KINDS, Counted, Work
from got_core.model.config import ModelConfig
from got_core.train.config import SAMPLE_PICTURES, StageConfig
from got_core.train.schedule import checkpoint_steps, is_held_out_step, sample_steps

GB = 1e9
LATENT_BYTES = {"float16": 2, "float32": 4}
"""Of a number of a latent that was made ahead, by its format."""
SHOWN_BYTES = 1.45
"""Of a pixel of an edit's source that is kept beside latents: PNG of photographs (290 KB of 448 x 448)."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a stage before anything is assumed of machines and data."""

    stage: StageConfig
    model: ModelConfig
    edits: float
    """Share of the samples that edit."""
    counted: Counted
    parameters: int
    """Of the whole pipeline as it is saved; adapters are not in it."""
    drawing: Work
    """Drawing of one sample picture in one step."""
    chain_tokens: int
    rows: int | None
    """Samples in the manifest, if they are known."""
    decoders: int | None = None
    """Processes of a worker that decode, where they are known; else they are assumed."""


@dataclass(frozen=True)
class Seconds:
    """A line: seconds by the clock, while all workers are busy with it or wait for it."""

    seconds: float
    how: str


class Clock:
    """The lines of a stage under a set of assumptions, its samples read as pictures or as ``latents``."""

    def __init__(
        self, facts: Facts, assumed: Assumptions, gpu: Accelerator, *, latents: bool = False
    ) -> None:
        self.facts, self.assumed, self.gpu, self.latents = facts, assumed, gpu, latents
        self.stage, self.layout = facts.stage, facts.stage.layout()

    def lines(self) -> dict[str, Seconds]:
        """All lines by name, in the order of the page."""
        return {
            "forward and backward": self._passes,
            "encoding": self._encoding,
            "waiting for data": self._waiting,
            "communication": self._communication,
            "checkpoints": self._checkpoints,
            "held-out loss": self._held_out,
            "sample pictures": self._sample_pictures,
            "start and end": self._start_and_end,
        }

    def total(self) -> float:
        """GPU hours of all lines."""
        return self.gpu_hours(sum(line.seconds for line in self.lines().values()))

    def gpu_hours(self, seconds: float) -> float:
        """GPU hours of seconds by the clock."""
        return seconds * self.layout.workers / 3600

    def latents_ahead(self, rows: int) -> float:
        """GPU hours that the pictures and canvases of so many samples take to encode once, in float32."""
        return rows * self._compute(self._mean(self.sample_encoding), FULL) / 3600

    def flops_of_a_pass(self) -> tuple[float, float]:
        """Operations of a worker's pass, and of encoding for it, on average over kinds and boxes."""
        passes = self._mean(lambda edit: self._pass(edit).flops)
        encodings = 0.0 if self.latents else self.layout.batch_size * self._mean(self.drawn_encoding)
        return passes, encodings

    # -- what a step computes -----------------------------------------------------------------------------

    @property
    def _rounds(self) -> int:
        """Passes of a worker over the whole stage."""
        return self.stage.steps * self.layout.accumulation

    def _mean(self, of_kind: Callable[[bool], float]) -> float:
        """Mean over a stage's samples of something that depends on whether they edit."""
        return (1 - self.facts.edits) * of_kind(False) + self.facts.edits * of_kind(True)

    def _compute(self, flops: float, dtype: str) -> float:
        """Seconds of operations on one GPU."""
        share = self.assumed.float32_share if dtype == FULL else 1.0
        return flops / (self.gpu.peak_tflops * 1e12 * self.assumed.utilisation * share)

    def _pass(self, edit: bool) -> Work:
        return self.facts.counted.work[_kind(edit)]

    def sample_encoding(self, edit: bool) -> float:
        """Operations of encoding a sample of a kind, on average over its boxes."""
        shares = self.assumed.boxes(edit).shares
        counted = self.facts.counted
        return sum(share * counted.encoding_flops(_kind(edit), boxes) for boxes, share in enumerate(shares))

    def drawn_encoding(self, edit: bool) -> float:
        """The same on average over what samples go without too: that is not encoded."""
        drop, flops = self.stage.loss.drop, self.facts.counted.encoding_flops
        # Conditions are dropped one after the other: Gs, then Gt, then Gr (see ``got.count_dropped``).
        all_dropped, no_canvas = min(1.0, drop), min(1.0, 3 * drop)
        target, bare = flops(_kind(False), 0), flops(_kind(edit), 0)
        canvases = self.sample_encoding(edit) - bare
        return target + (1 - all_dropped) * (bare - target) + (1 - no_canvas) * canvases

    @property
    def _encoder_dtype(self) -> str:
        return self._encoded_sample.dtype

    @property
    def _encoded_sample(self) -> Work:
        return self.facts.counted.encoded[_kind(False), 0]

    @cached_property
    def _passes(self) -> Seconds:
        (flops, _), dtype = self.flops_of_a_pass(), self._pass(False).dtype
        how = (
            f"{self._rounds:,} passes a worker of {flops / 1e12:,.3g} TFLOP in {dtype} at "
            f"{self.assumed.utilisation:.0%} of the peak"
        )
        return Seconds(self._rounds * self._compute(flops, dtype), how)

    @cached_property
    def _encoding(self) -> Seconds:
        if self.latents:
            return Seconds(0.0, "latents are made ahead")
        (_, flops), dtype = self.flops_of_a_pass(), self._encoder_dtype
        how = (
            f"{self.layout.batch_size} samples a pass, pictures and canvases of {flops / 1e12:,.3g} TFLOP "
            f"together in {dtype}; of conditions, those that are not dropped"
        )
        return Seconds(self._rounds * self._compute(flops, dtype), how)

    # -- what a step waits for ------------------------------------------------------------------------------

    @cached_property
    def _step(self) -> float:
        """Seconds of a step whose data is there."""
        parts = (self._passes, self._encoding, self._communication)
        return sum(part.seconds for part in parts) / self.stage.steps

    def _bytes_read(self, edit: bool) -> float:
        pixels = self._pixels_read(edit)
        if not self.latents:
            return pixels * self.assumed.bytes_per_pixel
        latents = 1 + edit + self.facts.model.spatial_guidance
        size = prod(self._encoded_sample.shapes["clean"]) * LATENT_BYTES[self.stage.latents or "float16"]
        return latents * size + pixels * SHOWN_BYTES

    @property
    def _stored_pixels(self) -> float:
        return self.assumed.stored_pixels * self.facts.model.resolution**2

    @cached_property
    def _waiting(self) -> Seconds:
        assumed, samples = self.assumed, self.layout.batch_size * self.layout.accumulation
        size, pixels = (self._mean(one) for one in (self._bytes_read, self._pixels_read))
        read = samples * size / (assumed.read_gb * GB)
        processes = self.facts.decoders or assumed.decoders
        decode = samples * pixels / (processes * assumed.decode_megapixels * 1e6)
        how = (
            f"a step of {self._step:.3g} s needs {samples} samples a worker: {size / 1e6:.3g} MB each are "
            f"read in {read:.3g} s and decoded in {decode:.3g} s meanwhile, by {processes} processes"
            f"{'' if self.facts.decoders else ' as assumed'}"
        )
        return Seconds(self.stage.steps * max(0.0, max(read, decode) - self._step), how)

    def _pixels_read(self, edit: bool) -> float:
        """Of a sample's pictures; with latents, of the source as the language model is shown it."""
        if self.latents:
            return edit * self.facts.model.language_model.image_size**2
        return (1 + edit) * self._stored_pixels

    @cached_property
    def _communication(self) -> Seconds:
        if self.layout.workers == 1:
            return Seconds(0.0, "one worker alone")
        sent = self.layout.accumulation * self._gathered() + self._summed()
        seconds = sent / (self.assumed.link_gb * GB)
        computing = (self._passes.seconds + self._encoding.seconds) / self.stage.steps
        seen = seconds - min(self.assumed.overlap * seconds, computing)
        how = (
            f"{sent / GB:,.3g} GB a worker and step ({self.stage.sharding}) in {seconds:.3g} s, of which "
            f"{self.assumed.overlap:.0%} while the GPU computes"
        )
        return Seconds(self.stage.steps * seen, how)

    @property
    def _within(self) -> int:
        """Workers that hold the model once, together or, with DDP, each by itself."""
        if self.stage.sharding != "fsdp":
            return 1
        return self.stage.shard_within or self.layout.workers

    def _gathered(self) -> float:
        """Bytes that FSDP gathers for a forward and a backward pass; what lies in no layer only once."""
        if self.stage.sharding != "fsdp":
            return 0.0
        return _others(self._within) * self._width * (2 * self._spread - self.facts.counted.gathered.rest)

    @property
    def _spread(self) -> int:
        """Parameters that FSDP spreads."""
        counted = self.facts.counted
        if self.stage.replicate_frozen:
            return sum(counted.trained.values())
        return counted.total - counted.frozen_autoencoder

    @property
    def _width(self) -> int:
        return 2 if self.stage.bf16 else 4

    def _summed(self) -> float:
        """Bytes of the gradients' exchange, in 32 bits: each worker of a group sums a piece; those that hold
        the same piece in several groups, or all of it with DDP, add up their sums and send them back."""
        within, size = self._within, 4 * sum(self.facts.counted.trained.values())
        return (_others(within) + 2 * _others(self.layout.workers // within) / within) * size

    # -- what a step stands still for -----------------------------------------------------------------------

    @cached_property
    def _checkpoints(self) -> Seconds:
        size, count = self.facts.counted.checkpoint_part, sum(1 for _ in checkpoint_steps(self.stage))
        copy, upload = size / (self.assumed.copy_gb * GB), size / (self.assumed.write_gb * GB)
        between = self.stage.checkpoint_every * (self._step + self._waiting.seconds / self.stage.steps)
        late = max(0.0, upload - between)
        how = (
            f"{count:,} of {size / GB:.3g} GB a worker: the copy stops a step for {copy:.3g} s, the upload "
            f"of {upload:.3g} s has {between:,.0f} s until the next; the last is waited for"
        )
        return Seconds(count * copy + (count - 1) * late + upload, how)

    @cached_property
    def _held_out(self) -> Seconds:
        rows, workers = self._held_out_rows(), self.layout.workers
        if not rows:
            return Seconds(0.0, "no row is held out")
        times = 1 + sum(is_held_out_step(step, self.stage) for step in checkpoint_steps(self.stage))
        edits = round(rows * self.facts.edits)
        rounds = ceil((rows - edits) / workers) + ceil(edits / workers)
        seconds = self._mean(self._measured_row)
        how = f"{times:,} times {rows:,} rows in {rounds:,} rounds of {seconds:.3g} s, forward alone"
        return Seconds(times * rounds * seconds, how)

    def _held_out_rows(self) -> int:
        stage, rows = self.stage, self.facts.rows
        if not stage.held_out:
            return 0
        return (
            stage.held_out_samples
            if rows is None
            else min(stage.held_out_samples, round(rows * stage.held_out))
        )

    def _measured_row(self, edit: bool) -> float:
        """Seconds of a row's loss: its pass, its pictures, and what FSDP gathers for it."""
        work = self._pass(edit)
        forward = sum(work.forward.values()) / self.layout.batch_size
        gathered = self._gathered() / 2 / (self.assumed.link_gb * GB)
        encoded = 0.0 if self.latents else self.sample_encoding(edit)
        computing = self._compute(forward, work.dtype) + self._compute(encoded, self._encoder_dtype)
        return computing + (1 - self.assumed.overlap) * gathered

    @cached_property
    def _sample_pictures(self) -> Seconds:
        grids = 1 + len(sample_steps(self.stage))
        drawers = 1 if self.stage.sharding == "fsdp" else min(self.layout.workers, SAMPLE_PICTURES)
        own, dtype = ceil(SAMPLE_PICTURES / drawers), self._pass(False).dtype
        flops = own * picture_flops(self.facts.drawing, self.facts.model.inference_steps)
        calls = ceil(own / self.stage.samples_at_once)
        writing = calls * self._chain_tokens / self.assumed.tokens_per_second
        seconds = self._compute(flops, dtype) + writing + self._whole_copy()
        how = (
            f"{grids:,} of {SAMPLE_PICTURES} in {seconds:,.3g} s each, {writing:,.3g} s of it for chains: "
            f"{drawers} of {self.layout.workers} workers draw{'s' * (drawers == 1)} in {dtype}"
        )
        return Seconds(grids * seconds, how)

    @property
    def _chain_tokens(self) -> int:
        return self.facts.chain_tokens if self.facts.model.reasoning else 0

    def _whole_copy(self) -> float:
        """Seconds until the worker that draws has a spread model whole on its GPU, and is rid of it again."""
        if self.stage.sharding != "fsdp":
            return 0.0
        trained = 4 * sum(self.facts.counted.trained.values())
        gathering = _others(self._within) * trained / (self.assumed.link_gb * GB)
        return gathering + (trained + 2 * self._weights) / (self.assumed.copy_gb * GB)

    @property
    def _weights(self) -> int:
        """Bytes of the whole pipeline in 32 bits."""
        return 4 * self.facts.parameters

    @cached_property
    def _start_and_end(self) -> Seconds:
        assumed, size = self.assumed, self._weights / GB
        read, readers = self._weights_there()
        write = size / assumed.write_gb
        how = (
            f"{assumed.start_seconds:,.0f} s until all workers are there, {read:,.3g} s until all have the "
            f"{size:.3g} GB of weights, {readers}; one writes those of the result in {write:,.3g} s"
        )
        return Seconds(assumed.start_seconds + read + write, how)

    def _weights_there(self) -> tuple[float, str]:
        """Seconds from the first byte of the weights until all GPUs have theirs, and who reads them."""
        assumed, size = self.assumed, self._weights / GB
        # Others wait for the one that reads, at a worker's rate, and copy to their GPUs side by side.
        read = size / assumed.read_gb + size / assumed.copy_gb
        if self.stage.sharding != "fsdp":
            return read, "which one worker of each machine reads for the others there"
        sent = _others(self.layout.workers) * size / assumed.link_gb
        return read + sent, "which one worker reads and sends to all"


def reads_latents(stage: StageConfig) -> bool:
    """Whether a stage reads latents that were made ahead, in place of pictures."""
    return stage.latents is not None


def _kind(edit: bool) -> str:
    return next(kind for kind, edits in KINDS.items() if edits == edit)


def _others(workers: int) -> float:
    """Share of what so many workers exchange that lies on others."""
    return 1 - 1 / workers


def picture_flops(drawing: Work, steps: int) -> float:
    """Operations of drawing one picture in so many steps, without writing its chain."""
    return drawing.flops + (steps - 1) * drawing.forward["U-Net"]
