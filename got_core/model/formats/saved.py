"""Folders that this project writes itself: whole pipelines, and the small foundation models.

Belongs here: opening them. Does not belong here: what others publish (``published``, ``released``).
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLForConditionalGeneration

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.build import assemble_pipeline, unet_class
from got_core.model.config import ModelConfig
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline

NETWORKS = ("mllm", "projector", "unet", "vae")
"""A pipeline's parts that have weights."""


def load_pipeline(folder: Path | str, dtype: torch.dtype | None = None) -> GoTPipeline:
    """A saved pipeline, in the precision that it was saved in unless another is asked for; it shows no
    progress bars.

    Raises OSError or ValueError where the folder does not hold one.
    """
    return _opened(folder, **({"dtype": dtype} if dtype else {}))


def pipeline_without_weights(folder: Path | str) -> GoTPipeline:
    """A saved pipeline without its weights: networks of its configurations, on the meta device.

    No weights are read; their precision is not known. Raises as :func:`load_pipeline`.
    """
    places = GoTPipeline.load_config(folder)
    empty = {name: _empty(_class(*places[name]), Path(folder) / name) for name in NETWORKS}
    return _opened(folder, **empty)


def _opened(folder: Path | str, **options: Any) -> GoTPipeline:
    pipeline = GoTPipeline.from_pretrained(folder, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _class(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _empty(cls: Any, folder: Path) -> Any:
    """A network of diffusers' or transformers' classes, in evaluation mode, by its configuration alone."""
    if issubclass(cls, ModelMixin):
        config = cls.load_config(folder)
        with torch.device("meta"):
            return cls.from_config(config).eval()
    config = cls.config_class.from_pretrained(folder)
    with torch.device("meta"):
        return cls(config).eval()


def _read(cls: Any, folder: Path) -> Any:
    return cls.from_pretrained(folder)


def load_foundation(folder: Path, config: ModelConfig, seed: int, *, empty: bool = False) -> GoTPipeline:
    """A pipeline put together of foundation models, which ``got_core.foundation`` trains and writes.

    ``seed`` is of torch's random source, which the stage that follows goes on with. ``empty``: as
    :func:`pipeline_without_weights`.
    """
    language, drawing = folder / "language", folder / "drawing"
    opened = _empty if empty else _read
    torch.manual_seed(seed)
    return assemble_pipeline(
        config,
        mllm=opened(Qwen2_5_VLForConditionalGeneration, language / "mllm"),
        tokenizer=PreTrainedTokenizerFast.from_pretrained(language / "tokenizer"),
        projector=opened(GuidanceProjector, language / "projector"),
        unet=opened(unet_class(config), drawing / "unet"),
        vae=opened(PatchAutoencoder, drawing / "vae"),
    )
