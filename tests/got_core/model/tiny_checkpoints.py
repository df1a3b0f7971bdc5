"""Tiny checkpoints in the published formats: an SDXL folder, a Qwen2.5-VL folder, a GoT state dict."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import peft
import torch
from diffusers import EulerDiscreteScheduler
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from got_core.model.backbones.qwen2_5_vl import CHAT_TEMPLATE, END_OF_TEXT, SPECIAL_TOKENS
from got_core.model.backbones.sdxl_unet import widen_input
from got_core.model.build import (
    build_autoencoder,
    build_image_processor,
    build_language_model,
    build_projector,
    build_unet,
)
from got_core.model.config import AutoencoderConfig, LanguageModelConfig, ModelConfig, UNetConfig

IMAGE_TOKENS = 4
ROWS = 320
"""Rows of the embedding: more than there are tokens, as in the published one."""
RANK = 3
ALPHA = 6.0
TINY = ModelConfig(
    resolution=16,
    image_tokens=IMAGE_TOKENS,
    language_model=LanguageModelConfig(
        hidden_size=32,
        layers=2,
        heads=2,
        key_value_heads=1,
        intermediate_size=32,
        mrope_section=(2, 3, 3),
        vocabulary=ROWS,
        tie_embeddings=True,
        vision_hidden_size=16,
        vision_layers=2,
        vision_heads=1,
        vision_intermediate_size=16,
        patch_size=4,
        image_size=16,
        vision_window=8,
        vision_full_attention=(1,),
    ),
    autoencoder=AutoencoderConfig(
        kind="kl",
        patch_size=2,
        latent_channels=4,
        block_out_channels=(8, 16),
        layers_per_block=1,
        scaling_factor=0.13025,
    ),
    unet=UNetConfig(
        block_out_channels=(8, 16),
        attention_levels=(False, True),
        attention_heads=(1, 2),
        transformer_layers=(1, 2),
        norm_groups=8,
        cross_attention_dim=16,
        pooled_dim=8,
        time_id_dim=4,
    ),
)
SETTINGS = {
    "resolution": 16,
    "image_tokens": IMAGE_TOKENS,
    "source_size": 16,
    "inference_steps": 2,
    "max_new_tokens": 8,
}


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """Bytes and Qwen's special tokens; GoT's tokens are not there yet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *SPECIAL_TOKENS]
    tokenizer = Tokenizer(models.BPE(vocab={name: k for k, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token=END_OF_TEXT,
        chat_template=CHAT_TEMPLATE,
    )


@dataclass
class Folders:
    """Published folders, and the state dict of a GoT model made from them."""

    sdxl: Path
    qwen: Path
    released: dict[str, Tensor]
    merged: dict[str, Tensor]
    """The language model after PEFT's own merge, names of transformers 5."""


def old_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names as transformers 4.49 wrote them."""
    return {re.sub(r"model\.(language_model|visual)\.", _older, key): value for key, value in state.items()}


def _older(match: re.Match) -> str:
    return {"language_model": "model.", "visual": "visual."}[match[1]]


def shake(module: nn.Module, seed: int) -> None:
    """Fresh weights everywhere; PEFT and diffusers start some at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


def write_published(folder: Path) -> Folders:
    """An SDXL folder, a Qwen2.5-VL folder and, in memory, the released state dict."""
    torch.manual_seed(0)
    tokenizer = qwen_tokenizer()
    mllm = build_language_model(TINY.language_model, tokenizer)
    unet, vae, projector = build_unet(TINY), build_autoencoder(TINY), build_projector(TINY)
    for seed, module in enumerate((mllm, unet, vae, projector)):
        shake(module, seed)
    sdxl, qwen = folder / "sdxl", folder / "qwen"
    unet.save_pretrained(sdxl / "unet")
    vae.save_pretrained(sdxl / "vae")
    EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        steps_offset=1,
        timestep_spacing="leading",
    ).save_pretrained(sdxl / "scheduler")
    mllm.config.save_pretrained(qwen)
    tokenizer.save_pretrained(qwen)
    build_image_processor(TINY.language_model).save_pretrained(qwen)
    plain = {key: value.clone() for key, value in mllm.state_dict().items() if key != "lm_head.weight"}
    save_file(old_names(plain), qwen / "model.safetensors", {"format": "pt"})
    widen_input(unet)
    shake(unet.conv_in, 9)
    language, merged = _peft_states(mllm)
    released = {
        **{f"mllm.{key}": value for key, value in old_names(language).items()},
        "output_projector.projector.weight": projector.output_projector.weight.detach(),
        "output_projector.projector.bias": projector.output_projector.bias.detach(),
        "output_projector_add.projector.weight": projector.output_projector_add.weight.detach(),
        "output_projector_add.projector.bias": projector.output_projector_add.bias.detach(),
        **{f"unet.{key}": value for key, value in unet.state_dict().items()},
        **{f"vae.{key}": value for key, value in vae.state_dict().items()},
    }
    return Folders(sdxl, qwen, {key: value.clone() for key, value in released.items()}, merged)


def _peft_states(mllm: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state PEFT keeps, LoRA matched by suffix as in the release, and the state after PEFT's merge."""
    mllm.config.tie_word_embeddings = mllm.config.text_config.tie_word_embeddings = False
    mllm.lm_head.weight = nn.Parameter(mllm.lm_head.weight.detach().clone())
    config = peft.LoraConfig(
        r=RANK,
        lora_alpha=ALPHA,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        modules_to_save=["embed_tokens", "lm_head", "input_layernorm", "post_attention_layernorm"],
    )
    wrapped = peft.get_peft_model(mllm, config)
    shake(wrapped, 5)
    state = {key: value.clone() for key, value in wrapped.state_dict().items()}
    return state, dict(wrapped.merge_and_unload().state_dict())


def write_shards(state: dict[str, Tensor], folder: Path, suffix: str = ".bin", shards: int = 3) -> None:
    """A sharded state dict with an index."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = "pytorch_model" if suffix == ".bin" else "model"
    names = [f"{stem}-{k + 1:05d}-of-{shards:05d}{suffix}" for k in range(shards)]
    parts: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for k, key in enumerate(sorted(state)):
        parts[names[k % shards]][key] = state[key]
    for name, part in parts.items():
        if suffix == ".bin":
            torch.save(part, folder / name)
        else:
            save_file(part, folder / name)
    write_index(folder, {key: name for name, part in parts.items() for key in part}, suffix)


def write_index(folder: Path, weight_map: dict[str, str], suffix: str = ".bin") -> None:
    name = "pytorch_model.bin" if suffix == ".bin" else "model.safetensors"
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def edit_file(path: Path, changes: dict[str, Tensor | None]) -> None:
    """Replace tensors of a safetensors file; None takes one out."""
    state = {key: value for key, value in (load_file(path) | changes).items() if value is not None}
    save_file(state, path, {"format": "pt"})
