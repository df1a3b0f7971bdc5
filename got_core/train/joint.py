"""The joint loop: one data-parallel rank of GoT pretraining or finetuning, without any cluster.

Everything random in a step follows from seed, step and rank, so N steps in one go and k steps, a restart and
N - k steps give the same weights, bit by bit, on one worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.data import JointBatches, TrainingData
from got_core.train.optim import (
    MovingAverage,
    cosine_share,
    decayed_groups,
    fused_attention,
    plain_attention,
    set_rates,
)

LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
TRAINED_WHOLE = ["embed_tokens", "lm_head", "input_layernorm", "post_attention_layernorm"]

STATE_FILE = "state.safetensors"


def attach_lora(mllm: nn.Module, config: StageConfig) -> PeftModel:
    """LoRA on the language model's projections; embeddings, head, norms whole; vision tower frozen."""
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=LORA_TARGETS,
        modules_to_save=TRAINED_WHOLE,
    )
    return get_peft_model(mllm, lora)


class JointTrainer:
    """Trains the parts of a pipeline in place.

    ``ranks`` above 1 needs an initialised torch process group; gradients are then averaged over the ranks.
    """

    def __init__(
        self, pipeline: GoTPipeline, data: TrainingData, config: StageConfig, rank: int = 0, ranks: int = 1
    ) -> None:
        self.pipeline = pipeline
        self.config = config
        self.rank = rank
        self.ranks = ranks
        self.step = 0
        torch.manual_seed(config.seed)
        plain_attention(pipeline.mllm, pipeline.unet)
        pipeline.register_modules(mllm=attach_lora(pipeline.mllm, config))
        self.model = GoTModel(
            pipeline.mllm, pipeline.projector, pipeline.unet, pipeline.vae, config.loss, pipeline.scheduler
        )
        self.batches = JointBatches(
            data,
            pipeline.sequences,
            pipeline.vae,
            batch_size=config.batch_size,
            edit_share=config.edit_share,
            seed=config.seed,
            rank=rank,
            ranks=ranks,
        )
        self.optimizer = torch.optim.AdamW(self._groups(), betas=config.betas, eps=config.epsilon, fused=True)
        self.peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.average = MovingAverage(self.trained().values(), config.ema_decay)
        self._parallel: nn.Module = DistributedDataParallel(self.model) if ranks > 1 else self.model

    def trained(self) -> dict[str, Tensor]:
        """Trained parameters by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def _groups(self) -> list[dict]:
        language = self.config.language_rate or self.config.peak_rate
        drawing = [*self.model.projector.parameters(), *self.model.unet.parameters()]
        return [
            *decayed_groups(self.model.mllm.parameters(), language, self.config.weight_decay),
            *decayed_groups(drawing, self.config.peak_rate, self.config.weight_decay),
        ]

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
        set_rates(self.optimizer, self.peaks, share)
        self.optimizer.zero_grad(set_to_none=True)
        sums: dict[str, float] = {}
        for part in range(self.config.accumulation):
            for name, value in self._backward(self.step * self.config.accumulation + part).items():
                sums[name] = sums.get(name, 0.0) + value.item() / self.config.accumulation
        torch.nn.utils.clip_grad_norm_(self.average.sources, self.config.gradient_clip)
        self.optimizer.step()
        if self.config.ema_decay:
            self.average.update()
        return sums

    def _backward(self, index: int) -> dict[str, Tensor]:
        """Gradient of one batch. The seed covers dropout and noise; it differs between ranks."""
        seed = (self.config.seed * 1_000_003 + index) * 64 + self.rank
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        batch = self.batches[index]
        span = self.pipeline.sequences.image_span(training=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            losses = self._parallel(batch, span, generator)
        (losses["loss"] / self.config.accumulation).backward()
        return {name: value.detach() for name, value in losses.items()}

    @contextmanager
    def averaged(self) -> Iterator[GoTPipeline]:
        """The pipeline with averaged weights, in evaluation mode; training weights come back at the end."""
        self.model.eval()
        if self.config.ema_decay:
            self.average.swap()
        try:
            yield self.pipeline
        finally:
            if self.config.ema_decay:
                self.average.swap()
            self.model.train()
            self.model.vae.eval()

    def finish(self) -> GoTPipeline:
        """Take over the averaged weights, merge LoRA and return the plain pipeline. Ends the training."""
        if self.config.ema_decay:
            self.average.swap()
        merged = self.pipeline.mllm.merge_and_unload()
        self.pipeline.register_modules(mllm=merged)
        fused_attention(merged, self.pipeline.unet)
        self.model.eval()
        return self.pipeline

    # -- checkpoints ----------------------------------------------------------------------------------

    def save(self, folder: Path) -> None:
        """Write parameters, averages, optimizer moments and the step as one safetensors file."""
        names = list(self.trained())
        state = {f"parameter.{name}": value.detach() for name, value in self.trained().items()}
        state |= {f"average.{n}": v for n, v in zip(names, self.average.values, strict=True)}
        for name, parameter in self.trained().items():
            for key, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{key}.{name}"] = value
        state["average_steps"] = torch.tensor(self.average.steps)
        metadata = {"step": str(self.step)}
        save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / STATE_FILE, metadata)

    @torch.no_grad()
    def load(self, folder: Path) -> None:
        """Restore what :meth:`save` wrote. Raises KeyError where the checkpoint is of another model."""
        state = load_file(folder / STATE_FILE)
        for k, (name, parameter) in enumerate(self.trained().items()):
            parameter.copy_(state[f"parameter.{name}"])
            self.average.values[k].copy_(state[f"average.{name}"])
            moments = ("step", "exp_avg", "exp_avg_sq")
            self.optimizer.state[parameter] = {m: state[f"optimizer.{m}.{name}"] for m in moments}
        self.average.steps = int(state["average_steps"])
        self.step = saved_step(folder)


def saved_step(folder: Path) -> int:
    """The step a checkpoint was written after."""
    with safe_open(folder / STATE_FILE, framework="pt") as file:
        return int(file.metadata()["step"])
