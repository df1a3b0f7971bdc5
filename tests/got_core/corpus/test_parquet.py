"""Rows of parquet: right whatever their shape, and few in memory at a time however large they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from got_core.corpus.parquet import group_rows, open_parquet

ROWS = [
    {
        "image": None if index == 3 else {"bytes": bytes([index]) * 40, "path": None},
        "texts": ["a", "b"] * (index % 3),
        "deep": {"inner": [{"x": index, "y": b"z"}]},
        "id": index,
    }
    for index in range(23)
]


@pytest.mark.parametrize("dictionary", [True, False])
@pytest.mark.parametrize("size", [1, 7, 100])
def test_rows_of_any_shape_and_range(tmp_path: Path, dictionary: bool, size: int) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "p", row_group_size=size, use_dictionary=dictionary)
    with open(tmp_path / "p", "rb") as file:
        metadata = open_parquet(file).metadata
        groups = range(metadata.num_row_groups)
        assert [row for group in groups for row in group_rows(file, metadata, group, list(ROWS[0]))] == ROWS
        assert list(group_rows(file, metadata, 0, ["id"], 2, 5)) == [
            {"id": n} for n in range(2, min(5, size))
        ]
        assert list(group_rows(file, metadata, 0, [])) == [{}] * min(size, 23)


MEASURE = """
import os, sys
from pathlib import Path
import got_core.corpus.tables, got_core.exchange.pairs
from got_core.corpus.config import IngestConfig
from got_core.corpus.tables import read_parquet
from got_core.exchange.pairs import unpack_pairs

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

folder, before = Path(sys.argv[2]), peak()
if sys.argv[1] == "pairs":
    assert unpack_pairs([str(folder / "p.parquet")], folder / "out")["pairs"] == 150
else:
    with open(folder / "p.parquet", "rb") as file:
        assert sum(len(one.data) > 1e6 for one in read_parquet(file, "p", 0, 150, IngestConfig())) == 150
print(peak() - before, flush=True)
# Memory alone counts: a thread of Arrow that waits for Python may abort a process that ends in order.
os._exit(0)
"""


@pytest.mark.parametrize("kind", ["pairs", "pictures"])
@pytest.mark.parametrize("shared", [False, True], ids=["all unlike", "one for all"])
def test_large_rows_are_not_gathered(tmp_path: Path, kind: str, shared: bool) -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4687
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    names = {"omni_edit_id": pa.string(), "edited_prompt_list": pa.list_(pa.string())}
    pictures = {"src_img": cell, "edited_img": cell} if kind == "pairs" else {"image": cell}
    schema = pa.schema({**names, **pictures})
    with pq.ParquetWriter(tmp_path / "p.parquet", schema, compression="none") as writer:
        for start in range(0, 150, 50):
            rows = [
                {
                    "omni_edit_id": str(number),
                    "edited_prompt_list": ["make it red"],
                    **{name: {"bytes": picture + (b"" if shared else b"%d" % number)} for name in pictures},
                }
                for number in range(start, start + 50)
            ]
            writer.write_table(pa.Table.from_pylist(rows, schema))
    group = pq.ParquetFile(tmp_path / "p.parquet").metadata.row_group(0).total_byte_size / 1024**2
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, kind, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < group + 256
