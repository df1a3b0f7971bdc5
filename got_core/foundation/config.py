"""How small foundation models are trained, as plain data (no torch here, so recipes load fast)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

from got_core.model.config import LossConfig
from got_core.train.config import OptimizerName


@dataclass(frozen=True, kw_only=True)
class FoundationConfig:
    """Training of the parts that the paper takes from published checkpoints.

    The language model and the U-Net have nothing to do with each other yet, so they train side by side.
    """

    batch_size: int = 16
    """Of vision tower and autoencoder."""
    tower_steps: int = 0
    """Steps of the vision tower alone; a throw-away head names what each visual token shows and says how far
    the object's edges are."""
    tower_rate: float = 4e-3
    vision_steps: int = 200
    """Steps of the vision tower with the first half of the language model, which learns where things are."""
    locate_steps: int = 0
    """Steps, before those of the chains, that only find named objects. Every edit rests on this, and a small
    model learns it several times faster by itself than among chains."""
    reading_steps: int = 0
    """Steps, after those, of chains and in their shares, but with edits as text alone: which step of an
    instruction comes next, and to say a box again, is learned faster without visual tokens."""
    language_steps: int = 700
    language_batch_size: int = 16
    unet_steps: int = 600
    unet_batch_size: int = 36
    refiner_steps: int = 250
    """Steps of the autoencoder's residual decoder, after the closed-form projection."""
    projection_images: int = 1000
    """Images from which the projection is computed."""
    edit_share: float = 0.2
    reasoning_share: float = 0.0
    """Share of the batches of edits whose instructions do not name all of their objects; 0: as they come.
    Text alone does not tell what these mean, so `reading_steps` go without them in any case."""
    describe_share: float = 0.1
    """Share of language batches that list what a picture shows, with boxes."""
    locate_share: float = 0.0
    """Share of language batches that find named objects: what teaches edits to look."""
    referent_share: float = 0.0
    """Share of the questions for objects that say what is true of them ("the largest shape") in place of
    their names."""
    recall_share: float = 0.0
    """Share of language batches that say boxes once more, by their objects' names: what an edit of several
    steps needs, and hardly learns from its own chains. In trials a stage of its own made new places worse."""
    renamed_share: float = 0.0
    """Share of the language model's text-to-image samples in which other words take the place of names, in
    prompt and chain alike. A large language model copies any name; one that has learned from a few names
    only may write one of an unseen pair twice."""
    pointing_weight: float = 0.0
    """Beside the chains' cross-entropy, of looking at the object whose place is being said, or at where the
    chain has said it before; and at the words of the prompt that are being said, or that tell an edit's new
    place that is."""
    alignment_weight: float = 1.0
    """Beside the chains' cross-entropy, of image tokens that say what the text encoder does. Phrases are
    learned at any; what an edit makes of them, a small part of the error, was not at 1."""
    language_rate: float = 2e-3
    settled_rate: float | None = None
    """Seeing rate while chains with pictures are learned; None: as before. Finding objects does not outlive a
    high one."""
    seeing_rate: float = 2e-3
    """Peak rate, in each stage, of what the stages before it have taught: first the vision tower, then also
    the first half of the language model. At the full rate they would forget it."""
    vision_rate: float = 1e-3
    """Peak rate of the first half of the language model while it learns where things are."""
    unet_rate: float = 2e-3
    unet_loss: LossConfig = field(default_factory=lambda: LossConfig(dropped_weight=0.1))
    """Of the U-Net, which learns alone: what it says of language counts for nothing here, and the prediction
    is that of the model's scheduler."""
    unet_edit_share: float = 0.0
    """Share of the U-Net's batches that are edits. Above 0 it reads Gs and Gr from its first step on. To draw
    from words alone first takes less time, but it was not seen to unlearn what it then guesses of
    backgrounds."""
    chains: bool = True
    """Whether the language model learns chains. Without, its steps are of captions, of named objects, and of
    image tokens right after a prompt, which say what the text encoder does: what is known before GoT (see
    ``without_got``)."""
    optimizer: OptimizerName = "adamw"
    """Of language model and U-Net."""
    ema_decay: float = 0.995
    bf16: bool = True
    """Compute in bfloat16 where the processor can; elsewhere in float32."""
    seed: int = 0


def without_got(config: FoundationConfig) -> FoundationConfig:
    """The same training of parts that know nothing of GoT, as the paper's published weights: language, where
    named objects are, what a picture shows, and drawing from words; no chains, canvases or sources.

    The published language model and U-Net have never met; these have, on prompts alone. GoT training would
    join them, too, but in as many steps as the paper's.
    """
    return replace(
        config,
        chains=False,
        unet_edit_share=0.0,
        reading_steps=0,
        pointing_weight=0.0,
        edit_share=0.0,
        recall_share=0.0,
    )


def shortened(config: FoundationConfig, share: float) -> FoundationConfig:
    """The same training with ``share`` (above 0, at most 1) of each number of steps, rounded; of some steps
    at least one stays."""
    steps = {
        field.name: getattr(config, field.name) for field in fields(config) if field.name.endswith("_steps")
    }
    return replace(config, **{name: count and max(1, round(share * count)) for name, count in steps.items()})
