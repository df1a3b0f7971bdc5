"""Where the configurations of a model's parts lie, and reading them.

Belongs here: folders and JSON files. Does not belong here: whether GoT can be trained from what they say
(``published_checks``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class ConfigFolders:
    """Where each part's configuration (and the tokenizer) is."""

    mllm: Path
    tokenizer: Path
    image_processor: Path
    unet: Path
    vae: Path
    scheduler: Path
    projector: Path | None = None
    """What a language model that was aligned with the drawing model beside it brings along."""
    scheduler_class: str = "DDPMScheduler"
    """SDXL's folder names another class; GoT draws with this one, of the same settings."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What a folder says of its pipeline: resolution, scales, steps ..., and what no pipeline knows."""

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
        return cls(
            mllm=folder / "mllm",
            tokenizer=either("tokenizer"),
            image_processor=either("image_processor"),
            unet=folder / "unet",
            vae=folder / "vae",
            scheduler=folder / "scheduler",
            scheduler_class=index.get("scheduler", [None, cls.scheduler_class])[1],
            settings={key: value for key, value in index.items() if not _names_a_class(value)},
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
            projector=qwen / "projector" if (qwen / "projector").is_dir() else None,
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
