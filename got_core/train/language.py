"""The small multimodal language model of the foundation: its tokenizer, its eyes, its chains.

Stands where the paper has Qwen2.5-VL's published weights. The vision tower comes first: each of its tokens
learns what it shows and how far the object's edges are. Then the first half of the language model learns to
say so in its own vocabulary, with edges as places in the picture. Then the whole model learns to write chains
and to find named objects.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from got_core.chain.boxes import LIMIT
from got_core.chain.grammar import Boxed, Chain, Text
from got_core.chain.palette import PALETTE
from got_core.model.got import language_states, text_loss
from got_core.model.guidance import GuidanceProjector
from got_core.model.sequence import IGNORED, SequenceBuilder
from got_core.model.tokens import train_tokenizer
from got_core.train.config import FoundationConfig
from got_core.train.data import LENGTH_MULTIPLE, TrainingData, step_generator
from got_core.train.muon import hidden_matrices
from got_core.train.optim import Log, Loop, mixed_precision, plain_attention
from got_core.train.text_encoder import PhraseEncoder

DESCRIBE_PROMPT = "Describe the image with the place of every object."
LOCATE_PROMPT = "Find in the image: {}."

PHRASE_WORDS = 2
"""Words of a phrase, the last ones, that a visual token learns to say."""

NUMBER_WEIGHT = 5.0
"""Of edges' and places' distances beside the words' cross-entropy."""

SHORTEST_WAVE = 150
"""In numbers' vectors, in thousandths of a side. Of shorter waves a few layers cannot compute the sum of a
token's own place and an edge's distance from it, which is what they have to say."""

EDGE_WEIGHT = 16.0
"""Of the distance of edges, in sides of the picture, beside the words' cross-entropy."""


def fit_tokenizer(data: TrainingData, image_tokens: int) -> PreTrainedTokenizerBase:
    """A tokenizer over the words of all prompts and chains of the manifest."""
    words: set[str] = set()
    for row in data.rows:
        for text in (row["prompt"], row["chain"], *(row.get("instructions") or [])):
            words.update(re.findall(r" ?[^\W\d_]+", text))
    fixed = [DESCRIBE_PROMPT, LOCATE_PROMPT, "(1,1),(1,1)"]
    texts = [*sorted(words), *(f" ({color})" for color in PALETTE), *fixed]
    return train_tokenizer(texts, image_tokens)


