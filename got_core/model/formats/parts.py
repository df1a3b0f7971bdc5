"""What all ways of loading a GoT model share: where configurations are, empty parts, one report of bad keys.

Belongs here: building a pipeline around parts that came from somewhere. Does not belong here: the layouts
they came in (``released``, ``published``) and sizes chosen by a recipe (``build``).
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, SchedulerMixin, UNet2DConditionModel
from torch import Tensor, nn
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
from got_core.model.formats.names import canonical_name
from got_core.model.formats.shards import read_state
from got_core.model.guidance import GuidanceProjector, widen_input
from got_core.model.pipeline import GoTPipeline
from got_core.model.precision import DTYPES, autoencoder_dtype, widest
from got_core.model.tokens import generation_tokens
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
            scheduler_class=_published_scheduler(sdxl / "scheduler"),
        )


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """A JSON file of settings. Raises FileNotFoundError or ValueError, which name it."""
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {name}; download it with the rest of the folder")
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}); download it again") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path} is not a configuration: it holds a {type(config).__name__}, not an object")
    return config


def _published_scheduler(folder: Path) -> str:
    """GoT's own scheduler, but for weights that were trained along a straight path."""
    # A folder that is not there is named with all others that are not.
    named = read_config(folder, "scheduler_config.json").get("_class_name") if folder.is_dir() else ""
    return str(named) if "FlowMatch" in str(named) else ConfigFolders.scheduler_class


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
    folder: Path, report: KeyReport, dtype: torch.dtype | None = None, variant: str | None = None
) -> AutoencoderKL | PatchAutoencoder:
    """The autoencoder with the weights of its folder; keys that do not fit go to the report."""
    vae = empty_autoencoder(folder)
    fill(vae, folder_state("vae", vae, folder, report, variant), dtype)
    return vae


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
