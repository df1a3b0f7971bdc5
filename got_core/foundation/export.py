"""Trained foundation models as a folder in the layout of published weights.

Belongs here: which tensors go into which file in which precision, and the folder's manifest. Not here: its
card's words (``card``), what is read back (``got_core.model.formats``), or scores, which are handed in.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from got_core.foundation.card import card_text
from got_core.local_files import file_sha256, files_below, take_place, temporary_beside
from got_core.model.backbones.qwen2_5_vl import untie
from got_core.model.backbones.sdxl_unet import unet_class
from got_core.model.build import build_scheduler
from got_core.model.config import ModelConfig
from got_core.model.formats.foundation_folder import (
    CARD,
    DRAWING,
    FORMAT,
    LANGUAGE,
    LARGEST,
    MANIFEST,
    PROJECTOR,
    architecture,
)
from got_core.model.formats.names import old_name
from got_core.model.formats.saved import load_foundation

WHOLE = ("vae", "projector")
"""Parts that stay float32: small ones, through which everything that is drawn or said goes."""

EIGHT_BITS = torch.float8_e4m3fn


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What the card says of a foundation beside what can be read from its files."""

    recipe: str
    seed: int
    commit: str
    manifest_hash: str
    cpu_seconds: float
    trained: str
    """When, as an ISO date."""
    rows: Mapping[str, int]
    """Rows of the manifest that it was trained on, by kind."""
    foundation: Mapping[str, Any]
    """Its training's configuration."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Last losses of its training, by name."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of its own, by name."""
    licence: str = "Apache-2.0"


@dataclass(frozen=True)
class _Parts:
    """What is written: networks, and the two parts of the language model's side without weights."""

    networks: Mapping[str, Any]
    """By part; without a projector where none was trained."""
    tokenizer: Any
    image_processor: Any

    @classmethod
    def read(cls, source: Path, model: ModelConfig, facts: Facts) -> _Parts:
        pipeline = load_foundation(source, model, facts.seed)
        networks = {
            "mllm": pipeline.mllm,
            # As it was trained: the pipeline's is widened.
            "unet": unet_class(model).from_pretrained(source / "drawing" / "unet"),
            "vae": pipeline.vae,
        }
        if facts.foundation.get("chains", True):
            networks["projector"] = pipeline.projector
        return cls(networks, pipeline.tokenizer, pipeline.image_processor)


def export_foundation(
    source: Path, target: Path, model: ModelConfig, facts: Facts, *, largest: int = LARGEST
) -> dict[str, int]:
    """Write the foundation models of a folder (``got_core.foundation.train``) as a folder of weights.

    Matrices become bfloat16, vectors and the parts of WHOLE stay float32. Where that is more than ``largest``
    bytes in all, the largest hidden matrices of the U-Net become 8-bit floats, one after the other. The
    folder is written beside its place and takes it whole. Returns the bytes of each file.

    Raises ValueError where it does not fit even so, or a weight is not finite; nothing is written then.
    """
    parts = _Parts.read(source, model, facts)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = temporary_beside(target)
    try:
        sizes = _write(parts, partial, model, facts, [])
        if (over := sum(sizes.values()) - largest) > 0:
            rounded = _to_round(parts.networks["unet"].state_dict(), over)
            sizes = _write(parts, partial, model, facts, rounded)
        if sum(sizes.values()) > largest:
            listed = ", ".join(f"{name} {size:,}" for name, size in sorted(sizes.items(), key=_by_size)[:4])
            raise ValueError(
                f"the foundation takes {sum(sizes.values()):,} bytes, at most {largest:,} are allowed; the "
                f"largest files: {listed}. Make the recipe's model narrower"
            )
        take_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sizes


def _by_size(item: tuple[str, int]) -> int:
    return -item[1]


def _to_round(state: Mapping[str, Tensor], over: int) -> list[str]:
    """The fewest matrices of a state, largest first, that save so many bytes as 8-bit floats."""
    chosen: list[str] = []
    saved, slack = 0, 2_000  # what the manifest says of them takes bytes too
    for name, value in sorted(state.items(), key=lambda item: (-item[1].numel(), item[0])):
        if saved >= over + slack:
            break
        if value.ndim > 1 and not name.startswith(("conv_in", "conv_out", "input_skip")):
            chosen.append(name)
            saved += value.numel()
    return chosen


