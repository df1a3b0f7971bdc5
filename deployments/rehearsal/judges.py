"""What judges pictures in a rehearsal: networks in the published formats, tiny, made on the spot.

Belongs here: CLIP and DINO of random weights, and a Mask2Former that has learned the four drawings on which
detectors are tried, and nothing else. Not here: the benchmarks' data (``benchmarks``), and the models that
are trained (``weights``).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SwinConfig,
    ViTConfig,
    ViTModel,
)
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

from got_core.evaluate.geneval.classes import CLASSES, SPELLINGS
from got_core.evaluate.geneval.known import rendered

COCO = {new: old for old, new in reversed(SPELLINGS.items()) if new.split()[-1] == old}
"""GenEval's own names to COCO's."""
DETECTOR_SIDE = 96
"""Pixels of what the detector reads."""
_CHARACTERS = [chr(code) for code in range(33, 127)]
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


# -- CLIP and DINO ------------------------------------------------------------------------------------


def save_clip(folder: Path, *, patch: int = 32, seed: int = 0) -> Path:
    """CLIP of random weights with a tokenizer of single characters."""
    torch.manual_seed(seed)
    pieces = [*_CHARACTERS, *(f"{one}</w>" for one in _CHARACTERS), "<|startoftext|>", "<|endoftext|>"]
    end = len(pieces) - 1
    text = {"vocab_size": len(pieces), "bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config={**_TOWER, **text, "projection_dim": 8},
        vision_config={**_TOWER, "patch_size": patch, "image_size": 224, "projection_dim": 8},
        projection_dim=8,
    )
    CLIPModel(config).save_pretrained(folder)
    vocab = {piece: number for number, piece in enumerate(pieces)}
    CLIPTokenizer(vocab=vocab, merges=[], model_max_length=77).save_pretrained(folder)
    CLIPImageProcessorPil().save_pretrained(folder)
    return folder


def save_dino(folder: Path, *, patch: int = 16, seed: int = 1) -> Path:
    """A ViT as DINO's is, of random weights."""
    torch.manual_seed(seed)
    config = ViTConfig(**_TOWER, patch_size=patch, image_size=224, layer_norm_eps=1e-12)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


# -- Mask2Former --------------------------------------------------------------------------------------


def detector_config(queries: int = 12) -> Mask2FormerConfig:
    """Few channels, and the published classes."""
    return Mask2FormerConfig(
        backbone_config=SwinConfig(
            image_size=64,
            embed_dim=8,
            depths=[1, 1, 1, 1],
            num_heads=[1, 1, 2, 2],
            window_size=4,
            out_features=["stage1", "stage2", "stage3", "stage4"],
        ),
        feature_size=32,
        mask_feature_size=32,
        hidden_dim=32,
        encoder_feedforward_dim=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        dim_feedforward=32,
        num_queries=queries,
        id2label={number: COCO.get(name, name) for number, name in enumerate(CLASSES)},
    )


def detector_processor() -> Mask2FormerImageProcessorPil:
    """To DETECTOR_SIDE pixels."""
    return Mask2FormerImageProcessorPil(
        size={"height": DETECTOR_SIDE, "width": DETECTOR_SIDE}, ignore_index=255
    )


def save_detector(folder: Path, *, steps: int = 160, seed: int = 0) -> Path:
    """A Mask2Former that finds what the four known drawings show, because it has seen them."""
    torch.manual_seed(seed)
    config, processor = detector_config(), detector_processor()
    config.train_num_points = 512  # of a loss on 24 x 24 masks
    model = Mask2FormerForUniversalSegmentation(config)
    images, classes, masks = _drawings()
    pixels = processor(images=images, return_tensors="pt")["pixel_values"]
    labels = {"class_labels": classes, "mask_labels": masks}
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model(pixel_values=pixels, **labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.config.train_num_points = Mask2FormerConfig().train_num_points
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _drawings() -> tuple[list[np.ndarray], list[Tensor], list[Tensor]]:
    """The drawings, the class of each, and where it is: wherever a row is unlike its first pixel. Behind them
    pictures that show nothing."""
    known = rendered()
    images = [np.asarray(one.image()) for one in known]
    size = (DETECTOR_SIDE, DETECTOR_SIDE)
    masks = [Image.fromarray((image != image[:, :1]).any(-1)) for image in images]
    found = [np.asarray(mask.resize(size, Image.Resampling.NEAREST))[None] for mask in masks]
    noise = np.random.default_rng(0).integers(0, 255, images[0].shape, dtype=np.uint8)
    nothing = [np.full_like(images[0], 128), noise]
    classes = [torch.tensor([CLASSES.index(one.cls)]) for one in known]
    return (
        [*images, *nothing],
        [*classes, *[torch.zeros(0, dtype=torch.int64)] * len(nothing)],
        [torch.tensor(mask, dtype=torch.float32) for mask in found] + [torch.zeros(0, *size)] * len(nothing),
    )
