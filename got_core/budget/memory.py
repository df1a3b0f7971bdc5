"""What lies on one GPU while a stage trains, for each way of spreading the work.

Belongs here: bytes by what they hold. Not here: hours (``hours``). State of training per parameter: the
weights in 32 bits (those that are not trained in 16, if the stage says so), and of trained ones what a
checkpoint holds (weights, moments and, if kept, the average) and the gradient (4 bytes). Spread (``fsdp``),
all of it is divided by the workers, or by those of a group (``shard_within``), but the autoencoder, what is
gathered and, with ``replicate_frozen``, what is not trained. Where a step takes several passes, gradients
that are not exchanged yet are whole on every worker, in 32 bits, beside the state's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from got_core.budget.config import Accelerator
from got_core.budget.hours import GB, Facts, reads_latents
from got_core.train.config import StageConfig
from got_core.train.optim import frozen_format


@dataclass(frozen=True)
class Memory:
    """Bytes on one GPU of a stage, for one way of spreading the work."""

    sharding: str
    checkpointing: bool
    state: int
    """Weights, gradients, moments, averages."""
    gathered: int
    """Of a spread model: weights and gradients that are whole at some moment, in 16 bits. Of a replicated
    one: the 16-bit copies of trained weights."""
    accumulated: int
    """Whole gradients of a step's passes before they are exchanged, in 32 bits; 0 where it has one pass."""
    activations: int
    """Of a pass, or of encoding for it where that takes more."""
    samples: int
    """While sample pictures are drawn, in place of the three before: those of one call, as in 32 bits;
    16-bit copies of trained weights; of a spread model the whole copy that the first worker draws with."""
    overhead: int
    chosen: bool
    """Whether the recipe's stage works this way."""

    @property
    def total(self) -> int:
        """The most there is at any time."""
        training = self.gathered + self.accumulated + self.activations
        return self.state + max(training, self.samples) + self.overhead


def memory_of(facts: Facts, gpu: Accelerator) -> Iterator[Memory]:
    """All ways that a stage can work."""
    stage, counted = facts.stage, facts.counted
    for sharding in stage.shardings:
        for checkpointing in (False, True):
            way = replace(stage, sharding=sharding, gradient_checkpointing=checkpointing)
            yield Memory(
                sharding,
                checkpointing,
                _state(way, facts),
                _gathered(way, facts),
                _accumulated(way, facts),
                max(counted.activations[checkpointing], _encoding(way, facts)),
                _samples(way, facts),
                int(gpu.overhead_gb * GB),
                way == stage,
            )


def _state(way: StageConfig, facts: Facts) -> int:
    counted = facts.counted
    trained = sum(counted.trained.values())
    kept = _frozen(way, facts)
    spread, whole = counted.checkpoint + 4 * trained, 4 * counted.frozen_autoencoder
    if way.replicate_frozen:
        whole += kept
    else:
        spread += kept
    share = (way.shard_within or way.workers) if way.sharding == "fsdp" else 1
    return spread // share + whole


def _frozen(way: StageConfig, facts: Facts) -> int:
    """Of what is not trained but the autoencoder."""
    counted = facts.counted
    parameters = counted.total - counted.frozen_autoencoder - sum(counted.trained.values())
    return frozen_format(way, "cuda").itemsize * parameters


def _gathered(way: StageConfig, facts: Facts) -> int:
    gathered = facts.counted.gathered
    if way.sharding == "fsdp":
        # Weights and gradients; the layer that comes next is gathered while one computes.
        return (4 if way.bf16 else 8) * (gathered.rest + 2 * gathered.layer)
    return _autocast_copies(way, facts)


def _autocast_copies(way: StageConfig, facts: Facts) -> int:
    # Autocast keeps its 16-bit copies of weights that need gradients.
    return 2 * sum(facts.counted.trained.values()) if way.bf16 else 0


def _accumulated(way: StageConfig, facts: Facts) -> int:
    # Gradients are exchanged in the last pass only. Until then FSDP keeps them whole, cast to the type it
    # sums in; DDP keeps them beside its buffers.
    several = way.layout().accumulation > 1 and way.workers > 1
    return 4 * sum(facts.counted.trained.values()) if several else 0


def _encoding(way: StageConfig, facts: Facts) -> int:
    return 0 if reads_latents(way) else facts.counted.encoding_bytes[way.gradient_checkpointing]


def _samples(way: StageConfig, facts: Facts) -> int:
    counted, copy = facts.counted, 0
    if way.sharding == "fsdp":
        copy = _frozen(way, facts) + 4 * (counted.frozen_autoencoder + sum(counted.trained.values()))
    return way.samples_at_once * facts.drawing.bytes + _autocast_copies(way, facts) + copy
