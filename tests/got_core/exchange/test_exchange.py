"""Files written in the released forms, imported, and our own data there and back."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from got_core.annotate.schemas import EDIT_CHAINS, T2I_CHAINS
from got_core.chain.boxes import Box
from got_core.chain.grammar import parse
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_edit_pairs, ingest_images
from got_core.corpus.schemas import EDIT_PAIRS, RAW_IMAGES, check_schema
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.curate.config import CurateConfig
from got_core.curate.rules import select_edits, select_t2i
from got_core.exchange.coco import category_name, coco_boxes, write_coco
from got_core.exchange.config import (
    OMNIEDIT,
    OUR_EDITS,
    OUR_T2I,
    EditMapping,
    PairMapping,
    T2IMapping,
    mapping_of,
    read_mapping,
)
from got_core.exchange.export import released_edits, released_t2i
from got_core.exchange.export_parts import export_file, records_bytes
from got_core.exchange.importer import REASONS, image_keys, import_batch, pair_keys
from got_core.exchange.pairs import read_pairs, unpack_pairs
from got_core.exchange.parts import import_files, imported_chains, refused_records
from got_core.exchange.placeholders import coordinates_of, extract_boxes, insert_boxes
from got_core.exchange.records import MAX_LINE, Record, RecordError, read_records
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import photograph, table

CHAIN = "A red chair (483,571),(798,998) stands by a table (10,20),(300,400)."
EDIT = "1. A room. 2. the chair 3. <bbox_0> 4. The chair goes. 5. An empty room."
LAHR_LIKE = T2IMapping(
    name="lahr", image="meta.file", image_is="name", prompt="short", chain="got", licence="meta.licence"
)


def jpeg(seed: int) -> bytes:
    buffer = io.BytesIO()
    photograph(seed).save(buffer, format="JPEG")
    return buffer.getvalue()


def write_records(frame: pl.DataFrame, path: Path) -> Path:
    path.write_bytes(records_bytes(frame, path.suffix))
    return path


def raw_of(count: int, **also) -> pl.DataFrame:
    rows = [
        {"image_id": f"image-{k}", "path": f"a/{k}.jpg", "paths": [f"a/{k}.jpg", f"b/{k}-again.jpg"]}
        | {"width": 640, "height": 480, "source": "web", "licence": "CC0"}
        | also
        for k in range(count)
    ]
    return table(rows, RAW_IMAGES)


def lahr_record(k: int, chain: str = CHAIN, **also) -> dict:
    return {"meta": {"file": f"{k}.jpg"}, "short": f"a chair and table {k}", "got": chain, **also}


def records_of(*values: dict) -> list[Record]:
    return [Record("memory", k, one, None, "") for k, one in enumerate(values, start=1)]


# Files


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_the_three_formats_hold_the_same_records(tmp_path: Path, ending: str) -> None:
    frame = pl.DataFrame([{"a": "ü", "b": [1, 2]}, {"a": None, "b": []}])
    path = write_records(frame, tmp_path / f"x{ending}")
    assert [record.values for record in read_records(str(path))] == frame.to_dicts()
    assert [record.row for record in read_records(str(path))] == [1, 2]
    assert not [name for name in tmp_path.iterdir() if name.name.startswith(".")]


def test_faulty_lines_are_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    lines = [b'{"a": 1}', b"{", b"", b"\xff\xfe", b"[1]", b"[" * 100_000, b'"' + b"x" * MAX_LINE, b'{"a": 2}']
    path.write_bytes(b"\n".join(lines))
    records = list(read_records(str(path)))
    assert [(one.row, one.values) for one in records if one.values] == [(1, {"a": 1}), (8, {"a": 2})]
    assert [(one.row, (one.error or "").split(":")[0]) for one in records if one.error] == [
        (2, "not_json"),
        (4, "not_json"),
        (5, "not_an_object"),
        (6, "not_json"),
        (7, "too_long"),
    ]


def test_broken_files_are_one_error_that_names_them(tmp_path: Path) -> None:
    for name, data, message in [
        ("x.json", b"{", "not valid JSON"),
        ("x.json", b'{"a": 1}', "must hold a list"),
        ("x.parquet", b"PAR1", "not a readable parquet"),
        ("x.txt", b"", "not a file that can be imported"),
    ]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ValueError, match=message):
            list(read_records(str(tmp_path / name)))
    with pytest.raises(FileNotFoundError, match=r"gone\.json"):
        list(read_records(str(tmp_path / "gone.json")))
    (tmp_path / "y.json").write_text('{"version": 1, "data": [{"a": 1}]}')
    assert [record.values for record in read_records(str(tmp_path / "y.json"))] == [{"a": 1}]


# Placeholders


@pytest.mark.parametrize(
    "value",
    [
        '{"<bbox_0>": "(1,2),(30,40)"}',
        '{"<bbox_0>": "<|box_start|>(1, 2), (30, 40)<|box_end|>"}',
        '{"bbox_0": [1, 2, 30, 40]}',
        '{"bbox_0": [[1, 2], [30, 40.0]]}',
        '{"bbox_0": [[1, 2, 30, 40]]}',
        {"bbox_0": "(1,2),(30,40)", "bbox_9": None},
    ],
)
def test_coordinates_in_any_spelling_go_into_the_text(value) -> None:
    assert insert_boxes("a cat <bbox_0> sits", coordinates_of(value)) == "a cat (1,2),(30,40) sits"


def test_placeholders_are_whole_words_and_their_brackets_go_with_bare_ones() -> None:
    boxes = {"box1": [Box(1, 1, 2, 2)], "box10": [Box(3, 3, 4, 4), Box(5, 5, 6, 6)]}
    assert insert_boxes("{box10} [box1] box1", boxes) == "(3,3),(4,4), (5,5),(6,6) (1,1),(2,2) (1,1),(2,2)"


@pytest.mark.parametrize(
    ("text", "coordinates", "reason"),
    [
        ("a <bbox_0>", "{", "bad_coordinates"),
        ("a <bbox_0>", "[1]", "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": "(1,2),(30,4000)"}', "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": "(30,2),(1,4)"}', "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": [0.5, 1, 2, 3]}', "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": [1e400, 1, 2, 3]}', "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": []}', "bad_coordinates"),
        ("a <bbox_0>", '{"<bbox_0>": true}', "bad_coordinates"),
        ("a <bbox_0>", '{"": "(1,2),(3,4)"}', "bad_coordinates"),
        ("a cat", '{"<bbox_0>": "(1,2),(3,4)"}', "placeholder_missing"),
        ("a <bbox_0> b <bbox_1>", '{"<bbox_0>": "(1,2),(3,4)"}', "placeholder_unknown"),
        ("a <bbox_0>", "{}", "placeholder_unknown"),
        ("a <bbox_0>", None, "placeholder_unknown"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_reason(text: str, coordinates, reason: str) -> None:
    with pytest.raises(RecordError) as caught:
        insert_boxes(text, coordinates_of(coordinates))
    assert caught.value.reason == reason


WORDS = st.text(st.sampled_from("ab <>_[]{}|bo x0.\n"), max_size=20).filter(lambda text: "<|" not in text)
BOXES = st.tuples(*[st.integers(0, 999)] * 4).map(
    lambda v: f"({min(v[0], v[2])},{min(v[1], v[3])}),({max(v[0], v[2])},{max(v[1], v[3])})"
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(WORDS, BOXES), min_size=1, max_size=12), WORDS)
def test_taken_out_and_put_in_again_is_the_same_chain(pieces, tail: str) -> None:
    text = "".join(f"{words} {box}" for words, box in pieces) + " " + tail
    bare, boxes = extract_boxes(parse(text, "data"))
    assert insert_boxes(bare, coordinates_of(json.dumps(boxes))) == text


# Text to image


def test_a_text_to_image_set_becomes_chains_that_curation_accepts() -> None:
    keys = image_keys(raw_of(3), "name")
    model = "A chair <|box_start|>(1,2),(30,40)<|box_end|> (red) here"
    marked = "A <|obj_start|>big dog<|obj_end|> <|box_start|>(1,2),(30,40)<|box_end|> here"
    records = records_of(lahr_record(0), lahr_record(1, model), lahr_record(2, marked))
    records[2].values["meta"]["licence"] = "CC-BY"
    chains, refused = import_batch(records, keys, LAHR_LIKE)
    check_schema(chains, T2I_CHAINS, "imported")
    assert refused.height == 0
    assert chains["image_id"].to_list() == ["image-0", "image-1", "image-2"]
    assert chains["chain"].to_list() == [
        CHAIN,
        "A chair (1,2),(30,40) here",
        "A big dog (1,2),(30,40) here",
    ]
    assert chains["caption"][0] == "A red chair stands by a table."
    assert chains["phrases"].to_list() == [["A red chair", "a table"], ["A chair"], ["big dog"]]
    assert chains["boxes"].to_list() == [2, 1, 1]
    assert chains["licence"].to_list() == ["CC0", "CC0", "CC-BY"]
    assert chains["source"].to_list() == ["web"] * 3
    assert select_t2i(chains.select(list(T2I_CHAINS)), raw_of(3), CurateConfig())["accepted"].all()


def test_every_bad_record_is_kept_with_its_reason() -> None:
    raw = pl.concat(
        [raw_of(4), raw_of(1, image_id="bad", path="z/9.jpg", paths=["z/9.jpg"], error="corrupt: x")]
    )
    raw = pl.concat([raw, raw_of(1, image_id="twin", path="c/3.jpg", paths=["c/3.jpg"])])
    values = [
        lahr_record(0),
        lahr_record(0),
        lahr_record(1, "a cat (5,5),(1,1)"),
        lahr_record(1, "a cat (1,2),(3,"),
        lahr_record(1, ""),
        lahr_record(1) | {"short": None},
        lahr_record(1) | {"short": "\ud800"},
        {"got": CHAIN, "short": "no image"},
        lahr_record(77),
        lahr_record(3),
        lahr_record(9),
        lahr_record(1) | {"got": {"x": 1}},
    ]
    records = [*records_of(*values), Record("memory", 99, None, "not_json: x", "{")]
    chains, refused = import_batch(records, image_keys(raw, "name"), LAHR_LIKE)
    assert chains.height + refused.height == len(records)
    assert chains.height == 1
    assert refused["reason"].to_list() == [
        "repeated",
        "not_a_chain",
        "not_a_chain",
        "no_value",
        "no_value",
        "bad_text",
        "no_value",
        "image_missing",
        "image_ambiguous",
        "image_quarantined",
        "no_value",
        "not_json",
    ]
    assert set(refused["reason"]) <= set(REASONS)
    assert json.loads(refused["record"][1])["got"] == "a cat (5,5),(1,1)"
    assert refused["record"][-1] == "{"
    assert all(text.startswith(f"{reason}: ") for text, reason in refused.select("error", "reason").rows())


def test_images_are_found_by_path_name_stem_or_id() -> None:
    raw = raw_of(2)
    for how, name in [
        ("path", "b/1-again.jpg"),
        ("name", "1.jpg"),
        ("stem", "1-again"),
        ("image_id", "image-1"),
    ]:
        mapping = T2IMapping(name="x", image_is=how)
        record = {"image": name, "prompt": "p", "got": CHAIN}
        chains, _ = import_batch(records_of(record), image_keys(raw, how), mapping)
        assert chains["image_id"].to_list() == ["image-1"], how


def test_a_wrong_mapping_is_one_error_that_lists_the_columns(tmp_path: Path, storage: Storage) -> None:
    for ending in (".jsonl", ".parquet"):
        path = write_records(
            pl.DataFrame([{"caption": "x", "got": CHAIN, "image": "1.jpg"}]), tmp_path / f"x{ending}"
        )
        with pytest.raises(ValueError, match=r"has no column prompt; it has .*got.*T2IMapping"):
            import_files(storage, [str(path)], image_keys(raw_of(1), "path"), T2IMapping(name="x"))
    assert storage.list() == []
    (tmp_path / "map.json").write_text('{"name": "x", "promt": "y"}')
    with pytest.raises(ValueError, match=r"map.json: T2IMapping has no field promt"):
        read_mapping(T2IMapping, tmp_path / "map.json")
    (tmp_path / "map.json").write_text('{"name": "x", "image_is": "url"}')
    with pytest.raises(ValueError, match="image_is must be one of"):
        read_mapping(T2IMapping, tmp_path / "map.json")
    assert mapping_of(EditMapping, {"coordinates": None}).coordinates is None


def test_a_stopped_import_goes_on_and_gives_the_same_tables(
    tmp_path: Path, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = raw_of(40)
    lines = [json.dumps(lahr_record(k % 35)) for k in range(50)]
    lines[7] = "{"
    (tmp_path / "x.jsonl").write_text("\n".join(lines))
    keys, files = image_keys(raw, "name"), [str(tmp_path / "x.jsonl")]
    whole = Storage(f"file://{tmp_path / 'whole'}")
    expected = import_files(whole, files, keys, LAHR_LIKE, batch=8)
    assert expected == {"rows": 50, "chains": 35, "refused": 15}

    import got_core.exchange.parts as parts

    started: list[int] = []
    real = parts.import_batch

    def dying(records, *rest):
        started.append(records[0].row)
        if len(started) == 4:
            raise KeyboardInterrupt
        return real(records, *rest)

    monkeypatch.setattr(parts, "import_batch", dying)
    with pytest.raises(KeyboardInterrupt):
        import_files(storage, files, keys, LAHR_LIKE, batch=8)
    assert import_files(storage, files, keys, LAHR_LIKE, batch=8) == expected
    assert started == [1, 9, 17, 25, 25, 33, 41, 49], "finished parts are not made again"
    for one in (imported_chains, lambda place, name, _: refused_records(place, name)):
        assert one(storage, "lahr", raw).equals(one(whole, "lahr", raw))
    shard = raw.slice(10, 5)
    assert imported_chains(storage, "lahr", shard)["image_id"].to_list() == shard["image_id"].to_list()
    import_files(storage, files, image_keys(raw.head(1), "name"), LAHR_LIKE, batch=8)
    assert imported_chains(storage, "lahr", raw)["image_id"].to_list() == ["image-0"], "other images: anew"


# Edits


def omniedit_files(tmp_path: Path) -> tuple[str, str]:
    """A local copy in OmniEdit's form, and released chains."""
    rows = [
        {
            "omni_edit_id": f"task_removal_{k}",
            "task": "removal",
            "src_img": {"bytes": jpeg(2 * k), "path": "../../etc/passwd"},
            "edited_img": {"bytes": jpeg(2 * k + 1) if k != 3 else b"<html>", "path": None},
            "edited_prompt_list": [f"Remove the chair {k}.", f"take chair {k} away "],
        }
        for k in range(4)
    ]
    pairs = write_records(pl.DataFrame(rows, strict=False), tmp_path / "omni.parquet")
    released = [
        {
            "omni_edit_id": f"task_removal_{k}",
            "got": EDIT,
            "coord": json.dumps({"<bbox_0>": "(1,2),(300,400)"}),
        }
        for k in range(4)
    ]
    released[1]["coord"] = "{}"
    released.append({"omni_edit_id": "task_unknown_9", "got": EDIT, "coord": None})
    got = write_records(pl.DataFrame(released), tmp_path / "got.jsonl")
    return str(pairs), str(got)


