#!/bin/sh
# pyarrow 25.0.1 over fsspec 2026.9.0: deleting a folder called `run[1]` deletes `run1` and leaves `run[1]`.
#
# Seen: `PyFileSystem(FSSpecHandler(fs)).delete_dir(name)` hands the name to fsspec's `rm`, which takes `[1]`, `?` and `*` for
# a pattern (with fsspec's memory; s3fs shares that code, its local files do not). Reading takes the name literally. So what
# keeps checkpoints through this bridge (Ray Train with `storage_filesystem`, for one) removes a neighbour's when it makes room.
# No error, and the folder that was named stays.
# What helps: a subclass of the fsspec file system whose removal is literal, or names without these characters.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'pyarrow==25.0.1' 'fsspec==2026.9.0'
"$folder/venv/bin/python" - <<'PY'
import fsspec
from pyarrow.fs import FSSpecHandler, PyFileSystem

memory = fsspec.filesystem("memory")
for name in ("run[1]", "run1"):
    memory.pipe_file(f"/checkpoints/{name}/weights", name.encode())
bridged = PyFileSystem(FSSpecHandler(memory))
assert bridged.get_file_info("/checkpoints/run[1]/weights").size == len("run[1]")  # reading is literal
bridged.delete_dir("/checkpoints/run[1]")
left = sorted(path.split("/")[2] for path in memory.find("/checkpoints"))
print("deleted 'run[1]', left:", left)
assert left == ["run[1]"]
print("as described")
PY
