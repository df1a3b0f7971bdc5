"""The index of ids by shard: what it finds, and how little it reads and writes again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import polars as pl

from got_core.corpus.item_index import FOLDER, update_index
from got_core.storage import Storage


def id_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def write(storage: Storage, shard: str, images: Sequence[str | None], chains: Sequence[str] = ()) -> None:
    storage.write_table(
        f"raw_images/{shard}", pl.DataFrame({"image_id": images}, schema={"image_id": pl.String})
    )
    storage.write_table(
        f"t2i_chains/{shard}", pl.DataFrame({"chain_id": chains}, schema={"chain_id": pl.String})
    )


def test_pictures_pairs_and_chains_are_found_in_every_shard_that_holds_them(storage: Storage) -> None:
    write(storage, "images-00000", [id_of(0), id_of(1), None], ["ab" * 16])
    write(storage, "images-00001", [id_of(1), id_of(2)], ["a name that is no number", "12"])
    index = update_index(storage, "images", {"images-00000": "1", "images-00001": "1"})
    wanted = [id_of(1), id_of(2), id_of(3), "ab" * 16, "a name that is no number", "12", "13"]
    assert set(index.places(wanted).iter_rows()) == {
        (id_of(1), "images-00000"),
        (id_of(1), "images-00001"),
        (id_of(2), "images-00001"),
        ("ab" * 16, "images-00000"),
        ("a name that is no number", "images-00001"),
        ("12", "images-00001"),
    }
    pair = {"pair_id": [id_of(5)], "source_id": [id_of(6)], "target_id": [None]}
    storage.write_table(
        "edit_pairs/edits-00000", pl.DataFrame(pair, schema_overrides={"target_id": pl.String})
    )
    edits = update_index(storage, "edits", {"edits-00000": "1"})
    assert edits.places([id_of(5), id_of(6), id_of(1)]).height == 2


def test_only_what_changed_is_read_and_old_rows_are_gone(storage: Storage) -> None:
    for shard in range(3):
        write(storage, f"images-{shard:05d}", [id_of(shard)])
    versions = {f"images-{shard:05d}": "1" for shard in range(3)}
    update_index(storage, "images", versions)
    storage.delete("raw_images/images-00000")  # it would be missed if the shard were read again
    write(storage, "images-00001", [id_of(9)])
    index = update_index(storage, "images", versions | {"images-00001": "2"})
    assert list(index.places([id_of(n) for n in range(10)]).iter_rows()) == sorted(
        [(id_of(0), "images-00000"), (id_of(2), "images-00002"), (id_of(9), "images-00001")]
    )
    stored = {name: storage.read_bytes(name) for name in storage.list(f"{FOLDER}/")}
    assert update_index(storage, "images", versions | {"images-00001": "2"}) == index
    assert {name: storage.read_bytes(name) for name in storage.list(f"{FOLDER}/")} == stored
    dropped = update_index(storage, "images", {"images-00002": "1"})
    assert dropped.places([id_of(0), id_of(2)])["shard"].to_list() == ["images-00002"]


def test_many_segments_become_one(storage: Storage) -> None:
    versions: dict[str, str] = {}
    for shard in range(40):
        versions[f"images-{shard:05d}"] = "1"
        write(storage, f"images-{shard:05d}", [id_of(shard)])
        index = update_index(storage, "images", versions)
    assert index.places([id_of(n) for n in range(40)]).height == 40
    assert len(storage.list(f"{FOLDER}/images/segments/")) <= 17


def test_an_index_that_cannot_be_read_is_made_again(storage: Storage) -> None:
    write(storage, "images-00000", [id_of(0)])
    update_index(storage, "images", {"images-00000": "1"})
    for broken in (b"{", b"[]", b'{"names": []}'):
        storage.write_bytes(f"{FOLDER}/images/state.json", broken)
        index = update_index(storage, "images", {"images-00000": "1"})
        assert index.places([id_of(0)])["shard"].to_list() == ["images-00000"]
