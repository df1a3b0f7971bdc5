"""Tiny CLIP and DINO checkpoints of random weights, in the published format."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPTokenizer, ViTConfig, ViTModel

_CHARACTERS = [chr(code) for code in range(33, 127)]
_TOWER = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def save_clip(folder: Path, *, patch: int = 32, seed: int = 0) -> Path:
    """CLIP with a tokenizer of single characters."""
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
    """A ViT as DINO's is."""
    torch.manual_seed(seed)
    config = ViTConfig(**_TOWER, patch_size=patch, image_size=224, layer_norm_eps=1e-12)
    ViTModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder
