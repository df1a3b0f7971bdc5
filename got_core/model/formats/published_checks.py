"""What published folders say of themselves, checked before a weight is read: is this a start for GoT?

Belongs here: JSON files of SDXL and Qwen2.5-VL folders against what GoT can train. Does not belong here:
keys and shapes of weights (``parts``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from got_core.model.formats.configs import ConfigFolders, read_config
from got_core.model.formats.files import find_weights, weight_files
from got_core.model.formats.parts import AUTOENCODERS, UNETS

SDXL = "take a folder like SDXL base 1.0's"
QWEN = "take a folder like Qwen2.5-VL-3B-Instruct's"

REFINER = {"cross_attention_dim": 1280, "projection_class_embeddings_input_dim": 2560}
"""What SDXL's refiner says; it takes five size numbers, base and GoT take six."""
Config = Mapping[str, Any]


def check_published(folders: ConfigFolders, prediction: str, variant: str | None = None) -> None:
    """Raise ValueError, which names every fault, for folders that GoT cannot be trained from.

    ``prediction`` is what the model is to predict, ``variant`` the one of SDXL's weight files. Raises
    FileNotFoundError for configurations or weights that are not there.
    """
    unet, vae = read_config(folders.unet, "config.json"), read_config(folders.vae, "config.json")
    scheduler = read_config(folders.scheduler, "scheduler_config.json")
    language = read_config(folders.mllm, "config.json")
    faults = [
        *_unet_faults(folders.unet, unet, aligned=folders.projector is not None),
        *_pipeline_faults(folders.unet.parent),
        *_autoencoder_faults(folders.vae, vae, unet),
        *_scheduler_faults(
            folders.scheduler / "scheduler_config.json",
            _index(folders.unet.parent).get("prediction") or predicted(scheduler),
            prediction,
        ),
        *_language_faults(folders.mllm, language),
        *(_projector_faults(folders.projector, unet, language) if folders.projector else ()),
    ]
    if faults:
        raise ValueError("GoT cannot be trained from these folders:\n" + "\n".join(faults))
    _check_weights(folders, variant)


def _unet_faults(folder: Path, config: Config, *, aligned: bool) -> Iterator[str]:
    """``aligned``: its language model was trained for it, so it may read conditions beside the latents."""
    name = config.get("_class_name")
    if name not in UNETS:
        yield f"{folder} is of class {name!r}; known are {', '.join(UNETS)}: {SDXL}"
        return
    takes, gives = config.get("in_channels", 4), config.get("out_channels", 4)
    if takes != gives and not (aligned and takes == 3 * gives):
        kind = {9: " (inpainting)", 8: " (edits by instruction)", 3 * gives: " (GoT's own)"}.get(takes, "")
        yield (
            f"{folder} takes {takes} channels and gives {gives}{kind}: it is not a plain text-to-image "
            f"U-Net; {SDXL} (a GoT checkpoint is loaded with load_got_checkpoint)"
        )
    conditions, width = config.get("addition_embed_type"), config.get("projection_class_embeddings_input_dim")
    if conditions != "text_time" or not width or not config.get("addition_time_embed_dim"):
        yield (
            f"{folder} is no U-Net of SDXL's kind: its addition_embed_type is {conditions!r} (Stable "
            f"Diffusion 1 and 2 have none), GoT needs 'text_time' with its sizes; {SDXL}"
        )
    elif width <= 6 * config["addition_time_embed_dim"] or REFINER.items() <= config.items():
        yield (
            f"{folder} has no room for six size numbers beside a pooled text (width {width}), as in SDXL's "
            f"refiner; {SDXL}"
        )
    for setting in ("class_embed_type", "encoder_hid_dim_type"):
        if config.get(setting) is not None:
            yield f"{folder} wants another condition ({setting} {config[setting]!r}), GoT has none; {SDXL}"


def _projector_faults(folder: Path, unet: Config, language: Config) -> Iterator[str]:
    config = read_config(folder, "config.json")
    text = language.get("text_config", language)
    pooled = (unet.get("projection_class_embeddings_input_dim") or 0) - 6 * (
        unet.get("addition_time_embed_dim") or 0
    )
    wanted = {
        "hidden_size": text.get("hidden_size"),
        "cross_attention_dim": unet.get("cross_attention_dim"),
        "pooled_dim": pooled,
    }
    for name, size in wanted.items():
        if config.get(name) != size:
            yield (
                f"{folder} has {name} {config.get(name)}, the models that it stands between have {size}: "
                "take the two folders that were trained together, or remove it for a fresh projector"
            )


