"""What GoT training starts from: plain SDXL and Qwen2.5-VL folders, as published.

Belongs here: widening the U-Net, adding GoT's tokens, projectors. Does not belong here: GoT's own
checkpoints (``released``).
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from got_core.model.backbones.qwen2_5_vl import untie
from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.formats.assembly import pipeline_of_parts
from got_core.model.formats.configs import ConfigFolders
from got_core.model.formats.parts import (
    KeyReport,
    empty_unet,
    fill,
    filled_language_model,
    folder_state,
    load_autoencoder,
    load_projector,
)
from got_core.model.formats.published_checks import check_published
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline

DEFAULT_PREDICTION = inspect.signature(GoTPipeline.__init__).parameters["prediction"].default


def load_foundation_folders(
    sdxl_folder: Path | str,
    qwen_folder: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    quantization: Any = None,
    variant: str | None = None,
    seed: int = 0,
    **settings: Any,
) -> GoTPipeline:
    """An untrained GoT pipeline from a diffusers SDXL folder and a Qwen2.5-VL folder.

    The U-Net's input is widened from C to 3C channels, so that it draws what SDXL draws until training
    gives the new channels weight. GoT's tokens (start 151665, end 151666, image tokens from 151667) fall
    into the spare rows of the published embedding, which then keeps its size. Embedding and head part
    company: GoT trains each whole. A language model that was aligned with the drawing model brings its
    projector along (``projector/``), and its tokenizer may have GoT's tokens already; else the projector is
    fresh. Beside such a one the U-Net may read 3C channels already.

    Each part's weights are read from plain safetensors if it has them, else from the variant that it has,
    else from ``.bin`` files, of which only tensors are read. What the folders say of themselves is checked
    first (``published_checks``).

    Args:
        dtype: of all parts. An autoencoder that overflows in float16 (``force_upcast``) stays in float32.
        quantization: a ``BitsAndBytesConfig`` for the language model (for drawing only; not tested here).
        variant: of SDXL's weight files, such as ``fp16``; for parts that have it, before plain ones.
        seed: of fresh projectors, and of rows that the embedding may need for GoT's tokens.
        **settings: of ``GoTPipeline`` (resolution, image_tokens ...); defaults are the paper's.

    Raises:
        CheckpointKeysError: keys that are missing, not expected, of another shape or not finite, all at once.
        OSError: folders or weight files that are not there.
        ValueError: folders of another kind of model, files that are damaged or hold more than tensors.
    """
    folders = ConfigFolders.published(Path(sdxl_folder), Path(qwen_folder))
    check_published(folders, settings.get("prediction", DEFAULT_PREDICTION), variant)
    report = KeyReport()
    unet = empty_unet(folders.unet)
    fill(unet, folder_state("unet", unet, folders.unet, report, variant), dtype)
    vae = load_autoencoder(folders.vae, report, dtype, variant)
    brought = load_projector(folders.projector, report, dtype) if folders.projector else None
    config, state = _language_state(folders.mllm, report)
    report.raise_if_any(f"{sdxl_folder} and {qwen_folder}")
    mllm = filled_language_model(config, state, folders.mllm, dtype, quantization)
    planner, drawer = planner_of(mllm), drawer_of(unet)
    drawer.widen_input()
    planner.separate_head()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = brought or GuidanceProjector.between(planner, drawer)
        nn.Module.to(projector, dtype)
        return pipeline_of_parts(
            folders, mllm=mllm, projector=projector, unet=unet, vae=vae, settings=settings, fresh=True
        )


def _language_state(folder: Path, report: KeyReport) -> tuple[Qwen2_5_VLConfig, dict[str, Tensor]]:
    """Configuration and tensors; a head that was written beside a tied embedding is taken as its own."""
    config = Qwen2_5_VLConfig.from_pretrained(folder)
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    found = KeyReport()
    state = folder_state("mllm", model, folder, found)
    if "lm_head.weight" in state:
        untie(config)
    elif config.tie_word_embeddings:
        found.missing = [key for key in found.missing if key != "mllm.lm_head.weight"]
    report.add(found)
    return config, state
