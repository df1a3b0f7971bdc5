"""Tokenizers as they lie in folders."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from got_core.model.formats.assembly import load_tokenizer
from got_core.model.tokens import generation_tokens
from tests.got_core.model.tiny_checkpoints import write_published


def test_a_folder_without_vocabulary_is_refused(tmp_path: Path) -> None:
    tokenizer = {"tokenizer_class": "Qwen2Tokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl"}))
    with pytest.raises(ValueError, match=r"the tokenizer has no words; it needs tokenizer\.json, or vocab"):
        load_tokenizer(tmp_path, 4)


def test_tokens_of_generation_stand_behind_the_others(tmp_path: Path) -> None:
    folder = write_published(tmp_path).qwen
    tokenizer = load_tokenizer(folder, 4)
    assert tokenizer.decode(tokenizer("red bench").input_ids).strip() == "red bench"
    ids = tokenizer.convert_tokens_to_ids(generation_tokens(4))
    assert ids == list(range(ids[0], ids[0] + 6)) and max(tokenizer("red bench").input_ids) < ids[0]
