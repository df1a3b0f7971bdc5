"""What all ways of loading a GoT model share: empty parts, tensors that fill them, one report of bad keys.

Belongs here: one part at a time. Does not belong here: the layouts they come in (``released``,
``published``), the pipeline around them (``assembly``) and sizes chosen by a recipe (``build``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import (
    GenerationConfig,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.backbones.sdxl_unet import widen_input
from got_core.model.formats.names import canonical_name
from got_core.model.formats.shards import read_state
from got_core.model.guidance import GuidanceProjector
from got_core.model.precision import DTYPES, autoencoder_dtype, widest
from got_core.model.unet import UNetWithInputSkip

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
UNETS = {"UNet2DConditionModel": UNet2DConditionModel, "UNetWithInputSkip": UNetWithInputSkip}


class CheckpointKeysError(ValueError):
    """A checkpoint does not fit its model.

    ``missing``, ``unexpected``, ``misshapen`` and ``infinite`` (NaN among them) hold every key.
    """

    def __init__(self, where: str, report: KeyReport) -> None:
        self.missing = tuple(dict.fromkeys(report.missing))
        self.unexpected = tuple(dict.fromkeys(report.unexpected))
        self.misshapen = tuple(report.misshapen)
        self.infinite = tuple(dict.fromkeys(report.infinite))
        kinds = {
            "missing": self.missing,
            "not expected": self.unexpected,
            "of another shape": self.misshapen,
            "not finite": self.infinite,
        }
        counts = ", ".join(f"{len(keys)} {kind}" for kind, keys in kinds.items() if keys)
        lists = "".join(f"\n{kind}:\n  " + "\n  ".join(keys) for kind, keys in kinds.items() if keys)
        super().__init__(f"the weights in {where} do not fit the model: {counts}{lists}")


@dataclass
class KeyReport:
    """Keys that do not fit, collected over all parts before anything is loaded."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)
    infinite: list[str] = field(default_factory=list)

    def check(self, key: str, shape: Iterable[int], tensor: Tensor | None) -> bool:
        """Whether the tensor is there, has the shape and is finite; if not, that is written down."""
        if tensor is None:
            self.missing.append(key)
        elif tuple(tensor.shape) != tuple(shape):
            self.misshaped(key, tensor.shape, shape)
        elif tensor.dtype in DTYPES.values() and not tensor.sum(dtype=torch.float64).isfinite():
            self.infinite.append(key)
        else:
            return True
        return False

    def misshaped(self, key: str, found: Iterable[int], wanted: Iterable[int]) -> None:
        """Write down a key of another shape."""
        self.misshapen.append(f"{key} is {tuple(found)}, the model wants {tuple(wanted)}")

    def add(self, other: KeyReport) -> None:
        """Write down what another report holds."""
        self.missing += other.missing
        self.unexpected += other.unexpected
        self.misshapen += other.misshapen
        self.infinite += other.infinite

    def raise_if_any(self, where: str) -> None:
        """Raise CheckpointKeysError if anything was written down."""
        if self.missing or self.unexpected or self.misshapen or self.infinite:
            raise CheckpointKeysError(where, self)


# -- empty parts, whose tensors are put in later -----------------------------------------------------


def empty_unet(folder: Path, factor: int = 1) -> UNet2DConditionModel:
    """A U-Net without memory; one that takes plain latents gets ``factor`` times as many input channels."""
    cls = _named_class(folder, UNETS)
    with init_empty_weights():
        unet = cls.from_config(cls.load_config(folder))
        if unet.config.in_channels == unet.config.out_channels and factor > 1:
            widen_input(unet, factor)
    return unet.eval()


def empty_autoencoder(folder: Path) -> AutoencoderKL | PatchAutoencoder:
    """An autoencoder without memory."""
    cls = _named_class(folder, AUTOENCODERS)
    with init_empty_weights():
        return cls.from_config(cls.load_config(folder)).eval()


