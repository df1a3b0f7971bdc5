"""Attention kernels while a model is trained: exchanged where the fused ones are slow, put back afterwards.

Belongs here: which kernels a model has, and setting them. Not here: when the fused ones are slow (``optim``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from diffusers.models.attention_processor import AttentionProcessor, AttnProcessor, AttnProcessor2_0

from got_core.model.pipeline import GoTPipeline

Model: TypeAlias = Any
"""A network of transformers, or of diffusers. Of neither interface: one whose attention is never changed."""


@dataclass(frozen=True)
class Kernels:
    """What a model attends with: processors by place (diffusers), implementations by part (transformers)."""

    processors: dict[str, AttentionProcessor]
    implementations: dict[str, str]

    @classmethod
    def of(cls, model: Model) -> Kernels:
        """Those that a model has now."""
        if hasattr(model, "attn_processors"):
            return cls(dict(model.attn_processors), {})
        if not hasattr(model, "set_attn_implementation"):
            return cls({}, {})
        config = model.config
        parts = {name: getattr(config, name, None) for name in config.sub_configs}
        return cls(
            {},
            {
                "": config._attn_implementation,
                **{name: part._attn_implementation for name, part in parts.items() if part is not None},
            },
        )

    def plain(self) -> Kernels:
        """The same without fused kernels. Processors of another kind (adapters) stay as they are."""
        return Kernels(
            {
                place: AttnProcessor() if type(processor) is AttnProcessor2_0 else processor
                for place, processor in self.processors.items()
            },
            dict.fromkeys(self.implementations, "eager"),
        )

    def fused(self) -> Kernels:
        """The same with fused kernels in place of plain ones. Others stay as they are."""
        return Kernels(
            {
                place: AttnProcessor2_0() if type(processor) is AttnProcessor else processor
                for place, processor in self.processors.items()
            },
            {part: "sdpa" if name == "eager" else name for part, name in self.implementations.items()},
        )

    def set_on(self, model: Model) -> None:
        """Let a model of the same structure attend with these."""
        if self.processors:
            # A copy: diffusers takes out what it has placed.
            model.set_attn_processor(dict(self.processors))
        if self.implementations:
            model.set_attn_implementation(dict(self.implementations))


def attentive_parts(pipeline: GoTPipeline) -> list[Model]:
    """The networks of a pipeline that attend."""
    return [pipeline.planner.network, pipeline.drawer.network]


def set_kernels(pipeline: GoTPipeline, kernels: Sequence[Kernels]) -> None:
    """Let a pipeline's networks, as :func:`attentive_parts` gives them, attend with these kernels."""
    for model, wanted in zip(attentive_parts(pipeline), kernels, strict=True):
        wanted.set_on(model)


@contextmanager
def attending(models: Sequence[Model], kernels: Sequence[Kernels]) -> Iterator[None]:
    """Inside, each model attends with the kernels beside it; afterwards with those it had before."""
    before = [Kernels.of(model) for model in models]
    try:
        for model, wanted in zip(models, kernels, strict=True):
            wanted.set_on(model)
        yield
    finally:
        for model, had in zip(models, before, strict=True):
            had.set_on(model)


@contextmanager
def plain_attention(model: Model, *, wanted: bool) -> Iterator[None]:
    """Inside, the model attends without fused kernels, if that is wanted; afterwards as before."""
    kernels = Kernels.of(model)
    with attending([model], [kernels.plain() if wanted else kernels]):
        yield
