"""The autoencoder that latents are made with, by itself, and the hash that tells it from others.

Belongs here: opening and naming it. Not here: what it encodes (``shards``).
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import nn

from got_core.model.autoencoder import PatchAutoencoder

_KINDS = {"PatchAutoencoder": PatchAutoencoder, "AutoencoderKL": AutoencoderKL}
_FOUNDATION = "drawing/vae"
"""Where small foundation models have it; pipelines have it in ``vae``."""


def load_autoencoder(folder: Path, stage: str) -> nn.Module:
    """The autoencoder of a model reference's folder, in float32 and evaluation mode, one picture at a time.

    Raises FileNotFoundError or ValueError where there is none, or one of a class that is not known.
    """
    place = folder / (_FOUNDATION if stage == "foundation" else "vae")
    settings = place / "config.json"
    if not settings.is_file():
        raise FileNotFoundError(f"{settings} does not exist: {folder} holds no model that stages start from")
    name = json.loads(settings.read_text()).get("_class_name")
    if name not in _KINDS:
        raise ValueError(f"{settings}: the autoencoder is a {name!r}, needed is one of {', '.join(_KINDS)}")
    vae = _KINDS[name].from_pretrained(place)
    vae.enable_slicing()
    return nn.Module.to(vae, torch.float32).eval().requires_grad_(False)


def autoencoder_hash(autoencoder: nn.Module) -> str:
    """Twenty hex digits of the SHA-256 over configuration and weights, whatever precision these are kept in.

    A copy that was widened has the hash of the original.
    """
    config = {name: value for name, value in dict(autoencoder.config).items() if not name.startswith("_")}
    seen = hashlib.sha256(json.dumps([type(autoencoder).__name__, config], sort_keys=True).encode())
    for name, tensor in sorted(autoencoder.state_dict().items()):
        seen.update(json.dumps([name, list(tensor.shape)]).encode())
        seen.update(tensor.detach().float().contiguous().cpu().numpy().tobytes())
    return seen.hexdigest()[:20]
