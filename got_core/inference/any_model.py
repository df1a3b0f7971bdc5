"""Any model that pictures can be drawn with: registered, saved, or a checkpoint in the released layout.

Belongs here: from its name to a folder, and to a pipeline. Not here: reading files
(`got_core.model.formats`), the registry (`got_core.registry.reference`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from got_core.filesystems import local_path
from got_core.redacted import redacted_url
from got_core.registry.reference import SCHEME, NoModelError, model_folder

if TYPE_CHECKING:
    from got_core.model.pipeline import GoTPipeline


@dataclass(frozen=True, kw_only=True)
class ModelPlaces:
    """Where models are looked for, and what goes with them."""

    tracking_uri: str
    configs: tuple[str, str] | None = None
    """Folders of SDXL and Qwen2.5-VL, for released checkpoints without configurations of their own."""

    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of a pipeline that is made with `configs`: resolution, scales and so on."""

    fs_options: Mapping[str, Any] = field(default_factory=dict)
    """For models by URL."""


@dataclass(frozen=True, kw_only=True)
class FoundModel:
    """A model in a local folder."""

    folder: Path
    name: str
    """Its full name."""

    weights_hash: str
    released: bool
    """Whether it is a checkpoint in the released layout; else it is a saved pipeline."""


@contextmanager
def found_model(reference: str, places: ModelPlaces) -> Iterator[FoundModel]:
    """A model by its name: `models:/got@champion`, or the folder or URL of a saved pipeline or of a released
    checkpoint. Raises as `model_folder`, and FileNotFoundError for a URL where nothing is."""
    from got_core.model.formats.weights import weights_hash

    with _folder(reference, places) as (folder, name, released):
        yield FoundModel(folder=folder, name=name, released=released, weights_hash=weights_hash(folder))


@contextmanager
def _folder(reference: str, places: ModelPlaces) -> Iterator[tuple[Path, str, bool]]:
    local = None if reference.startswith(SCHEME) else local_path(reference)
    if local is None and not reference.startswith(SCHEME):
        local = _downloaded(reference, places)
        name = redacted_url(reference)
    else:
        name = str(local)
    if local is not None and _is_released(local):
        yield local, name, True
        return
    with model_folder(str(local) if local else reference, places.tracking_uri) as (folder, full):
        yield folder, name if local else full, False


def _downloaded(url: str, places: ModelPlaces) -> Path:
    from got_core.storage import Storage

    parent, _, last = url.rstrip("/").rpartition("/")
    storage = Storage(parent, **places.fs_options)
    if not storage.exists(last):
        raise NoModelError(f"{redacted_url(url)} is not there: name the folder or URL of a model")
    return storage.download(last)


def _is_released(folder: Path) -> bool:
    from got_core.model.formats.files import weight_files

    return folder.is_dir() and bool(weight_files(folder))


@contextmanager
def saved_pipeline(model: FoundModel, places: ModelPlaces) -> Iterator[Path]:
    """The folder of a saved pipeline; a released checkpoint is made one in a temporary folder. Raises as
    `load_got_checkpoint`."""
    if not model.released:
        yield model.folder
        return
    with tempfile.TemporaryDirectory(prefix="got-model-") as made:
        _converted(model, places, Path(made)).save_pretrained(Path(made) / "saved", safe_serialization=True)
        yield Path(made) / "saved"


def _converted(model: FoundModel, places: ModelPlaces, cache: Path) -> GoTPipeline:
    from got_core.model.formats.configs import ConfigFolders
    from got_core.model.formats.released import load_got_checkpoint

    try:
        if places.configs is not None:
            configs = ConfigFolders.published(*map(Path, places.configs))
        else:
            configs = ConfigFolders.of(model.folder)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{model.name}: {error}; set GOT_SDXL and GOT_QWEN to the published folders, which have them"
        ) from error
    settings = places.settings if places.configs is not None else {}
    return load_got_checkpoint(model.folder, configs, cache=cache / "tensors", **settings)
