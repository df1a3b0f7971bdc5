"""Checkpoints in the layout of the released weights: one state dict for all parts, sharded with an index.

Keys: ``mllm.*`` as PEFT left them (LoRA, modules to save; names of transformers 4.49),
``output_projector.*``, ``output_projector_add.*``, ``unet.*``, ``vae.*``. Belongs here: those names, and
merging LoRA. Does not belong here: files and indexes (``shards``), and plain SDXL and Qwen2.5-VL folders
(``published``).

A GPU that is too small for everything in 32 bits: ``dtype=torch.bfloat16`` halves all parts;
``quantization=BitsAndBytesConfig(load_in_8bit=True)`` loads the language model in 8 bits (needs
bitsandbytes and a CUDA device, and is therefore passed through untested here);
``pipeline.enable_model_cpu_offload()`` keeps one part at a time on the GPU.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from huggingface_hub import save_torch_state_dict
from torch import Tensor, nn
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from got_core.model.backbones.qwen2_5_vl import untie
from got_core.model.backbones.registry import drawer_of
from got_core.model.formats.assembly import pipeline_of_parts
from got_core.model.formats.configs import ConfigFolders
from got_core.model.formats.names import modern_name, old_name
from got_core.model.formats.parts import (
    CheckpointKeysError,
    Group,
    KeyReport,
    empty_autoencoder,
    empty_unet,
    fill,
    filled_language_model,
    fitting_state,
    load_autoencoder,
)
from got_core.model.formats.shards import read_state
from got_core.model.guidance import GuidanceProjector
from got_core.model.pipeline import GoTPipeline

__all__ = ["CheckpointKeysError", "ConfigFolders", "Lora", "load_got_checkpoint", "save_got_checkpoint"]

LORA_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Modules with LoRA weights. The released configuration matches by suffix, which hits the vision tower's MLPs
as well: their 192 tensors are merged like the others."""
WHOLE_MODULES = ("embed_tokens", "lm_head", "input_layernorm", "post_attention_layernorm")
"""Modules that were trained whole and are saved beside their originals."""

_MERGED = {"lora": "merged"}
"""Metadata of what is written here: no LoRA weights are to be expected."""
_PEFT_PREFIX = "base_model.model."
_KEY = re.compile(
    r"(?P<module>.+?)(?:\.(?P<kind>base_layer|lora_A\.default|lora_B\.default|modules_to_save\.default"
    r"|original_module))?\.(?P<leaf>[^.]+)"
)


@dataclass(frozen=True, kw_only=True)
class Lora:
    """Numbers of the LoRA weights in a checkpoint; alpha cannot be told from the tensors."""

    rank: int = 32
    alpha: float = 32.0


# -- loading ------------------------------------------------------------------------------------------


def load_got_checkpoint(
    folder: Path | str,
    configs: ConfigFolders | Path | str | None = None,
    *,
    lora: Lora | None = None,
    dtype: torch.dtype | None = None,
    quantization: Any = None,
    vae_from_configs: bool = False,
    cache: Path | None = None,
    **settings: Any,
) -> GoTPipeline:
    """A pipeline from a state dict in the released layout, LoRA merged into the weights it belongs to.

    Args:
        folder: shards and index, safetensors or ``.bin`` (converted once, into ``cache`` if given).
        configs: where the parts' configurations and the tokenizer are: a folder with ``mllm/``, ``unet/``,
            ``vae/``, ``scheduler/``, ``tokenizer/``, or ``ConfigFolders.published(sdxl, qwen)``. Default: the
            checkpoint's folder, as :func:`save_got_checkpoint` leaves it.
        lora: rank and alpha, 32 and 32 as released.
        dtype: of all parts; default: as stored, each part in the widest type of its tensors. An autoencoder
            that overflows in float16 (``force_upcast``) stays in float32.
        quantization: a ``BitsAndBytesConfig`` for the language model.
        vae_from_configs: take the (frozen) autoencoder's weights from ``configs``; the checkpoint may have
            none, and those that it has are left aside.
        **settings: of ``GoTPipeline`` (resolution, scales ...), over those of ``configs``.

    Raises:
        CheckpointKeysError: keys that are missing, not expected or of another shape, all at once.
        FileNotFoundError, ValueError: files that are not there or not readable, or more image tokens than the
            checkpoint's embedding has rows for.
    """
    folder = Path(folder)
    if not isinstance(configs, ConfigFolders):
        configs = ConfigFolders.of(Path(configs) if configs is not None else folder)
    files = read_state(folder, cache)
    report = KeyReport(missing=list(files.absent), unexpected=list(files.unlisted))
    parts, other = _split(files.tensors)
    report.unexpected += other
    mllm_config, mllm_state = _language_state(
        parts["mllm"], configs.mllm, lora or Lora(), files.metadata.get("lora") == "merged", report
    )
    unet = empty_unet(configs.unet, factor=3)
    vae = _borrowed(configs.vae, dtype) if vae_from_configs else empty_autoencoder(configs.vae)
    drawer = drawer_of(unet)
    with init_empty_weights():
        width = mllm_config.text_config.hidden_size
        projector = GuidanceProjector(width, drawer.context_dim, drawer.pooled_dim)
    plain = {"unet": unet, "projector": projector} | ({} if vae_from_configs else {"vae": vae})
    states = {name: _plain_state(name, parts[name], module, report) for name, module in plain.items()}
    report.raise_if_any(str(folder))
    for name, module in plain.items():
        fill(module, states[name], dtype)
    mllm = filled_language_model(mllm_config, mllm_state, configs.mllm, dtype, quantization)
    return pipeline_of_parts(configs, mllm=mllm, projector=projector, unet=unet, vae=vae, settings=settings)


