"""Model offloading, as far as it shows on a CPU: accelerate's own hooks, with the CPU as the accelerator.

Weights never move here, so where they would be is worked out from the hooks that run: a model whose hook runs
is on the accelerator, and the one before it in the sequence has left.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from accelerate.hooks import CpuOffload
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.pipeline import GoTPipeline
from tests.got_core.tiny_pipeline import tiny_pipeline

CHAIN = parse("a red circle (100,100),(400,400)")
SOURCE = Image.new("RGB", (64, 64), (200, 30, 30))


class Watch:
    """Which models are on the accelerator, and the order in which their hooks ran."""

    def __init__(self, pipeline: GoTPipeline) -> None:
        parts = pipeline.components.items()
        self.names = {id(part): name for name, part in parts if isinstance(part, torch.nn.Module)}
        self.resident: set[str] = set()
        self.order: list[str] = []

    def hook_ran(self, hook: CpuOffload, module: torch.nn.Module) -> None:
        name = self.names[id(module)]
        if hook.prev_module_hook is not None:
            self.resident.discard(self.names[id(hook.prev_module_hook.model)])
        self.resident.add(name)
        if self.order[-1:] != [name]:
            self.order.append(name)

    def layer_ran(self, owner: str) -> None:
        assert owner in self.resident, f"{owner} computes while it is offloaded"


@pytest.fixture
def pipeline() -> GoTPipeline:
    return tiny_pipeline()


@pytest.fixture
def watch(pipeline: GoTPipeline, monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    """Offloading switched on, every hook and every layer with weights watched."""
    pipeline.enable_model_cpu_offload(device="cpu")
    watching, original = Watch(pipeline), CpuOffload.pre_forward

    def pre_forward(hook: CpuOffload, module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        watching.hook_ran(hook, module)
        return original(hook, module, *args, **kwargs)

    monkeypatch.setattr(CpuOffload, "pre_forward", pre_forward)
    for model in (getattr(pipeline, name) for name in watching.names.values()):
        owner = watching.names[id(model)]
        for layer in model.modules():
            if layer is not model and next(layer.parameters(recurse=False), None) is not None:
                layer.register_forward_pre_hook(lambda *_, owner=owner: watching.layer_ran(owner))
    yield watching


def test_nothing_computes_while_it_is_offloaded(pipeline: GoTPipeline, watch: Watch) -> None:
    pipeline("a red circle")
    assert watch.order == ["mllm", "projector", "vae", "unet", "vae"]


@pytest.mark.parametrize("source", [None, SOURCE])
def test_drawing_without_planning_brings_the_language_model_back(
    pipeline: GoTPipeline, watch: Watch, source: Image.Image | None
) -> None:
    pipeline.plan("a red circle", source)
    watch.resident.clear()
    pipeline.draw(CHAIN, "a red circle", source)
    assert watch.order == ["mllm", "projector", "vae", "unet", "vae"]


def test_the_unet_shares_the_accelerator_with_the_autoencoder_alone(
    pipeline: GoTPipeline, watch: Watch
) -> None:
    during: list[set[str]] = []

    def callback(*_: object) -> None:
        during.append(set(watch.resident))

    pipeline("a red circle", num_inference_steps=3, callback_on_step_end=callback)
    assert during == [{"unet", "vae"}] * 3
    assert watch.resident == {"vae"}


def test_pictures_and_rounds_are_the_same_as_without_offloading(pipeline: GoTPipeline) -> None:
    def draw() -> list[Image.Image]:
        rounds = pipeline.edit_rounds(SOURCE, ["a", "b"], generator=torch.Generator().manual_seed(0))
        return [output.images[0] for output in rounds]

    before = draw()
    pipeline.enable_model_cpu_offload(device="cpu")
    assert [image.tobytes() for image in draw()] == [image.tobytes() for image in before]


def test_hooks_are_put_back_after_each_call(pipeline: GoTPipeline, watch: Watch) -> None:
    for ask in (lambda: pipeline.plan("x"), lambda: pipeline.draw(CHAIN, "x"), lambda: pipeline("x")):
        hooks = list(pipeline._all_hooks)
        ask()
        assert len(pipeline._all_hooks) == len(hooks) == 4
        assert not set(map(id, hooks)) & set(map(id, pipeline._all_hooks))
