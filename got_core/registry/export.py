"""A model as a plain diffusers folder with a card, as the Hugging Face Hub has models.

Belongs here: from a version to a folder. Not here: uploading it anywhere, the card's words (`card`).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from got_core.local_files import temporary_beside
from got_core.registry.card import card_text, without_place
from got_core.registry.log import check_folder
from got_core.registry.reference import INDEX, SCHEME, model_folder, version_tags
from got_core.registry.tracking import connect

CARD, LINEAGE = "README.md", "lineage.json"
_PLACES = ("_name_or_path", "name_or_path")
"""Keys of configurations under which a part's folder stands."""


def export_model(reference: str, tracking_uri: str, folder: Path) -> str:
    """Write a model into a folder that is not there yet, whole or not at all; its full name.

    `README.md` is its card, `lineage.json` its version's tags; no file says where on this machine the model
    lay. Raises FileExistsError, RegistrationError for
    files that are not safetensors or text, and as `model_folder`.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} is there already: name a folder that is not, or remove it")
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"{folder}: there is no folder {folder.parent}")
    with model_folder(reference, tracking_uri) as (source, name):
        check_folder(source)
        partial = temporary_beside(folder)
        try:
            shutil.copytree(source, partial)
            _forget_places(partial)
            _describe(partial, name, tracking_uri)
            partial.rename(folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return name


def model_card(reference: str, tracking_uri: str) -> str:
    """The card of a registered version. Raises as `model_folder`."""
    with model_folder(reference, tracking_uri) as (source, name):
        return _card(source, name, tracking_uri)


def _forget_places(folder: Path) -> None:
    """Leave out where on a machine parts were read from, which diffusers and transformers write into
    configurations."""
    for path in sorted(folder.rglob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and set(_PLACES) & set(found):
            kept = {name: value for name, value in found.items() if name not in _PLACES}
            path.write_text(json.dumps(kept, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _describe(folder: Path, name: str, tracking_uri: str) -> None:
    (folder / CARD).write_text(_card(folder, name, tracking_uri), encoding="utf-8")
    tags = version_tags(name, tracking_uri)[1] if name.startswith(SCHEME) else {}
    shown = {key: without_place(value) for key, value in tags.items()}
    text = json.dumps({"model": name if tags else Path(name).name, "tags": shown}, indent=1, sort_keys=True)
    (folder / LINEAGE).write_text(text + "\n", encoding="utf-8")


def _card(folder: Path, name: str, tracking_uri: str) -> str:
    config = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    if not name.startswith(SCHEME):
        return card_text(Path(name).name, {}, config)
    model, version = name.removeprefix(SCHEME).split("/")
    found = connect(tracking_uri).get_model_version(model, version)
    return card_text(name, dict(found.tags), config, found.aliases)
