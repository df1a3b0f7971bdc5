"""A takedown by the index of ids: every byte of the storage is searched afterwards, on files and on S3."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from got_core.annotate.ledger import Ledger, Record
from got_core.annotate.pictures import pixels_name
from got_core.annotate.schemas import CAPTIONS, ENTITIES, T2I_CHAINS
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ImageReader, ingest_images
from got_core.corpus.item_index import FOLDER, Kind, update_index
from got_core.corpus.refused import REASON
from got_core.corpus.schemas import RAW_IMAGES
from got_core.corpus.shards import assign_image_shards
from got_core.corpus.store import store_picture
from got_core.curate import takedown_work
from got_core.curate.archived_rows import archived_rows
from got_core.curate.config import CurateConfig
from got_core.curate.manifest import archive_manifest, build_manifest
from got_core.curate.reach import Reach
from got_core.curate.rules import select_t2i
from got_core.curate.takedown import add_takedowns, refused_at_ingest, take_down
from got_core.curate.takedown_report import last_report
from got_core.curate.verdict import error_share
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import table

SHARDS, ROWS = [f"images-{number:05d}" for number in range(4)], 5
INGEST = IngestConfig()
GONE = [(0, 1), (2, 3)]
"""Shard and row of what goes."""


def picture(shard: int, row: int) -> Image.Image:
    pixels = np.random.default_rng([shard, row]).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((32, 32), Image.Resampling.BICUBIC)


def data_of(shard: int, row: int) -> bytes:
    buffer = io.BytesIO()
    picture(shard, row).save(buffer, "PNG")
    return buffer.getvalue()


def id_of(shard: int, row: int) -> str:
    return hashlib.sha256(data_of(shard, row)).hexdigest()


def caption_of(shard: int, row: int) -> str:
    return f"a “cat” number {row} of {shard} on a mat"


def entities_of(shard: int, row: int) -> list[str]:
    return [f"cat-{shard}-{row}", "mat"]


def fill(storage: Storage) -> None:
    """Shards from stored pictures to selections, a ledger each, the manifest and its archive."""
    chosen = {}
    for number, shard in enumerate(SHARDS):
        rows = [(number, row) for row in range(ROWS)]
        paths = [store_picture(storage, data_of(*one), "PNG") for one in rows]
        raw = [
            {"image_id": id_of(*one), "path": path, "phash": "", "near_duplicate_of": id_of(number, 1)}
            for one, path in zip(rows, paths, strict=True)
        ]
        chains = [
            {"chain_id": f"{hash_of(one):0>32}", "image_id": id_of(*one), "caption": caption_of(*one),
             "prompt": f"cat {one}", "chain": f"{caption_of(*one)} (10,20),(300,400)", "phrases": ["cat"]}
            for one in rows
        ]  # fmt: skip
        tables = {
            "captions": table([{**one, "annotator": "a"} for one in chains], CAPTIONS),
            "entities": table(
                [{"image_id": id_of(*one), "entities": entities_of(*one)} for one in rows], ENTITIES
            ),
            "t2i_chains": table(chains, T2I_CHAINS),
            "raw_images": table([{**one, "phash": None} for one in raw], RAW_IMAGES),
        }
        tables["t2i_selection"] = select_t2i(tables["t2i_chains"], tables["raw_images"], CurateConfig())
        for name, frame in tables.items():
            storage.write_table(f"{name}/{shard}", frame)
        storage.write_table(f"fetched/{shard}/one", pl.DataFrame({"url": paths, "path": paths}))
        storage.write_bytes(f"shown/captions/{shard}/tables.md", caption_of(number, 1).encode())
        chosen[shard] = (tables["t2i_selection"], tables["t2i_chains"], tables["raw_images"])
        answer(storage, shard, rows)
    manifest = build_manifest(chosen, {})
    assert manifest.height == len(SHARDS) * ROWS
    storage.write_table("training_manifest", manifest)
    archive_manifest(storage, manifest)
    storage.write_table("imported/set/chains/00000", tables["t2i_chains"].vstack(chosen[SHARDS[0]][1]))
    storage.write_bytes("shown/training_manifest/tables.md", id_of(0, 1).encode())
    storage.write_json("failures/run.json", {"error": f"{id_of(0, 1)} cannot be opened"})


def hash_of(one: tuple[int, int]) -> str:
    return hashlib.sha256(repr(one).encode()).hexdigest()[:32]


def answer(storage: Storage, shard: str, rows: Collection[tuple[int, int]]) -> None:
    """Answers about each picture: a caption that shows it, a box, and names from the caption's text alone."""
    ledger = Ledger(storage, shard)
    for one in rows:
        shown = pixels_name(picture(*one))
        said = {"caption": (json.dumps({"caption": caption_of(*one)}), shown), "box": ("[1,2,3,4]", shown),
                "entities": (json.dumps(entities_of(*one)), None)}  # fmt: skip
        for step, (text, image) in said.items():
            ledger.finish(
                Record(key=f"{step}{one}", step=step, prompt="p", model="m", revision="1", image=image,
                       text=text, tokens_in=10, tokens_out=1, cost=0.5)
            )  # fmt: skip
    ledger.close()


