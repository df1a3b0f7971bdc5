"""Sample pictures of a training."""

from __future__ import annotations

import torch

from got_core.train.stages import _drawn
from tests.got_core.tiny_pipeline import tiny_pipeline


def test_sample_pictures_of_nan_are_marked_and_not_shown_as_black_ones() -> None:
    pipeline, prompts = tiny_pipeline(), ["a red circle", "a blue square"]
    healthy = _drawn(pipeline, prompts, torch.Generator().manual_seed(0))
    assert [(item.caption, item.note, item.correct) for item in healthy] == [(p, "", None) for p in prompts]
    torch.nn.init.constant_(pipeline.unet.conv_out.bias, torch.nan)
    failed = _drawn(pipeline, prompts, torch.Generator().manual_seed(0))
    assert [(item.note, item.correct) for item in failed] == [("not drawn: NaN or infinity", False)] * 2
