"""From what a person names to the evidence, on a home that real parts have made."""

from __future__ import annotations

import io
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from got_core.curate.takedown import add_takedowns
from got_core.evaluate.why.address import AddressError
from got_core.evaluate.why.cells import UnknownSampleError, failed_cells
from got_core.evaluate.why.evidence import Evidence
from got_core.evaluate.why.pictures import CHANGED, GONE, HIDDEN, THERE
from got_core.evaluate.why.text import WIDTH, evidence_text
from got_core.inference.why.explaining import explain
from got_core.inference.why.home import WhyHome
from got_core.inference.why.models import NoResultError, chosen_model
from got_core.inference.why.sheet import sheet_of
from got_core.registry.reference import NoModelError
from got_core.storage import Storage
from tests.got_core.evaluate.tiny_networks import save_clip

from .why_home import ASSETS, EARLIER, WEIGHTS, Made

Copied = Callable[[], Made]


def addresses(home: WhyHome) -> list[str]:
    model = chosen_model(home, None)
    names = [(name, model.result(name).names) for name in ASSETS]
    return [f"{name}/{one}" for name, ones in names for one in ones]


def one(home: WhyHome, sample: str = "geneval/scenes/00003", model: str | None = None) -> Evidence:
    return explain(chosen_model(home, model), sample).evidence


def test_the_chain_is_complete_for_random_cells(made: Made) -> None:
    home = made.why()
    every = addresses(home)
    assert {address.rpartition("/")[0] for address in every} == set(ASSETS)
    chosen = [*random.Random(7).sample(every, 15), *every[-5:]]
    for address in chosen:
        shown = explain(chosen_model(home, None), address)
        found = shown.evidence
        assert found.missing == [] and found.address == address
        assert found.verdict.state in ("right", "wrong") and found.prompt and found.seed is not None
        assert found.verdict.state == "right" or found.verdict.reason
        assert (
            found.protocol.name and found.protocol.digest and found.protocol.judge == "got_core.scenes.reader"
        )
        assert (found.model.name, found.model.aliases) == ("models:/got/2", ("champion",))
        assert found.model.weights_hash == WEIGHTS and found.model.manifests == (made.manifest,)
        assert found.picture.state == THERE and found.picture.width == 64 and found.found is not None
        assert found.plan.chain is not None and found.plan.correct is not None
        assert (found.source is not None) != address.startswith("geneval/")
        if found.source is not None:
            assert found.source.steps and shown.source and shown.source.image
            assert found.source.true_chain or found.task == "absent", "of what is not there is no plan"
        near = found.training.neighbours
        assert len(near) == 5 and sorted(row.distance for row in near) == [row.distance for row in near]
        for row in near:
            assert row.in_manifest and row.path and row.place and Path(row.place).is_file()
            assert row.source == "raw" and row.annotations and row.annotations[0].chain
            assert row.annotations[0].accepted
            assert row.kind == "edit" or (row.annotations[0].annotator or "").startswith("scenes-")
        assert json.loads(json.dumps(found.to_dict()))["verdict"]["state"] == found.verdict.state
        text = evidence_text(found)
        assert all(len(line) <= WIDTH or "/" in line for line in text.splitlines())


def test_a_training_picture_is_nearest_to_itself(made: Made, tmp_path: Path) -> None:
    first = next(iter(sorted((made.home / "raw" / "images").rglob("*.png"))))
    found = one(made.why(near=1), str(shutil.copy(first, tmp_path / "copy.png")))
    assert found.verdict.reason and "no score table" in found.verdict.reason
    (near,) = found.training.neighbours
    assert (near.distance, near.color, near.place) == (0, 0.0, str(first))
    assert near.in_manifest is None, "nothing says which model drew it"


def test_a_cell_goes_by_many_names(made: Made) -> None:
    home = made.why(near=0)
    table = chosen_model(home, None).result("geneval/scenes").table
    row = table.row(3, named=True)
    names = ["3", "00003", "00003.png", row["sample_id"], row["image_id"], row["image_id"][:16], row["image"]]
    for name in names:
        assert one(home, f"geneval/scenes/{name}").sample_id == row["sample_id"], name
    file = made.home / "storage" / row["image"]
    assert one(home, str(file)).sample_id == one(home, row["image"]).sample_id == row["sample_id"]


