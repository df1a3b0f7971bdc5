"""The small multimodal language model of the foundation: its tokenizer, and how it learns to write chains.

Stands where the paper has Qwen2.5-VL's published weights. It first learns to see (`vision`), then to find
named objects, then to read instructions, then to write chains, of which every edit rests on finding its
object.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from got_core.chain.boxes import LIMIT
from got_core.chain.palette import PALETTE
from got_core.foundation.attention_losses import instruction_loss, naming_loss, pointing_loss
from got_core.foundation.config import FoundationConfig
from got_core.foundation.curriculum import Curriculum, CurriculumBatch
from got_core.foundation.questions import LOCATE_PROMPT
from got_core.foundation.stage_checkpoints import StageCheckpoints
from got_core.foundation.text_encoder import PhraseEncoder
from got_core.foundation.vision import (
    DESCRIBE_PROMPT,
    CellHead,
    train_tower,
    train_vision,
    vision_layers_of,
    visual_states,
    whiten_patches,
)
from got_core.model.backbones.qwen2_5_vl import QwenPlanner
from got_core.model.got import text_loss
from got_core.model.guidance import GuidanceProjector
from got_core.model.sequence import SequenceBuilder
from got_core.model.tokens import train_tokenizer
from got_core.train.attention import plain_attention
from got_core.train.data.samples import TrainingData
from got_core.train.muon import hidden_matrices
from got_core.train.optim import Log, Loop, fused_backward_is_slow, mixed_precision

SHORTEST_WAVE = 150
"""In numbers' vectors, in thousandths of a side. Of shorter waves a few layers cannot compute the sum of a
token's own place and an edge's distance from it, which is what they have to say."""


def fit_tokenizer(
    data: TrainingData, image_tokens: int, questions: Sequence[str] = ()
) -> PreTrainedTokenizerBase:
    """A tokenizer over the words of all prompts and chains of the manifest, and of texts that questions are
    made of."""
    words = {word for text in questions for word in re.findall(r" ?[^\W\d_]+", text)}
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
    checkpoints: StageCheckpoints | None = None,
) -> dict[str, float]:
    """Vision tower first, then half of the language model, objects by name, edits as text alone, then chains.

    Beside the chains' cross-entropy, the projected hidden states of the image tokens learn to be what the
    text encoder says of the chain. Returns the last losses of each. With ``checkpoints`` the stages in it are
    left out, and what comes out is the same, bit by bit, as in one go.

    Raises ValueError where attention is to be shown where to look, but all layers learn to see.
    """
    layers = len(model.model.language_model.layers)
    if config.pointing_weight > 0 and vision_layers_of(layers) == layers:
        raise ValueError(
            "FoundationConfig.pointing_weight needs a language model of "
            f"two layers or more, this one has {layers}"
        )
    checkpoints, parts = checkpoints or StageCheckpoints(), {"model": model, "projector": projector}
    # Only plain attention says where it looked.
    plain = config.pointing_weight > 0 or fused_backward_is_slow("cpu", config.bf16)
    with plain_attention(model, wanted=plain):
        relate_numbers(model, sequences.tokenizer, config.seed)
        whiten_patches(model, sequences, data, config)
        tower = partial(train_tower, model, sequences, data, config, log)
        metrics = checkpoints.run("vision tower", parts, tower)
        parts["head"] = head = CellHead(model.lm_head.weight)
        vision = partial(train_vision, model, head, sequences, data, config, log)
        metrics |= checkpoints.run("vision", parts, vision)
        training, curriculum = (
            _Training(model, projector, encoder, head, sequences),
            Curriculum(sequences, data, config),
        )

        def stage(
            name: str, batches: Callable[[int], CurriculumBatch], steps: int, pretrained_rate: float
        ) -> dict[str, float]:
            work = partial(_train_stage, training, batches, steps, pretrained_rate, config, log, name)
            return checkpoints.run(name, parts, partial(work, checkpoints))

        grounding = stage("objects", curriculum.grounding, config.locate_steps, config.seeing_rate)
        metrics |= {f"objects_{name}": value for name, value in grounding.items()}
        reading = stage("reading", curriculum.reading, config.reading_steps, config.seeing_rate)
        metrics |= {f"reading_{name}": value for name, value in reading.items()}
        settled = config.seeing_rate if config.settled_rate is None else config.settled_rate
        if not config.chains:
            captions = stage("captions", curriculum.captions, config.language_steps, settled)
            return metrics | {f"captions_{name}": value for name, value in captions.items()}
        chains = stage("language model", curriculum.chains, config.language_steps, settled)
    return metrics | {f"{name}_loss": value for name, value in chains.items()}


@dataclass(frozen=True)
class _Training:
    """The parts that learn together, and what they are measured by."""

    model: Qwen2_5_VLForConditionalGeneration
    projector: GuidanceProjector
    encoder: PhraseEncoder
    head: CellHead
    sequences: SequenceBuilder

    def pretrained_and_new_parameters(self) -> tuple[list[Tensor], list[Tensor]]:
        """What has learned to see already, and the rest."""
        layers = self.model.model.language_model.layers
        vision = [self.model.model.visual, self.head, *layers[: vision_layers_of(len(layers))]]
        pretrained = [p for module in vision for p in module.parameters()]
        known = {id(p) for p in pretrained}
        every = (*self.model.parameters(), *self.projector.parameters())
        return pretrained, [p for p in every if id(p) not in known]

    def losses(self, batch: CurriculumBatch, config: FoundationConfig) -> dict[str, Tensor]:
        """Weighted losses of a batch, by name."""
        pointing_weight = config.pointing_weight
        points = pointing_weight > 0 and any([*batch.seen, *batch.repeated])
        reads, names = (pointing_weight > 0 and any(known) for known in (batch.aligned, batch.named))
        inputs = {name: value for name, value in batch.inputs.items() if name != "labels"}
        output = self.model.model(
            **inputs, use_cache=False, output_hidden_states=True, output_attentions=points or reads or names
        )
        hidden, language = output.last_hidden_state, self.model.model.language_model
        middle = vision_layers_of(len(language.layers))
        losses = {"text": text_loss(self.model, hidden, batch.inputs["labels"])}
        if batch.cells is not None:
            halfway = language.norm(output.hidden_states[middle])
            losses |= self.head.losses(visual_states(halfway, inputs, self.sequences), batch.cells)
        if batch.draws:
            guidance = self.projector(hidden[:, self.sequences.image_span(training=True)])
            alignment = _alignment_loss(guidance, self.encoder(batch.chains))
            losses["alignment"] = config.alignment_weight * alignment
        if points:
            losses["pointing"] = pointing_weight * pointing_loss(
                output.attentions[middle], inputs["input_ids"], batch.seen, batch.repeated, self.sequences
            )
        if names:
            losses["naming"] = pointing_weight * naming_loss(
                output.attentions[middle], inputs["input_ids"], batch.named, self.sequences
            )
        if reads:
            losses["words"] = pointing_weight * instruction_loss(output.attentions[middle], batch.aligned)
        return losses


def _train_stage(
    training: _Training,
    batches: Callable[[int], CurriculumBatch],
    steps: int,
    pretrained_rate: float,
    config: FoundationConfig,
    log: Log,
    name: str,
    checkpoints: StageCheckpoints,
) -> dict[str, float]:
    """One stage: the batch of each step. Returns the last losses."""
    rates = (pretrained_rate, config.language_rate)
    matrices = hidden_matrices(training.model, QwenPlanner.outer_layers) if config.optimizer == "muon" else []
    parts = zip(training.pretrained_and_new_parameters(), rates, strict=True)
    loop = Loop.over(parts, steps, config.ema_decay, matrices)
    last: dict[str, float] = {}
    kept = checkpoints.loop(name, loop)
    for step in range(kept.first_step(), steps):
        with mixed_precision("cpu", config.bf16):
            losses = training.losses(batches(step), config)
        loop.step(step, torch.stack(list(losses.values())).sum())
        if step % 50 == 0 or step == steps - 1:
            last = {name: value.item() for name, value in losses.items()}
            log(name, step, last)
        kept.after(step)
    loop.average.swap()
    return last


def _alignment_loss(guidance: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor]) -> Tensor:
    """Mean squared errors of context and pooled vector."""
    return torch.stack([F.mse_loss(a.float(), b) for a, b in zip(guidance, wanted, strict=True)]).sum()
