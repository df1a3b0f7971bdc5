"""What GoT training starts from: plain SDXL and Qwen2.5-VL folders, as published.

Belongs here: widening the U-Net, adding GoT's tokens, fresh projectors. Does not belong here: GoT's own
checkpoints (``released``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch import nn
from transformers import Qwen2_5_VLForConditionalGeneration

from got_core.model.guidance import widen_input
from got_core.model.parts import (
    ConfigFolders,
    KeyReport,
    fitting_projector,
    load_autoencoder,
    pipeline_of_parts,
    untie,
)
from got_core.model.pipeline import GoTPipeline


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
    company: GoT trains each whole. Only safetensors are read.

    Args:
        dtype: of all parts.
        quantization: a ``BitsAndBytesConfig`` for the language model (for drawing only; not tested here).
        variant: of SDXL's weight files, such as ``fp16``.
        seed: of the projectors, and of rows that the embedding may need for GoT's tokens.
        **settings: of ``GoTPipeline`` (resolution, image_tokens ...); defaults are the paper's.

    Raises:
        CheckpointKeysError: keys that are missing, not expected or of another shape, all at once.
        OSError: folders or weight files that are not there.
    """
    folders = ConfigFolders.published(Path(sdxl_folder), Path(qwen_folder))
    report = KeyReport()
    unet = _load_unet(folders.unet, report, dtype, variant)
    vae = load_autoencoder(folders.vae, report, dtype, variant=variant)
    mllm = _load_language_model(folders.mllm, report, dtype, quantization)
    report.raise_if_any(f"{sdxl_folder} and {qwen_folder}")
    widen_input(unet)
    separate_head(mllm)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        projector = fitting_projector(mllm.config.text_config.hidden_size, unet.config)
        nn.Module.to(projector, dtype)
        return pipeline_of_parts(
            folders, mllm=mllm, projector=projector, unet=unet, vae=vae, settings=settings, fresh=True
        )


def _load_unet(
    folder: Path, report: KeyReport, dtype: torch.dtype, variant: str | None
) -> UNet2DConditionModel:
    unet, info = UNet2DConditionModel.from_pretrained(
        folder,
        torch_dtype=dtype,
        variant=variant,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    report.add_loading_info("unet", info)
    if unet.config.in_channels != unet.config.out_channels:
        raise ValueError(
            f"{folder} takes {unet.config.in_channels} channels and gives {unet.config.out_channels}: it is "
            "not a plain text-to-image U-Net (load a GoT checkpoint with load_got_checkpoint)"
        )
    return unet


def _load_language_model(
    folder: Path, report: KeyReport, dtype: torch.dtype, quantization: Any
) -> Qwen2_5_VLForConditionalGeneration:
    mllm, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        folder,
        dtype=dtype,
        quantization_config=quantization,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
    )
    report.add_loading_info("mllm", info)
    return mllm


def separate_head(mllm: Qwen2_5_VLForConditionalGeneration) -> None:
    """Give a tied head its own copy of the embedding; nothing happens to one that has its own already."""
    if not mllm.config.tie_word_embeddings:
        return
    untie(mllm.config)
    mllm.lm_head.weight = nn.Parameter(mllm.get_input_embeddings().weight.detach().clone())
    mllm.all_tied_weights_keys = {}
