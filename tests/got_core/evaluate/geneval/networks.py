"""Mask2Former and CLIP of the published classes with random weights, saved in the published format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Mask2FormerConfig,
    Mask2FormerForUniversalSegmentation,
    SwinConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.mask2former.image_processing_pil_mask2former import Mask2FormerImageProcessorPil

from got_core.evaluate.geneval.classes import CLASSES, SPELLINGS

COCO = {new: old for old, new in reversed(SPELLINGS.items()) if new.split()[-1] == old}
"""GenEval's own names to COCO's."""


def mask2former_folder(folder: Path, *, bias: float = 4.0, seed: int = 0) -> Path:
    """Random weights; with a `bias` towards three classes it finds things with high scores."""
    torch.manual_seed(seed)
    config = Mask2FormerConfig(
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
        num_queries=12,
        id2label={number: COCO.get(name, name) for number, name in enumerate(CLASSES)},
    )
    model = Mask2FormerForUniversalSegmentation(config)
    with torch.no_grad():
        if bias:
            model.class_predictor.weight[[16, 41, 74]] *= 60  # dog, cup, clock
            model.class_predictor.bias[[16, 41, 74]] += bias
            for layer in model.model.transformer_module.decoder.mask_predictor.mask_embedder.children():
                for weight in layer.parameters():
                    weight *= 6
    model.save_pretrained(folder)
    Mask2FormerImageProcessorPil(size={"height": 96, "width": 96}, ignore_index=255).save_pretrained(folder)
    return folder


def clip_folder(folder: Path, seed: int = 0) -> Path:
    """Random weights; a vocabulary of single bytes."""
    torch.manual_seed(seed)
    words = [chr(n) for n in range(33, 127)] + [f"{chr(n)}</w>" for n in range(33, 127)]
    vocabulary = {word: n for n, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[])
    tokenizer.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    end = {"bos_token_id": len(vocabulary) - 2, "eos_token_id": len(vocabulary) - 1}
    config = CLIPConfig(
        text_config={**sizes, **end, "vocab_size": len(vocabulary), "max_position_embeddings": 77},
        vision_config={**sizes, "image_size": 32, "patch_size": 8},
        projection_dim=24,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(
        folder
    )
    return folder
