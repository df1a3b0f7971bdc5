"""Folders that this project writes: what comes back is what was saved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from got_core.model.build import build_autoencoder, build_language_model, build_projector, build_unet
from got_core.model.formats.saved import load_foundation, load_pipeline
from got_core.model.tokens import train_tokenizer
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline


def test_a_saved_pipeline_comes_back_in_its_precision_and_is_quiet(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    saved = tiny_pipeline().to(torch.bfloat16)
    saved.save_pretrained(tmp_path)
    again = load_pipeline(str(tmp_path))
    for name in ("mllm", "projector", "unet", "vae"):
        state = getattr(again, name).state_dict()
        assert all(torch.equal(value, state[key]) for key, value in getattr(saved, name).state_dict().items())
    capfd.readouterr()
    again("a red circle")
    assert not capfd.readouterr().err


def test_a_folder_that_holds_no_pipeline_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=tmp_path.name):
        load_pipeline(tmp_path)


def test_foundation_models_become_a_pipeline_that_conditions_can_reach(tmp_path: Path) -> None:
    torch.manual_seed(3)
    tokenizer = train_tokenizer(["a red circle"], TINY.image_tokens)
    unet, mllm = build_unet(TINY), build_language_model(TINY.language_model, tokenizer)
    parts = {
        "language/mllm": mllm,
        "language/tokenizer": tokenizer,
        "language/projector": build_projector(TINY),
        "drawing/unet": unet,
        "drawing/vae": build_autoencoder(TINY),
    }
    for name, part in parts.items():
        part.save_pretrained(tmp_path / name)
    pipeline = load_foundation(tmp_path, TINY, seed=1)
    assert torch.initial_seed() == 1
    channels = TINY.autoencoder.latent_channels
    weight = pipeline.unet.conv_in.weight
    assert weight.shape[1] == 3 * channels
    assert torch.equal(weight[:, :channels], unet.conv_in.weight) and not weight[:, channels:].any()
    assert torch.equal(pipeline.mllm.lm_head.weight, mllm.lm_head.weight)
    assert pipeline.config.resolution == TINY.resolution
