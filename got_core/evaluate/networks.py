"""CLIP and DINO from folders in their published format, as measures of pictures and texts.

Belongs here: features, and loading what gives them. Not here: which networks there are (`network_profiles`),
whether a folder holds one (`network_folders`), decoding pictures, or what a benchmark makes of features.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from got_core.evaluate.network_folders import (
    NetworkError,
    check_levels,
    checked_config,
    chosen_sizes,
    load_model,
    load_tokenizer,
    network_record,
)
from got_core.evaluate.network_profiles import CLIP_B32, DINO_S16, LARGE, Profile, PublishedNetwork
from got_core.evaluate.protocol import Network

if TYPE_CHECKING:
    import torch
    from PIL import Image


class _Loaded:
    """A network on its device."""

    def __init__(self, network: PublishedNetwork, model: Any, record: Network, batch_size: int) -> None:
        from transformers import CLIPImageProcessorPil
        from transformers.image_utils import PILImageResampling

        if batch_size < 1:
            raise NetworkError(f"the batch size of {network.name} must be at least 1, got {batch_size}")
        rule = network.resize
        self.network, self.model, self.batch_size = network, model, batch_size
        self.record = record
        """What a protocol holds of it."""
        self._processor = CLIPImageProcessorPil(
            size={"shortest_edge": rule.shortest},
            crop_size={"height": rule.crop, "width": rule.crop},
            resample=PILImageResampling[rule.filter.upper()],
            image_mean=list(rule.mean),
            image_std=list(rule.std),
        )

    def pixels(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        """(n, 3, crop, crop) float32, as the network takes pictures."""
        rgb = [picture.convert("RGB") for picture in pictures]
        return self._processor(images=rgb, return_tensors="pt")["pixel_values"]

    def pictures(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """Features of pictures, (n, d) float32, each of length 1. Raises NetworkError where they are not
        finite."""
        return self._in_batches(pictures, self._picture_features, "picture")

    def _picture_features(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        raise NotImplementedError

    def _inputs(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        return self.pixels(batch).to(self.model.device, self.model.dtype)

    def _in_batches(
        self, items: Sequence[Any], features: Callable[[Sequence[Any]], torch.Tensor], what: str
    ) -> np.ndarray:
        import torch

        found = []
        for start in range(0, len(items), self.batch_size):
            with torch.inference_mode():
                one = features(items[start : start + self.batch_size]).float()
                found.append((one / one.norm(dim=-1, keepdim=True)).cpu().numpy())
        rows = np.concatenate(found) if found else np.zeros((0, 0), np.float32)
        if not np.isfinite(rows).all():
            row = int(np.argmin(np.isfinite(rows).all(axis=1)))
            raise NetworkError(
                f"{self.network.name} gives features of {what} {row} that are not finite, in "
                f"{self.record.settings['dtype']}; load it in float32"
            )
        return rows


class Clip(_Loaded):
    """CLIP: pictures and texts in one space."""

    def __init__(self, *args: Any, tokenizer: Any) -> None:
        super().__init__(*args)
        self._tokenizer = tokenizer
        self.longest: int = self.model.config.text_config.max_position_embeddings
        self.width: int = self.model.config.projection_dim

    def _picture_features(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        return self.model.get_image_features(pixel_values=self._inputs(batch)).pooler_output

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts, (n, d) float32, each of length 1; what is longer than `longest` tokens is cut
        off."""
        return self._in_batches(texts, self._text_features, "text")

    def _text_features(self, batch: Sequence[str]) -> torch.Tensor:
        tokens = self._tokenizer(
            list(batch), padding=True, truncation=True, max_length=self.longest, return_tensors="pt"
        )
        device = self.model.device
        return self.model.get_text_features(
            input_ids=tokens["input_ids"].to(device), attention_mask=tokens["attention_mask"].to(device)
        ).pooler_output

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the network reads."""
        return len(self._tokenizer(text)["input_ids"]) > self.longest


class Dino(_Loaded):
    """DINO: the class token of a ViT after its last norm."""

    def _picture_features(self, batch: Sequence[Image.Image]) -> torch.Tensor:
        return self.model(pixel_values=self._inputs(batch)).last_hidden_state[:, 0]


Piece = TypeVar("Piece")
Result = TypeVar("Result")


class Measurer(typing.Protocol):
    """The networks of a profile, wherever they are: `Networks` here, `cluster_networks.RayNetworks` on
    workers."""

    @property
    def profile(self) -> Profile:
        """Which networks they are."""
        ...

    def records(self) -> dict[str, Network]:
        """By what they do, as a protocol holds them."""
        ...

    def resize(self) -> dict[str, Any]:
        """How pictures are brought to their sizes, as a protocol holds it."""
        ...

    def each(
        self, work: Callable[[Networks, Piece], Result], pieces: Iterable[Piece]
    ) -> Iterator[tuple[Piece, Result]]:
        """Each piece with what a function makes of it where the networks are, in any order; pieces are asked
        for a few ahead."""
        ...


@dataclass(frozen=True)
class Networks:
    """The loaded networks of a profile."""

    profile: Profile
    clip: Clip
    dino: Dino | None

    def records(self) -> dict[str, Network]:
        """By what they do, as a protocol holds them."""
        dino = {"dino": self.dino.record} if self.dino else {}
        return {"clip": self.clip.record, **dino}

    def resize(self) -> dict[str, Any]:
        """How pictures are brought to their sizes, as a protocol holds it."""
        loaded = {"clip": self.clip, **({"dino": self.dino} if self.dino else {})}
        return {name: one.network.resize.record() for name, one in loaded.items()}

    def each(
        self, work: Callable[[Networks, Piece], Result], pieces: Iterable[Piece]
    ) -> Iterator[tuple[Piece, Result]]:
        """See `Measurer`: one after another."""
        return ((piece, work(self, piece)) for piece in pieces)


def load_networks(
    profile: Profile,
    clip_folder: Path | str,
    dino_folder: Path | str | None = None,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
) -> Networks:
    """The networks of a profile from their folders. Raises NetworkError, also for a missing DINO folder."""
    if profile.dino and dino_folder is None:
        raise NetworkError(
            f"the profile {profile.name} needs the folder of {profile.dino.name} too; name it, or choose "
            f"the profile {LARGE.name}, which has no DINO figure"
        )
    options: dict[str, Any] = {"device": device, "dtype": dtype, "batch_size": batch_size}
    dino = load_dino(dino_folder, profile.dino, **options) if profile.dino and dino_folder else None
    return Networks(profile, load_clip(clip_folder, profile.clip, **options), dino)


def load_clip(
    folder: Path | str,
    network: PublishedNetwork = CLIP_B32,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
) -> Clip:
    """CLIP from `config.json`, safetensors and its tokenizer's files.

    Raises NetworkError: another kind of network, patch or picture size, files that are missing or damaged,
    keys that are missing, of another shape, not expected or not finite, a tokenizer that is not the model's.
    """
    from transformers import CLIPModel

    folder = Path(folder)
    config = checked_config(folder, network)
    check_levels(folder, network)
    model = load_model(CLIPModel, folder, network.name, dtype=dtype, device=device)
    sizes = chosen_sizes(config | {"projection_dim": model.config.projection_dim})
    sizes["text"] = chosen_sizes(model.config.text_config.to_dict())
    tokenizer = load_tokenizer(folder, model.config.text_config)
    record = network_record(folder, network, dtype, sizes, tokenizer=True)
    return Clip(network, model, record, batch_size, tokenizer=tokenizer)


def load_dino(
    folder: Path | str,
    network: PublishedNetwork = DINO_S16,
    *,
    device: str = "cpu",
    dtype: str = "float32",
    batch_size: int = 64,
) -> Dino:
    """DINO from `config.json` and safetensors; a pooler is left out. Raises as `load_clip`."""
    from transformers import ViTModel

    folder = Path(folder)
    config = checked_config(folder, network)
    check_levels(folder, network)
    model = load_model(ViTModel, folder, network.name, dtype=dtype, device=device, add_pooling_layer=False)
    record = network_record(folder, network, dtype, chosen_sizes(config))
    return Dino(network, model, record, batch_size)