def _borrowed(folder: Path, dtype: torch.dtype | None) -> nn.Module:
    """The autoencoder of a folder of its own, all keys of which have to fit."""
    report = KeyReport()
    vae = load_autoencoder(folder, report, dtype)
    report.raise_if_any(str(folder))
    return vae


def _split(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Group], list[str]]:
    """Tensors by part, and the keys that belong to none."""
    parts: dict[str, Group] = {"mllm": {}, "projector": {}, "unet": {}, "vae": {}}
    other = []
    for key, value in tensors.items():
        prefix, _, name = key.partition(".")
        if prefix in ("output_projector", "output_projector_add") and name.startswith("projector."):
            parts["projector"][f"{prefix}.{name.removeprefix('projector.')}"] = (key, value)
        elif prefix in ("mllm", "unet", "vae"):
            parts[prefix][name] = (key, value)
        else:
            other.append(key)
    return parts, other


def _plain_state(part: str, group: Group, module: nn.Module, report: KeyReport) -> dict[str, Tensor]:
    """The state of a part whose names are those of its class."""
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    spelled = _released_projector if part == "projector" else f"{part}.{{}}".format
    return fitting_state(group, shapes, spelled, report)


def _released_projector(name: str) -> str:
    layer, leaf = name.split(".")
    return f"{layer}.projector.{leaf}"


# -- the language model's keys ------------------------------------------------------------------------


@dataclass
class _Spelling:
    """How a checkpoint writes names, so that errors speak its language."""

    peft: bool = True
    old: bool = True

    def key(self, name: str, kind: str = "") -> str:
        name = old_name(name) if self.old else name
        module, _, leaf = name.rpartition(".")
        return "mllm." + (_PEFT_PREFIX if self.peft else "") + ".".join(filter(None, (module, kind, leaf)))


@dataclass
class _Found:
    """What a checkpoint holds for one parameter, by kind ("" is the plain name)."""

    tensors: dict[str, tuple[str, Tensor]] = field(default_factory=dict)

    def source(self) -> str | None:
        """The kind that gives the weight: trained whole, below LoRA, or plain."""
        kinds = ("modules_to_save.default", "base_layer", "")
        return next((kind for kind in kinds if kind in self.tensors), None)


def _language_state(
    group: Group, config_folder: Path, lora: Lora, merged: bool, report: KeyReport
) -> tuple[Qwen2_5_VLConfig, dict[str, Tensor]]:
    """Configuration and merged state of the language model."""
    found, repeated = _sort_language_keys(group)
    report.unexpected += repeated
    spelling = _Spelling(
        peft=any(name.startswith(_PEFT_PREFIX) for name in group),
        old=not any("model.language_model." in name for name in group),
    )
    config = Qwen2_5_VLConfig.from_pretrained(config_folder)
    if "lm_head.weight" in found:
        # The head was trained apart from the embedding, whatever the model started from.
        untie(config)
    wanted = _language_shapes(config)
    state = {}
    for name, shape in wanted.items():
        tensor = _resolve(name, shape, found.get(name, _Found()), lora, merged, spelling, report)
        if tensor is not None:
            state[name] = tensor
    for name, entry in found.items():
        if name not in wanted:
            report.unexpected += [key for key, _ in entry.tensors.values()]
    return config, state


def _sort_language_keys(group: Group) -> tuple[dict[str, _Found], list[str]]:
    """Keys by the parameter they belong to, and those that say again what another key said."""
    found: dict[str, _Found] = {}
    repeated = []
    for stripped, (key, tensor) in group.items():
        match = _KEY.fullmatch(stripped.removeprefix(_PEFT_PREFIX))
        if match is None:
            repeated.append(key)
            continue
        entry = found.setdefault(modern_name(f"{match['module']}.{match['leaf']}"), _Found())
        if entry.tensors.setdefault(match["kind"] or "", (key, tensor))[0] != key:
            repeated.append(key)
    return found, repeated


def _language_shapes(config: Qwen2_5_VLConfig) -> dict[str, torch.Size]:
    with torch.device("meta"):
        model = Qwen2_5_VLForConditionalGeneration(config)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    if config.tie_word_embeddings:
        shapes.pop("lm_head.weight")
    return shapes


