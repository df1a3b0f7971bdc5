"""The training loop: one data-parallel rank of GoT pretraining or finetuning, without any cluster.

What a step learns from and its noise follow from seed and step alone, on any number of workers; dropout
masks from seed, step, rank and pass. N steps in one go and k steps, a restart and N - k steps give the same
weights, bit by bit on one worker.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.train import parallel
from got_core.train.attention import Kernels, attending, attentive_parts, set_kernels
from got_core.train.checkpoints.folders import Checkpoint
from got_core.train.checkpoints.saving import Checkpoints
from got_core.train.checkpoints.tensors import targets, training_tensors
from got_core.train.compiling import compile_blocks, drop_compiled, not_compiled
from got_core.train.config import StageConfig
from got_core.train.cpu_time import CpuTimer, Stopwatch
from got_core.train.data.batches import JointBatches
from got_core.train.data.samples import TrainingData, dropout_seed, noise_seed
from got_core.train.emptied import emptied, fill
from got_core.train.objective import Batch, JointObjective, Objective, text_shares
from got_core.train.optim import (
    MovingAverage,
    cosine_share,
    frozen_format,
    fused_backward_is_slow,
    mixed_precision,
    stage_optimizers,
)
from got_core.train.prepare import (
    evaluating,
    plain_pipeline,
    prepare_parts,
)
from got_core.train.skipping import SkippedSteps, not_finite

JOINT = JointObjective()


class Trainer:
    """Trains the parts of a pipeline on one device: in place, or, with ``fsdp`` sharding, in an empty copy
    that gets rank 0's weights. Above rank 0 the pipeline may then be an empty one (see ``start``).

    ``ranks`` above 1 needs an initialised torch process group, and so does ``fsdp`` sharding at any number.
    :meth:`run`, :meth:`averaged`, :meth:`finish`, :meth:`save`, :meth:`load`, :meth:`resume` and
    :meth:`cpu_seconds` are then called on all ranks.

    Raises ValueError where loss and pipeline disagree about what the drawing network predicts.
    """

    def __init__(
        self,
        pipeline: GoTPipeline,
        data: TrainingData,
        config: StageConfig,
        rank: int = 0,
        ranks: int = 1,
        device: torch.device | str = "cpu",
        *,
        objective: Objective = JOINT,
    ) -> None:
        _check_prediction(pipeline, config)
        self.pipeline = pipeline
        self.data = data
        self.config = config
        self.objective = objective
        self.rank = rank
        self.ranks = ranks
        self.device = torch.device(device)
        self.step = 0
        self._clock, self._clock_start = CpuTimer(), 0.0
        self._began, self._gpu_start = time.monotonic(), 0.0
        torch.manual_seed(config.seed)
        self._kernels = [Kernels.of(model) for model in attentive_parts(pipeline)]
        slow = fused_backward_is_slow(self.device.type, config.bf16)
        set_kernels(pipeline, [one.plain() if slow else one.fused() for one in self._kernels])
        prepare_parts(pipeline, config, frozen_format(config, self.device.type))
        pipeline.register_to_config(edit_bucket_multiple=config.edit_bucket_multiple)
        self._plain: GoTPipeline | None = None
        self.model = self._got_model(pipeline)
        objective.prepare(self.model)
        self._parallel = self._spread()
        self.batches = objective.batches(
            data, self.pipeline, config, rank=rank, ranks=ranks, device=self.device
        )
        self.waiting: Stopwatch = getattr(self.batches, "waiting", Stopwatch())
        """Time that this rank's loop has waited for data."""
        self.optimizer = stage_optimizers(self.model, config)
        self._sources = list(self.trained().values())
        self.average = MovingAverage(self._sources if config.ema_decay else [], config.ema_decay)
        self.skips = SkippedSteps(config.max_skipped_steps)
        self.start_loss: float | None = None
        """Held-out loss before the first step, where it was measured."""
        self.gradient_norm = 0.0
        """Of the last step, of all ranks together, before clipping."""

    def _got_model(self, pipeline: GoTPipeline) -> GoTModel:
        return GoTModel.of(pipeline, self.config.loss, self.objective)

    def _spread(self) -> nn.Module:
        """The model as the loop calls it: on its device, replicated or spread over the ranks."""
        if self.config.sharding == "fsdp":
            return self._sharded()
        if self.config.compile:
            compile_blocks(self.model)
        self.pipeline.to(self.device)
        return parallel.replicate(self.model) if self.ranks > 1 else self.model

    def _sharded(self) -> nn.Module:
        config, source = self.config, self.model if self.rank == 0 else None
        # Pictures are drawn and saved from the plain pipeline: a spread model runs on all ranks or none.
        self._plain = self.pipeline if self.rank == 0 else None
        self.pipeline, self.model = emptied(self.pipeline, self.model)
        if config.compile:
            compile_blocks(self.model)
        within, whole = config.shard_within, config.replicate_frozen
        spread = parallel.shard(self.model, self.device, config.bf16, within=within, replicate_frozen=whole)
        fill(spread, source, self.device)
        return spread

    def trained(self) -> dict[str, Tensor]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def run(self, until: int, on_step: Callable[[int, dict[str, float]], None]) -> None:
        """Train up to a step, exclusive; ``on_step`` is called after each with the losses of this rank.

        A step in which a loss of any rank or the gradient is not finite counts, but changes nothing. Raises
        NotFiniteStepsError, on all ranks, after too many of them in a row.
        """
        self._parallel.train()
        self.model.vae.eval()
        while self.step < until:
            losses = self._optimizer_step()
            self.step += 1
            on_step(self.step, losses)

    def _optimizer_step(self) -> dict[str, float]:
        share = self._rate_share(self.step)
        self.optimizer.zero_grad()
        losses = self._backward_passes()
        norm = torch.nn.utils.clip_grad_norm_(self._sources, self.config.gradient_clip)
        self.gradient_norm = float(parallel.whole(norm))
        values = {name: value.item() for name, value in losses.items()}
        if self._all_finite(values):
            self.optimizer.step(share)
            if self.config.ema_decay:
                self.average.update()
        else:
            self.optimizer.zero_grad()
            self._skip(values)
        return values

    def _rate_share(self, step: int) -> float:
        config = self.config
        return cosine_share(step, config.steps, config.warmup_steps, config.final_rate)

    def rates(self) -> dict[str, float]:
        """Learning rates of the last step: of the language model (``language``), and of ``drawing``."""
        share, peak = self._rate_share(max(0, self.step - 1)), self.config.peak_rate
        language = peak if self.config.language_rate is None else self.config.language_rate
        return {"language": share * language, "drawing": share * peak}

    def _all_finite(self, losses: dict[str, float]) -> bool:
        """Whether the gradient and the losses of all ranks are finite; all ranks get the same answer."""
        wrong = bool(not_finite(losses)) or not math.isfinite(self.gradient_norm)
        return parallel.sum_over_workers(float(wrong), self.ranks, self.device) == 0

    def _skip(self, losses: dict[str, float]) -> None:
        """Count this step as skipped. Raises NotFiniteStepsError where it is one too many."""
        step, wrong = self.step + 1, not_finite(losses)
        note = f"step {step}, worker {self.rank + 1} of {self.ranks}: {', '.join(wrong)} of samples "
        self.skips.add(step, note + ", ".join(self._sample_ids()) if wrong else None)
        if self.skips.in_a_row >= self.skips.limit:
            notes = parallel.gathered(self.skips.notes, self.ranks)
            raise self.skips.error("; ".join(note for some in notes for note in some))

    def _sample_ids(self) -> list[str]:
        """Ids of this step's samples on this rank, as far as its batches tell."""
        if not isinstance(self.batches, JointBatches):
            return []
        return self.batches.last_ids

    def _backward_passes(self) -> dict[str, Tensor]:
        """Gradient of the global batch, exchanged between the ranks once. Returns this rank's mean losses.

        The text loss is a mean over tokens, so each pass counts by its share of all tokens of the step.
        """
        joint = self.batches if isinstance(self.batches, JointBatches) else None
        with Stopwatch() if joint else self.waiting:
            batches = joint.read(self.step) if joint else self.batches.passes(self.step)
        tokens = [self.objective.tokens(self.model, batch) for batch in batches]
        everyone = parallel.sum_over_workers(sum(tokens), self.ranks, self.device)
        sums: dict[str, Tensor] = {}
        shares = text_shares(tokens, everyone, self.ranks)
        for number, (read, share) in enumerate(zip(batches, shares, strict=True)):
            # One after the other: the device holds one at a time, and does this while it still computes.
            batch = (joint.completed(read) if joint else read) | {"text_share": share}
            with parallel.one_pass(self._parallel, last=number == len(batches) - 1):
                losses = self._backward(number, batch, 1 / len(batches))
            for name, value in losses.items():
                sums[name] = sums[name] + value / len(batches) if name in sums else value / len(batches)
        return sums

    def _backward(self, number: int, batch: Batch, weight: float) -> dict[str, Tensor]:
        """Gradient of one pass of this step, times its weight."""
        seed = self.config.seed
        # Dropout draws from torch's own source, which would be the same on all ranks.
        torch.manual_seed(dropout_seed(seed, self.step, self.rank, number))
        generators = [
            torch.Generator().manual_seed(noise_seed(seed, index)) for index in batch["index"].tolist()
        ]
        with mixed_precision(self.device.type, self.config.bf16):
            losses = self._parallel(batch, generators)
        (losses["loss"] * weight).backward()
        return {name: value.detach() for name, value in losses.items()}

    # -- the pipeline that comes out ------------------------------------------------------------------

    @contextmanager
    def averaged(self, *, everywhere: bool = False) -> Iterator[GoTPipeline | None]:
        """The pipeline with averaged weights, in evaluation mode, on rank 0; None on the others.

        ``everywhere``: on all ranks that hold a whole model, which are those of a replicated one. It attends
        as the pipeline did before the training. The training weights come back at the end.
        """
        self.model.eval()
        if self.config.sharding == "fsdp":
            pipeline = self._gathered()
            if pipeline is None:
                yield None
            else:
                with attending(attentive_parts(pipeline), self._kernels):
                    yield pipeline.to(self.device)
                pipeline.to("cpu")
        elif self.rank != 0 and not everywhere:
            yield None
        else:
            self.average.swap()
            try:
                with attending(attentive_parts(self.pipeline), self._kernels), not_compiled(self.model):
                    yield self.pipeline
            finally:
                self.average.swap()
        self.model.train()
        self.model.vae.eval()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation mode with the averaged weights, where there are any, without gradients, on all ranks.

        Training mode, weights and random state come back at the end.
        """
        self.model.eval()
        self.average.swap()
        try:
            with torch.no_grad(), torch.random.fork_rng(), not_compiled(self.model):
                yield
        finally:
            self.average.swap()
            self.model.train()
            self.model.vae.eval()

    def reshard(self) -> None:
        """Let go of what a forward pass without a backward pass has gathered: later changes of the weights
        would not reach it."""
        if isinstance(self.model, FSDPModule):
            self.model.reshard()

    def finish(self) -> GoTPipeline | None:
        """Take over the averaged weights, merge LoRA and return the plain pipeline on rank 0.

        Ends the training. It attends as it did before. None on the other ranks.
        """
        if self.config.sharding == "fsdp":
            pipeline = self._gathered()
        else:
            self.average.swap()
            pipeline = self.pipeline if self.rank == 0 else None
        drop_compiled(self.model)
        for trained in filter(None, (self.pipeline, self._plain)):
            set_kernels(trained, self._kernels)
        return None if pipeline is None else plain_pipeline(pipeline)

    @torch.no_grad()
    def _gathered(self) -> GoTPipeline | None:
        """The plain pipeline with the averaged (else the current) weights of all ranks; None above rank 0."""
        plain = None if self._plain is None else dict(self._got_model(self._plain).named_parameters())
        values = self.average.values or self._sources
        for name, value in zip(self.trained(), values, strict=True):
            gathered = parallel.whole(value)
            if plain is not None:
                plain[name].copy_(gathered)
        return None if self._plain is None else evaluating(self._plain)

    # -- checkpoints ----------------------------------------------------------------------------------

    def save(self, where: Checkpoints | Path, note: Mapping[str, Any] | None = None) -> None:
        """Keep parameters, averages, optimizer moments and the step; training may go on at once.

        Into a plain folder it is written before the call returns. ``note`` is plain data that :meth:`load`
        gives back. Raises FloatingPointError where the state is not finite, RuntimeError where the upload
        before failed.
        """
        checkpoints = self._in_folder(where) if isinstance(where, Path) else where
        state = training_tensors(self.trained(), self.average, self.optimizer)
        checkpoints.save(
            self.step,
            state,
            {**(note or {}), **self._counters()},
            milestone=self.config.is_milestone(self.step),
        )
        if checkpoints is not where:
            checkpoints.wait_for_all()

    def load(self, where: Checkpoint | Path) -> dict[str, Any]:
        """Restore what :meth:`save` kept, by any number of ranks; of a folder, the last. Returns its note.

        Raises CheckpointError, before anything is changed, where it is of another model, FileNotFoundError
        where the folder holds none.
        """
        found = self._in_folder(where).last() if isinstance(where, Path) else where
        if found is None:
            raise FileNotFoundError(f"{where} holds no complete checkpoint")
        files = found.files()
        index = found.index(files)
        into = targets(index, f"checkpoint {found.url}", self.trained(), self.average, self.optimizer)
        found.read(into, files, index)
        note = found.record()["note"]
        self.step = found.step
        self._restore_counters(note)
        return note

    def resume(self, checkpoints: Checkpoints) -> dict[str, Any] | None:
        """Go on from the newest complete checkpoint. Returns its note, None where there is none."""
        found = checkpoints.last()
        return None if found is None else self.load(found)

    def _in_folder(self, folder: Path) -> Checkpoints:
        return Checkpoints.in_folder(folder, self.rank, self.ranks, self.device)

    def _counters(self) -> dict[str, Any]:
        return {
            "cpu_seconds": self.cpu_seconds(),
            "gpu_seconds": self.gpu_seconds(),
            "average_steps": self.average.steps,
            "skipped": self.skips.text(),
            "start_loss": self.start_loss,
        }

    def _restore_counters(self, note: Mapping[str, Any]) -> None:
        self._clock_start, self._gpu_start = float(note["cpu_seconds"]), float(note["gpu_seconds"])
        self.average.steps = int(note["average_steps"])
        self.skips.restore(note["skipped"])
        self.start_loss = note["start_loss"]

    def cpu_seconds(self) -> float:
        """CPU seconds that all ranks have spent on this training, up to a loaded checkpoint by others.

        What was lost between a checkpoint and an interruption does not count.
        """
        own = self._clock.seconds() + getattr(self.batches, "decoder_seconds", 0.0)
        return self._clock_start + parallel.sum_over_workers(own, self.ranks, self.device)

    def gpu_seconds(self) -> float:
        """Seconds that GPUs have been held by this training, counted like :meth:`cpu_seconds`; 0 on CPUs."""
        held = time.monotonic() - self._began if self.device.type == "cuda" else 0.0
        return self._gpu_start + parallel.sum_over_workers(held, self.ranks, self.device)

    def device_seconds(self) -> dict[str, float]:
        """``gpu_seconds`` of a training on GPUs, else ``cpu_seconds``."""
        if self.device.type == "cuda":
            return {"gpu_seconds": self.gpu_seconds()}
        return {"cpu_seconds": self.cpu_seconds()}


def _check_prediction(pipeline: GoTPipeline, config: StageConfig) -> None:
    if config.loss.prediction != pipeline.config.prediction:
        raise ValueError(
            f"the stage's loss predicts {config.loss.prediction!r}, the pipeline draws with "
            f"{pipeline.config.prediction!r}; make both the same in the recipe"
        )
