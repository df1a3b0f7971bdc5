"""Mask2Former and CLIP of the published classes with random weights, saved in the published format."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer, Mask2FormerForUniversalSegmentation
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from deployments.rehearsal.judges import detector_config, detector_processor


def mask2former_folder(folder: Path, *, bias: float = 4.0, seed: int = 0) -> Path:
    """Random weights; with a `bias` towards three classes it finds things with high scores."""
    torch.manual_seed(seed)
    model = Mask2FormerForUniversalSegmentation(detector_config())
    with torch.no_grad():
        if bias:
            model.class_predictor.weight[[16, 41, 74]] *= 60  # dog, cup, clock
            model.class_predictor.bias[[16, 41, 74]] += bias
            for layer in model.model.transformer_module.decoder.mask_predictor.mask_embedder.children():
                for weight in layer.parameters():
                    weight *= 6
    model.save_pretrained(folder)
    detector_processor().save_pretrained(folder)
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
