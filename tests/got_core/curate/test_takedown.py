"""Takedown: the list, what it removes from a real storage, and the models that were trained on it."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES
from got_core.curate.config import CurateConfig
from got_core.curate.copies import judge_copies
from got_core.curate.manifest import archive_manifest, assemble
from got_core.curate.rules import select_edits, select_t2i
from got_core.curate.takedown import (
    LIST,
    add_takedowns,
    list_digest,
    read_takedowns,
    removal_of,
    request_status,
    take_down,
)
from got_core.curate.trained_on import images_of, versions_trained_on
from got_core.model.formats import foundation_folder
from got_core.storage import Storage
from got_core.train.data.manifest_file import stored_manifests, write_manifest
from got_core.train.takedown_file import write_taken_down
from tests.got_core.annotate.scenes_on_hand import table

A, B, C, D, PAIR = (letter * 64 for letter in "abcde")
CONFIG = CurateConfig()
NOTHING = "matches nothing that is stored; should it come, it will be removed"
CHAIN = "a cat (10,20),(300,400) on a mat"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    """Two image shards and an edit shard, from raw rows to selections."""
    made = Storage(f"file://{tmp_path / 'storage'}")
    for name, images in (("images-0", {A: 0, B: 0xFFFF}), ("images-1", {C: 1})):
        raw = [
            {"image_id": one, "path": f"store://{one[:2]}/{one}.png", "phash": f"{bits:016x}"}
            for one, bits in images.items()
        ]
        raw[-1]["near_duplicate_of"] = A
        chains = [
            {
                "chain_id": f"c-{one[0]}",
                "image_id": one,
                "caption": "a cat",
                "phrases": ["cat"],
                "chain": CHAIN,
            }
            for one in images
        ]
        for one in images:
            made.write_bytes(f"stored_images/{one[:2]}/{one}.png", b"pixels")
        write(made, name, "t2i", table(raw, RAW_IMAGES), table(chains, T2I_CHAINS))
    pairs = table(
        [{"pair_id": PAIR, "source_id": A, "target_id": D, "source_path": "a", "target_path": "d"}],
        EDIT_PAIRS,
    )
    edits = table([{"chain_id": "c-e", "pair_id": PAIR, "instruction": "go", "chain": CHAIN}], EDIT_CHAINS)
    write(made, "edits-0", "edit", pairs, edits)
    return made


def write(storage: Storage, shard: str, kind: str, ingested: pl.DataFrame, chains: pl.DataFrame) -> None:
    select = select_t2i if kind == "t2i" else select_edits
    storage.write_table(f"{'raw_images' if kind == 't2i' else 'edit_pairs'}/{shard}", ingested)
    storage.write_table(f"{kind}_chains/{shard}", chains)
    storage.write_table(f"{kind}_selection/{shard}", select(chains, ingested, CurateConfig()))


def tables(storage: Storage, kind: str, *shards: str) -> dict:
    names = (f"{kind}_selection", f"{kind}_chains", "raw_images" if kind == "t2i" else "edit_pairs")
    return {shard: tuple(storage.read_table(f"{name}/{shard}") for name in names) for shard in shards}


def manifest(storage: Storage) -> pl.DataFrame:
    images, edits = tables(storage, "t2i", "images-0", "images-1"), tables(storage, "edit", "edits-0")
    return assemble(images, edits, CurateConfig(), removal_of(storage)).manifest


def test_the_list_is_a_table_that_people_edit(storage: Storage) -> None:
    empty = list_digest(storage)
    assert read_takedowns(storage).height == 0 and take_down(storage, CONFIG).ledger.height == 0
    add_takedowns(storage, [A.upper()], "asked for")
    add_takedowns(storage, [A, "00000000000000ff"])
    assert read_takedowns(storage)["id"].to_list() == [A, "00000000000000ff"]
    assert read_takedowns(storage)["reason"].to_list() == ["asked for", None]
    assert list_digest(storage) != empty
    with pytest.raises(ValueError, match=r"'cat\.png' is no id"):
        add_takedowns(storage, [B, "cat.png"])
    assert read_takedowns(storage).height == 2
    storage.write_bytes(LIST, b"\xef\xbb\xbfid\n" + B.encode() + b"\n../x\n")
    with pytest.raises(ValueError, match=r"list.csv, row 2: '../x' is no id"):
        read_takedowns(storage)
    storage.write_bytes(LIST, b"image\n" + B.encode())
    with pytest.raises(ValueError, match="has no column id"):
        read_takedowns(storage)


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_line_ends_and_empty_rows_of_a_spreadsheet_hide_nothing(storage: Storage, end: str) -> None:
    lines = ["id,reason,added", ",,", f"{A},asked for,", ",,", "", f"{B},,", ",,"]
    storage.write_bytes(LIST, end.join(lines).encode())
    assert read_takedowns(storage).select("id", "reason").rows() == [(A, "asked for"), (B, None)]
    storage.write_bytes(LIST, end.join(["id,reason", ",", ",the id was left out"]).encode())
    with pytest.raises(ValueError, match=r"list.csv, row 2: None is no id"):
        read_takedowns(storage)


def test_an_image_goes_from_all_tables_and_with_it_what_was_made_from_it(storage: Storage) -> None:
    assert manifest(storage)["sample_id"].to_list() == ["c-a", "c-b", "c-c", "c-e"]
    add_takedowns(storage, [A])
    ledger, removed, *_ = take_down(storage, CONFIG)
    assert set(ledger.rows()) == {
        (A, A, "image"),
        (A, PAIR, "pair"),
        (A, "c-a", "chain"),
        (A, "c-e", "chain"),
    }
    places = {"raw_images/images-0", "t2i_chains/images-0", "t2i_selection/images-0"}
    places |= {"edit_pairs/edits-0", "edit_chains/edits-0", "edit_selection/edits-0"}
    assert removed == dict.fromkeys(places, 1)
    assert not storage.exists(f"stored_images/{A[:2]}/{A}.png")
    assert storage.exists(f"stored_images/{B[:2]}/{B}.png")
    assert storage.read_table("raw_images/images-1")["near_duplicate_of"].to_list() == [None]
    assert manifest(storage)["sample_id"].to_list() == ["c-b", "c-c"]
    assert take_down(storage, CONFIG).removed == {}, "a second time nothing is left to do"
    assert set(take_down(storage, CONFIG).ledger.rows()) == set(ledger.rows()), (
        "what was found is not forgotten"
    )


def test_a_manifest_beside_a_stage_goes_whole_where_it_holds_what_goes(storage: Storage) -> None:
    rows = manifest(storage)
    write_manifest(storage, "models/pretrain/key/manifest", rows, "all")
    write_manifest(storage, "models/finetune/key/manifest", rows.filter(pl.col("image_id") == B), "one")
    write_manifest(storage, "models/finetune/cut/manifest", rows.clear(), "cut")
    storage.write_bytes("models/finetune/cut/manifest/rows.arrow", b"ARROW1")
    assert len(stored_manifests(storage)) == 3
    add_takedowns(storage, [A])
    removed = take_down(storage, CONFIG).removed
    assert stored_manifests(storage) == {"models/finetune/key/manifest": "one"}
    assert removed["models/pretrain/key/manifest"] == 2, "the image, and the pair that is made from it"
    assert not storage.list("models/pretrain/") and not storage.list("models/finetune/cut/")


def test_what_comes_back_stays_out_of_the_manifest(storage: Storage) -> None:
    images, edits = tables(storage, "t2i", "images-0", "images-1"), tables(storage, "edit", "edits-0")
    add_takedowns(storage, [A])
    take_down(storage, CONFIG)
    made = assemble(images, edits, CurateConfig(), removal_of(storage))
    assert made.manifest["sample_id"].to_list() == ["c-b", "c-c"]
    assert made.left_out.select("chain_id", "item_id", "rule").rows() == [
        ("c-e", PAIR, "taken_down"),
        ("c-a", A, "taken_down"),
    ]


def test_a_perceptual_hash_removes_nothing_by_itself(storage: Storage) -> None:
    hashed = storage.read_table("edit_pairs/edits-0").with_columns(target_phash=pl.lit("f" * 15 + "e"))
    storage.write_table("edit_pairs/edits-0", hashed)
    add_takedowns(storage, ["f" * 16, "0000000000000003"])
    done = take_down(storage, CONFIG)
    assert done.ledger.is_empty() and done.removed == {}
    # B differs in 48 bits; A and C have hashes that say nothing, as all plain pictures have.
    assert done.waiting.select("request", "item_id", "original", "distance", "color").rows() == [
        ("f" * 16, D, None, 1, -1)
    ]
    assert "removes nothing by itself" in request_status(storage, ["f" * 16])["f" * 16]
    judge_copies(storage, [D], copies=True)
    ledger, removed, waiting, _ = take_down(storage, CONFIG)
    assert set(ledger["item_id"]) == {D, PAIR, "c-e"} and waiting.is_empty()
    assert removed["edit_pairs/edits-0"] == removed["edit_chains/edits-0"] == 1
    assert removed["edit_selection/edits-0"] == 1 and "raw_images/images-0" not in removed


def test_an_id_that_matches_nothing_is_reported(storage: Storage) -> None:
    add_takedowns(storage, [A, "f" * 64])
    status = request_status(storage, [A, "f" * 64])
    assert status == {A: "found; the next run removes it", "f" * 64: f"{NOTHING}"}
    take_down(storage, CONFIG)
    assert request_status(storage, [A])[A] == "removed: 2 chain(s), 1 image(s), 1 pair(s)"
    assert request_status(storage, ["f" * 64])["f" * 64] == NOTHING


def test_a_withdrawn_request_is_forgotten(storage: Storage) -> None:
    add_takedowns(storage, [A])
    take_down(storage, CONFIG)
    storage.write_bytes(LIST, b"id\n" + B.encode())
    assert set(take_down(storage, CONFIG).ledger["request"]) == {B}
    assert A not in removal_of(storage).items


def test_model_versions_trained_on_an_image_are_named(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from got_core.registry.tracking import connect

    uri = f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}"
    assert versions_trained_on(storage, {A}, uri).is_empty()
    assert not (tmp_path / "mlflow").exists(), "asking makes no registry"
    with_a = archive_manifest(storage, manifest(storage))
    add_takedowns(storage, [A])
    take_down(storage, CONFIG)
    without = archive_manifest(storage, manifest(storage))
    client = connect(uri)
    client.create_registered_model("got")
    for tags in (
        {"manifest_hash": with_a},
        {"manifest_hash": without},
        {"manifest_hash": without, "manifest_hashes": f"{with_a},{without}"},
        {"manifest_hash": "0" * 64},
    ):
        client.create_model_version("got", "file:///nowhere", tags=tags)
    client.set_registered_model_alias("got", "champion", "1")
    found = versions_trained_on(storage, {A, PAIR}, uri)
    assert found.select("version", "known", "items").rows() == [
        ("1", True, [A, PAIR]),
        ("3", True, [A, PAIR]),
        ("4", False, []),
    ]
    assert found["aliases"].to_list() == [["champion"], [], []]
    assert versions_trained_on(storage, {"f" * 64}, uri)["version"].to_list() == ["4"]
    # And the other way round: from a version to its images.
    both = images_of(storage, client.get_model_version("got", "3").tags)
    assert A in both.rows["image_id"] and not both.missing and both.counts()["manifests"] == 2
    assert A not in images_of(storage, {"manifest_hash": without}).rows["image_id"]
    unknown = images_of(storage, {"manifest_hash": "0" * 64})
    assert unknown.rows.is_empty() and unknown.missing == ["0" * 64]
    own = tmp_path / "weights"
    own.mkdir()
    manifested = {"format": 1, "files": {}, "model": {}, "manifest_hash": "0" * 64}
    (own / "foundation.json").write_text(json.dumps(manifested))
    monkeypatch.setattr(foundation_folder, "PACKAGED", own)
    found = versions_trained_on(storage, {A, PAIR}, uri)
    assert found["version"].to_list() == ["1", "3"], "the package's own weights have seen scenes alone"


def test_a_version_says_until_which_step_it_was_trained_on_what_was_taken_down(
    storage: Storage, tmp_path: Path
) -> None:
    from got_core.registry.tracking import connect

    uri, rows = f"sqlite:///{tmp_path / 'mlflow.db'}", manifest(storage)
    digest = archive_manifest(storage, rows)
    about = rows.filter((pl.col("image_id") == A) | (pl.col("source_id") == A))["sample_id"].to_list()
    assert len(about) == 2, "the picture itself, and the pair that it is the source of"

    def left_out(stage: str, steps: list[int | None]) -> str:
        """A stage's folder whose rows about the picture were left out from steps on; None: never."""
        found = [
            {"id": A, "sample_id": sample, "from_step": step}
            for sample, step in zip(about, steps, strict=True)
            if step is not None
        ]
        folder = f"models/{stage}/{'-'.join(map(str, steps))}"
        write_taken_down(storage, folder, digest, found)
        return f"{folder}@{digest}"

    client = connect(uri)
    client.create_registered_model("got")
    for stages in (
        [left_out("pretrain", [400, 300]), left_out("finetune", [0, 0])],
        [left_out("pretrain", [0, 0])],
        [left_out("pretrain", [400, None]), left_out("finetune", [0, 0])],
        [f"foundation@{digest}", left_out("pretrain", [0, 0])],
    ):
        tags = {"manifest_hash": digest, "trained_on": ",".join(stages)}
        client.create_model_version("got", "file:///nowhere", tags=tags)
    found = versions_trained_on(storage, {A}, uri)
    assert found.select("version", "items", "until").rows() == [
        ("1", [A], [f"{A} pretrain 400"]),
        ("3", [A], []),
        ("4", [A], []),
    ]
    until = {
        str(version): dict(
            images_of(storage, client.get_model_version("got", str(version)).tags)
            .rows.filter(pl.col("sample_id").is_in(about))
            .select("sample_id", "until")
            .rows()
        )
        for version in (1, 2, 3)
    }
    assert until == {
        "1": {about[0]: "pretrain 400", about[1]: "pretrain 300"},
        "2": {},
        "3": {about[0]: "pretrain 400", about[1]: None},
    }
