"""Folders that this project writes itself: whole pipelines, and the small foundation models.

Belongs here: opening them. Does not belong here: what others publish (``published``, ``released``).
"""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.build import assemble_pipeline, unet_class
from got_core.model.config import ModelConfig
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline


def load_pipeline(folder: Path | str) -> GoTPipeline:
    """A saved pipeline, in the precision that it was saved in; it shows no progress bars.

    Raises OSError or ValueError where the folder does not hold one.
    """
    pipeline = GoTPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_foundation(folder: Path, config: ModelConfig, seed: int) -> GoTPipeline:
    """A pipeline put together of foundation models, which ``got_core.foundation`` trains and writes.

    ``seed`` is of torch's random source, which the stage that follows goes on with.
    """
    language, drawing = folder / "language", folder / "drawing"
    torch.manual_seed(seed)
    return assemble_pipeline(
        config,
        mllm=Qwen2_5_VLForConditionalGeneration.from_pretrained(language / "mllm"),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(language / "tokenizer"),
        projector=GuidanceProjector.from_pretrained(language / "projector"),
        unet=unet_class(config).from_pretrained(drawing / "unet"),
        vae=PatchAutoencoder.from_pretrained(drawing / "vae"),
    )
