#!/bin/sh
# pyarrow 25.0.1, Parquet: a page of large values is not bounded by `data_page_size`, nor a dictionary by its limit, and reading
# one row takes three times the page.
#
# Seen: 200 pictures of 400 kB in one row group, written with the default page size of 1 MiB, stand in one page (or one
# dictionary) of 80 MB, because sizes are looked at only once in `write_batch_size` rows (1,024 by default). A reader that asks
# for batches of one row then allocates about 240 MB for the first. With `write_batch_size=1` and no dictionary the pages are
# as small as asked for, and the same reader takes a third of that: the column's bytes in the file, and little else.
# Met in data sets that keep pictures in Parquet, where a row group of 1,000 rows may hold gigabytes.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'pyarrow==25.0.1'
"$folder/venv/bin/python" - "$folder" <<'PY'
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

ROWS, SIZE = 200, 400_000
FIRST_ROW = """
import sys
import pyarrow as pa
import pyarrow.parquet as pq
next(pq.ParquetFile(sys.argv[1]).iter_batches(batch_size=1))
print(pa.default_memory_pool().max_memory())
"""
table = pa.table({"picture": [os.urandom(SIZE) for _ in range(ROWS)]})
peaks = {}
for name, options in {
    "default": {},
    "no dictionary": {"use_dictionary": False},
    "no dictionary, write_batch_size=1": {"use_dictionary": False, "write_batch_size": 1},
}.items():
    path = f"{sys.argv[1]}/pictures.parquet"
    pq.write_table(table, path, row_group_size=ROWS, data_page_size=1 << 20, **options)
    done = subprocess.run([sys.executable, "-c", FIRST_ROW, path], capture_output=True, text=True, check=True)
    peaks[name] = int(done.stdout)
    print(f"{name}: {peaks[name] / 1e6:.0f} MB for the first of {ROWS} rows, the column has {ROWS * SIZE / 1e6:.0f} MB")
assert peaks["default"] > 2 * ROWS * SIZE
assert peaks["no dictionary"] > 2 * ROWS * SIZE
assert peaks["no dictionary, write_batch_size=1"] < 1.2 * ROWS * SIZE
print("as described")
PY
