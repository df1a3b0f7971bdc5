"""Pipelines come back in the number format in which they were saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from got_core.model.formats.published import load_foundation_folders
from got_core.model.formats.released import load_got_checkpoint, save_got_checkpoint
from got_core.model.pipeline import GoTPipeline
from got_core.model.precision import dtypes_of, loading_dtypes
from tests.got_core.model.tiny_checkpoints import SETTINGS, write_published
from tests.got_core.tiny_pipeline import tiny_pipeline

PARTS = ("mllm", "projector", "unet", "vae")
BF16, F16, F32 = torch.bfloat16, torch.float16, torch.float32


def formats(pipeline: GoTPipeline) -> dict[str, set[torch.dtype]]:
    return {name: {p.dtype for p in getattr(pipeline, name).parameters()} for name in PARTS}


def all_in(dtype: torch.dtype) -> dict[str, set[torch.dtype]]:
    return {name: {dtype} for name in PARTS}


def said(folder: Path) -> Any:
    return json.loads((folder / "model_index.json").read_text()).get("dtype")


def equal(mine: nn.Module, other: nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in mine.state_dict().items())


@pytest.mark.parametrize("dtype", [BF16, F16, F32])
def test_a_saved_pipeline_comes_back_in_its_format(tmp_path: Path, dtype: torch.dtype) -> None:
    pipeline = tiny_pipeline().to(dtype)
    pipeline.save_pretrained(tmp_path)
    assert said(tmp_path) == str(dtype).removeprefix("torch.")
    again = GoTPipeline.from_pretrained(tmp_path)
    assert formats(again) == all_in(dtype)
    assert all(equal(getattr(pipeline, name), getattr(again, name)) for name in PARTS)
    again.save_pretrained(tmp_path / "again")
    assert formats(GoTPipeline.from_pretrained(tmp_path / "again")) == all_in(dtype)


@pytest.mark.parametrize("option", ["dtype", "torch_dtype"])
def test_a_format_that_is_asked_for_comes_first(tmp_path: Path, option: str) -> None:
    tiny_pipeline().to(BF16).save_pretrained(tmp_path)
    wide = GoTPipeline.from_pretrained(tmp_path, **{option: F32})
    assert formats(wide) == all_in(F32) and wide.config.dtype == "float32"
    mixed = GoTPipeline.from_pretrained(tmp_path, **{option: {"vae": F32}})
    assert formats(mixed) == {**all_in(BF16), "vae": {F32}}
    assert mixed.config.dtype == {**dict.fromkeys(PARTS, "bfloat16"), "vae": "float32"}
    rest = GoTPipeline.from_pretrained(tmp_path, **{option: {"vae": F16, "default": F32}})
    assert formats(rest) == {**all_in(F32), "vae": {F16}}


def test_parts_in_different_formats_each_come_back_in_theirs(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.unet.to(BF16)
    pipeline.projector.to(F16)
    pipeline.save_pretrained(tmp_path)
    assert said(tmp_path) == {"mllm": "float32", "projector": "float16", "unet": "bfloat16", "vae": "float32"}
    again = GoTPipeline.from_pretrained(tmp_path)
    assert formats(again) == {"mllm": {F32}, "projector": {F16}, "unet": {BF16}, "vae": {F32}}


def test_nothing_is_lost_of_a_part_whose_tensors_differ(tmp_path: Path) -> None:
    pipeline = tiny_pipeline().to(BF16)
    pipeline.mllm.lm_head.to(F32)
    nn.init.normal_(pipeline.mllm.lm_head.weight)
    nn.init.normal_(pipeline.unet.conv_out.to(F32).weight)
    pipeline.save_pretrained(tmp_path)
    again = GoTPipeline.from_pretrained(tmp_path)
    assert formats(again) == {"mllm": {F32}, "projector": {BF16}, "unet": {F32}, "vae": {BF16}}
    assert torch.equal(again.mllm.lm_head.weight, pipeline.mllm.lm_head.weight)
    assert torch.equal(again.unet.conv_out.weight, pipeline.unet.conv_out.weight)


def test_pipelines_that_say_nothing_load_as_the_libraries_do(tmp_path: Path) -> None:
    tiny_pipeline().to(BF16).save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    del index["dtype"]
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    assert formats(GoTPipeline.from_pretrained(tmp_path)) == {**all_in(F32), "mllm": {BF16}}


@pytest.mark.parametrize("wrong", ["int8", "torch.bfloat16", 7, ["bfloat16"], {"unet": "half"}])
def test_a_format_that_nobody_knows_is_named(tmp_path: Path, wrong: Any) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    index = json.loads((tmp_path / "model_index.json").read_text())
    (tmp_path / "model_index.json").write_text(json.dumps(index | {"dtype": wrong}))
    with pytest.raises(ValueError, match=r"dtype .* is none of float64, float32, float16, bfloat16"):
        GoTPipeline.from_pretrained(tmp_path)
    assert formats(GoTPipeline.from_pretrained(tmp_path, dtype=F32)) == all_in(F32)


def test_an_autoencoder_that_overflows_in_float16_stays_wide(tmp_path: Path) -> None:
    folders = write_published(tmp_path / "published")
    path = folders.sdxl / "vae" / "config.json"
    load = load_foundation_folders
    assert json.loads(path.read_text())["force_upcast"]
    narrow = {**all_in(F16), "vae": {F32}}
    pipeline = load(folders.sdxl, folders.qwen, dtype=F16, **SETTINGS)
    assert formats(pipeline) == narrow
    # Not through float16: its weights are the published ones.
    assert equal(pipeline.vae, load(folders.sdxl, folders.qwen, **SETTINGS).vae)
    pipeline.save_pretrained(tmp_path / "saved")
    assert formats(GoTPipeline.from_pretrained(tmp_path / "saved")) == narrow
    assert formats(GoTPipeline.from_pretrained(tmp_path / "saved", dtype=F16)) == narrow
    assert formats(pipeline.to(F32).to(F16)) == narrow
    assert formats(pipeline.to(BF16)) == all_in(BF16)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"force_upcast": False}))
    assert formats(load(folders.sdxl, folders.qwen, dtype=F16, **SETTINGS)) == all_in(F16)


@pytest.mark.parametrize("dtype", [BF16, F32])
def test_the_released_layout_comes_back_in_its_format(tmp_path: Path, dtype: torch.dtype) -> None:
    folders = write_published(tmp_path / "published")
    pipeline = load_foundation_folders(folders.sdxl, folders.qwen, dtype=dtype, **SETTINGS)
    save_got_checkpoint(pipeline, tmp_path / "got")
    assert said(tmp_path / "got") == str(dtype).removeprefix("torch.")
    assert formats(load_got_checkpoint(tmp_path / "got")) == all_in(dtype)
    wide = pipeline.unet.conv_out.to(F32)
    save_got_checkpoint(pipeline, tmp_path / "mixed")
    again = load_got_checkpoint(tmp_path / "mixed")
    assert formats(again) == {**all_in(dtype), "unet": {F32}}
    assert torch.equal(again.unet.conv_out.weight, wide.weight)


def test_names_and_choices_of_formats() -> None:
    parts = {"a": nn.Linear(1, 1), "b": nn.Linear(1, 1).to(BF16), "c": "no network", "d": nn.Identity()}
    assert dtypes_of(parts) == {"a": "float32", "b": "bfloat16"}
    assert dtypes_of({"b": parts["b"], "c": 1}) == "bfloat16"
    half = nn.ModuleList([nn.Linear(1, 1).to(BF16), nn.Linear(1, 1).to(F16)])
    assert dtypes_of({"half": half}) == "float32"
    assert loading_dtypes(None, None, "x") is None and loading_dtypes(None, F16, "x") is F16
    assert loading_dtypes("bfloat16", None, "x") is BF16
