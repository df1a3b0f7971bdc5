"""CSV as other readers read it; a line that is none is named, and its neighbours are read."""

from __future__ import annotations

import csv
import io
import uuid
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.delimited import read_delimited
from got_core.corpus.ingest import ingest_edit_pairs, ingest_images
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.storage import Storage

COLUMNS = ("source", "target", "instruction", "licence")
HEADER = "source,target,instruction\n"


def read(data: bytes | str) -> pl.DataFrame:
    data = data.encode() if isinstance(data, str) else data
    return read_delimited(io.BytesIO(data), COLUMNS, "table t.csv")[1]


def rows(data: bytes | str) -> list[tuple]:
    """Line, cells, and the beginning of the fault."""
    frame = read(data)
    cells = frame.select(name for name in COLUMNS if name in frame.columns).rows()
    faults = [fault and fault.partition(":")[0].partition(";")[0] for fault in frame["fault"]]
    return [(line, *row, fault) for line, row, fault in zip(frame["line"], cells, faults, strict=True)]


@pytest.mark.parametrize(
    "line",
    [
        'a,b,make it 5" wide',
        'a,b,"wide" picture of a cat',
        'a,b,the sign says "open", please'.replace(", please", ""),
        'a,b,"make it 5"" wide"',
        'a,b,"make it 5" wide"',
        'a,b,"first, then\nsecond"',
        'a,b,"first\r\n\r\n""second"""',
        'a,b,""',
        'a,b,it\'s "quoted" twice "here"',
        'a,"b",c',
        'a,b,"x" "y"',
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_fields_are_read_as_the_csv_module_does(line: str, end: str, mark: str) -> None:
    text = end.join([HEADER.strip(), line, "c,d,next one", ""])
    expected = [
        tuple(cell.strip() or None for cell in one) for one in csv.reader(io.StringIO(text, newline=""))
    ]
    found = read(mark + text)
    assert found.select(COLUMNS[:3]).rows() == expected[1:]
    assert found["fault"].null_count() == 2


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ('a,b,"never closed', "a quote that is never closed, or a field of over 131072 characters"),
        ('"a,b,never closed', "a quote that is never closed, or a field of over 131072 characters"),
        ("a,b,make it red, not blue", "4 fields under a header of 3"),
        (b"a,b,caf\xe9", "not UTF-8"),
        ("a,b,n\0l", "a NUL character"),
        ("a,b," + "x" * 2_000_000, "longer than 1048576 characters"),
        ("a,b," + "x" * 200_000, "a quote that is never closed, or a field of over 131072 characters"),
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_one_bad_line_costs_no_neighbour(line: bytes | str, fault: str, last: bool) -> None:
    data = line if isinstance(line, bytes) else line.encode()
    lines = [HEADER.strip().encode(), b"c,d,before", b'e,f,"with\n""two"" lines"', data]
    if not last:
        lines += [b"", b'g,h,"quoted, after"', b"i,j,last"]
    found = rows(b"\n".join(lines))
    before = [(2, "c", "d", "before", None), (3, "e", "f", 'with\n"two" lines', None)]
    after = [] if last else [(7, "g", "h", "quoted, after", None), (8, "i", "j", "last", None)]
    assert found == [*before, (5, None, None, None, fault), *after]


def test_ragged_lines_spaces_and_other_columns() -> None:
    text = " Target ,note,SOURCE,instruction,licence\nb,n,a\n b ,,a , x ,,,\n\n,,,\nb,n,a,x,CC0\n"
    assert rows(text) == [
        (2, "a", "b", None, None, None),
        (3, "a", "b", "x", None, None),
        (5, None, None, None, None, None),
        (6, "a", "b", "x", "CC0", None),
    ]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_delimiters_and_encodings(delimiter: str, encoding: str) -> None:
    text = f'source{delimiter}target{delimiter}instruction\na{delimiter}b{delimiter}"é{delimiter}ü; x, y"\n'
    assert rows(text.encode(encoding)) == [(2, "a", "b", f"é{delimiter}ü; x, y", None)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "t.csv is empty"),
        (b"\n", "t.csv is empty"),
        (b"PK\3\4\0\0rest", "t.csv cannot be read: its first line is no text"),
        (b"sourc\xe9,target\na,b\n", "t.csv cannot be read: its first line is no text"),
        (b"source,target,source\na,b,c\n", "names the column source twice"),
        (b"source,target\na,b\xff\n", r"t.csv cannot be read: line 2: not UTF-8: 'a,b\\\\xff'"),
    ],
)
def test_what_cannot_be_read_at_all_is_one_error(data: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(data)


def test_many_open_quotes_take_no_time_of_their_own() -> None:
    for line in ('b","a', 'x"y,"a', '"""x', '"never'):
        frame = read(HEADER + (line + "\n") * 5_000 + "a,b,c\n")
        assert frame["line"][-1] == 5_001 or frame.height > 1
        assert frame.row(-1, named=True)["instruction"] == "c"


def test_a_bad_line_of_a_pair_table_is_quarantined_by_its_number(tmp_path: Path, storage: Storage) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("RGB", (40, 40), colour).save(tmp_path / name)
    table = tmp_path / "pairs.csv"
    bad = ["a.png,b.png,make it red, not blue", 'a.png,b.png,"open']
    table.write_text(HEADER + 'a.png,b.png,make it 5" wide\n' + "\n".join(bad) + "\na.png,b.png,last\n")
    [shard] = assign_edit_shards(storage, str(table), IngestConfig())
    assert assign_edit_shards(storage, str(table), IngestConfig()) == [shard]
    frame = ingest_edit_pairs(storage, str(table), shard, IngestConfig())
    good = frame.filter(pl.col("error").is_null())
    assert sorted(good["instruction"]) == ["last", 'make it 5" wide']
    errors = sorted(frame["error"].drop_nulls())
    assert [error.partition(": ")[0] for error in errors] == ["bad_line"] * 2
    assert "line 3: 4 fields" in errors[0] and "line 4: a quote" in errors[1]
    assert frame["pair_id"].n_unique() == 4 and frame["rows"].sum() == 4


def test_lists_of_pairs_from_before_are_still_read(tmp_path: Path, storage: Storage) -> None:
    (tmp_path / "pairs.csv").write_text(HEADER + "a.png,b.png,x\n")
    [shard] = assign_edit_shards(storage, str(tmp_path / "pairs.csv"), IngestConfig())
    storage.write_table(f"shards/{shard}", storage.read_table(f"shards/{shard}").drop("problem"))
    assert assign_edit_shards(storage, str(tmp_path / "pairs.csv"), IngestConfig()) == [shard]
    assert ingest_edit_pairs(storage, str(tmp_path / "pairs.csv"), shard, IngestConfig()).height == 1


def test_a_bad_line_of_a_table_of_urls_is_quarantined_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "urls.tsv").write_bytes(
        b'URL\tlicense\nhttp://10.0.0.1/"a"\tMIT\n"x\ty\n\nhttp://10.0.0.1/2\t"5\n'
    )
    storage = Storage(f"memory://{uuid.uuid4().hex}")
    [shard] = assign_image_shards(storage, str(tmp_path / "urls.tsv"), IngestConfig())
    frame = ingest_images(storage, str(tmp_path / "urls.tsv"), shard, IngestConfig())
    found = {row["path"]: row["error"].partition(": a quote")[0] for row in frame.rows(named=True)}
    private = "forbidden_address: 10.0.0.1 is not a public address"
    assert found == {
        'http://10.0.0.1/"a"': private,
        "urls.tsv#2": "bad_line: line 3",
        "urls.tsv#3": "bad_line: line 5",
    }