@torch.no_grad()
def relate_numbers(model: nn.Module, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
    """Give the tokens of 0 to 999 embeddings and output weights in which near numbers are alike.

    Sines and cosines of wavelengths up to 4000, turned into random directions; norms are those of fresh
    weights. A large language model brings such an order along; a small one would have to learn every number
    by itself.
    """
    ids = tokenizer.convert_tokens_to_ids([str(number) for number in range(LIMIT)])
    for weight in {id(w): w for w in (model.get_input_embeddings().weight, model.lm_head.weight)}.values():
        width = weight.shape[1]
        generator = torch.Generator().manual_seed(seed)
        turn = torch.linalg.qr(torch.randn(width, width, generator=generator)).Q
        lengths = torch.logspace(math.log10(SHORTEST_WAVE), math.log10(4 * LIMIT), width // 2)
        angles = 2 * math.pi * torch.arange(LIMIT)[:, None] / lengths
        waves = torch.cat([angles.sin(), angles.cos()], dim=1) * math.sqrt(2)
        weight[ids] = waves @ turn[: waves.shape[1]] * weight[ids].std()


def train_language_model(
    model: Qwen2_5_VLForConditionalGeneration,
    projector: GuidanceProjector,
    encoder: PhraseEncoder,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Vision tower first, then half of the language model, then chains; see the module.

    Beside the chains' cross-entropy, the projected hidden states of the image tokens learn to be what the
    text encoder says of the chain.
    """
    plain_attention(model)
    relate_numbers(model, sequences.tokenizer, config.seed)
    whiten_patches(model, sequences, data, config)
    metrics = _train_tower(model, sequences, data, config, log)
    head = CellHead(model.lm_head.weight)
    metrics |= _train_vision(model, head, sequences, data, config, log)
    parts = _seeing_and_speaking(model, projector, head)
    rates = (config.seeing_rate, config.language_rate)
    matrices = hidden_matrices(model) if config.optimizer == "muon" else []
    loop = Loop.over(zip(parts, rates, strict=True), config.language_steps, config.ema_decay, matrices)
    losses: dict[str, Tensor] = {}
    for step in range(config.language_steps):
        batch = _language_batch(sequences, data, config, step)
        with mixed_precision("cpu", config.bf16):
            hidden, halfway = _hidden_states(model, batch.inputs)
            losses = {"text": text_loss(model, hidden, batch.inputs["labels"])}
            if batch.cells is not None:
                losses |= head.losses(_visual(halfway, batch.inputs, sequences), batch.cells)
            else:
                guidance = projector(hidden[:, sequences.image_span(training=True)])
                losses["alignment"] = _alignment_loss(guidance, encoder(batch.chains))
        loop.step(step, torch.stack(list(losses.values())).sum())
        if step % 50 == 0:
            log("language model", step, {name: value.item() for name, value in losses.items()})
    loop.average.swap()
    return metrics | {f"{name}_loss": value.item() for name, value in losses.items()}


def _seeing_and_speaking(
    model: Qwen2_5_VLForConditionalGeneration, projector: GuidanceProjector, head: CellHead
) -> tuple[list[Tensor], list[Tensor]]:
    """What the first stage has taught already, and the rest."""
    layers = model.model.language_model.layers
    seeing = [model.model.visual, head, *layers[: _half(len(layers))]]
    taught = [p for module in seeing for p in module.parameters()]
    known = {id(p) for p in taught}
    return taught, [p for p in (*model.parameters(), *projector.parameters()) if id(p) not in known]


def _hidden_states(
    model: Qwen2_5_VLForConditionalGeneration, inputs: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Hidden states (B, L, width) after the last layer and after the first half of them, both normed."""
    wanted = {name: value for name, value in inputs.items() if name != "labels"}
    output = model.model(**wanted, use_cache=False, output_hidden_states=True)
    language = model.model.language_model
    return output.last_hidden_state, language.norm(output.hidden_states[_half(len(language.layers))])


def _half(layers: int) -> int:
    return max(1, layers // 2)


def _visual(states: Tensor, inputs: dict[str, Tensor], sequences: SequenceBuilder) -> Tensor:
    """The states at the visual tokens (B, tokens, width)."""
    return states[inputs["input_ids"] == sequences.pad_id].unflatten(0, (len(states), -1))


def _alignment_loss(guidance: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared errors of context and pooled vector."""
    return torch.stack([F.mse_loss(a.float(), b) for a, b in zip(guidance, wanted, strict=True)]).sum()


# -- batches ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Batch:
    """Language inputs with labels, the chains they hold, and what visual tokens should say where that is
    known."""

    inputs: dict[str, Tensor]
    chains: list[Chain]
    cells: Tensor | None = None


def _language_batch(
    sequences: SequenceBuilder, data: TrainingData, config: FoundationConfig, step: int
) -> _Batch:
    """A batch of one kind: descriptions of pictures, named objects to be found, edit chains, or
    text-to-image chains.

    The first two are text alone; chains are followed by the image tokens.
    """
    rng = step_generator(config.seed, 3, step)
    draw = rng.random()
    if draw < config.describe_share + config.locate_share:
        return _looking_batch(sequences, data, config, rng, draw < config.describe_share)
    edit = draw < config.describe_share + config.locate_share + config.edit_share
    edit = edit and len(data.of_kind["edit"]) > 0
    samples = data.draw(rng, "edit" if edit else "t2i", config.batch_size)
    heads = [sequences.prompt(str(rng.choice(list(s.prompts))), has_image=edit) for s in samples]
    sources = [Image.fromarray(s.source) for s in samples if s.source is not None]
    tokens = [sequences.training(head, s.chain.to_model()) for head, s in zip(heads, samples, strict=True)]
    inputs = sequences.collate(tokens, sources or None, LENGTH_MULTIPLE)
    return _Batch(inputs, [sample.chain for sample in samples])


def _looking_batch(
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    rng: np.random.Generator,
    describe: bool,
) -> _Batch:
    samples = data.draw(rng, "t2i", config.batch_size)
    asked = [(DESCRIBE_PROMPT, s.chain) if describe else question(s.chain, rng) for s in samples]
    answers = [
        sequences.answer(sequences.prompt(prompt, has_image=True, template="{}"), chain.to_model())
        for prompt, chain in asked
    ]
    inputs = sequences.collate(answers, [Image.fromarray(s.target) for s in samples], LENGTH_MULTIPLE)
    cells = torch.stack([cell_labels(sample.chain, sequences) for sample in samples])
    return _Batch(inputs, [chain for _, chain in asked], cells)


def question(chain: Chain, rng: np.random.Generator) -> tuple[str, Chain]:
    """A prompt that names the objects of a chain in a random order, and the answer: their boxes in it.

    An object that shares its phrase with another cannot be asked for; where no other is there, the picture
    is to be described.
    """
    phrases = [placed.phrase for placed in chain.boxes]
    single = [placed for placed in chain.boxes if phrases.count(placed.phrase) == 1]
    if not single:
        return DESCRIBE_PROMPT, chain
    asked = [single[k] for k in rng.permutation(len(single))]
    named = [re.sub(r"^an? ", "the ", placed.phrase) for placed in asked]
    parts = [
        p for name, placed in zip(named, asked, strict=True) for p in (Text(f" {name} "), Boxed(placed.box))
    ]
    return LOCATE_PROMPT.format(", ".join(named)), Chain(tuple(parts))


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
    patches = sequences.image_processor(images, return_tensors="pt")["pixel_values"].double()
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
    """What a visual token shows: object or not, the last words of its phrase, its edges as seen from there.

    The vision tower turns by relative positions alone, so edges are relative to the token's middle.
    """

    def __init__(self, width: int, vocabulary: int) -> None:
        super().__init__(width, 1 + 4 + PHRASE_WORDS * vocabulary)

    def losses(self, tokens: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Losses of visual tokens (B, T, width) against labels (B, T, PHRASE_WORDS + 6) as
        :func:`cell_labels` gives them, but with numbers in place of their ids."""
        words, edges, places = labels.split([PHRASE_WORDS, 4, 2], dim=-1)
        seen = words[..., -1] != IGNORED
        presence, offsets, spoken = self(tokens).split([1, 4, self.out_features - 5], dim=-1)
        wanted = (edges - places.repeat(1, 1, 2))[seen] / LIMIT
        return {
            "object": F.binary_cross_entropy_with_logits(presence[..., 0].float(), seen.float()),
            "phrase": F.cross_entropy(
                spoken[seen].float().unflatten(-1, (PHRASE_WORDS, -1)).flatten(0, 1),
                words[seen].flatten(),
                ignore_index=IGNORED,
            ),
            "edges": EDGE_WEIGHT * F.l1_loss(offsets[seen].float() / OFFSET_UNIT, wanted),
        }


def _train_tower(
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
    matrices = hidden_matrices(tower) if config.optimizer == "muon" else []
    loop = Loop.over([(parameters, config.tower_rate)], config.tower_steps, config.ema_decay, matrices)
    losses: dict[str, float] = {}
    for step in range(config.tower_steps):
        samples = data.draw(step_generator(config.seed, 7, step), "t2i", config.batch_size)
        labels = torch.stack([cell_labels(sample.chain, sequences, ids=False) for sample in samples])
        images = [Image.fromarray(sample.target) for sample in samples]
        inputs = sequences.image_processor(images, return_tensors="pt")
        with mixed_precision("cpu", config.bf16):
            tokens = tower(inputs["pixel_values"], inputs["image_grid_thw"]).pooler_output
            losses_now = head.losses(tokens.view(*labels.shape[:2], -1), labels)
        loop.step(step, torch.stack(list(losses_now.values())).sum())
        if step % 50 == 0 or step == config.tower_steps - 1:
            losses = {name: value.item() for name, value in losses_now.items()}
            log("vision tower", step, losses)
    loop.average.swap()
    return {f"tower_{name}": value for name, value in losses.items()}


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
        spoken = self.phrase(states[seen]).unflatten(-1, (PHRASE_WORDS, self.width))
        spoken = spoken @ F.rms_norm(self.vocabulary, (self.width,)).T / 4
        return {
            "object": F.binary_cross_entropy_with_logits(self.presence(states)[..., 0].float(), seen.float()),
            "phrase": F.cross_entropy(
                spoken.float().flatten(0, 1), words[seen].flatten(), ignore_index=IGNORED
            ),
            "box": self._distance(self.box(states[seen]), edges[seen]),
            "place": self._distance(self.place(states), places),
        }

    def _distance(self, said: Tensor, numbers: Tensor) -> Tensor:
        """Mean squared distance to numbers' vectors; near numbers are near there too."""
        meant = F.rms_norm(self.vocabulary[numbers], (self.width,))
        return NUMBER_WEIGHT * F.mse_loss(said.float().unflatten(-1, (-1, self.width)), meant)


def _train_vision(
    model: Qwen2_5_VLForConditionalGeneration,
    head: CellHead,
    sequences: SequenceBuilder,
    data: TrainingData,
    config: FoundationConfig,
    log: Log,
) -> dict[str, float]:
    """Train vision tower and the first half of the language model through the head."""
    language, layers = model.model.language_model, model.model.language_model.layers
    language.layers = layers[: _half(len(layers))]
    reading = [*language.parameters(), *head.parameters()]
    matrices = hidden_matrices(model.model) if config.optimizer == "muon" else []
    parts = [(list(model.model.visual.parameters()), config.seeing_rate), (reading, config.vision_rate)]
    loop = Loop.over(parts, config.vision_steps, config.ema_decay, matrices)
    head_of_prompt = sequences.prompt(DESCRIBE_PROMPT, has_image=True, template="{}")
    losses: dict[str, float] = {}
    for step in range(config.vision_steps):
        samples = data.draw(step_generator(config.seed, 4, step), "t2i", config.batch_size)
        labels = torch.stack([cell_labels(sample.chain, sequences) for sample in samples])
        images = [Image.fromarray(sample.target) for sample in samples]
        inputs = sequences.collate([sequences.answer(head_of_prompt, "")] * len(samples), images)
        with mixed_precision("cpu", config.bf16):
            states = _visual(language_states(model, inputs), inputs, sequences)
            losses_now = head.losses(states, labels)
        loop.step(step, torch.stack(list(losses_now.values())).sum())
        losses = {name: value.item() for name, value in losses_now.items()}
        if step % 50 == 0:
            log("vision", step, losses)
    loop.average.swap()
    language.layers = layers
    return {f"vision_{name}": value for name, value in losses.items()}


def cell_labels(chain: Chain, sequences: SequenceBuilder, *, ids: bool = True) -> Tensor:
    """What each visual token, row by row, should say: its phrase's last words, its object's edges, and its
    own middle.

    int64 (tokens, PHRASE_WORDS + 6): the words' ids, and the numbers' ids or, without ``ids``, the numbers
    themselves. A token shows the object that covers most of its cell. ``IGNORED`` stands where a cell shows
    no object, and before the first word of a short phrase.
    """

    def number(value: float) -> int:
        return sequences.chain(str(int(value)))[0] if ids else int(value)

    side = math.isqrt(sequences.visual_tokens)
    edges = np.arange(side + 1) / side * LIMIT
    best = np.zeros((side, side))
    labels = np.full((side, side, PHRASE_WORDS + 4), IGNORED)
    for placed in chain.boxes:
        x1, y1, x2, y2 = placed.box.x1, placed.box.y1, placed.box.x2, placed.box.y2
        across, down = (
            np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
            for low, high in ((x1, x2), (y1, y2))
        )
        shared = down[:, None] * across
        said = [i for word in placed.phrase.split() for i in sequences.chain(f" {word}")][-PHRASE_WORDS:]
        said = [IGNORED] * (PHRASE_WORDS - len(said)) + said
        corners = [number(value) for value in (x1, y1, x2, y2)]
        labels[shared > best] = [*said, *corners]
        best = np.maximum(best, shared)
    middles = [number(value) for value in (edges[1:] + edges[:-1]) / 2]
    across, down = np.meshgrid(middles, middles)
    return torch.from_numpy(np.dstack([labels, across, down]).reshape(side * side, -1))