def _index(folder: Path) -> dict[str, Any]:
    """What a folder in diffusers' layout says of itself as a whole; empty where it has no index."""
    there = (folder / "model_index.json").is_file()
    return read_config(folder, "model_index.json") if there else {}


def _pipeline_faults(folder: Path) -> Iterator[str]:
    """What the folder's own index says it is for, where it has one."""
    if not (index := _index(folder)):
        return
    name = str(index.get("_class_name"))
    if index.get("requires_aesthetics_score"):
        yield f"{folder} is SDXL's refiner (requires_aesthetics_score): it draws no whole pictures; {SDXL}"
    elif name.startswith("StableDiffusion") and not name.startswith("StableDiffusionXL"):
        yield f"{folder} is a folder of {name}, not of SDXL; {SDXL}"
    elif "Inpaint" in name:
        yield f"{folder} is a folder of {name}: for inpainting, not for text to image; {SDXL}"


def _autoencoder_faults(folder: Path, config: Config, unet: Config) -> Iterator[str]:
    name = config.get("_class_name")
    if name not in AUTOENCODERS:
        yield f"{folder} is of class {name!r}; known are {', '.join(AUTOENCODERS)}: {SDXL}"
        return
    latents, wanted = config.get("latent_channels", 4), unet.get("out_channels", 4)
    if latents != wanted:
        yield (
            f"{folder} has {latents} latent channels, the U-Net beside it draws {wanted}: take the "
            "autoencoder that the U-Net was trained with"
        )
    colors = (config.get("in_channels", 3), config.get("out_channels", 3))
    if colors != (3, 3):
        yield f"{folder} takes {colors[0]} colour channels and gives {colors[1]}, GoT has 3; {SDXL}"
    for setting in ("shift_factor", "latents_mean", "latents_std"):
        if config.get(setting):
            yield f"{folder} scales latents by {setting}, GoT by scaling_factor alone; {SDXL}"


def predicted(config: Config) -> str:
    """What a U-Net predicts, from the configuration of the scheduler beside it.

    No scheduler of diffusers says that its U-Net answers the clean latent on a straight path: such a folder's
    index says so (``prediction``).
    """
    name = str(config.get("_class_name"))
    if "FlowMatch" in name or config.get("use_flow_sigmas"):
        return "flow"
    if name.startswith("EDM"):
        return f"{config.get('prediction_type', 'epsilon')} of EDM"
    said = str(config.get("prediction_type", "epsilon"))
    return {"flow_prediction": "flow", "sample": "sample of diffusion steps"}.get(said, said)


def _scheduler_faults(path: Path, found: str, wanted: str) -> Iterator[str]:
    if found == wanted:
        return
    remedy = f"take a folder whose U-Net predicts {wanted!r}"
    if found in ("epsilon", "flow"):
        remedy += f", or set prediction to {found!r} in the recipe (model.scheduler and the stages' loss)"
    elif wanted == "epsilon":
        remedy += ", as SDXL base 1.0 does"
    yield f"{path} says that the U-Net predicts {found!r}, the recipe wants {wanted!r}: {remedy}"


def _language_faults(folder: Path, config: Config) -> Iterator[str]:
    name = config.get("model_type")
    if name != "qwen2_5_vl":
        yield f"{folder} is a model of type {name!r}, GoT's language model is a 'qwen2_5_vl'; {QWEN}"
        return
    if config.get("quantization_config"):
        yield f"{folder} holds quantized weights, which cannot be trained; {QWEN}"
    wanted = {
        "image processor": ("preprocessor_config.json", "processor_config.json"),
        "tokenizer": ("tokenizer.json", "vocab.json"),
    }
    for part, names in wanted.items():
        if not any((folder / one).is_file() for one in names):
            yield f"{folder} lacks its {part} ({' or '.join(names)}); {QWEN}"


def _check_weights(folders: ConfigFolders, variant: str | None) -> None:
    """All weights are there, and a variant that was asked for is that of one part at least."""
    find_weights(folders.mllm)
    chosen = [find_weights(folder, variant) for folder in (folders.unet, folders.vae)]
    if variant is not None and variant not in [file.variant for file in chosen]:
        files = [file for folder in (folders.unet, folders.vae) for file in weight_files(folder)]
        there = sorted({file.variant or "plain" for file in files})
        raise ValueError(f"{folders.unet.parent} has no weights of variant {variant!r}; there are {there}")
