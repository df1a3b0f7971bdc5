"""Foundation models at small scale: what the paper starts from as published checkpoints.

Autoencoder (closed-form projection and a short refiner), multimodal language model (vision tower by an
auxiliary head, then chains), text-to-image U-Net with a throw-away caption encoder. GoT itself is not
trained here: the U-Net has never seen a hidden state; canvases and sources only where the recipe shows it
edits.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from diffusers import ModelMixin
from torch import Tensor
from torch.nn import functional as F

from got_core.chain.layout import canvases
from got_core.foundation.config import FoundationConfig
from got_core.foundation.stage_checkpoints import StageCheckpoints
from got_core.foundation.text_encoder import PhraseEncoder
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.backbones.protocols import Drawer, DrawerConditions
from got_core.model.backbones.registry import drawer_of
from got_core.model.canvases import to_tensor
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.got import conditioned_loss
from got_core.model.guidance import encode
from got_core.model.picture_encoder import PictureEncoder
from got_core.train.attention import plain_attention
from got_core.train.data.latents import drawing_inputs
from got_core.train.data.samples import TrainingData, step_generator
from got_core.train.muon import hidden_matrices
from got_core.train.optim import Log, Loop, fused_backward_is_slow, mixed_precision

# -- autoencoder --------------------------------------------------------------------------------------


def fit_autoencoder(
    vae: PatchAutoencoder, data: TrainingData, balance: float, config: FoundationConfig, log: Log
) -> dict[str, float]:
    """Fit the projection on random pictures, then the refiner. Returns kept variance and PSNR in dB."""
    rng = step_generator(config.seed, 1)
    count = min(config.projection_images, len(data))
    chosen = rng.choice(len(data), size=count, replace=False)
    pixels = np.stack([data[int(index)].target for index in chosen])
    # Canvases are encoded too: a projection that has seen pictures alone answers their black with a huge
    # constant, which drowns the boxes in what the U-Net reads.
    layers = [canvases(data[int(index)].chain, *pixels.shape[1:3]) for index in chosen[: count // 4]]
    kept = vae.fit_projection(to_tensor(np.concatenate([pixels, *layers])), balance)
    if vae.refiner is not None:
        _fit_refiner(vae, pixels, config, log)
    return {"kept_variance": kept, "psnr": psnr(vae, pixels[:200])}


def _fit_refiner(vae: PatchAutoencoder, pixels: np.ndarray, config: FoundationConfig, log: Log) -> None:
    assert vae.refiner is not None
    loop = Loop.over([(list(vae.refiner.parameters()), 2e-3)], config.refiner_steps, 0.99)
    for step in range(config.refiner_steps):
        rng = step_generator(config.seed, 2, step)
        images = to_tensor(pixels[rng.choice(len(pixels), size=config.batch_size)])
        # A little noise on the latents: the decoder later reads latents that a U-Net drew, not exact ones.
        latents = encode(vae, images)
        latents = latents + 0.05 * torch.from_numpy(rng.standard_normal(latents.shape)).float()
        loss = F.mse_loss(vae.decode(latents, return_dict=False)[0], images)
        loop.step(step, loss)
        if step % 50 == 0:
            log("autoencoder", step, {"loss": loss.item()})
    loop.average.swap()


@torch.no_grad()
def psnr(vae: PatchAutoencoder, pixels: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of reconstructions, over pictures uint8 (N, H, W, 3)."""
    images = to_tensor(pixels)
    error = F.mse_loss(vae(images).clamp(-1, 1), images) / 4.0
    return float(-10.0 * torch.log10(error))


# -- U-Net --------------------------------------------------------------------------------------------


def train_unet(
    unet: ModelMixin,
    vae: PatchAutoencoder,
    encoder: PhraseEncoder,
    data: TrainingData,
    model: ModelConfig,
    config: FoundationConfig,
    log: Log,
    checkpoints: StageCheckpoints | None = None,
) -> dict[str, float]:
    """Pretraining of the U-Net on the text encoder's output: phrases without their boxes.

    Text to image on C channels; with an ``unet_edit_share`` also edits, and then on 3C channels: both kinds
    have their canvases and sources. With ``checkpoints`` a loop that was cut off goes on, and what comes out
    is the same, bit by bit, as in one go.
    """
    conditioned, drawer = config.unet_edit_share > 0, drawer_of(unet)
    if conditioned:
        drawer.widen_input()
    matrices = hidden_matrices(unet, drawer.outer_layers) if config.optimizer == "muon" else []
    parts = [(list(unet.parameters()), config.unet_rate)]
    loop = Loop.over(parts, config.unet_steps, config.ema_decay, matrices)
    loss_config = replace(config.unet_loss, prediction=model.scheduler.prediction)
    kept = (checkpoints or StageCheckpoints()).loop("U-Net", loop)
    first, recent = kept.first_step(), kept.values
    pictures = PictureEncoder(vae)
    with plain_attention(unet, wanted=fused_backward_is_slow("cpu", config.bf16)):
        for step in range(first, config.unet_steps):
            rng = step_generator(config.seed, 5, step)
            kind = "edit" if conditioned and rng.random() < config.unet_edit_share else "t2i"
            samples = data.draw(rng, kind, config.unet_batch_size)
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            inputs = drawing_inputs(pictures, samples, spatial_guidance=conditioned)
            guidance = encoder([sample.chain for sample in samples])
            with mixed_precision("cpu", config.bf16):
                if conditioned:
                    null = torch.zeros_like(guidance[0])
                    loss = conditioned_loss(drawer, guidance, null, inputs, loss_config, generator)
                else:
                    loss = _text_to_image_loss(drawer, guidance, inputs, loss_config, generator)
            loop.step(step, loss)
            recent = [*recent[-49:], loss.item()]
            if step % 50 == 0:
                log("U-Net", step, {"diffusion": sum(recent) / len(recent)})
            kept.after(step, recent)
    loop.average.swap()
    return {"diffusion_loss": sum(recent) / max(1, len(recent))}


def _text_to_image_loss(
    drawer: Drawer,
    guidance: tuple[Tensor, Tensor],
    inputs: dict[str, Tensor],
    config: LossConfig,
    generator: torch.Generator,
) -> Tensor:
    """The loss of a U-Net on C channels, without conditions beside the text."""
    context, pooled = guidance
    noised = drawer.noised(inputs["clean"], config, generator)
    conditions = DrawerConditions(context=context, pooled=pooled, sizes=inputs["time_ids"])
    return noised.loss(drawer.predict(noised.latents, noised.timesteps, conditions))
