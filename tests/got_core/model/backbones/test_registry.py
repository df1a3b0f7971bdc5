"""Adapters are found by class; what one family alone has is named in its own module."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import got_core
from got_core.model.backbones.qwen2_5_vl import QwenPlanner
from got_core.model.backbones.registry import drawer_of, planner_of
from got_core.model.backbones.sdxl_unet import UNetDrawer
from got_core.train.config import StageConfig
from got_core.train.prepare import attach_lora
from tests.got_core.tiny_pipeline import tiny_pipeline

SOURCE = Path(got_core.__file__).parent
FAMILIES = {
    "Qwen2.5-VL": (
        r"\bQwen2|Qwen(Planner|Chat)|qwen2_5|image_grid_thw|pixel_values|mm_token_type_ids|\blm_head\b"
        r"|embed_tokens|_layernorm\b|[qkvo]_proj\b|image_pad|vision_start|gradient_checkpointing_enable"
    ),
    "U-Net": (
        r"UNet2D|UNetWith|UNetDrawer|sdxl_unet|\bconv_(in|out)\b|input_skip|added_cond_kwargs|text_embeds"
        r"|encoder_hidden_states|projection_class_embeddings|addition_time_embed|(down|up|mid)_blocks?\b"
    ),
}
EVERYWHERE = {"model/backbones/", "model/formats/", "model/build.py", "model/config.py"}
"""Families, files, sizes, and what builds instances of those sizes."""
ALLOWED = {
    # The small planner of the foundation is an instance of this family, learns layer by layer, and is
    # written as the family's weights are published.
    "Qwen2.5-VL": {
        "foundation/export.py",
        "foundation/vision.py",
        "foundation/language_model.py",
        "model/tokens.py",
    },
    # The path of the first is part of saved pipelines; the autoencoder's layers have the same names; the
    # last is written as the family's weights are published.
    "U-Net": {"model/unet.py", "model/canvas_encoder.py", "foundation/export.py"},
}
OTHERS = ("annotate/", "settings.py")
"""Here a vision model is a server that annotates, not the planner."""
JUDGES = {
    "evaluate/networks.py",
    "evaluate/geneval/colours.py",
    "evaluate/geneval/mask2former.py",
}
"""CLIP, DINO and Mask2Former take pictures under the name that every vision model of transformers uses."""
SHARED = re.compile(r"pixel_values")


def code_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines without comments and docstrings."""
    text = re.sub(r'""".*?"""', lambda found: "\n" * found[0].count("\n"), path.read_text(), flags=re.S)
    for number, line in enumerate(text.splitlines(), 1):
        yield number, line.split("#")[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_one_family_stand_in_few_modules(family: str) -> None:
    allowed = tuple(EVERYWHERE | ALLOWED[family] | set(OTHERS))
    found, pattern = [], re.compile(FAMILIES[family])
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(allowed) and not name.startswith("recipes"):
            own = ((at, SHARED.sub("", line) if name in JUDGES else line) for at, line in code_lines(path))
            found += [f"{name}:{at}: {line}" for at, line in own if pattern.search(line)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_module_that_may_name_a_family_does(family: str) -> None:
    for name in ALLOWED[family]:
        assert any(re.search(FAMILIES[family], line) for _, line in code_lines(SOURCE / name)), name


@pytest.mark.parametrize("name", sorted(JUDGES))
def test_every_judge_that_may_take_pictures_does(name: str) -> None:
    assert any(SHARED.search(line) for _, line in code_lines(SOURCE / name))


def test_adapters_are_found_below_wrappers_and_for_subclasses() -> None:
    pipeline = tiny_pipeline()
    assert isinstance(pipeline.planner, QwenPlanner)
    assert isinstance(pipeline.drawer, UNetDrawer)
    wrapped = attach_lora(pipeline.mllm, StageConfig(steps=1, lora_rank=2))
    assert planner_of(wrapped).network is wrapped.get_base_model()
    compiled = torch.compile(pipeline.unet)
    assert drawer_of(compiled).network is compiled
    assert drawer_of(compiled).latent_channels == pipeline.drawer.latent_channels
    with pytest.raises(TypeError, match="no adapter for a Linear; known are Qwen2_5_VL"):
        planner_of(nn.Linear(1, 1))


def test_the_parts_of_a_backbone_hold_all_its_weights() -> None:
    pipeline = tiny_pipeline()
    for backbone in (pipeline.planner, pipeline.drawer):
        held = {id(p) for part in backbone.parts().values() for p in part.parameters()}
        assert held == {id(p) for p in backbone.network.parameters()}
