"""Sizes of a model that takes no memory.

Belongs here: the empty model and its number of parameters. Not here: what it computes (``budget``).
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from got_core.model.build import fresh_pipeline
from got_core.model.config import ModelConfig
from got_core.model.got import GoTModel
from got_core.model.pipeline import GoTPipeline
from got_core.model.tokens import train_tokenizer
from got_core.train.config import StageConfig
from got_core.train.objective import Objective
from got_core.train.prepare import prepare_parts
from got_core.train.stage import Stage

META = torch.device("meta")


def empty_pipeline(config: ModelConfig) -> GoTPipeline:
    """The pipeline at its size, without memory."""
    tokenizer = train_tokenizer([], config.image_tokens)
    with META:
        return fresh_pipeline(config, tokenizer)


def count(parameters: Iterable[Tensor], *, trained: bool = False) -> int:
    """Number of scalars in parameters; of the trained ones only, if asked."""
    return sum(p.numel() for p in parameters if p.requires_grad or not trained)


def empty_model(pipeline: GoTPipeline, config: StageConfig, objective: Objective) -> GoTModel:
    """The model of an empty pipeline as a stage trains it; changes the pipeline's language model."""
    with META:
        prepare_parts(pipeline, config)
    model = GoTModel.of(pipeline, config.loss, objective)
    objective.prepare(model)
    return model


def trained_parameters(config: ModelConfig, stage: Stage) -> int:
    """How many parameters a stage trains of a model of these sizes. Takes seconds at any size."""
    model = empty_model(empty_pipeline(config), stage.config, stage.objective)
    return count(model.parameters(), trained=True)