def test_omniedit_is_joined_by_id_with_ingested_pairs(tmp_path: Path, storage: Storage) -> None:
    copy, got = omniedit_files(tmp_path)
    folder = tmp_path / "unpacked"
    counts = unpack_pairs([copy], folder, PairMapping(licence="MIT"))
    assert counts == {"rows": 4, "pairs": 3, "refused": 1}
    assert pl.read_parquet(folder / "refused.parquet")["reason"].to_list() == ["not_an_image"]
    assert {path.parent.parent for path in folder.rglob("*.jpg")} == {folder}

    config = IngestConfig()
    (shard,) = assign_edit_shards(storage, str(folder / "pairs.parquet"), config)
    ingested = ingest_edit_pairs(storage, str(folder / "pairs.parquet"), shard, config)
    check_schema(ingested, EDIT_PAIRS, "edit_pairs")
    pairs = read_pairs(folder / "pairs.parquet")
    assert set(pairs["pair_id"]) == set(ingested["pair_id"]), "the same ids as ingestion gives"

    assert import_files(storage, [got], pair_keys(pairs, ingested), OMNIEDIT) == {
        "rows": 5,
        "chains": 2,
        "refused": 3,
    }
    assert refused_records(storage, "omniedit")["reason"].to_list() == [
        "placeholder_unknown",
        "pair_missing",
        "pair_missing",
    ]
    chains = imported_chains(storage, "omniedit", ingested)
    check_schema(chains, EDIT_CHAINS, "imported")
    assert chains["chain"][0] == EDIT.replace("<bbox_0>", "(1,2),(300,400)")
    assert chains["instructions"][0].to_list() == ["Remove the chair 0.", "take chair 0 away"]
    assert set(chains["licence"]) == {"MIT"} and set(chains["source"]) == {"omniedit"}
    assert select_edits(chains.select(list(EDIT_CHAINS)), ingested, CurateConfig())["accepted"].all()


