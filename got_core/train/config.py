"""Hyper-parameters of the training stages, as plain data (no torch here, so recipes load fast)."""

from __future__ import annotations

from dataclasses import dataclass, field

from got_core.model.config import LossConfig


@dataclass(frozen=True, kw_only=True)
class FoundationConfig:
    """Training of the parts that the paper takes from published checkpoints.

    The language model and the U-Net have nothing to do with each other yet, so they train side by side.
    """

    batch_size: int = 16
    vision_steps: int = 200
    """Steps of the vision tower alone; an auxiliary head names and places what each patch shows."""
    language_steps: int = 700
    unet_steps: int = 700
    refiner_steps: int = 250
    """Steps of the autoencoder's residual decoder, after the closed-form projection."""
    projection_images: int = 1000
    """Images from which the projection is computed."""
    edit_share: float = 0.2
    describe_share: float = 0.1
    """Share of language batches that list what a picture shows, with boxes."""
    language_rate: float = 2e-3
    vision_rate: float = 1e-3
    unet_rate: float = 1e-3
    ema_decay: float = 0.995
    bf16: bool = True
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One joint stage: GoT pretraining or finetuning (paper section 4.4)."""

    steps: int
    workers: int = 2
    """Data-parallel Ray Train workers."""
    batch_size: int = 6
    """Samples a worker and forward pass."""
    accumulation: int = 1
    """Forward passes an optimizer step; batch_size x workers x accumulation is the global batch."""
    peak_rate: float = 2e-3
    language_rate: float | None = 5e-4
    """Peak rate of the language model's parts; None means ``peak_rate``."""
    warmup_steps: int = 50
    final_rate: float = 0.1
    """Share of the peak rate that cosine decay ends at."""
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    lora_rank: int = 32
    lora_alpha: int = 32
    lora_dropout: float = 0.0
    """0.05 in the paper; on a CPU it costs a fifth of a step."""
    edit_share: float = 0.15
    """Share of batches that are edits; the rest is text to image."""
    loss: LossConfig = field(default_factory=lambda: LossConfig(noise_draws=3))
    ema_decay: float = 0.998
    """0 switches the moving average of the weights off."""
    bf16: bool = True
    checkpoint_every: int = 200
    sample_every: int = 400
    """Steps between grids of sample pictures; 0 draws one at the end only."""
    seed: int = 0
