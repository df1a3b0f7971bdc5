"""What stored latents depend on beside their pictures: latents of another key lie in another folder.

    latent_shards/<key>/key.json   the fields of the key

Belongs here: the key. Not here: bytes (``blocks``) and files (``parts``) of latents.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from got_core.chain.palette import PALETTE, rgb
from got_core.digests import digest
from got_core.model.config import ModelConfig
from got_core.pictures import PIXELS
from got_core.storage import Storage
from got_core.train.config import StageConfig

FOLDER = "latent_shards"
PAINTING = 1
"""Raise when pictures are cut, or boxes are painted, in another way."""
_KEY = "key.json"


class LatentsMissingError(ValueError):
    """Latents that a stage asks for are not there, or are others."""


@dataclass(frozen=True, kw_only=True)
class LatentKey:
    """What the latents of a sample follow from, its pictures and its chain aside."""

    autoencoder: str
    """Hash of the autoencoder's weights and configuration (see ``encoding.autoencoder``)."""
    format: str
    """Of the numbers, as ``StageConfig.latents``."""
    resolution: int
    """Side in pixels of the square, or of one of the buckets' area."""
    geometry: str
    """As ``StageConfig.geometry``; cuts are from the middle."""
    bucket_multiple: int
    """As ``StageConfig.bucket_multiple``; 0 where there are no buckets."""
    spatial_guidance: bool
    """Whether Gs is stored."""
    source_size: int
    """Side in pixels of the picture that the language model is shown of an edit."""
    palette: str
    """Digest of the colours that boxes are painted in."""
    painting: int = PAINTING
    pixels: str = PIXELS

    @property
    def folder(self) -> str:
        """Where latents of this key are in the storage."""
        return f"{FOLDER}/{digest(self)}"


def latent_key(model: ModelConfig, config: StageConfig, autoencoder: str) -> LatentKey:
    """The key of the latents that a stage reads. ``autoencoder`` is the hash of the stage's own.

    Raises ValueError where the stage asks for none.
    """
    if config.latents is None:
        raise ValueError("the stage reads pictures: its field latents names no number format")
    return LatentKey(
        autoencoder=autoencoder,
        format=config.latents,
        resolution=model.resolution,
        geometry=config.geometry,
        bucket_multiple=config.bucket_multiple if config.geometry == "bucket" else 0,
        spatial_guidance=model.spatial_guidance,
        source_size=model.language_model.image_size,
        palette=digest([rgb(name) for name in PALETTE]),
    )


def write_key(storage: Storage, key: LatentKey) -> None:
    """Say in a key's folder what it stands for."""
    storage.write_json(f"{key.folder}/{_KEY}", asdict(key))


def check_stored(storage: Storage, key: LatentKey, stage: str) -> None:
    """Raise LatentsMissingError where no latents of the key are stored: it says what differs in those that
    are."""
    if storage.exists(f"{key.folder}/{_KEY}"):
        return
    others = {folder: storage.read_json(f"{folder}/{_KEY}") for folder in stored_folders(storage)}
    said = [f"{folder} has {_unlike(key, found)}" for folder, found in others.items()]
    raise LatentsMissingError(
        f"{stage}: it asks for stored latents, and there are none of its own kind: "
        f"{'; '.join(said) or 'none at all are stored'}. Materialize latent_shards for this recipe and "
        "start, or set the stage's latents to None"
    )


def stored_folders(storage: Storage) -> list[str]:
    """Folders of all keys that there are."""
    return [name for name in storage.folders(FOLDER) if storage.exists(f"{name}/{_KEY}")]


def _unlike(key: LatentKey, found: dict[str, Any]) -> str:
    names = [field.name for field in fields(key)]
    unlike = [
        f"{name} {found.get(name)!r} (the stage: {getattr(key, name)!r})"
        for name in names
        if found.get(name) != getattr(key, name)
    ]
    return ", ".join(unlike)
