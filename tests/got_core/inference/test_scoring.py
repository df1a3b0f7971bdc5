"""A model's scores by names, from a folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from got_core.inference.scoring import score_model
from got_core.model.formats.weights import weights_hash
from got_core.recipes import tiny
from got_core.registry.reference import NoModelError
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline

RECIPE = replace(tiny(), evaluate=replace(tiny().evaluate, images_per_task=1, edit_images=1))


@pytest.mark.slow
def test_scores_are_stored_beside_the_pictures_and_made_once(storage: Storage, tmp_path: Path) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "model")
    lines: list[str] = []
    arguments = (str(tmp_path / "model"), ["geneval/scenes"], RECIPE, storage, "sqlite:////nowhere.db")
    found = score_model(*arguments, progress=lines.append)
    assert found.model == str(tmp_path / "model") and found.weights_hash == weights_hash(tmp_path / "model")
    prefix = f"geneval/{found.weights_hash[:12]}"
    assert found.folders == {"geneval/scenes": storage.url_of(prefix)}
    assert storage.read_json(f"{prefix}/scores.json") == found.scores["geneval/scenes"]
    assert lines[-1] == "geneval/scenes: 6 of 6 pictures drawn"
    drawn = {name: storage.read_bytes(name) for name in storage.list(prefix) if name.endswith("0.png")}
    assert score_model(*arguments).scores == found.scores
    assert all(storage.read_bytes(name) == data for name, data in drawn.items()) and drawn


def test_a_name_that_is_none_is_refused_before_anything_is_loaded(storage: Storage) -> None:
    with pytest.raises(ValueError, match="no benchmark geneval; there are geneval/scenes, edits/scenes"):
        score_model("nowhere", ["geneval"], RECIPE, storage, "sqlite:////nowhere.db")
    with pytest.raises(NoModelError, match="nowhere is not there"):
        score_model("nowhere", [], RECIPE, storage, "sqlite:////nowhere.db")
