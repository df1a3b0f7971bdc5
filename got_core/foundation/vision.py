"""The eyes of the small language model: its vision tower, and where it looks.

The vision tower comes first: each of its tokens learns what it shows and how far the object's edges are. Then
the first half of the language model learns to say so in its own vocabulary, with edges as places in the
picture. Where chains are learned, the other half is shown where to look.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2_5_VLForConditionalGeneration

from got_core.chain.boxes import LIMIT, Box
from got_core.chain.grammar import Chain, Text
from got_core.foundation.config import FoundationConfig
from got_core.model.backbones.qwen2_5_vl import QwenPlanner
from got_core.model.sequence import IGNORED, SequenceBuilder
from got_core.train.data.samples import TrainingData, step_generator
from got_core.train.muon import hidden_matrices
from got_core.train.optim import Log, Loop, mixed_precision

DESCRIBE_PROMPT = "Describe the image with the place of every object."

PHRASE_WORDS = 2
"""Words of a phrase, the last ones, that a visual token learns to say."""

NUMBER_WEIGHT = 5.0
"""Of edges' and places' distances beside the words' cross-entropy."""

EDGE_WEIGHT = 16.0
"""Of the distance of edges, in sides of the picture, beside the words' cross-entropy."""


# -- vision tower -------------------------------------------------------------------------------------

WHITENING_IMAGES = 500
SMALLEST_VARIANCE = 0.01
"""Of a patch's principal components, as a share of their mean, below which they are not made larger."""


@torch.no_grad()
def whiten_patches(
    model: Qwen2_5_VLForConditionalGeneration,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
) -> None:
    """Start the patch embedding as a whitening projection of the data's patches.

    Nearly all variance of a patch is its brightness. Embedded at random, forms would have to be learned from
    the little that is left; whitened, each of the first principal components weighs the same.
    """
    rng = step_generator(config.seed, 6)
    count = min(WHITENING_IMAGES, len(data))
    images = [Image.fromarray(s.target) for s in data.draw(rng, "t2i", count)]
    patches = sequences.chat.image_processor(images, return_tensors="pt")["pixel_values"].double()
    weight = model.model.visual.patch_embed.proj.weight
    width, _, frames = weight.shape[:3]
    # A picture is all frames of its patches: channels, frames, rows, columns.
    patches = patches.view(len(patches), -1, frames, weight[0, 0, 0].numel()).mean(2).flatten(1)
    patches = patches - patches.mean(0)
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    smallest = SMALLEST_VARIANCE * variances.mean()
    variances, directions = variances.flip(0)[:width], directions.flip(1)[:, :width]
    rows = directions / (variances.clamp(min=0) + smallest).sqrt()
    rows = rows.T.reshape(len(variances), -1, 1, *weight.shape[3:]) / frames
    weight[: len(rows)] = rows.expand(-1, -1, frames, -1, -1).to(weight)


OFFSET_UNIT = 4
"""Offsets to the side of the picture: an object is about as long, so what the head says is about 1."""