def _resolve(
    name: str,
    shape: torch.Size,
    found: _Found,
    lora: Lora,
    merged: bool,
    spelling: _Spelling,
    report: KeyReport,
) -> Tensor | None:
    """One parameter's weight with its LoRA merged; None, and a line in the report, where that cannot be."""
    kind = found.source()
    if kind is None:
        missing = "modules_to_save.default" if "original_module" in found.tensors else _kind(name, spelling)
        report.check(spelling.key(name, missing), shape, None)
        return None
    key, weight = found.tensors[kind]
    fits = report.check(key, shape, weight)
    if "original_module" in found.tensors:
        report.check(found.tensors["original_module"][0], shape, found.tensors["original_module"][1])
    halves = [found.tensors.get(f"lora_{half}.default") for half in "AB"]
    if kind != "base_layer" or not name.endswith(".weight"):
        report.unexpected += [half[0] for half in halves if half is not None]
        # Two sources for one weight: only the first can be right.
        report.unexpected += [
            found.tensors[k][0] for k in ("base_layer", "") if k in found.tensors and k != kind
        ]
        return weight if fits else None
    if merged and halves == [None, None]:
        return weight if fits else None
    expected = ((lora.rank, shape[1]), (shape[0], lora.rank))
    for half, want, letter in zip(halves, expected, "AB", strict=True):
        label = half[0] if half else spelling.key(name, f"lora_{letter}.default")
        fits = report.check(label, torch.Size(want), half[1] if half else None) and fits
    if not fits:
        return None
    (_, down), (_, up) = halves  # type: ignore[misc]
    return merge_lora(weight, down, up, lora)


def _kind(name: str, spelling: _Spelling) -> str:
    """Under which kind a PEFT checkpoint keeps this parameter."""
    if not spelling.peft:
        return ""
    module = name.rsplit(".", 2)[-2]
    if module in LORA_MODULES:
        return "base_layer"
    return "modules_to_save.default" if module in WHOLE_MODULES else ""


def merge_lora(weight: Tensor, down: Tensor, up: Tensor, lora: Lora) -> Tensor:
    """``weight`` (out, in) plus alpha / rank times ``up`` (out, rank) @ ``down`` (rank, in).

    Computed in 32 bits and rounded once, to the weight's own type.
    """
    delta = (up.float() @ down.float()) * (lora.alpha / lora.rank)
    return (weight.float() + delta).to(weight.dtype)


# -- saving -------------------------------------------------------------------------------------------


def save_got_checkpoint(pipeline: GoTPipeline, folder: Path | str, max_shard_size: str | int = "5GB") -> None:
    """Write a pipeline in the released layout: safetensors shards with an index, and the configurations.

    Names are the released ones; LoRA is merged, so its keys and the untrained originals are left out, which
    the metadata says. Loading gives bit-equal weights. The folder appears whole or not at all.

    Raises FileExistsError for a folder that is not empty, ValueError for a pipeline whose LoRA is not
    merged or whose language model is quantized.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty; choose a new folder")
    state = released_state(pipeline)
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:12]}.partial")
    try:
        partial.mkdir(parents=True)
        save_torch_state_dict(
            state,
            partial,
            filename_pattern="model{suffix}.safetensors",
            max_shard_size=max_shard_size,
            metadata=dict(_MERGED),
        )
        _save_configs(pipeline, partial)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def released_state(pipeline: GoTPipeline) -> dict[str, Tensor]:
    """All weights of a pipeline under the released names."""
    mllm = pipeline.mllm
    if hasattr(mllm, "peft_config"):
        raise ValueError("the language model still carries LoRA; call merge_and_unload() on it first")
    if getattr(mllm, "is_quantized", False):
        raise ValueError("a quantized language model cannot be saved in the released layout")
    spelling = _Spelling()
    tied = mllm.config.tie_word_embeddings
    language = {
        spelling.key(name, _kind(name, spelling)): value
        for name, value in mllm.state_dict().items()
        if not (tied and name == "lm_head.weight")
    }
    projector: GuidanceProjector = pipeline.projector
    return {
        **language,
        **{_released_projector(name): value for name, value in projector.state_dict().items()},
        **_prefixed("unet", pipeline.unet),
        **_prefixed("vae", pipeline.vae),
    }


def _prefixed(part: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{part}.{name}": value for name, value in module.state_dict().items()}


def _save_configs(pipeline: GoTPipeline, folder: Path) -> None:
    pipeline.save_config(folder)
    pipeline.mllm.config.save_pretrained(folder / "mllm")
    pipeline.mllm.generation_config.save_pretrained(folder / "mllm")
    pipeline.tokenizer.save_pretrained(folder / "tokenizer")
    pipeline.image_processor.save_pretrained(folder / "image_processor")
    for name in ("unet", "vae", "scheduler"):
        getattr(pipeline, name).save_config(folder / name)