def test_unpacking_again_writes_no_picture_twice(tmp_path: Path) -> None:
    copy, _ = omniedit_files(tmp_path)
    folder = tmp_path / "unpacked"
    unpack_pairs([copy], folder)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}
    table_before = hashlib.sha256((folder / "pairs.parquet").read_bytes()).hexdigest()
    unpack_pairs([copy], folder)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")} == before
    assert hashlib.sha256((folder / "pairs.parquet").read_bytes()).hexdigest() == table_before
    with pytest.raises(ValueError, match="has no column picture"):
        unpack_pairs([copy], folder, PairMapping(source_image="picture"))


# There and back


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_our_data_comes_back_as_it_was(tmp_path: Path, storage: Storage, ending: str) -> None:
    raw = raw_of(3)
    rows = [
        {
            "chain_id": hashlib.md5(str(k).encode()).hexdigest(),
            "image_id": f"image-{k}",
            "prompt": f"prompt {k}",
            "caption": "A red chair stands by a table.",
            "phrases": ["A red chair", "a table"],
            "chain": CHAIN,
            "boxes": 2,
        }
        for k in range(3)
    ]
    bad = {"image_id": "image-0", "error": "not_a_chain: x", "reason": "not_a_chain"}
    chains = table([*rows, bad], T2I_CHAINS)
    path = tmp_path / f"t2i{ending}"
    assert export_file(str(path), ["all"], lambda _: released_t2i(chains, raw)) == 3
    import_files(storage, [str(path)], image_keys(raw, "image_id"), OUR_T2I)
    back = imported_chains(storage, "got", raw, T2I_CHAINS)
    wanted = table(rows, T2I_CHAINS)
    same = [name for name in T2I_CHAINS if name not in ("source", "licence")]
    assert back.select(same).equals(wanted.select(same))


