"""Foundation models at small scale: what the paper starts from as published checkpoints.

Autoencoder (closed-form projection and a short refiner), multimodal language model (vision tower by an
auxiliary head, then chains), text-to-image U-Net with a throw-away caption encoder. GoT itself is not
trained here: the U-Net has C input channels and has never seen a hidden state or a canvas.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from got_core.chain.boxes import LIMIT
from got_core.chain.grammar import Chain
from got_core.chain.layout import canvases
from got_core.chain.palette import PALETTE
from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.config import LossConfig, ModelConfig
from got_core.model.got import add_noise, language_states, text_loss
from got_core.model.guidance import GuidanceProjector, encode, time_ids, to_tensor
from got_core.model.sequence import SequenceBuilder
from got_core.model.tokens import train_tokenizer
from got_core.train.config import FoundationConfig
from got_core.train.data import LENGTH_MULTIPLE, TrainingData, step_generator
from got_core.train.optim import MovingAverage, cosine_share, decayed_groups, plain_attention, set_rates
from got_core.train.text_encoder import PhraseEncoder

DESCRIBE_PROMPT = "Describe the image with the place of every object."

Log = Callable[[str, int, dict[str, float]], None]
"""Called with the part's name, the step and its losses."""


@dataclass(frozen=True)
class _Loop:
    """Optimizer, schedule and average of one part's training."""

    optimizer: torch.optim.Optimizer
    peaks: list[float]
    average: MovingAverage
    steps: int

    @classmethod
    def over(cls, parameters: list[Tensor], rate: float, steps: int, decay: float) -> _Loop:
        optimizer = torch.optim.AdamW(
            decayed_groups(parameters, rate, 0.01), betas=(0.9, 0.98), eps=1e-6, fused=True
        )
        peaks = [float(group["lr"]) for group in optimizer.param_groups]
        return cls(optimizer, peaks, MovingAverage(parameters, decay), steps)

    def step(self, step: int, loss: Tensor) -> None:
        """One optimizer step on a loss."""
        set_rates(self.optimizer, self.peaks, cosine_share(step, self.steps, 50, 0.05))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.average.sources, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.average.update()


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
    loop = _Loop.over(list(vae.refiner.parameters()), 2e-3, config.refiner_steps, 0.99)
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


# -- language model -----------------------------------------------------------------------------------


def fit_tokenizer(data: TrainingData, image_tokens: int) -> PreTrainedTokenizerBase:
    """A tokenizer over the words of all prompts and chains of the manifest."""
    words: set[str] = set()
    for row in data.rows:
        for text in (row["prompt"], row["chain"], *(row.get("instructions") or [])):
            words.update(re.findall(r" ?[^\W\d_]+", text))
    texts = [*sorted(words), *(f" ({color})" for color in PALETTE), DESCRIBE_PROMPT, "(1,1),(1,1)"]
    return train_tokenizer(texts, image_tokens)