def reach_of(storage: Storage, **more: Any) -> Reach:
    kinds: dict[Kind, list[str]] = {"images": SHARDS, "edits": []}
    found = [update_index(storage, kind, dict.fromkeys(shards, "1")) for kind, shards in kinds.items()]
    return Reach(indices=tuple(found), **more)


def readers_of(storage: Storage) -> dict[str, ImageReader]:
    reader = ImageReader("/nowhere", INGEST, store_url=storage.url, store_options=storage.fs_options)
    return {"t2i": reader, "edit": reader}


def files(storage: Storage) -> dict[str, bytes]:
    return storage.read_many(storage.list())


def found_in(storage: Storage, words: Collection[str]) -> set[str]:
    """Files that hold one of the words, whatever way it is spelled; parquet is read as text, too."""
    spelled = {word.encode() for word in words} | {json.dumps(word)[1:-1].encode() for word in words}
    hits = set()
    for name, data in files(storage).items():
        whole = data + name.encode()
        if name.endswith(".parquet"):
            whole += repr(pl.read_parquet(io.BytesIO(data)).rows()).encode()
            whole += repr(pl.read_parquet(io.BytesIO(data)).to_dicts()).encode()
        if any(one in whole for one in spelled):
            hits.add(name)
    return hits


def words() -> list[str]:
    return [*(id_of(*one) for one in GONE), *(caption_of(*one) for one in GONE),
            *(entities_of(*one)[0] for one in GONE), *(hash_of(one) for one in GONE)]  # fmt: skip


