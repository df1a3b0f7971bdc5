"""Pair tables in parquet: every kind of column is text, or an error that names it and the way in."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from got_core.corpus.config import IngestConfig
from got_core.corpus.pair_table import read_pair_table
from got_core.corpus.shards import assign_image_shards
from got_core.storage import Storage

SECRET = b"\x89PNG\r\n\x1a\n" + b"picture bytes" * 1000
PICTURE = {"bytes": SECRET, "path": "a.png"}


def write(folder: Path, **columns: pa.Array) -> str:
    given = {name: pa.array([f"{name}.png"]) for name in ("source", "target")} | {
        "instruction": pa.array(["x"])
    }
    pq.write_table(pa.table(given | columns), folder / "pairs.parquet")
    return str(folder / "pairs.parquet")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([" red "], pa.large_string()), "red"),
        (pa.array(["red"], pa.string_view()), "red"),
        (pa.array(["red"]).dictionary_encode(), "red"),
        (pa.array(["red"], pa.large_string()).dictionary_encode(), "red"),
        (pa.array([17], pa.int64()), "17"),
        (pa.array([17], pa.uint8()).dictionary_encode(), "17"),
        (pa.array([True]), "true"),
        (pa.array([1.5]), "1.5"),
        (pa.array([float("nan")]), None),
        (pa.array([None]), None),
        (pa.array([None], pa.string()), None),
        (pa.array(["  "]), None),
        (pa.array([Decimal("1.50")]), "1.50"),
        (pa.array([datetime(2026, 1, 2, tzinfo=UTC)]), "2026-01-02"),
    ],
)
@pytest.mark.parametrize("column", ["source", "instruction", "licence"])
def test_plain_values_of_any_type_are_text(
    tmp_path: Path, column: str, values: pa.Array, expected: str | None
) -> None:
    found = read_pair_table(write(tmp_path, **{column: values}))[column][0]
    assert found == expected or (expected and found and found.startswith(expected))


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([["make it red", "turn it red"]]), "list"),
        (pa.array([["make it red"]], pa.large_list(pa.string())), "large_list"),
        (pa.array([["make it red"]], pa.list_(pa.string(), 1)), "fixed_size_list"),
        (pa.array([PICTURE]), "struct<bytes: binary, path: string>"),
        (pa.array([[PICTURE]]), "list"),
        (pa.array([SECRET]), "binary"),
        (pa.array([SECRET], pa.large_binary()), "large_binary"),
        (pa.array([SECRET], pa.binary(len(SECRET))), "fixed_size_binary"),
        (pa.array([SECRET]).dictionary_encode(), "dictionary"),
        (pa.array([[("a", SECRET)]], pa.map_(pa.string(), pa.binary())), "map"),
        (pa.array([{f"field {n}": n for n in range(500)}]), "struct"),
    ],
)
@pytest.mark.parametrize("column", ["source", "target", "instruction", "licence"])
def test_what_is_no_text_is_named_with_the_way_in(
    tmp_path: Path, column: str, values: pa.Array, kind: str
) -> None:
    url = write(tmp_path, **{column: values})
    with pytest.raises(ValueError, match=rf"{url}: column {column} is {kind}") as caught:
        read_pair_table(url)
    text = str(caught.value)
    assert "got data unpack" in text and "picture bytes" not in text and len(text) < 600


def test_a_data_set_under_other_names_says_how_it_comes_in(tmp_path: Path) -> None:
    names = {
        "omni_edit_id": ["1"],
        "src_img": [PICTURE],
        "edited_img": [PICTURE],
        "edited_prompt_list": [["x"]],
    }
    wide = {f"column {number}": [1] for number in range(2000)}
    pq.write_table(pa.table(names | wide), tmp_path / "p.parquet")
    with pytest.raises(ValueError, match=r"no column source, target, instruction.* unpack") as caught:
        read_pair_table(str(tmp_path / "p.parquet"))
    assert "src_img" in str(caught.value) and len(str(caught.value)) < 1200


def test_pictures_beside_the_texts_are_not_read(tmp_path: Path) -> None:
    assert read_pair_table(write(tmp_path, preview=pa.array([PICTURE]))).height == 1


@pytest.mark.parametrize("data", [b"", b"PAR1", SECRET, b"source,target\na,b\n"])
def test_what_is_no_parquet_says_so_without_its_bytes(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "p.parquet").write_bytes(data)
    with pytest.raises(ValueError, match=r"p\.parquet cannot be read: it is no parquet") as caught:
        read_pair_table(str(tmp_path / "p.parquet"))
    assert "PNG" not in str(caught.value)


def test_other_formats_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text("{}")
    with pytest.raises(ValueError, match=r"p\.jsonl cannot be read: it must be CSV or parquet"):
        read_pair_table(str(tmp_path / "p.jsonl"))


def test_urls_in_lists_are_refused_alike(tmp_path: Path, storage: Storage) -> None:
    pq.write_table(pa.table({"url": [["http://a/1.png"]]}), tmp_path / "u.parquet")
    with pytest.raises(ValueError, match=r"u\.parquet: column url is list<.*must be text"):
        assign_image_shards(storage, str(tmp_path / "u.parquet"), IngestConfig())
