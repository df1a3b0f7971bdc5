"""How a pipeline's parts are made ready for a stage and plain again behind it, and how they lie on workers.

Belongs here: what the trainer and the training plan (``got_core.budget``) both do to a model: adapters,
checkpointing, what is spread by itself. Not here: the loop (``trainer``) and what workers exchange
(``parallel``).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.train.config import StageConfig
from got_core.train.muon import hidden_matrices


def prepare_parts(pipeline: GoTPipeline, config: StageConfig, frozen: torch.dtype = torch.float32) -> None:
    """Make a pipeline's parts those that a stage trains, in place.

    ``frozen``: format of what language model and drawing network do not train.
    """
    # Weights, moments and averages are 32 bits, whatever the pipeline was kept in: steps are small.
    pipeline.mllm.to(torch.float32)
    for part in (pipeline.projector, pipeline.unet, pipeline.vae):
        # Not diffusers' own `to`, which warns of parts that should be in 32 bits while it makes them so.
        nn.Module.to(part, torch.float32)
    pipeline.register_modules(mllm=attach_lora(pipeline.mllm, config))
    if config.drawing_lora_rank:
        drawer_of(pipeline.unet).add_lora(
            rank=config.drawing_lora_rank, alpha=config.lora_alpha, dropout=config.lora_dropout
        )
    if frozen != torch.float32:
        _keep_frozen_in(frozen, pipeline.mllm, pipeline.unet)
    # Behind the adapters: PEFT lets the inputs of a model that checkpoints need gradients once more.
    set_checkpointing(
        pipeline, wanted=config.gradient_checkpointing, selective=config.selective_checkpointing
    )


def attach_lora(mllm: nn.Module, config: StageConfig) -> nn.Module:
    """The language model with a stage's LoRA layers; a head that was the embedding has its own weights."""
    return planner_of(mllm).with_lora(
        rank=config.lora_rank,
        alpha=config.lora_alpha,
        dropout=config.lora_dropout,
        whole=config.language_whole,
    )


@torch.no_grad()
def _keep_frozen_in(dtype: torch.dtype, *networks: nn.Module) -> None:
    for network in networks:
        for parameter in network.parameters():
            if not parameter.requires_grad and parameter.is_floating_point():
                parameter.data = parameter.data.to(dtype)


def merge_adapters(pipeline: GoTPipeline) -> None:
    """Merge LoRA into the weights it belongs to, in place, in 32 bits: in fewer, most of it would be lost.

    Where weights were kept in fewer, that happens on the CPU, for a GPU that needs that has no room.
    """
    networks = {"mllm": pipeline.mllm, "unet": pipeline.unet}
    if any(p.dtype != torch.float32 for part in networks.values() for p in part.parameters()):
        pipeline.to("cpu")
        for part in networks.values():
            nn.Module.to(part, torch.float32)
    drawer_of(pipeline.unet).merge_lora()
    pipeline.register_modules(mllm=pipeline.mllm.merge_and_unload())


def set_checkpointing(pipeline: GoTPipeline, *, wanted: bool, selective: bool = False) -> None:
    """Recompute activations (see ``model.recomputation``) and decode pictures one by one, or neither."""
    pipeline.planner.set_checkpointing(wanted, selective=selective)
    pipeline.drawer.set_checkpointing(wanted, selective=selective)
    if wanted:
        pipeline.vae.enable_slicing()
    else:
        pipeline.vae.disable_slicing()


def plain_pipeline(pipeline: GoTPipeline) -> GoTPipeline:
    """The pipeline without LoRA layers and without what only training needs."""
    merge_adapters(pipeline)
    set_checkpointing(pipeline, wanted=False)
    return evaluating(pipeline)


def evaluating(pipeline: GoTPipeline) -> GoTPipeline:
    """The pipeline with all parts in evaluation mode, in place."""
    for part in (pipeline.mllm, pipeline.projector, pipeline.unet, pipeline.vae):
        part.eval()
    return pipeline


def sharded_layers(model: GoTModel) -> list[nn.Module]:
    """Layers whose parameters are spread by themselves, inner ones first; the rest of the model is one more.

    They are those that transformers and diffusers name as indivisible. Each takes the parameters that no
    layer before it has taken; the autoencoder's are not spread.
    """
    layers = [
        *planner_of(model.mllm).indivisible_layers(),
        *drawer_of(model.unet).indivisible_layers(),
    ]
    return layers[::-1]


def vocabulary_weights(model: GoTModel) -> list[Tensor]:
    """Trained weights with a row a token: of the language model's embedding, and of its head.

    Decoupled weight decay shrinks a row in every step, also that of a token which no text of the training
    holds and whose meaning is then lost to the finished model.
    """
    network = planner_of(model.mllm).network
    tables = (network.get_input_embeddings(), network.get_output_embeddings())
    return [p for table in tables for p in table.parameters() if p.requires_grad]


def muon_weights(model: GoTModel, config: StageConfig) -> list[Tensor]:
    """Weights that Muon takes: those between hidden layers of the drawing network, which is trained whole."""
    outer_layers = drawer_of(model.unet).outer_layers
    return hidden_matrices(model.unet, outer_layers) if config.optimizer == "muon" else []
