"""The pipeline around parts that were loaded from somewhere.

Belongs here: tokenizer, scheduler and settings, which all layouts have in common. Does not belong here: the
networks and their weights (``parts``), and pipelines of a recipe's sizes (``build``).
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.build import scheduler_class
from got_core.model.formats.configs import ConfigFolders
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import generation_tokens


def load_tokenizer(folder: Path, image_tokens: int) -> PreTrainedTokenizerBase:
    """The tokenizer with GoT's tokens, added behind its own if they are not there yet.

    Raises ValueError where their ids do not follow each other, or the tokenizer knows no words.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    # transformers 5 makes a tokenizer of special tokens alone where the vocabulary's files are missing.
    special = {*tokenizer.get_added_vocab(), *tokenizer.all_special_tokens}
    if not tokenizer.get_vocab().keys() - special:
        raise ValueError(
            f"{folder}: the tokenizer has no words; it needs tokenizer.json, or vocab.json and merges.txt"
        )
    names = generation_tokens(image_tokens)
    tokenizer.add_tokens(names, special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(names)
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(f"{folder}: the ids of {names[0]} to {names[-1]} do not follow each other")
    return tokenizer


def load_scheduler(folders: ConfigFolders) -> SchedulerMixin:
    """A scheduler of the folders' class and settings."""
    return scheduler_class(folders.scheduler_class).from_pretrained(folders.scheduler)


def pipeline_of_parts(
    folders: ConfigFolders,
    *,
    mllm: Qwen2_5_VLForConditionalGeneration,
    projector: GuidanceProjector,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL | PatchAutoencoder,
    settings: Mapping[str, Any],
    fresh: bool = False,
) -> GoTPipeline:
    """The pipeline around loaded parts, in evaluation mode.

    ``fresh``: the language model has not learned GoT's tokens yet. Its embedding grows if it has too few rows
    for them; the published one has spare rows. Else that raises ValueError.
    """
    known = inspect.signature(GoTPipeline.__init__).parameters
    chosen = {key: value for key, value in folders.settings.items() if key in known} | dict(settings)
    tokens = chosen.get("image_tokens", known["image_tokens"].default)
    tokenizer = load_tokenizer(folders.tokenizer, tokens)
    rows = mllm.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows and not fresh:
        raise ValueError(
            f"{tokens} image tokens need an embedding of {len(tokenizer)} rows, and the checkpoint's has "
            f"{rows}: set image_tokens to what it was trained with"
        )
    if len(tokenizer) > rows:
        mllm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    pipeline = GoTPipeline(
        mllm=mllm.eval(),
        tokenizer=tokenizer,
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folders.image_processor),
        projector=projector.eval(),
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=load_scheduler(folders),
        **chosen,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