def test_models_go_by_many_names(made: Made) -> None:
    home = made.why(near=0)
    folder = str(made.home / "storage" / "geneval" / WEIGHTS[:12])
    for name in ("models:/got@champion", "models:/got/2", "champion", "2", WEIGHTS, WEIGHTS[:8], folder):
        assert one(home, model=name).model.name == "models:/got/2", name
    with pytest.raises(NoResultError, match=r"models:/got/1 has no scores of geneval/scenes .*it has: none"):
        one(home, model="challenger")
    for name, text in {"nobody": "no alias, version", "models:/got/9": "there are models:/got/2"}.items():
        with pytest.raises(NoModelError, match=text):
            chosen_model(home, name)


def test_what_is_named_wrongly_is_one_clear_error(made: Made) -> None:
    home = made.why()
    with pytest.raises(UnknownSampleError, match=r"no sample 99 .*the nearest are 00011, 00010, 00009"):
        one(home, "geneval/scenes/99")
    with pytest.raises(AddressError, match="benchmarks are geneval/scenes"):
        one(home, "scenes/3")
    with pytest.raises(NoResultError, match="has: geneval/scenes, edits/scenes, imagenhub/scenes"):
        one(home, "geneval/3")
    with pytest.raises(NoResultError, match="no file, and no score table"):
        one(home, "nowhere/3.png")


def test_an_empty_home_says_what_to_do(tmp_path: Path) -> None:
    empty = Made(home=tmp_path, manifest="")
    with pytest.raises(NoModelError, match="make one with `got run`"):
        chosen_model(empty.why(), None)
    assert not (tmp_path / "mlflow").exists(), "asking makes no registry"


def test_without_a_registry_the_documents_tell_the_model(copied: Copied) -> None:
    made = copied()
    shutil.rmtree(made.home / "mlflow")
    found = one(made.why(near=1))
    assert found.model.name is None and found.model.weights_hash == WEIGHTS
    assert found.model.manifests == (made.manifest,) and found.training.neighbours[0].in_manifest
    made.storage.delete("finetuned_model.json")
    found = one(made.why(near=1))
    assert "what these weights were trained on" in " ".join(found.missing)
    assert found.training.neighbours[0].in_manifest is None


def test_a_database_of_another_layout_is_left_to_mlflow(copied: Copied) -> None:
    made = copied()
    with sqlite3.connect(made.home / "mlflow" / "mlflow.db") as database:
        database.execute("alter table registered_model_aliases rename to elsewhere")
        database.execute("create view registered_model_aliases as select * from elsewhere")
    assert one(made.why(near=0)).model.name == "models:/got/2"


def test_what_is_missing_is_said_in_its_place(copied: Copied) -> None:
    made = copied()
    storage = made.storage
    picture = f"geneval/{WEIGHTS[:12]}/00003.png"
    data = storage.read_bytes(picture)
    storage.write_bytes(picture, data + b"more")
    assert one(made.why()).picture.state == CHANGED
    storage.write_bytes(picture, b"no picture")
    assert one(made.why()).picture.width is None
    storage.delete(picture)
    found = one(made.why())
    assert found.picture.state == GONE and found.training.missing and found.plan.chain is not None
    assert GONE in evidence_text(found)
    storage.write_bytes(picture, data)
    for folder in ("captions", "t2i_selection", "manifests"):
        storage.delete(folder)
    shutil.rmtree(made.home / "raw")
    found = one(made.why())
    said = " ".join(found.missing)
    assert "the table captions/images-00000 is gone" in said and "is not archived" in said
    assert "the picture's file is gone" in said
    assert {row.in_manifest for row in found.training.neighbours} == {None}
    for folder in ("raw_images", "edit_pairs"):
        storage.delete(folder)
    assert "tables of training pictures" in " ".join(one(made.why()).missing)


def test_damaged_tables_of_training_pictures_are_named(copied: Copied) -> None:
    made = copied()
    made.storage.write_bytes("raw_images/images-00000.parquet", b"no table")
    found = one(made.why())
    assert "raw_images/images-00000.parquet cannot be read" in " ".join(found.missing)
    assert {row.kind for row in found.training.neighbours} == {"edit"}


def test_what_was_taken_down_is_not_shown(copied: Copied) -> None:
    made = copied()
    first = one(made.why(near=3))
    gone = first.training.neighbours[0]
    add_takedowns(made.storage, [gone.pair_id or gone.image_id], "withdrawn")
    found = one(made.why(near=3))
    assert gone.image_id not in {row.image_id for row in found.training.neighbours}
    assert found.training.hidden >= 1
    assert "as near were taken down and are not shown" in " ".join(evidence_text(found).split())
    assert gone.image_id not in evidence_text(found) and gone.image_id not in json.dumps(found.to_dict())
    pair = next(row for row in one(made.why(near=100)).training.neighbours if row.pair_id)
    rows = made.storage.read_table(f"edit_pairs/{pair.shard}").rows(named=True)
    row = next(row for row in rows if row["pair_id"] == pair.pair_id)
    add_takedowns(made.storage, [row["source_id"]])
    assert not {row["source_id"], row["target_id"]} & shown_ids(made), "a pair goes with either picture"
    assert first.picture.sha256
    add_takedowns(made.storage, [first.picture.sha256])
    shown = explain(chosen_model(made.why(near=3), None), "geneval/scenes/00003")
    assert shown.evidence.picture.state == HIDDEN and shown.picture is None
    made.storage.write_bytes("takedown/list.csv", b"what\nis this")
    unknown = one(made.why(near=3))
    assert unknown.training.neighbours == () and "taken down is unknown" in " ".join(unknown.missing)


def shown_ids(made: Made) -> set[str]:
    return {row.image_id for row in one(made.why(near=100)).training.neighbours}


def test_failing_cells_have_addresses_that_work(made: Made) -> None:
    home = made.why(near=0)
    result = chosen_model(home, None).result("geneval/scenes")
    found = failed_cells(result, task=None, cause=None, most=3)
    assert found.of == 12 and found.count >= len(found.cells) == 3
    for cell in found.cells:
        assert one(home, f"geneval/scenes/{cell.name}").verdict.state == "wrong"
    planned = failed_cells(result, task="counting", cause="planned_wrong", most=9)
    assert {cell.task for cell in planned.cells} == {"counting"}
    assert {cell.verdict.cause for cell in planned.cells} == {"planned_wrong"}
    assert failed_cells(result, task=None, cause="not scored", most=9).count == 0
    with pytest.raises(ValueError, match="there are planned_wrong, drawn_wrong, trace_left, not_drawn"):
        failed_cells(result, task=None, cause="bad_luck", most=1)
    with pytest.raises(ValueError, match="no cell has the task dance; there are single_object"):
        failed_cells(result, task="dance", cause=None, most=1)


def test_other_cases_than_the_scores_are_of_are_not_shown_as_the_source(made: Made) -> None:
    from dataclasses import replace

    recipe = made.recipe
    other = replace(recipe, evaluate=replace(recipe.evaluate, seed=1))
    found = one(made.why(recipe=other), "edits/scenes/00001")
    assert found.source and found.source.true_chain is None
    assert "the recipe makes other cases" in " ".join(found.missing)


def test_another_models_scores_are_found_beside(copied: Copied) -> None:
    made = copied()
    storage = made.storage
    for name in storage.list(f"geneval/{WEIGHTS[:12]}/"):
        storage.write_bytes(name.replace(WEIGHTS[:12], EARLIER[:12]), storage.read_bytes(name))
    found = one(made.why(near=0), model="models:/got/1")
    assert found.protocol.scores == storage.url_of(f"geneval/{EARLIER[:12]}")


def test_the_sheet_has_all_pictures_of_a_cell(made: Made) -> None:
    from got_core.corpus.ingest import ImageReader

    home = made.why(near=2)
    model = chosen_model(home, None)
    shown = [explain(model, sample) for sample in ("geneval/scenes/0", "edits/scenes/2")]
    readers = {kind: ImageReader(root) for kind, root in home.roots.items()}
    sheet = Image.open(io.BytesIO(sheet_of(shown, readers)))
    assert sheet.width == 6 * (256 + 12) and sheet.height > 2 * 256, "source, planned, found, right, two near"
    away = {kind: ImageReader(f"{root}/nowhere") for kind, root in home.roots.items()}
    assert Image.open(io.BytesIO(sheet_of(shown, away))).width == 4 * (256 + 12)
    with pytest.raises(ValueError, match="no picture to draw"):
        sheet_of([], readers)


def test_clip_finds_a_picture_itself_and_is_asked_once(copied: Copied, tmp_path: Path) -> None:
    from got_core.corpus.ingest import ImageReader
    from got_core.curate.removal import shard_tables

    made = copied()
    save_clip(tmp_path / "clip")
    told: list[tuple[int, int]] = []
    roots = made.why().roots
    more = {
        "clip": tmp_path / "clip",
        "readers": lambda: {kind: ImageReader(root) for kind, root in roots.items()},
        "progress": lambda done, total: told.append((done, total)),
    }
    first = next(iter(sorted((made.home / "raw" / "images").rglob("*.png"))))
    copy = str(shutil.copy(first, tmp_path / "copy.png"))
    found = one(made.why(near=2, **more), copy).training
    assert found.neighbours[0].similarity == pytest.approx(1, abs=1e-5) and not found.missing
    assert len(found.neighbours) >= 2 and all(row.similarity is not None for row in found.neighbours)
    assert told[-1] == (found.searched, found.searched)
    by_hash = [row.image_id for row in one(made.why(near=2), copy).training.neighbours]
    assert [row.image_id for row in found.neighbours][:2] == by_hash
    (folder,) = [name for name in made.storage.top()[0] if name.startswith("clip_")]
    assert f"{folder}/images-00000" in shard_tables(made.storage, ["images-00000"])["images-00000"]
    shutil.rmtree(made.home / "raw")
    again = one(made.why(near=2, **more), copy).training
    assert [row.similarity for row in again.neighbours] == [row.similarity for row in found.neighbours]
    for name in made.storage.list(f"{folder}/"):
        made.storage.delete(name)
    gone = one(made.why(near=2, **more), copy).training
    assert f"{found.searched} pictures could not be opened for CLIP" in gone.missing


def test_a_hostile_table_does_no_harm(copied: Copied) -> None:
    import polars as pl

    made = copied()
    place = f"geneval/{WEIGHTS[:12]}/samples"
    evil = "\x1b]0;owned\x07\x9b31m\u202etxt\n\rx" + "y" * 5000
    found_ = [
        {"cls": "x", "box": [1, None, 2, 3]},
        {"cls": "\x1b[2J", "box": [0, 0, 1e300, -5], "color": "\x1b"},
    ]
    values = {"metadata": "[" * 9999, "found": json.dumps(found_), "image": "../../../etc/passwd"}
    texts = dict.fromkeys(("prompt", "reason", "chain", "task"), evil) | values
    frame = made.storage.read_table(place).with_columns(pl.lit(text).alias(n) for n, text in texts.items())
    made.storage.write_table(place, frame)
    found = one(made.why())
    text = evidence_text(found)
    assert all(char.isprintable() or char == "\n" for char in text)
    assert found.picture.state == GONE and "passwd" not in (found.picture.url or "")
    assert len(text) < 20_000 and found.found and len(found.found) == 1


def test_scores_of_a_folder_elsewhere_have_their_pictures(made: Made, tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine" / "geneval"
    shutil.copytree(made.home / "storage" / "geneval" / WEIGHTS[:12], elsewhere / WEIGHTS[:12])
    nothing = Made(home=tmp_path / "empty", manifest="")
    found = one(nothing.why(), model=str(elsewhere / WEIGHTS[:12]))
    assert found.model.weights_hash == WEIGHTS[:12] and found.picture.state == GONE
    assert Storage(found.protocol.scores or "").url.endswith(WEIGHTS[:12])