def train_language_model(
    model: Qwen2_5_VLForConditionalGeneration,
    projector: GuidanceProjector,
    encoder: PhraseEncoder,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Vision tower first (an auxiliary head names and places what each token shows), then chains.

    Beside the chains' cross-entropy, the projected hidden states of the image tokens learn to be what the
    text encoder says of the chain.
    """
    plain_attention(model)
    metrics = _train_vision(model, sequences, data, config, log)
    parameters = [*model.parameters(), *projector.parameters()]
    loop = _Loop.over(parameters, config.language_rate, config.language_steps, config.ema_decay)
    losses: dict[str, Tensor] = {}
    for step in range(config.language_steps):
        batch, chains = _language_batch(sequences, data, config, step)
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            hidden = language_states(model, batch)
            losses = {"text": text_loss(model, hidden, batch["labels"])}
            if chains:
                guidance = projector(hidden[:, sequences.image_span(training=True)])
                losses["alignment"] = _alignment_loss(guidance, encoder(chains))
        loop.step(step, torch.stack(list(losses.values())).sum())
        if step % 50 == 0:
            log("language model", step, {name: value.item() for name, value in losses.items()})
    loop.average.swap()
    return metrics | {f"{name}_loss": value.item() for name, value in losses.items()}


def _alignment_loss(guidance: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared errors of context and pooled vector."""
    return torch.stack([F.mse_loss(a.float(), b) for a, b in zip(guidance, wanted, strict=True)]).sum()


def _language_batch(
    sequences: SequenceBuilder, data: TrainingData, config: FoundationConfig, step: int
) -> tuple[dict[str, Tensor], list[Chain]]:
    """A batch of one kind: text-to-image chains, edit chains, or descriptions of pictures.

    Descriptions are text alone; chains are followed by the image tokens, and come back with the batch.
    """
    rng = step_generator(config.seed, 3, step)
    draw = rng.random()
    if draw < config.describe_share:
        samples = data.draw(rng, "t2i", config.batch_size)
        images = [Image.fromarray(sample.target) for sample in samples]
        heads = [sequences.prompt(DESCRIBE_PROMPT, has_image=True, template="{}") for _ in samples]
        answers = [sequences.answer(head, s.chain.to_model()) for head, s in zip(heads, samples, strict=True)]
        return sequences.collate(answers, images, LENGTH_MULTIPLE), []
    edit = draw < config.describe_share + config.edit_share and len(data.of_kind["edit"]) > 0
    samples = data.draw(rng, "edit" if edit else "t2i", config.batch_size)
    heads = [sequences.prompt(str(rng.choice(list(s.prompts))), has_image=edit) for s in samples]
    sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
    tokens = [sequences.training(head, s.chain.to_model()) for head, s in zip(heads, samples, strict=True)]
    return sequences.collate(tokens, sources or None, LENGTH_MULTIPLE), [s.chain for s in samples]


def _train_vision(
    model: Qwen2_5_VLForConditionalGeneration,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    phrases = sorted({placed.phrase for k in data.of_kind["t2i"] for placed in data[int(k)].chain.boxes})
    head = nn.Linear(model.config.text_config.hidden_size, 1 + len(phrases) + 4)
    parameters = [*model.model.visual.parameters(), *head.parameters()]
    loop = _Loop.over(parameters, config.vision_rate, config.vision_steps, config.ema_decay)
    losses = {"object": 0.0}
    for step in range(config.vision_steps):
        samples = data.draw(step_generator(config.seed, 4, step), "t2i", config.batch_size)
        images = [Image.fromarray(sample.target) for sample in samples]
        patches = sequences.patches(images, torch.zeros(len(samples), 1, dtype=torch.long))
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            features = model.model.get_image_features(patches["pixel_values"], patches["image_grid_thw"])
            output = head(torch.stack(list(features.pooler_output)))
        side = int(sequences.visual_tokens**0.5)
        labels = [cell_labels(sample.chain, side, phrases) for sample in samples]
        losses_now = _vision_losses(output.float(), torch.from_numpy(np.stack(labels)), len(phrases))
        loop.step(step, torch.stack(list(losses_now.values())).sum())
        losses = {name: value.item() for name, value in losses_now.items()}
        if step % 50 == 0:
            log("vision tower", step, losses)
    loop.average.swap()
    return {f"vision_{name}": value for name, value in losses.items()}


def cell_labels(chain: Chain, side: int, phrases: list[str]) -> np.ndarray:
    """Per visual token, row by row: index of its object's phrase (-1: none) and the object's box in [0, 1].

    float32 (side * side, 5). A token belongs to the box that holds its centre, the first of several.
    """
    labels = np.zeros((side, side, 5), dtype=np.float32)
    labels[..., 0] = -1
    centres = (np.arange(side) + 0.5) / side * LIMIT
    for placed in reversed(chain.boxes):
        box = placed.box
        inside = np.ix_((centres >= box.y1) & (centres < box.y2), (centres >= box.x1) & (centres < box.x2))
        corners = np.array([box.x1, box.y1, box.x2, box.y2]) / LIMIT
        labels[inside] = [phrases.index(placed.phrase), *corners]
    return labels.reshape(side * side, 5)


def _vision_losses(output: Tensor, labels: Tensor, phrases: int) -> dict[str, Tensor]:
    """Objectness, phrase and box losses of the auxiliary head's output (B, T, 1 + phrases + 4)."""
    has_object = labels[..., 0] >= 0
    return {
        "object": F.binary_cross_entropy_with_logits(output[..., 0], has_object.float()),
        "phrase": F.cross_entropy(output[has_object][:, 1 : 1 + phrases], labels[has_object][:, 0].long()),
        "box": 5.0 * F.l1_loss(output[has_object][:, -4:], labels[has_object][:, 1:]),
    }


# -- U-Net --------------------------------------------------------------------------------------------


def train_unet(
    unet: UNet2DConditionModel,
    vae: PatchAutoencoder,
    encoder: PhraseEncoder,
    data: TrainingData,
    model: ModelConfig,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Text-to-image pretraining of the U-Net on the text encoder's output: phrases without their boxes."""
    plain_attention(unet)
    loop = _Loop.over(list(unet.parameters()), config.unet_rate, config.unet_steps, config.ema_decay)
    loss_config = LossConfig(prediction=model.scheduler.prediction)
    recent: list[float] = []
    for step in range(config.unet_steps):
        rng = step_generator(config.seed, 5, step)
        samples = data.draw(rng, "t2i", config.unet_batch_size)
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        clean = encode(vae, to_tensor(np.stack([sample.target for sample in samples])))
        guidance = encoder([sample.chain for sample in samples])
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bf16):
            loss = _unet_loss(unet, guidance, clean, loss_config, generator, model.resolution)
        loop.step(step, loss)
        recent = [*recent[-49:], loss.item()]
        if step % 50 == 0:
            log("U-Net", step, {"diffusion": sum(recent) / len(recent)})
    loop.average.swap()
    return {"diffusion_loss": sum(recent) / max(1, len(recent))}


def _unet_loss(
    unet: UNet2DConditionModel,
    guidance: tuple[Tensor, Tensor],
    clean: Tensor,
    config: LossConfig,
    generator: torch.Generator,
    resolution: int,
) -> Tensor:
    context, pooled = guidance
    noised = add_noise(clean, config, generator)
    prediction = unet(
        noised.latents,
        noised.timesteps,
        encoder_hidden_states=context,
        added_cond_kwargs={"text_embeds": pooled, "time_ids": time_ids(len(clean), resolution, resolution)},
    ).sample
    return noised.loss(prediction)
