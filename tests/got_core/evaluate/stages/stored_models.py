"""The models of a run where assets put them, of random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from got_core.model.build import build_autoencoder, build_language_model, build_projector, build_unet
from got_core.model.formats.weights import weights_hash
from got_core.model.tokens import train_tokenizer
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import TINY, sees_its_conditions, tiny_pipeline

STAGES = {"foundation_models": "foundation", "pretrained_model": "pretrain", "finetuned_model": "finetune"}


def save_parts(folder: Path) -> None:
    """Small foundation models as their training writes them."""
    torch.manual_seed(3)
    tokenizer = train_tokenizer(["a red circle (1,2),(3,4)"], TINY.image_tokens)
    parts = {
        "language/mllm": build_language_model(TINY.language_model, tokenizer),
        "language/tokenizer": tokenizer,
        "language/projector": build_projector(TINY),
        "drawing/unet": build_unet(TINY),
        "drawing/vae": build_autoencoder(TINY),
    }
    for name, part in parts.items():
        part.save_pretrained(folder / name)


def put_models(storage: Storage) -> dict[str, str]:
    """Models where assets put them; hashes of their weights by asset."""
    hashes = {}
    for seed, (asset, stage) in enumerate(STAGES.items()):
        name = f"models/{stage}/{seed:012x}"
        with storage.new_folder(name) as folder:
            if stage == "foundation":
                save_parts(folder)
            else:
                sees_its_conditions(tiny_pipeline(seed)).save_pretrained(folder, safe_serialization=True)
            hashes[asset] = weights_hash(folder)
        reference = {"stage": stage, "folder": name, "weights_hash": hashes[asset]}
        storage.write_json(f"{asset}.json", reference)
    return hashes
