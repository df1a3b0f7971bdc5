#!/bin/sh
# pyarrow 25.0.1: taking one row of a memory-mapped table copies the whole column.
#
# Seen: an uncompressed IPC file that is mapped and read as a table (`read_all`) allocates nothing. `table.take([5])`, which is how rows
# are drawn by number, then joins the chunks of one column after the other, of strings, lists and plain integers alike, though all rows
# wanted lie in one of them: memory for the whole largest column, and a pass over the whole file. A table of millions of rows is so read
# with its first row, in every process, and again with the next. `slice`, `filter` and `column[i]` allocate next to nothing.
# What helps: `table.slice(i, 1)`, or `take` on the one record batch that holds the row.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'pyarrow==25.0.1'
"$folder/venv/bin/python" - "$folder" <<'PY'
import subprocess
import sys

import pyarrow as pa

BATCHES, ROWS = 50, 2000
path = f"{sys.argv[1]}/rows.arrow"
schema = pa.schema({"text": pa.string(), "number": pa.int64(), "list": pa.list_(pa.float32())})
lists = pa.array([[1.0] * 8] * ROWS, pa.list_(pa.float32()))
batch = pa.record_batch([pa.array(["x" * 100] * ROWS), pa.array(range(ROWS)), lists], schema=schema)
with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
    for _ in range(BATCHES):
        writer.write_batch(batch)
PEAK = """
import sys
import pyarrow as pa
import pyarrow.compute as pc
table = pa.ipc.open_file(pa.memory_map(sys.argv[1])).read_all()
assert pa.default_memory_pool().max_memory() == 0
row = eval(sys.argv[2])
print(pa.default_memory_pool().max_memory(), table.nbytes)
"""
columns = {name: table_bytes * BATCHES for name, table_bytes in zip(schema.names, (c.nbytes for c in batch.columns), strict=True)}


def peak(expression):
    done = subprocess.run([sys.executable, "-c", PEAK, path, expression], capture_output=True, text=True, check=True)
    used, all_bytes = map(int, done.stdout.split())
    print(f"{expression}: {used} bytes allocated, the table has {all_bytes}")
    return used


for name in schema.names:
    assert peak(f"table[{name!r}].take([5])") > 0.9 * columns[name]
assert peak("table.take([5])") > max(columns.values())
for expression in (
    "table.slice(5, 1).to_pylist()",
    "table['text'][5].as_py()",
    "table.to_batches()[0].take(pa.array([5]))",
    "table.filter(pc.equal(table['number'], 5))",
):
    assert peak(expression) < 0.02 * sum(columns.values())
print("as described")
PY