def load_autoencoder(
    folder: Path, report: KeyReport, dtype: torch.dtype | None = None, variant: str | None = None
) -> AutoencoderKL | PatchAutoencoder:
    """The autoencoder with the weights of its folder; keys that do not fit go to the report."""
    vae = empty_autoencoder(folder)
    fill(vae, folder_state("vae", vae, folder, report, variant), dtype)
    return vae


def load_projector(folder: Path, report: KeyReport, dtype: torch.dtype | None = None) -> GuidanceProjector:
    """The maps from the language model to the drawing model, with the weights of their folder; keys that do
    not fit go to the report."""
    with init_empty_weights():
        projector = GuidanceProjector.from_config(GuidanceProjector.load_config(folder)).eval()
    fill(projector, folder_state("projector", projector, folder, report), dtype)
    return projector


def fill(module: nn.Module, state: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Put tensors into an empty part, by default in the widest of their types.

    Parameters that are not among them stay empty: the report that the state was made with says which.
    """
    wanted = dtype or widest(state.values())
    if dtype is not None and hasattr(module, "config"):
        wanted = autoencoder_dtype(module.config, dtype)
    given = {key: value.to(wanted) if value.is_floating_point() else value for key, value in state.items()}
    module.load_state_dict(given, strict=False, assign=True)


# -- which tensor is which ----------------------------------------------------------------------------

Group: TypeAlias = dict[str, tuple[str, Tensor]]
"""Name inside a part -> name in the checkpoint, tensor."""


def fitting_state(
    group: Group, shapes: Mapping[str, Iterable[int]], spelled: Callable[[str], str], report: KeyReport
) -> dict[str, Tensor]:
    """The tensors of a part that fit it; what does not is written down, ``spelled`` as its checkpoint would.

    ``shapes`` are those that the part wants, by name.
    """
    state = {}
    for name, shape in shapes.items():
        key, tensor = group.get(name, (spelled(name), None))
        if report.check(key, shape, tensor) and tensor is not None:
            state[name] = tensor
    report.unexpected += [key for name, (key, _) in group.items() if name not in shapes]
    return state


def folder_state(
    part: str, module: nn.Module, folder: Path, report: KeyReport, variant: str | None = None
) -> dict[str, Tensor]:
    """The tensors of a part's own folder, by the names of present libraries, whatever its files are called.

    Raises FileNotFoundError or ValueError for files that are not there or cannot be read.
    """
    files = read_state(folder, variant=variant, convert=False)
    report.missing += [f"{part}.{canonical_name(key)}" for key in files.absent]
    report.unexpected += [f"{part}.{canonical_name(key)}" for key in files.unlisted]
    group: Group = {}
    for key, value in files.tensors.items():
        name = canonical_name(key)
        if group.setdefault(name, (f"{part}.{name}", value))[1] is not value:
            # Two spellings of one name: only one of them can be right.
            report.unexpected.append(f"{part}.{key}")
    shapes = {name: value.shape for name, value in module.state_dict().items()}
    return fitting_state(group, shapes, lambda name: f"{part}.{name}", report)


def _named_class(folder: Path, known: Mapping[str, Any]) -> Any:
    name = UNet2DConditionModel.load_config(folder)["_class_name"]
    if name not in known:
        raise ValueError(f"{folder} is of class {name!r}; known are {', '.join(known)}")
    return known[name]


# -- small parts --------------------------------------------------------------------------------------


def filled_language_model(
    config: Qwen2_5_VLConfig,
    state: dict[str, Tensor],
    folder: Path,
    dtype: torch.dtype | None = None,
    quantization: Any = None,
) -> Qwen2_5_VLForConditionalGeneration:
    """A language model of a whole state, with the text generation's defaults if the folder has them.

    Default: in the widest type of its tensors.
    """
    mllm = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        None,
        config=config,
        state_dict=state,
        dtype=dtype or widest(state.values()),
        quantization_config=quantization,
    )
    if (folder / "generation_config.json").is_file():
        mllm.generation_config = GenerationConfig.from_pretrained(folder)
    return mllm
