"""Models by any of their names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from got_core.inference.any_model import ModelPlaces, found_model, saved_pipeline
from got_core.model.formats.released import save_got_checkpoint
from got_core.model.formats.saved import load_pipeline
from got_core.registry.reference import NoModelError
from tests.got_core.tiny_pipeline import tiny_pipeline


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`saved` and `released`: one model in two layouts."""
    place = tmp_path_factory.mktemp("models")
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(place / "saved")
    save_got_checkpoint(pipeline, place / "released")
    return place


@pytest.fixture
def places(tmp_path: Path) -> ModelPlaces:
    return ModelPlaces(tracking_uri=f"sqlite:///{tmp_path}/none.db")


@pytest.mark.parametrize("name", ["saved", "released"])
@pytest.mark.parametrize("spelled", ["{}", "file://{}"])
def test_folders_in_both_layouts(folder: Path, places: ModelPlaces, name: str, spelled: str) -> None:
    with found_model(spelled.format(folder / name), places) as found:
        assert found.name == str(folder / name) and found.released == (name == "released")
        with saved_pipeline(found, places) as saved:
            pipeline = load_pipeline(saved)
    expected = tiny_pipeline()
    assert pipeline.config.resolution == expected.config.resolution
    for part in ("mllm", "unet", "projector", "vae"):
        states = (getattr(one, part).state_dict() for one in (pipeline, expected))
        ours, theirs = ({key: value.float() for key, value in state.items()} for state in states)
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert saved.exists() == (name == "saved"), "what was made for it is gone"


def test_what_is_none(folder: Path, places: ModelPlaces, tmp_path: Path) -> None:
    for name in (tmp_path / "nowhere", "memory://models/nowhere", "models:/got@champion"):
        fault = pytest.raises(NoModelError, match=r"nowhere is not there|there is no models:/got@champion")
        with fault, found_model(str(name), places):
            pass
    (folder / "bare").mkdir(exist_ok=True)
    (folder / "bare/model.safetensors").write_bytes((folder / "released/model.safetensors").read_bytes())
    fault = pytest.raises(FileNotFoundError, match=r"bare: .*set GOT_SDXL and GOT_QWEN")
    with found_model(str(folder / "bare"), places) as found, fault, saved_pipeline(found, places):
        pass
