"""Folders of published networks: whether they hold the network that was named, and what tells it apart.

Belongs here: configuration, weights, processor and tokenizer of one folder, and the error about each. Not
here: which networks there are (`network_profiles`), or what is done with them (`networks`, `geneval`).
Weights are safetensors; all files are the user's own download, nothing is fetched.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from got_core.evaluate.network_profiles import PublishedNetwork
from got_core.evaluate.protocol import Network
from got_core.local_files import file_sha256

DTYPES = ("float32", "bfloat16", "float16")
POOLER = r"^pooler\."
NO_KEY = r"(?!)"
"""Patterns of keys."""

_SHOWN = 8
_SIZES = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_act",
    "layer_norm_eps",
    "patch_size",
    "image_size",
    "projection_dim",
)


class NetworkError(ValueError):
    """A folder does not hold the network that was named, or its weights do not fit."""


def checked_config(folder: Path, network: PublishedNetwork) -> dict[str, Any]:
    """Sizes of the tower for pictures. Raises NetworkError where it is another network's."""
    checked_type(folder, network.name, network.model_type)
    sizes = _full_config(folder, network).to_dict()
    vision = sizes["vision_config"] if network.model_type == "clip" else sizes
    found, wanted = (vision["patch_size"], vision["image_size"]), (network.patch, network.image)
    if found != wanted:
        raise NetworkError(
            f"{folder} holds a network for pictures of {found[1]} pixels in patches of {found[0]}, "
            f"{network.name} takes {wanted[1]} in patches of {wanted[0]}: name its folder or another profile"
        )
    return vision


def checked_type(folder: Path, name: str, model_type: str) -> dict[str, Any]:
    """A folder's `config.json` as it stands. Raises NetworkError where it is of another type of network."""
    config = read_json(folder / "config.json", name)
    if config.get("model_type") != model_type:
        raise NetworkError(
            f"{folder} holds a network of type {config.get('model_type')!r}, {name} is of type "
            f"{model_type!r}: name the folder of {name}"
        )
    return config


def _full_config(folder: Path, network: PublishedNetwork) -> Any:
    """With the defaults that a published file leaves out."""
    from transformers import CLIPConfig, ViTConfig

    try:
        return (CLIPConfig if network.model_type == "clip" else ViTConfig).from_pretrained(folder)
    except Exception as error:  # transformers' checks of fields raise errors of several kinds
        raise NetworkError(
            f"{folder}/config.json is not one of {network.name}: {error}; download it again"
        ) from error


def check_levels(folder: Path, network: PublishedNetwork) -> None:
    """Refuse a checkpoint that was trained on other levels; sizes are the profile's own."""
    if not (folder / "preprocessor_config.json").is_file():
        return
    stated = read_json(folder / "preprocessor_config.json", network.name)
    for key, wanted in (("image_mean", network.resize.mean), ("image_std", network.resize.std)):
        if key in stated and not _alike(stated[key], wanted):
            raise NetworkError(
                f"{folder}/preprocessor_config.json has {key} {stated[key]}, {network.name} has "
                f"{list(wanted)}: this is another network"
            )


def _alike(stated: Any, wanted: tuple[float, ...]) -> bool:
    try:
        return bool(np.allclose(np.asarray(stated, np.float64), wanted, atol=1e-4))
    except (TypeError, ValueError):
        return False


def read_json(path: Path, name: str) -> dict[str, Any]:
    """An object of settings. Raises NetworkError naming the file and the network that has it (`name`)."""
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NetworkError(
            f"{path} does not exist: name the folder in which {name} was downloaded"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise NetworkError(f"{path} cannot be read: {error}; download {name} again") from error
    if not isinstance(found, dict):
        raise NetworkError(f"{path} is not a JSON object; download {name} again")
    return found


def network_record(
    folder: Path, network: PublishedNetwork, dtype: str, sizes: Mapping[str, Any], tokenizer: bool = False
) -> Network:
    """What a protocol holds of it: hashes of its files, sizes, levels and dtype; not the device."""
    files = [*weight_files(folder, network.name), *(tokenizer_files(folder) if tokenizer else ())]
    levels = {name: list(asdict(network.resize)[name]) for name in ("mean", "std")}
    return Network(
        name=network.name,
        files=file_hashes(files),
        settings={"dtype": dtype, **levels, **sizes},
    )


def file_hashes(files: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of files by their names."""
    return {path.name: file_sha256(path) for path in files}


def chosen_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that tell one network of a type from another."""
    return {name: config[name] for name in _SIZES if config.get(name) is not None}


# -- weights and tokenizer ---------------------------------------------------------------------------


def check_files(folder: Path, name: str, files: Sequence[str]) -> None:
    """Refuse a folder that lacks its weights or one of `files`, and name all that is missing."""
    if not folder.is_dir():
        raise NetworkError(f"{folder} is not a folder: name the folder in which {name} was downloaded")
    wanted = [*(folder / one for one in files), *_named_weights(folder, name)]
    if missing := [path.name for path in wanted if not path.is_file()]:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".h5"))
        beside = f" (there is {', '.join(others)}, which is not read)" if others else ""
        raise NetworkError(
            f"{folder} lacks {', '.join(missing)}{beside}: download {name} with its safetensors"
        )


