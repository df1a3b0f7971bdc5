"""Networks from local folders in the format that transformers publishes, loaded whole or refused.

Belongs here: weights that all have to fit, and what a protocol says about a folder. Not here: what a network
is for (`mask2former`, `colours`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from got_core.evaluate.detector import DetectorError
from got_core.evaluate.protocol import Network
from got_core.local_files import file_sha256

DTYPES = ("float32", "bfloat16", "float16")
LOSS_ONLY = ("criterion.",)
"""Beginnings of keys that only training uses; older checkpoints have none of them."""

_NAMED = 5


def check_folder(folder: Path, files: Sequence[str], like: str) -> None:
    """Raises FileNotFoundError where one of the JSON files is missing, or there are no safetensors weights,
    ValueError where one cannot be read."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder; download {like} and give its folder")
    missing = [name for name in files if not (folder / name).is_file()]
    if not _weights(folder):
        has_bin = any(folder.glob("*.bin"))
        missing.append("model.safetensors" + (" (pickled weights are not read)" if has_bin else ""))
    if missing:
        raise FileNotFoundError(f"{folder} lacks {', '.join(missing)}; download {like} once more")
    for name in files:
        read_json(folder / name)


def _weights(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.safetensors"))


def folder_network(folder: Path, name: str, files: Sequence[str], settings: Mapping[str, Any]) -> Network:
    """A folder's record: SHA-256 of its weights and of the files that they are read with."""
    paths = [*_weights(folder), *(folder / one for one in files)]
    return Network(name=name, files={path.name: file_sha256(path) for path in paths}, settings=dict(settings))


def load_whole(kind: Any, folder: Path, *, device: str, dtype: str) -> Any:
    """A model in evaluation mode. Raises DetectorError where keys of the weights are missing or do not fit:
    transformers would fill them with random numbers."""
    import torch

    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)}, got {dtype!r}")
    try:
        model, info = kind.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, RuntimeError, ValueError) as error:
        raise DetectorError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error
    if faults := _faults(info):
        raise DetectorError(
            f"the weights in {folder} do not fit its config.json ({'; '.join(faults)}): a network that is "
            "filled with random numbers finds nothing; take weights and configuration of one checkpoint"
        )
    return model.to(device).eval()


def load_part(kind: Any, folder: Path) -> Any:
    """A processor or tokenizer. Raises DetectorError where its files cannot be read."""
    try:
        return kind.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises nothing more precise
        raise DetectorError(f"{folder} cannot be loaded as {kind.__name__}: {error}") from error


def _faults(info: Mapping[str, Any]) -> list[str]:
    missing = [str(key) for key in info["missing_keys"] if not str(key).startswith(LOSS_ONLY)]
    unlike = [str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]]
    groups = {"missing": missing, "of another shape": unlike, "errors": list(info.get("error_msgs") or [])}
    return [
        f"{len(keys)} {what}, such as {', '.join(sorted(map(str, keys))[:_NAMED])}"
        for what, keys in groups.items()
        if keys
    ]


def read_json(path: Path) -> dict[str, Any]:
    """A configuration. Raises ValueError naming the file."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is {type(found).__name__}, not an object of settings")
    return found