# -- files --------------------------------------------------------------------------------------------


def _write(
    parts: _Parts, folder: Path, model: ModelConfig, facts: Facts, rounded: list[str]
) -> dict[str, int]:
    """The whole folder; what is there already is replaced. Returns the bytes of each file."""
    shutil.rmtree(folder, ignore_errors=True)
    _write_drawing(parts, folder / DRAWING, model, rounded)
    _write_language(parts, folder / LANGUAGE)
    told = {
        "format": FORMAT,
        **_told(facts),
        "aligned": "projector" in parts.networks,
        "precision": {
            "matrices": "bfloat16",
            "vectors": "float32",
            "float32 throughout": [name for name in WHOLE if name in parts.networks],
            "8-bit floats": rounded,
        },
        "parameters": {
            name: sum(value.numel() for value in network.parameters())
            for name, network in parts.networks.items()
        },
        "model": architecture(model),
    }
    (folder / CARD).write_text(card_text(told), encoding="utf-8")
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        for path in files_below(folder)
    }
    (folder / MANIFEST).write_text(json.dumps(told | {"files": files}, indent=1) + "\n", encoding="utf-8")
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in files_below(folder)}


def _told(facts: Facts) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(facts)))


def _write_drawing(parts: _Parts, folder: Path, model: ModelConfig, rounded: list[str]) -> None:
    written = {}
    for part in ("unet", "vae"):
        network = written[part] = parts.networks[part]
        _save_config(network, folder / part)
        state = _narrowed(network.state_dict(), part, rounded)
        save_file(state, folder / part / "diffusion_pytorch_model.safetensors", {"format": "pt"})
    scheduler = written["scheduler"] = build_scheduler(model.scheduler)
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        # Of the pipeline whose layout it is: the text encoder was thrown away, so it draws with GoT alone.
        "_class_name": "StableDiffusionXLPipeline",
        "prediction": model.scheduler.prediction,
        **{name: _class_of(part) for name, part in written.items()},
        **{name: [None, None] for name in ("text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2")},
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")


def _save_config(network: Any, folder: Path) -> None:
    """Its configuration, without the place on this machine that it was read from."""
    network.save_config(folder)
    path = folder / "config.json"
    said = json.loads(path.read_text(encoding="utf-8"))
    said.pop("_name_or_path", None)
    path.write_text(json.dumps(said, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _class_of(part: Any) -> list[str]:
    module = type(part).__module__
    return ["diffusers" if module.startswith("diffusers.") else module, type(part).__name__]


def _write_language(parts: _Parts, folder: Path) -> None:
    folder.mkdir(parents=True)
    parts.tokenizer.save_pretrained(folder)
    parts.image_processor.save_pretrained(folder)
    mllm = parts.networks["mllm"]
    state, config = dict(mllm.state_dict()), mllm.config
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    else:
        untie(config)
    config.dtype = torch.bfloat16
    config.architectures = [type(mllm).__name__]
    config.save_pretrained(folder)
    mllm.generation_config.save_pretrained(folder)
    narrowed = {old_name(name): value for name, value in _narrowed(state, "mllm", []).items()}
    save_file(narrowed, folder / "model.safetensors", {"format": "pt"})
    if projector := parts.networks.get("projector"):
        _save_config(projector, folder / PROJECTOR)
        kept = _narrowed(projector.state_dict(), "projector", [])
        save_file(kept, folder / PROJECTOR / "diffusion_pytorch_model.safetensors", {"format": "pt"})


def _narrowed(state: Mapping[str, Tensor], part: str, rounded: list[str]) -> dict[str, Tensor]:
    """Tensors in the precision that they are written in, each with memory of its own."""
    found = {}
    for name, value in state.items():
        narrow = value.detach().to(_precision(name, value, part, rounded)).clone().contiguous()
        if not narrow.float().isfinite().all():
            raise ValueError(f"{part}.{name} is not finite as {narrow.dtype}: the foundation is of no use")
        found[name] = narrow
    return found


def _precision(name: str, value: Tensor, part: str, rounded: list[str]) -> torch.dtype:
    if not value.is_floating_point():
        return value.dtype
    if part in WHOLE or value.ndim < 2:
        return torch.float32
    return EIGHT_BITS if part == "unet" and name in rounded else torch.bfloat16
