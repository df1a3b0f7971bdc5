"""Folders of published networks: whether they hold the network that was named, and what tells it apart.

Belongs here: configuration, weights and tokenizer of one folder, and the error about each. Not here: which
networks there are (`network_profiles`), or what is done with them (`networks`). Weights are safetensors; all
files are the user's own download, nothing is fetched.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from got_core.evaluate.network_profiles import PublishedNetwork
from got_core.evaluate.protocol import Network
from got_core.local_files import file_sha256

DTYPES = ("float32", "bfloat16", "float16")
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
    config = _json(folder / "config.json", network)
    if config.get("model_type") != network.model_type:
        raise NetworkError(
            f"{folder} holds a network of type {config.get('model_type')!r}, {network.name} is of type "
            f"{network.model_type!r}: name the folder of {network.name}"
        )
    sizes = _full_config(folder, network).to_dict()
    vision = sizes["vision_config"] if network.model_type == "clip" else sizes
    found, wanted = (vision["patch_size"], vision["image_size"]), (network.patch, network.image)
    if found != wanted:
        raise NetworkError(
            f"{folder} holds a network for pictures of {found[1]} pixels in patches of {found[0]}, "
            f"{network.name} takes {wanted[1]} in patches of {wanted[0]}: name its folder or another profile"
        )
    return vision


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
    stated = _json(folder / "preprocessor_config.json", network)
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


def _json(path: Path, network: PublishedNetwork) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise NetworkError(
            f"{path} does not exist: name the folder in which {network.name} was downloaded"
        ) from error
    except (OSError, ValueError) as error:
        raise NetworkError(f"{path} cannot be read: {error}; download {network.name} again") from error
    if not isinstance(found, dict):
        raise NetworkError(f"{path} is not a JSON object; download {network.name} again")
    return found


def network_record(
    folder: Path, network: PublishedNetwork, dtype: str, sizes: Mapping[str, Any], tokenizer: bool = False
) -> Network:
    """What a protocol holds of it: hashes of its files, sizes, levels and dtype; not the device."""
    files = [*weight_files(folder, network), *(tokenizer_files(folder) if tokenizer else ())]
    levels = {name: list(asdict(network.resize)[name]) for name in ("mean", "std")}
    return Network(
        name=network.name,
        files={path.name: file_sha256(path) for path in files},
        settings={"dtype": dtype, **levels, **sizes},
    )


def chosen_sizes(config: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes that tell one network of a type from another."""
    return {name: config[name] for name in _SIZES if config.get(name) is not None}


# -- weights and tokenizer ---------------------------------------------------------------------------


def weight_files(folder: Path, network: PublishedNetwork) -> list[Path]:
    """Its safetensors, in the order of their names. Raises NetworkError where one is missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file() and not (folder / "model.safetensors").is_file():
        files = sorted(folder / name for name in set(_shards(index, network)))
    else:
        files = [folder / "model.safetensors"]
    if missing := [path.name for path in files if not path.is_file()]:
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".h5"))
        beside = f" (there is {', '.join(others)}, which is not read)" if others else ""
        raise NetworkError(
            f"{folder} lacks {', '.join(missing)}{beside}: download {network.name} with its safetensors"
        )
    return files


def _shards(index: Path, network: PublishedNetwork) -> list[str]:
    shards = _json(index, network).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise NetworkError(f"{index} names no weight files; download {network.name} again")
    return [str(name) for name in shards.values()]


def load_model(
    cls: Any, folder: Path, network: PublishedNetwork, *, dtype: str, device: str, **options: Any
) -> Any:
    """The network of a transformers class on its device, frozen, every weight from its files."""
    import torch
    from safetensors import SafetensorError

    if dtype not in DTYPES:
        raise NetworkError(f"the dtype of {network.name} must be one of {', '.join(DTYPES)}, got {dtype!r}")
    weight_files(folder, network)
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
    except (OSError, SafetensorError, RuntimeError) as error:
        raise NetworkError(
            f"the weights in {folder} cannot be read: {error}; download {network.name} again"
        ) from error
    _check_keys(folder, network, found, model)
    try:
        return model.eval().requires_grad_(False).to(device)
    except (RuntimeError, AssertionError) as error:
        raise NetworkError(f"{network.name} cannot be put on the device {device!r}: {error}") from error


def _check_keys(folder: Path, network: PublishedNetwork, found: Mapping[str, Any], model: Any) -> None:
    unexpected = [key for key in found["unexpected_keys"] if not key.startswith("pooler.")]
    shapes = [
        f"{key} is {tuple(is_)}, the model wants {tuple(wants)}"
        for key, is_, wants in found["mismatched_keys"]
    ]
    infinite = [key for key, value in model.state_dict().items() if not value.float().isfinite().all()]
    faults = {
        "missing": list(found["missing_keys"]),
        "of another shape": shapes,
        "not expected": unexpected,
        "not finite": infinite if not shapes and not found["missing_keys"] else [],
    }
    if listed := "".join(_listed(kind, keys) for kind, keys in faults.items() if keys):
        raise NetworkError(
            f"the weights in {folder} do not fit {network.name} with its config.json:{listed}\n"
            f"download {network.name} again, or name the folder that belongs to this config.json"
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
    if len(tokenizer) > text.vocab_size or tokenizer.eos_token_id != end:
        raise NetworkError(
            f"the tokenizer in {folder} has {len(tokenizer)} tokens and ends texts with "
            f"{tokenizer.eos_token_id}, the model has {text.vocab_size} and wants {end}: they do not belong "
            "together, download both again"
        )
    return tokenizer