@pytest.mark.parametrize("ending", [".jsonl", ".json", ".parquet"])
def test_our_edits_come_back_as_they_were(tmp_path: Path, storage: Storage, ending: str) -> None:
    chains = [
        EDIT.replace("<bbox_0>", "(1,2),(300,400)"),
        "1. <bbox_0> is written there. 2. the cat (5,5),(90,90), moves to (1,1),(80,80) 3. a dog.",
    ]
    rows = [
        {
            "chain_id": hashlib.md5(str(k).encode()).hexdigest(),
            "pair_id": f"pair-{k}",
            "instruction": "remove it",
            "instructions": ["remove it", "delete it"],
            "chain": chain,
            "boxes": k + 1,
        }
        for k, chain in enumerate(chains)
    ]
    pairs = table(
        [{"pair_id": f"pair-{k}", "source": "here", "licence": "MIT", "instruction": "x"} for k in range(2)],
        EDIT_PAIRS,
    )
    released = released_edits(table(rows, EDIT_CHAINS), pairs)
    assert released.columns[0] == "omni_edit_id" and {"got", "coord"} <= set(released.columns)
    assert json.loads(released["coord"][0]) == {"<bbox_0>": "(1,2),(300,400)"}
    assert "(300,400)" not in released["got"][0]
    path = tmp_path / f"edits{ending}"
    assert export_file(str(path), ["all"], lambda _: released) == 2
    keys = pair_keys(
        pairs.select("pair_id", "instruction", "source", "licence", key="pair_id").with_columns(
            instructions=pl.concat_list("instruction")
        )
    )
    assert import_files(storage, [str(path)], keys, OUR_EDITS)["refused"] == 0
    back = imported_chains(storage, "got", pairs, EDIT_CHAINS)
    same = [name for name in EDIT_CHAINS if name not in ("source", "licence")]
    assert back.select(same).equals(table(rows, EDIT_CHAINS).select(same))


