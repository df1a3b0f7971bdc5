"""How a pipeline's parts are made ready for a stage, and how they lie on workers.

Belongs here: what the trainer and the training plan (``got_core.budget``) both do to a model: adapters,
checkpointing, what is spread by itself. Not here: the loop (``trainer``) and what workers exchange
(``parallel``).
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from got_core.model.formats.parts import separate_head
from got_core.model.got import GoTModel, base_language_model
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.muon import hidden_matrices

LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
TRAINED_WHOLE = ["embed_tokens", "lm_head", "input_layernorm", "post_attention_layernorm"]


def prepare_parts(pipeline: GoTPipeline, config: StageConfig) -> None:
    """Make a pipeline's parts those that a stage trains, in place."""
    # Weights, moments and averages are 32 bits, whatever the pipeline was kept in: steps are small.
    pipeline.mllm.to(torch.float32)
    for part in (pipeline.projector, pipeline.unet, pipeline.vae):
        # Not diffusers' own `to`, which warns of parts that should be in 32 bits while it makes them so.
        nn.Module.to(part, torch.float32)
    pipeline.register_modules(mllm=attach_lora(pipeline.mllm, config))
    # Behind the adapters: PEFT lets the inputs of a model that checkpoints need gradients once more.
    set_checkpointing(pipeline, wanted=config.gradient_checkpointing)


def attach_lora(mllm: nn.Module, config: StageConfig) -> PeftModel:
    """LoRA on the language model's projections; embeddings, head, norms whole; vision tower frozen.

    A head that shared the embedding's weights gets its own: both are trained, each for itself.
    """
    separate_head(mllm)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules=LORA_TARGETS,
        modules_to_save=TRAINED_WHOLE,
    )
    return get_peft_model(mllm, lora)


def set_checkpointing(pipeline: GoTPipeline, *, wanted: bool) -> None:
    """Recompute activations in the backward pass and encode pictures one by one, or neither."""
    mllm, unet, vae = base_language_model(pipeline.mllm), pipeline.unet, pipeline.vae
    if wanted:
        mllm.gradient_checkpointing_enable({"use_reentrant": False})
        unet.enable_gradient_checkpointing()
        vae.enable_slicing()
    else:
        mllm.gradient_checkpointing_disable()
        unet.disable_gradient_checkpointing()
        vae.disable_slicing()
    # Transformers' hooks make the frozen vision tower's input need a gradient: backward would run through it.
    mllm.disable_input_require_grads()


def sharded_layers(model: GoTModel) -> list[nn.Module]:
    """Layers whose parameters are spread by themselves, inner ones first; the rest of the model is one more.

    They are those that transformers and diffusers name as indivisible. Each takes the parameters that no
    layer before it has taken; the autoencoder's are not spread.
    """
    parts = (base_language_model(model.mllm), model.unet)
    names = {name for part in parts for name in part._no_split_modules or ()}
    layers = [layer for part in parts for layer in part.modules() if type(layer).__name__ in names]
    return layers[::-1]


def muon_weights(model: GoTModel, config: StageConfig) -> list[Tensor]:
    """Weights that Muon takes: those between hidden layers of the U-Net, which is trained whole."""
    return hidden_matrices(model.unet) if config.optimizer == "muon" else []
