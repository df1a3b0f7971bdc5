"""What a version was made from: data sets with licences, the card, and a folder for other people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from got_core.model.pipeline import GoTPipeline
from got_core.registry.card import card_text
from got_core.registry.export import export_model, model_card
from got_core.registry.lineage import (
    DataSet,
    data_sets_of,
    forbids_commerce,
    lineage_tags,
    read_data_sets,
    tags_of,
    write_data_sets,
)
from got_core.registry.log import RegistrationError, register
from got_core.registry.tracking import connect
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import tiny_pipeline


def manifest(*rows: tuple[str, str | None, str]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=["source", "licence", "kind"], orient="row")


SCENES = ("scenes", None, "t2i")
PHOTOS = ("photos", "CC BY-NC 4.0", "t2i")
PAIRS = ("pairs", "cc0", "edit")


@pytest.mark.parametrize(
    ("licence", "forbids"),
    [
        ("CC BY-NC 4.0", True), ("cc-by-nc-sa-4.0", True), ("CC_BY_NC", True), ("Non-Commercial use", True),
        ("noncommercial", True), ("research only", True), ("Academic use only", True), ("MIT", False),
        ("research-use-only", True), ("CC BY 4.0", False), ("Apache-2.0", False), ("sync", False),
        ("licence of NCAR", False), ("public domain", False), ("commercial", False),
    ],
)  # fmt: skip
def test_licences_that_forbid_commerce(licence: str, forbids: bool) -> None:
    assert forbids_commerce(licence) is forbids


def test_data_sets_are_counted_once_for_all_stages(storage: Storage) -> None:
    write_data_sets(storage, "m1", manifest(SCENES, SCENES, PHOTOS))
    write_data_sets(storage, "m2", manifest(SCENES, PAIRS))
    tags = lineage_tags(storage, ["m1", "m2"])
    assert read_data_sets(tags) == [
        DataSet(source="scenes", licence=None, kind="t2i", rows=2),
        DataSet(source="pairs", licence="cc0", kind="edit", rows=1),
        DataSet(source="photos", licence="CC BY-NC 4.0", kind="t2i", rows=1),
    ]
    assert tags["non_commercial"] == "CC BY-NC 4.0"
    # A later training that starts from this version has its data too.
    later = lineage_tags(storage, ["m2"], tags)
    assert later["non_commercial"] == "CC BY-NC 4.0" and read_data_sets(later) == read_data_sets(tags)
    assert "non_commercial" not in lineage_tags(storage, ["m2"])
    assert lineage_tags(storage, ["m1", "gone"]) == {} == lineage_tags(storage, ["../m1"])


def test_a_tag_names_so_many_and_counts_the_rest() -> None:
    sets = data_sets_of(manifest(*((f"s{k}", "cc0", "t2i") for k in range(150))))
    found = read_data_sets(tags_of(sets))
    assert found is not None and len(found) == 101 and sum(one.rows for one in found) == 150
    for damaged in ("{", "[1]", '[{"source": "a"}]', '{"a": 1}'):
        assert read_data_sets({"data_sets": damaged}) is None


CONFIG = {"resolution": 64, "inference_steps": 16}


def test_the_card_says_what_it_was_made_from_and_what_it_must_not_be_used_for() -> None:
    sets = data_sets_of(manifest(SCENES, PHOTOS, ("<b>evil</b>|`x`", "free\nas in", "edit")))
    scores = {
        "geneval/scenes": {
            "overall": 0.625, "low": 0.5, "high": 0.75, "protocol": "geneval/scenes", "protocol_digest": "p1",
        }
    }  # fmt: skip
    tags = {
        "recipe": "embedded",
        "git_commit": "c1",
        "scores": json.dumps(scores),
        "promotion": "it is better",
    }
    text = card_text("models:/got/3", tags | tags_of(sets), CONFIG, ["champion"])
    for line in (
        "# models:/got/3 (@champion)",
        "**Not for commercial use: it was trained on data under CC BY-NC 4.0.**",
        "| photos | CC BY-NC 4.0 | text to image | 1 |",
        "| scenes | not stated | text to image | 1 |",
        r"| \<b\>evil\</b\>\|\`x\` | free as in | edits | 1 |",
        "| geneval/scenes | 0.625 | 0.500 to 0.750 | p1 |",
        "| recipe | embedded |",
        "| resolution | 64 |",
        "Promotion: it is better.",
        "- Of 1 rows of training data no licence is stated.",
    ):
        assert line in text, line
    plain = card_text("pipeline", {}, CONFIG)
    assert (
        "Not for commercial use" not in plain and "Not recorded." in plain and "It was not scored." in plain
    )
    assert "Not readable." in card_text("x", {"scores": "{"}, CONFIG)


def test_words_of_others_in_a_card_are_words() -> None:
    licence = "research only** <script>`x`|"
    text = card_text("x", tags_of(data_sets_of(manifest(("a", licence, "t2i")))), CONFIG)
    assert "<script>" not in text and r"research only\*\* \<script\>\`x\`\|.**" in text


def test_the_card_says_what_training_started_from_and_not_where_that_lay() -> None:
    for start, shown in (("/home/ada/secret/base", "base"), ("weights of recipe embedded", None)):
        text = card_text("x", {"weights": start}, CONFIG)
        assert f"| started from | {shown or start} |" in text and "/home" not in text
        assert f"- It started from {shown or start}, with data and a licence of their own." in text
    assert "It started from" not in card_text("x", {"weights": "models:/got/3"}, CONFIG)


def draw(pipeline: Any) -> bytes:
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(1)
    return pipeline("a star", generator=generator, num_inference_steps=2).images[0].tobytes()


def holding(folder: Path, text: str) -> list[str]:
    """Names of the files that hold a text."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return [path.relative_to(folder).as_posix() for path in files if text.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*")
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*")
def test_a_version_is_written_as_a_folder_that_the_light_core_opens(tmp_path: Path) -> None:
    uri, folder = f"sqlite:///{tmp_path}/mlflow.db", tmp_path / "pipeline"
    tiny_pipeline().save_pretrained(tmp_path / "before")
    pipeline = GoTPipeline.from_pretrained(tmp_path / "before")
    pipeline.save_pretrained(folder)
    place = str(tmp_path)
    assert "unet/config.json" in holding(folder, place), "diffusers writes where a part was loaded from"
    tags: dict[str, Any] = {"weights_hash": "w1", "recipe": "tiny", "weights": f"{tmp_path}/before"}
    tags |= tags_of(data_sets_of(manifest(PHOTOS)))
    register(folder, tracking_uri=uri, tags=tags)
    version = connect(uri).get_model_version("got", "1")
    assert "Not for commercial use" in version.description and len(version.description) <= 5000
    out = tmp_path / "exported"
    assert export_model("models:/got@challenger", uri, out) == "models:/got/1"
    assert holding(out, place) == [], "nothing says where on this machine it was made"
    card = (out / "README.md").read_text()
    assert card == model_card("models:/got/1", uri) and "(@challenger)" in card and "CC BY-NC 4.0" in card
    assert json.loads((out / "lineage.json").read_text())["tags"]["recipe"] == "tiny"
    with pytest.raises(FileExistsError, match="is there already"):
        export_model("models:/got/1", uri, out)
    (folder / "x.pkl").write_bytes(b"")
    with pytest.raises(RegistrationError, match=r"x\.pkl"):
        export_model(str(folder), uri, tmp_path / "no")
    assert not (tmp_path / "no").exists() and not list(tmp_path.glob(".no*"))
    # Which packages `got_core.model` may import is checked with the rooms: the light core's alone.
    index = json.loads((out / "model_index.json").read_text())
    homes = {value[0] for value in index.values() if isinstance(value, list) and isinstance(value[0], str)}
    assert all(one in ("diffusers", "transformers") or one.startswith("got_core.model.") for one in homes)
    assert draw(GoTPipeline.from_pretrained(out)) == draw(pipeline)