def test_coco_boxes_are_pixels_of_the_ingested_image(tmp_path: Path, storage: Storage) -> None:
    raw_folder = tmp_path / "raw"
    raw_folder.mkdir()
    Image.new("RGB", (640, 480), "navy").save(raw_folder / "one.png")
    (shard,) = assign_image_shards(storage, str(raw_folder), IngestConfig())
    raw = ingest_images(storage, str(raw_folder), shard, IngestConfig())
    image_id = raw["image_id"][0]
    chain = "A red Chair (100,250),(600,750) by the table (0,0),(999,999) and a red chair (1,1),(2,2)."
    chains = table([{"chain_id": "c", "image_id": image_id, "prompt": "p", "chain": chain}], T2I_CHAINS)
    write_coco(coco_boxes(chains, raw), str(tmp_path / "boxes.json"))
    document = json.loads((tmp_path / "boxes.json").read_bytes())
    (image,) = document["images"]
    assert (image["file_name"], image["width"], image["height"], image["id"]) == ("one.png", 640, 480, 1)
    assert document["annotations"][0]["bbox"] == [64.0, 120.0, 320.0, 240.0]
    assert document["annotations"][0]["area"] == 320.0 * 240.0
    names = {one["id"]: one["name"] for one in document["categories"]}
    assert [names[one["category_id"]] for one in document["annotations"]] == [
        "red chair",
        "table",
        "red chair",
    ]
    for one, placed in zip(document["annotations"], parse(chain).boxes, strict=True):
        x, y, width, height = one["bbox"]
        # One thousandth of a pixel is lost by rounding, so look just inside.
        assert (
            Box.from_pixels((x + 0.01, y + 0.01, x + width + 0.01, y + height + 0.01), 640, 480) == placed.box
        )
        assert one["image_id"] == 1 and one["iscrowd"] == 0
    with pytest.raises(ValueError, match="1 rows have no image_id"):
        coco_boxes(chains, raw.clear())
    assert category_name("  ") == "object"


def test_unpacking_another_file_names_its_columns(tmp_path: Path) -> None:
    pl.DataFrame({"a": [1], "b": [["x"]]}).write_parquet(tmp_path / "p.parquet")
    (tmp_path / "p.jsonl").write_text('not json\n{"a": 1, "b": {"c": 2}}\n')
    for name in ("p.parquet", "p.jsonl"):
        with pytest.raises(
            ValueError, match=rf"{name} has no column omni_edit_id, .*; it has a, b: .*PairMapping"
        ):
            unpack_pairs([str(tmp_path / name)], tmp_path / "out")
    assert not (tmp_path / "out").exists()
