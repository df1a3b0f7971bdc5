"""What all ways of loading a GoT model share: where configurations are, empty parts, one report of bad keys.

Belongs here: building a pipeline around parts that came from somewhere. Does not belong here: the layouts
they came in (``released``, ``published``) and sizes chosen by a recipe (``build``).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from torch import Tensor
from transformers import (
    AutoTokenizer,
    GenerationConfig,
    PreTrainedTokenizerBase,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from got_core.model.autoencoder import PatchAutoencoder
from got_core.model.build import scheduler_class
from got_core.model.guidance import GuidanceProjector, widen_input
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import generation_tokens
from got_core.model.unet import UNetWithInputSkip

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "PatchAutoencoder": PatchAutoencoder}
UNETS = {"UNet2DConditionModel": UNet2DConditionModel, "UNetWithInputSkip": UNetWithInputSkip}


class CheckpointKeysError(ValueError):
    """A checkpoint does not fit its model. ``missing``, ``unexpected``, ``misshapen`` hold every key."""

    def __init__(self, where: str, report: KeyReport) -> None:
        self.missing = tuple(dict.fromkeys(report.missing))
        self.unexpected = tuple(dict.fromkeys(report.unexpected))
        self.misshapen = tuple(report.misshapen)
        kinds = {"missing": self.missing, "not expected": self.unexpected, "of another shape": self.misshapen}
        counts = ", ".join(f"{len(keys)} {kind}" for kind, keys in kinds.items() if keys)
        lists = "".join(f"\n{kind}:\n  " + "\n  ".join(keys) for kind, keys in kinds.items() if keys)
        super().__init__(f"the weights in {where} do not fit the model: {counts}{lists}")


@dataclass
class KeyReport:
    """Keys that do not fit, collected over all parts before anything is loaded."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    misshapen: list[str] = field(default_factory=list)

    def check(self, key: str, shape: Iterable[int], tensor: Tensor | None) -> bool:
        """Whether the tensor is there and has the shape; if not, that is written down."""
        if tensor is None:
            self.missing.append(key)
        elif tuple(tensor.shape) != tuple(shape):
            self.misshaped(key, tensor.shape, shape)
        else:
            return True
        return False

    def misshaped(self, key: str, found: Iterable[int], wanted: Iterable[int]) -> None:
        """Write down a key of another shape."""
        self.misshapen.append(f"{key} is {tuple(found)}, the model wants {tuple(wanted)}")

    def add_loading_info(self, part: str, info: Mapping[str, Any]) -> None:
        """What ``from_pretrained(output_loading_info=True)`` of diffusers or transformers found."""
        self.missing += sorted(f"{part}.{key}" for key in info["missing_keys"])
        self.unexpected += sorted(f"{part}.{key}" for key in info["unexpected_keys"])
        for key, found, wanted in sorted(info["mismatched_keys"]):
            self.misshaped(f"{part}.{key}", found, wanted)

    def raise_if_any(self, where: str) -> None:
        """Raise CheckpointKeysError if anything was written down."""
        if self.missing or self.unexpected or self.misshapen:
            raise CheckpointKeysError(where, self)


@dataclass(frozen=True, kw_only=True)
class ConfigFolders:
    """Where each part's configuration (and the tokenizer) is."""

    mllm: Path
    tokenizer: Path
    image_processor: Path
    unet: Path
    vae: Path
    scheduler: Path
    scheduler_class: str = "DDPMScheduler"
    """SDXL's folder names another class; GoT draws with this one, of the same settings."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the pipeline: resolution, scales, steps ..."""

    def __post_init__(self) -> None:
        parts = ("mllm", "tokenizer", "image_processor", "unet", "vae", "scheduler")
        absent = [str(getattr(self, part)) for part in parts if not getattr(self, part).is_dir()]
        if absent:
            raise FileNotFoundError(
                f"folders of configurations are missing: {', '.join(dict.fromkeys(absent))}"
            )

    @classmethod
    def of(cls, folder: Path) -> ConfigFolders:
        """The folders of one folder, by part. Tokenizer and image processor may lie in ``mllm/``.

        With a ``model_index.json`` there, the scheduler's class and the pipeline's settings are taken from
        it.
        """

        def either(name: str) -> Path:
            return folder / name if (folder / name).is_dir() else folder / "mllm"

        path = folder / "model_index.json"
        index = json.loads(path.read_text()) if path.is_file() else {}
        known = inspect.signature(GoTPipeline.__init__).parameters
        return cls(
            mllm=folder / "mllm",
            tokenizer=either("tokenizer"),
            image_processor=either("image_processor"),
            unet=folder / "unet",
            vae=folder / "vae",
            scheduler=folder / "scheduler",
            scheduler_class=index.get("scheduler", [None, cls.scheduler_class])[1],
            settings={k: v for k, v in index.items() if k in known and not _names_a_class(v)},
        )

    @classmethod
    def published(cls, sdxl: Path, qwen: Path) -> ConfigFolders:
        """The folders of SDXL (diffusers layout) and Qwen2.5-VL as they are published."""
        return cls(
            mllm=qwen,
            tokenizer=qwen,
            image_processor=qwen,
            unet=sdxl / "unet",
            vae=sdxl / "vae",
            scheduler=sdxl / "scheduler",
        )


