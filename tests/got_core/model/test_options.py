"""The arguments of a pipeline's methods: declared once, shown in every signature."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest
import torch

from got_core.model.options import DrawingOptions, PlanningOptions
from got_core.model.pipeline import GoTPipeline
from tests.got_core.tiny_pipeline import tiny_pipeline

DRAWING = {option.name: option.default for option in fields(DrawingOptions)}
PLANNING = {option.name: option.default for option in fields(PlanningOptions)}


@pytest.fixture(scope="module")
def pipeline() -> GoTPipeline:
    return tiny_pipeline()


@pytest.mark.parametrize(
    ("method", "first", "options"),
    [
        (GoTPipeline.draw, ["chains", "prompt", "image"], DRAWING),
        (GoTPipeline.__call__, ["prompt", "image"], PLANNING | DRAWING),
        (GoTPipeline.plan, ["prompt", "image"], PLANNING),
        (GoTPipeline.write_chains, ["prompt", "image"], PLANNING),
    ],
)
def test_every_argument_stands_in_the_signature(method: object, first: list[str], options: dict) -> None:
    parameters = inspect.signature(method).parameters
    assert list(parameters)[1 : len(first) + 1] == first
    assert {name: parameters[name].default for name in options} == options
    assert all(one.kind is not inspect.Parameter.VAR_KEYWORD for one in parameters.values())


@pytest.mark.parametrize("options", [DrawingOptions, PlanningOptions])
def test_every_option_is_explained(options: type) -> None:
    source = inspect.getsource(options)
    body = source[: source.index("    def ")].splitlines()
    for option in fields(options):
        line = next(k for k, text in enumerate(body) if text.startswith(f"    {option.name}: "))
        assert body[line + 1].strip().startswith('"""'), option.name


def test_an_argument_that_does_not_exist_is_named(pipeline: GoTPipeline) -> None:
    calls = {
        "pipe": lambda **given: pipeline("a cat", **given),
        "pipe.draw": lambda **given: pipeline.draw([], "a cat", **given),
        "pipe.plan": lambda **given: pipeline.plan("a cat", **given),
    }
    for name, call in calls.items():
        with pytest.raises(TypeError, match=rf"{name}\(\) got an unexpected keyword argument 'guidance'"):
            call(guidance=7.5)
    with pytest.raises(TypeError, match="'temperature'"):
        pipeline.draw([], "a cat", temperature=1.0)


def test_planning_uses_a_copy_of_each_prompts_first_generator() -> None:
    generators = [torch.Generator().manual_seed(k) for k in range(4)]
    options = DrawingOptions(generator=generators, num_images_per_prompt=2)
    copies = options.planning_generator()
    assert isinstance(copies, list)
    assert [int(torch.randint(2**40, (), generator=one)) for one in copies] == [
        int(torch.randint(2**40, (), generator=generators[k])) for k in (0, 2)
    ]