@pytest.fixture(params=["file", "s3"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """A filled storage, on files and in a bucket."""
    if request.param == "file":
        storage = Storage(f"file://{tmp_path / 'storage'}")
    else:
        server = request.getfixturevalue("s3_server")
        url = f"s3://{server.bucket}/got"
        storage = Storage(url, cache_dir=tmp_path / "cache", endpoint_url=server.url)
    fill(storage)
    return storage


def test_no_byte_is_left_and_only_touched_shards_are_rewritten(home: Storage) -> None:
    assert len(found_in(home, words())) > 12, "else the search finds nothing anyway"
    before = files(home)
    spent = {shard: Ledger(home, shard).spent for shard in SHARDS}
    add_takedowns(home, [id_of(*one) for one in GONE])
    leased, told = [], []

    class Lease:
        def __init__(self, shard: str) -> None:
            leased.append(shard)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    reach = reach_of(home, lease=Lease, rewritten=lambda shard, tables: told.append((shard, len(tables))))
    done = take_down(home, CurateConfig(), readers_of(home), reach)
    assert {name for name in found_in(home, words()) if not name.startswith("takedown/")} == set()
    assert leased == [SHARDS[0], SHARDS[2]] and told == [(SHARDS[0], 5), (SHARDS[2], 5), (None, 1)]
    after, untouched = files(home), (SHARDS[1], SHARDS[3])
    for name, data in before.items():
        if any(shard in name for shard in untouched):
            assert after[name] == data, name
    for shard in SHARDS:
        ledger, number = Ledger(home, shard), int(shard[-1])
        gone = [row for row in range(ROWS) if (number, row) in GONE]
        assert len(ledger) == 3 * (ROWS - len(gone)), "only answers about what goes"
        assert ledger.spent == spent[shard], "what they cost is not forgotten"
    assert done.removed[f"ledger/{SHARDS[0]}"] == 3 and done.removed["imported/set/chains/00000"] == 1
    assert archived_rows(home).height == 2, "which models had learned it can still be asked"
    report = last_report(home)
    assert report is not None and report["rewritten"] == done.removed
    assert {"raw files", "backups", "models", "other machines", "exports"} <= report["left"].keys()
    assert ("object versions" in report["left"]) is False, "neither keeps versions"
    again = take_down(home, CurateConfig(), readers_of(home), reach_of(home))
    assert again.removed == {}


def test_a_second_takedown_opens_nothing(home: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    add_takedowns(home, [id_of(*one) for one in GONE])
    reach = reach_of(home)
    take_down(home, CurateConfig(), readers_of(home), reach)
    versions = {shard: "1" if shard in (SHARDS[1], SHARDS[3]) else "2" for shard in SHARDS}
    fresh = Reach(indices=(update_index(home, "images", versions),))
    opened: list[str] = []
    read = Storage._table_source
    monkeypatch.setattr(Storage, "_table_source", lambda self, name: opened.append(name) or read(self, name))
    before = files(home)
    done = take_down(home, CurateConfig(), readers_of(home), fresh)
    assert done.removed == {} and done.report == "" and files(home) == before
    assert not [name for name in opened if not name.startswith(("takedown/", f"{FOLDER}/"))]


def test_what_was_rewritten_before_a_kill_is_reported_afterwards(home: Storage) -> None:
    add_takedowns(home, [id_of(*one) for one in GONE])
    reach = reach_of(home)
    take_down(home, CurateConfig(), readers_of(home), reach)
    home.write_json(takedown_work.WORK, {"shards": [SHARDS[0]]})  # as a process leaves it that ends here
    told: list[str | None] = []
    begun = reach_of(home, rewritten=lambda shard, tables: told.append(shard))
    assert take_down(home, CurateConfig(), readers_of(home), begun).removed == {}
    assert told == [SHARDS[0], None] and not home.exists(takedown_work.WORK)


def test_a_shard_that_no_index_knows_is_looked_at(home: Storage) -> None:
    add_takedowns(home, [id_of(*one) for one in GONE])
    versions = dict.fromkeys(SHARDS[1:], "1")
    done = take_down(
        home, CurateConfig(), readers_of(home), Reach(indices=(update_index(home, "images", versions),))
    )
    assert f"raw_images/{SHARDS[0]}" in done.removed and f"raw_images/{SHARDS[2]}" in done.removed
    assert not [name for name in found_in(home, words()) if not name.startswith("takedown/")]


KILLED = """
import os, signal, sys
from got_core.storage import Storage
from tests.got_core.curate.test_takedown_everywhere import CurateConfig, reach_of, readers_of, take_down
storage, left = Storage(sys.argv[1]), int(sys.argv[2])
write = Storage._write
def count(self, *given, **more):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *given, **more)
reach = reach_of(storage)
Storage._write = count
take_down(storage, CurateConfig(), readers_of(storage), reach)
"""


@pytest.mark.slow
def test_killed_at_any_write_it_goes_on(storage: Storage) -> None:
    fill(storage)
    reach_of(storage)
    add_takedowns(storage, [id_of(*one) for one in GONE])
    spent = {shard: Ledger(storage, shard).spent for shard in SHARDS}
    ended = []
    while not ended or ended[-1] != 0:
        command = [sys.executable, "-c", KILLED, storage.url, "4"]
        ended.append(subprocess.run(command, check=False).returncode)
        assert ended[-1] in (0, -9) and len(ended) < 20
    assert len(ended) > 4
    take_down(storage, CurateConfig(), readers_of(storage), reach_of(storage))
    assert not [name for name in found_in(storage, words()) if not name.startswith("takedown/")]
    assert not storage.exists(takedown_work.WORK)
    for shard in SHARDS:
        gone = len([one for one in GONE if one[0] == int(shard[-1])])
        assert (
            len(Ledger(storage, shard)) == 3 * (ROWS - gone) and Ledger(storage, shard).spent == spent[shard]
        )


def test_what_comes_back_is_refused_with_its_reason(storage: Storage, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    for row in range(3):
        (raw / f"{row}.png").write_bytes(data_of(0, row))
    assign_image_shards(storage, str(raw), INGEST)
    first = ingest_images(storage, str(raw), SHARDS[0], INGEST)
    storage.write_table(f"raw_images/{SHARDS[0]}", first)
    add_takedowns(storage, [id_of(0, 1)])
    take_down(storage, CurateConfig(), dict.fromkeys(("t2i", "edit"), ImageReader(str(raw), INGEST)))
    assert storage.read_table(f"raw_images/{SHARDS[0]}").height == 2
    picture(0, 1).save(raw / "2.png", compress_level=1)
    again = ingest_images(storage, str(raw), SHARDS[0], INGEST, refused=refused_at_ingest(storage))
    refused = again.filter(pl.col("reason") == REASON)
    stays = again.filter(pl.col("reason").is_null())
    assert stays["image_id"].to_list() == [id_of(0, 0)]
    assert refused.height == 1 or again.height == 3
    assert (
        refused["image_id"].null_count() == refused.height and refused["phash"].null_count() == refused.height
    )
    assert error_share(again.filter(pl.col("reason").ne_missing("changed"))) == 0
