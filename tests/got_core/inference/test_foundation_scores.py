"""A foundation scored by itself: guided by its own language model, and by the text encoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from got_core.chain.grammar import parse
from got_core.foundation.guided import PhraseGuidedPipeline
from got_core.foundation.text_encoder import PhraseEncoder
from got_core.inference.foundation_scores import score_foundation
from got_core.recipes import tiny
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline

CHAIN = parse("a red circle (100,100),(500,500) on a grey background")


def test_guided_by_the_text_encoder_a_chain_is_what_the_u_net_was_trained_with() -> None:
    own = tiny_pipeline()
    guided = PhraseGuidedPipeline.around(own)
    encoder = PhraseEncoder(TINY.image_tokens, TINY.unet.cross_attention_dim, TINY.unet.pooled_dim)
    context, pooled = encoder([CHAIN])
    mine, other = (
        pipeline.encode_conditions([CHAIN], ["a red circle"], None, 64, 64) for pipeline in (guided, own)
    )
    torch.testing.assert_close(mine.context, context)
    torch.testing.assert_close(mine.pooled, pooled)
    assert not mine.null.any() and mine.null.shape == context.shape
    torch.testing.assert_close(mine.spatial, other.spatial)
    assert not torch.allclose(mine.context, other.context)
    assert guided.config.generate_scales == own.config.generate_scales and guided.unet is own.unet


@pytest.fixture
def stored(tmp_path: Path) -> tuple[Storage, dict[str, str]]:
    """A foundation in storage, and its reference."""
    pipeline, folder = tiny_pipeline(seed=2), tmp_path / "models" / "foundation" / "x"
    for name in ("mllm", "projector", "tokenizer"):
        getattr(pipeline, name).save_pretrained(folder / "language" / name)
    for name in ("unet", "vae"):
        getattr(pipeline, name).save_pretrained(folder / "drawing" / name)
    reference = {"folder": "models/foundation/x", "stage": "foundation", "weights_hash": "0" * 64}
    return Storage(f"file://{tmp_path}"), reference


def test_a_foundation_is_scored_once(stored: tuple[Storage, dict[str, str]]) -> None:
    lines: list[str] = []
    scores = score_foundation(*stored, tiny(), lines.append)
    assert set(scores) >= {
        f"{name}: {what}"
        for name in ("geneval/scenes", "edits/scenes")
        for what in ("plans right", "right, guided by itself", "right, guided by text encoder")
    }
    assert all(0 <= value <= 1 for value in scores.values())
    assert any(
        "edits/scenes, guided by text encoder: 6 of 6 pictures, 0 minutes left" in one for one in lines
    )
    count = len(lines)
    assert score_foundation(*stored, tiny(), lines.append) == scores and len(lines) == count