def _names_a_class(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(part, str) for part in value)


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
    folder: Path, report: KeyReport, dtype: torch.dtype | None = None, **options: Any
) -> AutoencoderKL | PatchAutoencoder:
    """The autoencoder with the weights of its folder; keys that do not fit go to the report."""
    vae, info = _named_class(folder, AUTOENCODERS).from_pretrained(
        folder,
        torch_dtype=dtype,
        use_safetensors=True,
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    report.add_loading_info("vae", info)
    return vae


def _named_class(folder: Path, known: Mapping[str, Any]) -> Any:
    name = UNet2DConditionModel.load_config(folder)["_class_name"]
    if name not in known:
        raise ValueError(f"{folder} is of class {name!r}; known are {', '.join(known)}")
    return known[name]


def fitting_projector(hidden_size: int, unet: Any, *, empty: bool = False) -> GuidanceProjector:
    """A fresh projector between a language model's width and a U-Net's configuration."""
    pooled = unet.projection_class_embeddings_input_dim - 6 * unet.addition_time_embed_dim
    with init_empty_weights() if empty else nullcontext():
        return GuidanceProjector(hidden_size, unet.cross_attention_dim, pooled)


# -- small parts --------------------------------------------------------------------------------------


def untie(config: Qwen2_5_VLConfig) -> None:
    """Give the head weights of its own. Both flags: transformers reads the outer one from the inner."""
    config.tie_word_embeddings = False
    config.text_config.tie_word_embeddings = False


def load_generation_config(mllm: Qwen2_5_VLForConditionalGeneration, folder: Path) -> None:
    """The published defaults of text generation, if the folder has them."""
    if (folder / "generation_config.json").is_file():
        mllm.generation_config = GenerationConfig.from_pretrained(folder)


def load_tokenizer(folder: Path, image_tokens: int) -> PreTrainedTokenizerBase:
    """The tokenizer with GoT's tokens, added behind its own if they are not there yet.

    Raises ValueError where their ids do not follow each other.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    names = generation_tokens(image_tokens)
    tokenizer.add_tokens(names, special_tokens=True)
    ids = tokenizer.convert_tokens_to_ids(names)
    if ids != list(range(ids[0], ids[0] + len(ids))):
        raise ValueError(f"{folder}: the ids of {names[0]} to {names[-1]} do not follow each other")
    return tokenizer


def load_scheduler(folders: ConfigFolders) -> SchedulerMixin:
    """A scheduler of the folders' class and settings."""
    return scheduler_class(folders.scheduler_class).from_pretrained(folders.scheduler)


def pipeline_of_parts(
    folders: ConfigFolders,
    *,
    mllm: Qwen2_5_VLForConditionalGeneration,
    projector: GuidanceProjector,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL | PatchAutoencoder,
    settings: Mapping[str, Any],
    fresh: bool = False,
) -> GoTPipeline:
    """The pipeline around loaded parts, in evaluation mode.

    ``fresh``: the language model has not learned GoT's tokens yet. Its embedding grows if it has too few rows
    for them; the published one has spare rows. Else that raises ValueError.
    """
    chosen = {**folders.settings, **settings}
    tokens = chosen.get(
        "image_tokens", inspect.signature(GoTPipeline.__init__).parameters["image_tokens"].default
    )
    tokenizer = load_tokenizer(folders.tokenizer, tokens)
    rows = mllm.get_input_embeddings().num_embeddings
    if len(tokenizer) > rows and not fresh:
        raise ValueError(
            f"{tokens} image tokens need an embedding of {len(tokenizer)} rows, and the checkpoint's has "
            f"{rows}: set image_tokens to what it was trained with"
        )
    if len(tokenizer) > rows:
        mllm.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    pipeline = GoTPipeline(
        mllm=mllm.eval(),
        tokenizer=tokenizer,
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folders.image_processor),
        projector=projector.eval(),
        unet=unet.eval(),
        vae=vae.eval(),
        scheduler=load_scheduler(folders),
        **chosen,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
