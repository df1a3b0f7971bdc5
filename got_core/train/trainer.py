"""The training loop: one data-parallel rank of GoT pretraining or finetuning, without any cluster.

Everything random in a step follows from seed, step and rank, so N steps in one go and k steps, a restart and
N - k steps give the same weights, bit by bit, on one worker.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.train import parallel
from got_core.train.attention import Kernels, Model, attending
from got_core.train.checkpoint import load_checkpoint, save_checkpoint
from got_core.train.config import StageConfig
from got_core.train.cpu_time import CpuTimer
from got_core.train.data.samples import TrainingData, step_generator
from got_core.train.objective import Batch, JointObjective, Objective, text_shares
from got_core.train.optim import (
    MovingAverage,
    Optimizers,
    cosine_share,
    frozen_format,
    fused_backward_is_slow,
    mixed_precision,
)
from got_core.train.prepare import (
    merge_adapters,
    muon_weights,
    prepare_parts,
    set_checkpointing,
)

JOINT = JointObjective()


class Trainer:
    """Trains the parts of a pipeline in place, on one device.

    ``ranks`` above 1 needs an initialised torch process group, and so does ``fsdp`` sharding at any number.
    :meth:`run`, :meth:`averaged`, :meth:`finish`, :meth:`save`, :meth:`load` and :meth:`cpu_seconds` are then
    called on all ranks.

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
        torch.manual_seed(config.seed)
        self._kernels = [Kernels.of(model) for model in _attentive(pipeline)]
        if fused_backward_is_slow(self.device.type, config.bf16):
            _attend(pipeline, [kernels.plain() for kernels in self._kernels])
        prepare_parts(pipeline, config, frozen_format(config, self.device.type))
        self._plain: GoTPipeline | None = None
        self.model = self._got_model(pipeline)
        objective.prepare(self.model)
        self._parallel = self._spread()
        self.batches = objective.batches(data, pipeline, config, rank=rank, ranks=ranks, device=self.device)
        self.optimizer = self._optimizers()
        self._sources = list(self.trained().values())
        self.average = MovingAverage(self._sources if config.ema_decay else [], config.ema_decay)

    def _got_model(self, pipeline: GoTPipeline) -> GoTModel:
        return GoTModel.of(pipeline, self.config.loss, self.objective)

    def _spread(self) -> nn.Module:
        """The model as the loop calls it: on its device, replicated or spread over the ranks."""
        if self.config.sharding == "fsdp":
            # Pictures are drawn and saved from a plain copy: a spread model runs on all ranks or none.
            self._plain = copy.deepcopy(self.pipeline) if self.rank == 0 else None
            self.model.vae.to(self.device)
            return parallel.shard(self.model, self.device, self.config.bf16)
        self.pipeline.to(self.device)
        return parallel.replicate(self.model) if self.ranks > 1 else self.model

    def trained(self) -> dict[str, Tensor]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _optimizers(self) -> Optimizers:
        """The language model may have a rate of its own."""
        config = self.config
        language = config.peak_rate if config.language_rate is None else config.language_rate
        drawing = [*self.model.projector.parameters(), *self.model.unet.parameters()]
        return Optimizers(
            [(self.model.mllm.parameters(), language), (drawing, config.peak_rate)],
            weight_decay=config.weight_decay,
            betas=config.betas,
            epsilon=config.epsilon,
            orthogonal=muon_weights(self.model, config),
        )

    def run(self, until: int, on_step: Callable[[int, dict[str, float]], None]) -> None:
        """Train up to a step, exclusive; ``on_step`` is called after each with the losses of this rank."""
        self._parallel.train()
        self.model.vae.eval()
        while self.step < until:
            losses = self._optimizer_step()
            self.step += 1
            on_step(self.step, losses)

    def _optimizer_step(self) -> dict[str, float]:
        share = cosine_share(self.step, self.config.steps, self.config.warmup_steps, self.config.final_rate)
        self.optimizer.zero_grad()
        losses = self._backward_passes()
        torch.nn.utils.clip_grad_norm_(self._sources, self.config.gradient_clip)
        self.optimizer.step(share)
        if self.config.ema_decay:
            self.average.update()
        return {name: value.item() for name, value in losses.items()}

    def _backward_passes(self) -> dict[str, Tensor]:
        """Gradient of the global batch, exchanged between the ranks once. Returns this rank's mean losses.

        The text loss is a mean over tokens, so each pass counts by its share of all tokens of the step.
        """
        passes = self.config.accumulation
        indices = range(self.step * passes, (self.step + 1) * passes)
        batches = [self.batches[index] for index in indices]
        tokens = [self.objective.tokens(self.model, batch) for batch in batches]
        everyone = parallel.sum_over_workers(sum(tokens), self.ranks, self.device)
        sums: dict[str, Tensor] = {}
        shares = text_shares(tokens, everyone, self.ranks)
        for index, batch, share in zip(indices, batches, shares, strict=True):
            with parallel.one_pass(self._parallel, last=index == indices[-1]):
                losses = self._backward(index, batch | {"text_share": share})
            for name, value in losses.items():
                sums[name] = sums[name] + value / passes if name in sums else value / passes
        return sums

    def _backward(self, index: int, batch: Batch) -> dict[str, Tensor]:
        """Gradient of one pass. The seed covers dropout and noise; it differs between passes and ranks."""
        seed = int(step_generator(self.config.seed, index, self.rank).integers(2**62))
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        with mixed_precision(self.device.type, self.config.bf16):
            losses = self._parallel(batch, generator)
        (losses["loss"] / self.config.accumulation).backward()
        return {name: value.detach() for name, value in losses.items()}

    # -- the pipeline that comes out ------------------------------------------------------------------

    @contextmanager
    def averaged(self) -> Iterator[GoTPipeline | None]:
        """The pipeline with averaged weights, in evaluation mode, on rank 0; None on the others.

        It attends as the pipeline did before the training. The training weights come back at the end.
        """
        self.model.eval()
        if self.config.sharding == "fsdp":
            pipeline = self._gathered()
            if pipeline is None:
                yield None
            else:
                with attending(_attentive(pipeline), self._kernels):
                    yield pipeline.to(self.device)
                pipeline.to("cpu")
        elif self.rank != 0:
            yield None
        else:
            self.average.swap()
            try:
                with attending(_attentive(self.pipeline), self._kernels):
                    yield self.pipeline
            finally:
                self.average.swap()
        self.model.train()
        self.model.vae.eval()

    def finish(self) -> GoTPipeline | None:
        """Take over the averaged weights, merge LoRA and return the plain pipeline on rank 0.

        Ends the training. It attends as it did before. None on the other ranks.
        """
        if self.config.sharding == "fsdp":
            pipeline = self._gathered()
        else:
            self.average.swap()
            pipeline = self.pipeline if self.rank == 0 else None
        for trained in filter(None, (self.pipeline, self._plain)):
            _attend(trained, self._kernels)
        return None if pipeline is None else _plain_pipeline(pipeline)

    @torch.no_grad()
    def _gathered(self) -> GoTPipeline | None:
        """The plain copy with the averaged (else the current) weights of all ranks; None above rank 0."""
        plain = None if self._plain is None else dict(self._got_model(self._plain).named_parameters())
        values = self.average.values or self._sources
        for name, value in zip(self.trained(), values, strict=True):
            gathered = parallel.whole(value)
            if plain is not None:
                plain[name].copy_(gathered)
        return None if self._plain is None else _evaluating(self._plain)

    # -- checkpoints ----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write parameters, averages, optimizer moments and the step (see ``checkpoint``)."""
        note = {"step": str(self.step), "cpu_seconds": str(self.cpu_seconds())}
        if self.rank == 0 or self.config.sharding == "fsdp":
            save_checkpoint(folder, self.trained(), self.average, self.optimizer, rank=self.rank, note=note)

    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote, by any number of ranks.

        Raises KeyError where the checkpoint is of another model.
        """
        note = load_checkpoint(folder, self.trained(), self.average, self.optimizer)
        self.step, self._clock_start = int(note["step"]), float(note["cpu_seconds"])

    def cpu_seconds(self) -> float:
        """CPU seconds that all ranks have spent on this training, up to a loaded checkpoint by others.

        What was lost between a checkpoint and an interruption does not count.
        """
        return self._clock_start + parallel.sum_over_workers(self._clock.seconds(), self.ranks, self.device)


def _attentive(pipeline: GoTPipeline) -> list[Model]:
    return [pipeline.planner.network, pipeline.drawer.network]


def _attend(pipeline: GoTPipeline, kernels: list[Kernels]) -> None:
    for model, wanted in zip(_attentive(pipeline), kernels, strict=True):
        wanted.set_on(model)


def _check_prediction(pipeline: GoTPipeline, config: StageConfig) -> None:
    if config.loss.prediction != pipeline.config.prediction:
        raise ValueError(
            f"the stage's loss predicts {config.loss.prediction!r}, the pipeline draws with "
            f"{pipeline.config.prediction!r}; make both the same in the recipe"
        )


def _plain_pipeline(pipeline: GoTPipeline) -> GoTPipeline:
    """The pipeline without LoRA layers and without what only training needs."""
    merge_adapters(pipeline)
    set_checkpointing(pipeline, wanted=False)
    return _evaluating(pipeline)


def _evaluating(pipeline: GoTPipeline) -> GoTPipeline:
    for part in (pipeline.mllm, pipeline.projector, pipeline.unet, pipeline.vae):
        part.eval()
    return pipeline
