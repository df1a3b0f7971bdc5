"""A folder of foundation weights: one in SDXL's layout, one in Qwen2.5-VL's, and what is known of both.

    foundation.json   what it was trained by and on, how it scored; every other file's size and SHA-256
    README.md         the same for people
    drawing/          unet/, vae/, scheduler/, model_index.json
    language/         config.json, model.safetensors, the tokenizer's and the image processor's files;
                      projector/ where the language model was aligned with the drawing model

Belongs here: finding such a folder, and whether it is whole and for a recipe's model. Not here: its weights
(``published``), writing it (``got_core.foundation.export``). No torch here: the graph asks when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import got_core
from got_core.local_files import file_sha256, files_below
from got_core.model.config import ModelConfig

PACKAGED = Path(got_core.__file__).parent / "foundation" / "weights"
"""The weights that come with the package, where it has some."""

MANIFEST, CARD = "foundation.json", "README.md"
DRAWING, LANGUAGE, PROJECTOR = "drawing", "language", "projector"
FORMAT = 1
LARGEST = 16_000_000
"""Bytes of all files of a folder together."""

TRAIN = "train"
"""In place of a folder: train the foundation anew."""

_LEARNED = ("resolution", "image_tokens", "language_model", "autoencoder", "unet")
"""Of a model's configuration, what weights are made for. How it draws (steps, scales) may change."""


class FoundationFolderError(ValueError):
    """A folder of foundation weights is damaged, or for another model; the message names file and remedy."""


@dataclass(frozen=True)
class FoundationFolder:
    """A folder by its place; what it says of itself is read when it is asked for."""

    path: Path

    @property
    def drawing(self) -> Path:
        """The part in SDXL's layout."""
        return self.path / DRAWING

    @property
    def language(self) -> Path:
        """The part in Qwen2.5-VL's layout."""
        return self.path / LANGUAGE

    @cached_property
    def _bytes(self) -> bytes:
        path = self.path / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(
                f"{self.path} is no folder of foundation weights: it has no {MANIFEST}; `got foundation "
                "--to FOLDER` writes one"
            )
        return path.read_bytes()

    @cached_property
    def manifest(self) -> Mapping[str, Any]:
        """What the folder says of itself. Raises FileNotFoundError, or FoundationFolderError where it is not
        readable."""
        try:
            found = json.loads(self._bytes)
        except ValueError as error:
            raise self._damaged(MANIFEST, f"is not JSON ({error})") from error
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            said = found.get("format") if isinstance(found, dict) else None
            raise FoundationFolderError(
                f"{self.path / MANIFEST} is of format {said}, this version reads {FORMAT}: write it again "
                "with `got foundation`, or take this version's own weights"
            )
        if not all(isinstance(found.get(name), dict) for name in ("files", "model")):
            raise self._damaged(MANIFEST, "does not list its files and its model")
        return found

    def digest(self) -> str:
        """Twelve hex digits that change with any byte of the folder, once :meth:`check` has passed."""
        return hashlib.sha256(self._bytes).hexdigest()[:12]

    def check(self) -> None:
        """Raise FoundationFolderError, which names the first file that is missing, not as it was written or
        not listed."""
        listed = self.manifest["files"]
        for name, wanted in listed.items():
            path = self.path / name
            if not path.is_file():
                raise self._damaged(name, "is missing")
            size = path.stat().st_size
            if size != wanted["bytes"]:
                raise self._damaged(name, f"has {size} bytes, not {wanted['bytes']}")
            if file_sha256(path) != wanted["sha256"]:
                raise self._damaged(name, "does not have the SHA-256 that is listed for it")
        for path in files_below(self.path):
            name = path.relative_to(self.path).as_posix()
            if name != MANIFEST and name not in listed:
                raise self._damaged(name, f"is not listed in {MANIFEST}")

    def _damaged(self, name: str, what: str) -> FoundationFolderError:
        remedy = "install the package again" if self.path == PACKAGED else "copy or write the folder again"
        return FoundationFolderError(
            f"foundation weights are not as they were written: {self.path / name} {what}; {remedy}, or set "
            f"GOT_FOUNDATION={TRAIN}"
        )

    def title(self) -> str:
        """What the weights are, in words."""
        said = self.manifest
        return (
            f"foundation weights of recipe {said.get('recipe')}, seed {said.get('seed')}, commit "
            f"{str(said.get('commit'))[:12]} ({self.digest()})"
        )

    def manifests(self) -> list[str]:
        """Hashes of the manifests that the weights were trained on."""
        return [one for one in [self.manifest.get("manifest_hash")] if isinstance(one, str)]

    def unlike(self, model: ModelConfig) -> list[str]:
        """What a model's configuration has that the weights were not made for, in words."""
        return list(_differences(self.manifest["model"], architecture(model)))

    def check_model(self, model: ModelConfig, recipe: str) -> None:
        """Raise FoundationFolderError where the weights are of another model than the recipe's."""
        if unlike := self.unlike(model):
            more = f" (and {len(unlike) - 3} more)" if len(unlike) > 3 else ""
            raise FoundationFolderError(
                f"{self.path} holds foundation weights of another model than recipe {recipe!r} is for: "
                f"{'; '.join(unlike[:3])}{more}; take a folder of its sizes, or set GOT_FOUNDATION={TRAIN}"
            )


def packaged_manifests() -> list[str]:
    """Hashes of the manifests that the package's own weights were trained on, which hold rendered scenes
    alone; none where there are no such weights, or they are damaged."""
    try:
        return FoundationFolder(PACKAGED).manifests()
    except (OSError, FoundationFolderError):
        return []


def architecture(model: ModelConfig) -> dict[str, Any]:
    """What of a model's configuration its weights are made for, as JSON has it."""
    parts = {name: value for name, value in asdict(model).items() if name in _LEARNED}
    return json.loads(json.dumps(parts | {"prediction": model.scheduler.prediction}))


def _differences(found: Any, wanted: Any, name: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in dict.fromkeys((*found, *wanted)):
            yield from _differences(found.get(key), wanted.get(key), f"{name}.{key}" if name else key)
    elif found != wanted:
        yield f"{name} is {found}, not {wanted}"


def chosen_folder(setting: str | None, model: ModelConfig, *, scenes: bool = True) -> FoundationFolder | None:
    """The folder that a model's training starts from by GOT_FOUNDATION; None: it is trained anew.

    A folder that is named is taken whatever is in it: opening it says what is wrong. Without a setting it is
    the package's own, where that is there and for this model, and its pictures are scenes.
    """
    if setting is not None:
        return None if setting == TRAIN else FoundationFolder(Path(setting))
    own = FoundationFolder(PACKAGED)
    if not scenes or not (PACKAGED / MANIFEST).is_file():
        return None
    try:
        return None if own.unlike(model) else own
    except FoundationFolderError:  # opening it says what is wrong
        return own