class TokenHead(nn.Linear):
    """What a visual token shows: object or not, the words for it, an object's edges as seen from there.

    The vision tower turns by relative positions alone, so edges are relative to the token's middle.
    """

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__(width, 1 + 4 + PHRASE_WORDS * vocabulary)

    def losses(self, tokens: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of visual tokens (B, T, width) against labels (B, T, PHRASE_WORDS + 6) as
        :func:`cell_labels` gives them, but with numbers in place of their ids."""
        words, edges, places = labels.split([PHRASE_WORDS, 4, 2], dim=-1)
        seen = edges[..., 0] != IGNORED
        presence, offsets, logits = self(tokens).split([1, 4, self.out_features - 5], dim=-1)
        wanted = (edges - places.repeat(1, 1, 2))[seen] / LIMIT
        return {
            "object": F.binary_cross_entropy_with_logits(presence[..., 0].float(), seen.float()),
            "phrase": words_loss(logits[seen].unflatten(-1, (PHRASE_WORDS, -1)), words[seen]),
            "ground": words_loss(logits[~seen].unflatten(-1, (PHRASE_WORDS, -1)), words[~seen]),
            "edges": EDGE_WEIGHT * F.l1_loss(offsets[seen].float() / OFFSET_UNIT, wanted),
        }


def words_loss(logits: Tensor, words: Tensor) -> Tensor:
    """Mean cross-entropy of the words (N, PHRASE_WORDS) that are not ``IGNORED``; 0 where all are.

    ``logits`` is (N, PHRASE_WORDS, vocabulary).
    """
    total = F.cross_entropy(
        logits.float().flatten(0, 1), words.flatten(), ignore_index=IGNORED, reduction="sum"
    )
    return total / (words != IGNORED).sum().clamp(min=1)


def train_tower(
    model: Qwen2_5_VLForConditionalGeneration,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Train the vision tower alone: a step costs less than half of one with the language model behind it."""
    tower = model.model.visual
    head = TokenHead(model.lm_head.weight.shape[1], len(sequences.tokenizer))
    parameters = [*tower.parameters(), *head.parameters()]
    matrices = hidden_matrices(tower, QwenPlanner.outer_layers) if config.optimizer == "muon" else []
    loop = Loop.over([(parameters, config.tower_rate)], config.tower_steps, config.ema_decay, matrices)
    losses: dict[str, float] = {}
    for step in range(config.tower_steps):
        samples = data.draw(step_generator(config.seed, 7, step), "t2i", config.batch_size)
        labels = torch.stack([cell_labels(sample.chain, sequences, ids=False) for sample in samples])
        images = [Image.fromarray(sample.target) for sample in samples]
        inputs = sequences.chat.image_processor(images, return_tensors="pt")
        with mixed_precision("cpu", config.bf16):
            tokens = tower(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
            losses_now = head.losses(tokens.view(*labels.shape[:2], -1), labels)
        loop.step(step, torch.stack(list(losses_now.values())).sum())
        if step % 50 == 0 or step == config.tower_steps - 1:
            losses = {name: value.item() for name, value in losses_now.items()}
            log("vision tower", step, losses)
    loop.average.swap()
    return {f"tower_{name}": value for name, value in losses.items()}


# -- first half of the language model ----------------------------------------------------------------


class CellHead(nn.Module):
    """Linear maps from a visual token's state into the frozen output vocabulary: what it shows, and where.

    It stands half way up the language model. The vision tower turns by relative positions alone and cannot
    know where in the picture a token is; the language model's first layers can, and its other layers have to
    find what they say.
    """

    def __init__(self, vocabulary: Tensor) -> None:
        super().__init__()
        self.width = vocabulary.shape[1]
        self.register_buffer("vocabulary", vocabulary.detach().clone())
        self.presence = nn.Linear(self.width, 1)
        self.phrase = nn.Linear(self.width, PHRASE_WORDS * self.width)
        self.box = nn.Linear(self.width, 4 * self.width)
        self.place = nn.Linear(self.width, 2 * self.width)

    def losses(self, states: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of states (B, T, width) against labels (B, T, PHRASE_WORDS + 6), see :func:`cell_labels`:
        object or not, its words, its edges, the token's own place."""
        words, edges, places = labels.split([PHRASE_WORDS, 4, 2], dim=-1)
        seen = edges[..., 0] != IGNORED
        return {
            "object": F.binary_cross_entropy_with_logits(self.presence(states)[..., 0].float(), seen.float()),
            "phrase": words_loss(self._words(states[seen]), words[seen]),
            "ground": words_loss(self._words(states[~seen]), words[~seen]),
            "box": self._distance(self.box(states[seen]), edges[seen]),
            "place": self._distance(self.place(states), places),
        }

    def _words(self, states: Tensor) -> Tensor:
        words = self.phrase(states).unflatten(-1, (PHRASE_WORDS, self.width))
        return words @ F.rms_norm(self.vocabulary, (self.width,)).T / 4

    def _distance(self, predicted: Tensor, numbers: Tensor) -> Tensor:
        """Mean squared distance to numbers' vectors; near numbers are near there too."""
        wanted = F.rms_norm(self.vocabulary[numbers], (self.width,))
        return NUMBER_WEIGHT * F.mse_loss(predicted.float().unflatten(-1, (-1, self.width)), wanted)


def train_vision(
    model: Qwen2_5_VLForConditionalGeneration,
    head: CellHead,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Train vision tower and the first half of the language model through the head."""
    planner, language = QwenPlanner(model), model.model.language_model
    layers = language.layers
    language.layers = layers[: vision_layers_of(len(layers))]
    learning = [*language.parameters(), *head.parameters()]
    matrices = hidden_matrices(model.model, planner.outer_layers) if config.optimizer == "muon" else []
    parts = [(list(model.model.visual.parameters()), config.seeing_rate), (learning, config.vision_rate)]
    loop = Loop.over(parts, config.vision_steps, config.ema_decay, matrices)
    head_of_prompt = sequences.prompt(DESCRIBE_PROMPT, has_image=True, template="{}")
    losses: dict[str, float] = {}
    for step in range(config.vision_steps):
        samples = data.draw(step_generator(config.seed, 4, step), "t2i", config.batch_size)
        labels = torch.stack([cell_labels(sample.chain, sequences) for sample in samples])
        images = [Image.fromarray(sample.target) for sample in samples]
        inputs = sequences.collate([sequences.answer(head_of_prompt, "")] * len(samples), images)
        with mixed_precision("cpu", config.bf16):
            states = visual_states(planner.hidden_states(inputs), inputs, sequences)
            losses_now = head.losses(states, labels)
        loop.step(step, torch.stack(list(losses_now.values())).sum())
        losses = {name: value.item() for name, value in losses_now.items()}
        if step % 50 == 0:
            log("vision", step, losses)
    loop.average.swap()
    language.layers = layers
    return {f"vision_{name}": value for name, value in losses.items()}


def vision_layers_of(layers: int) -> int:
    """How many of the language model's layers learn to see: the first half of them, at least one."""
    return max(1, layers // 2)


def visual_states(states: Tensor, inputs: dict[str, Tensor], sequences: SequenceBuilder) -> Tensor:
    """The states at the visual tokens (B, tokens, width)."""
    return states[inputs["input_ids"] == sequences.pad_id].unflatten(0, (len(states), -1))


def cell_labels(chain: Chain, sequences: SequenceBuilder, *, ids: bool = True) -> Tensor:
    """What each visual token, row by row, should say: words, its object's edges, and its own middle.

    int64 (tokens, PHRASE_WORDS + 6): the words' ids, and the numbers' ids or, without ``ids``, the numbers
    themselves. A token shows the object that covers most of its cell, and says the last words of its phrase.
    Where it shows none, it says those that end the chain ("on a grey background"), and its edges are
    ``IGNORED``; so is what is before the first word of a short phrase.
    """

    def phrase_ids(text: str) -> list[int]:
        ids = [i for word in text.split() for i in sequences.chain(f" {word}")][-PHRASE_WORDS:]
        return [IGNORED] * (PHRASE_WORDS - len(ids)) + ids

    def number(value: float) -> int:
        return sequences.chain(str(int(value)))[0] if ids else int(value)

    side = math.isqrt(sequences.visual_tokens)
    edges = np.arange(side + 1) / side * LIMIT
    best = np.zeros((side, side))
    labels = np.full((side, side, PHRASE_WORDS + 4), IGNORED)
    labels[..., :PHRASE_WORDS] = phrase_ids(_after_boxes(chain))
    for placed in chain.boxes:
        box = placed.box
        shared = shared_areas(box, side)
        corners = [number(value) for value in (box.x1, box.y1, box.x2, box.y2)]
        labels[shared > best] = [*phrase_ids(placed.phrase), *corners]
        best = np.maximum(best, shared)
    middles = [number(value) for value in (edges[1:] + edges[:-1]) / 2]
    across, down = np.meshgrid(middles, middles)
    return torch.from_numpy(np.dstack([labels, across, down]).reshape(side * side, -1))


def _after_boxes(chain: Chain) -> str:
    last = chain.parts[-1] if chain.parts else None
    return last.text if isinstance(last, Text) else ""


def shared_areas(box: Box, side: int) -> np.ndarray:
    """How much of each cell of a square grid the box covers (side, side), in squares of coordinates."""
    edges = np.arange(side + 1) / side * LIMIT
    across, down = (
        np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        for low, high in ((box.x1, box.x2), (box.y1, box.y2))
    )
    return down[:, None] * across