def weight_files(folder: Path, name: str) -> list[Path]:
    """Its safetensors, in the order of their names. Raises NetworkError where one is missing."""
    check_files(folder, name, ())
    return _named_weights(folder, name)


def _named_weights(folder: Path, name: str) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        return sorted(folder / shard for shard in set(_shards(index, name)))
    return [folder / "model.safetensors"]


def _shards(index: Path, name: str) -> list[str]:
    shards = read_json(index, name).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise NetworkError(f"{index} names no weight files; download {name} again")
    return [str(shard) for shard in shards.values()]


def load_model(
    cls: Any,
    folder: Path,
    name: str,
    *,
    dtype: str,
    device: str,
    optional: str = NO_KEY,
    unused: str = POOLER,
    **options: Any,
) -> Any:
    """The network of a transformers class on its device, frozen, every weight from its files.

    `name`: where it is published; patterns of keys that its files may lack (`optional`) or have besides
    (`unused`); `options`: arguments of the class. Raises NetworkError naming all keys that do not fit:
    transformers would fill them with random numbers.
    """
    import torch

    if dtype not in DTYPES:
        raise NetworkError(f"the dtype of {name} must be one of {', '.join(DTYPES)}, got {dtype!r}")
    weight_files(folder, name)
    try:
        with _quiet():
            model, found = cls.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=getattr(torch, dtype),
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # they are all named below, with the other keys
                **options,
            )
    except Exception as error:  # transformers' checks of configurations raise errors of several kinds
        raise NetworkError(
            f"{folder} cannot be read as {cls.__name__}: {error}; download {name} again"
        ) from error
    _check_keys(folder, name, found, model, optional, unused)
    try:
        return model.eval().requires_grad_(False).to(device)
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(f"{name} cannot be put on the device {device!r}: {error}") from error


def _check_keys(
    folder: Path, name: str, found: Mapping[str, Any], model: Any, optional: str, unused: str
) -> None:
    shapes = [
        f"{key} is {tuple(is_)}, the model wants {tuple(wants)}"
        for key, is_, wants in found["mismatched_keys"]
    ]
    missing = [key for key in found["missing_keys"] if not re.search(optional, key)]
    infinite = [key for key, value in model.state_dict().items() if not value.float().isfinite().all()]
    faults = {
        "missing": missing,
        "of another shape": shapes,
        "not expected": [key for key in found["unexpected_keys"] if not re.search(unused, key)],
        "not finite": infinite if not shapes and not missing else [],
        "with errors": [str(one) for one in found.get("error_msgs") or ()],
    }
    if listed := "".join(_listed(kind, keys) for kind, keys in faults.items() if keys):
        raise NetworkError(
            f"the weights in {folder} do not fit {name} with its config.json:{listed}\n"
            f"download {name} again, or name the folder that belongs to this config.json"
        )


def _listed(kind: str, keys: Sequence[str]) -> str:
    more = f"\n  and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return f"\n{len(keys)} {kind}:\n  " + "\n  ".join(sorted(keys)[:_SHOWN]) + more


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' bars and its own report: what does not fit is raised."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_processor(cls: Any, folder: Path, name: str) -> Any:
    """What brings pictures to a network's input, from `preprocessor_config.json`."""
    try:
        with _quiet():
            return cls.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as for configurations
        raise NetworkError(
            f"{folder}/preprocessor_config.json cannot be read as {cls.__name__}: {error}; download {name} "
            "again"
        ) from error


def tokenizer_files(folder: Path) -> list[Path]:
    """What texts are cut into tokens by: without it transformers makes a tokenizer of two tokens silently."""
    there = [folder / name for name in ("merges.txt", "tokenizer.json", "vocab.json")]
    there = [path for path in there if path.is_file()]
    if len(there) < 2 and [path.name for path in there] != ["tokenizer.json"]:
        raise NetworkError(
            f"{folder} has neither tokenizer.json nor vocab.json with merges.txt: download them too"
        )
    return there


def load_tokenizer(folder: Path, text: Any) -> Any:
    """CLIP's tokenizer, which must belong to the model (`text`: the configuration of its texts)."""
    tokenizer_files(folder)
    from transformers import CLIPTokenizer

    try:
        with _quiet():
            tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # of tokenizers, too, which has no class of its own
        raise NetworkError(f"the tokenizer in {folder} cannot be read: {error}; download it again") from error
    # Published configurations say 2, for which transformers takes the largest token of a text as its end.
    end = text.vocab_size - 1 if text.eos_token_id == 2 else text.eos_token_id
    if len(tokenizer) != text.vocab_size or tokenizer.eos_token_id != end:
        raise NetworkError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and ends texts with "
            f"{tokenizer.eos_token_id}, the model has {text.vocab_size} and wants {end}: they do not belong "
            "together, download both again"
        )
    return tokenizer
