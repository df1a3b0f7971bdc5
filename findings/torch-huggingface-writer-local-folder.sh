#!/bin/sh
# torch 2.13.0 with fsspec 2026.9.0: a checkpoint that is saved as safetensors under a URL lands in a local folder called like the URL.
#
# Seen: `HuggingFaceStorageWriter("memory://run/step-1")` writes to `memory:/run/step-1` below the working directory, and so for any
# URL whose store fsspec knows, though the package it stands in writes to fsspec elsewhere (`FsspecWriter` of the same URL writes to the
# store). The save succeeds, and `HuggingFaceStorageReader` of the same URL reads the folder back, so that a trial on one machine passes; on a
# node whose disk goes with it the checkpoint is gone.
# What helps: save into a local folder and upload it, or look for the files in the store after the first save.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
    'torch==2.13.0' 'numpy==2.3.5' 'fsspec==2026.9.0' 'safetensors==0.8.0'
cd "$folder"
mkdir work
cd work
"$folder/venv/bin/python" -W ignore - <<'PY'
from pathlib import Path

import fsspec
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint._fsspec_filesystem import FsspecWriter

URL, memory = "memory://run/step-1", fsspec.filesystem("memory")
dcp.save({"weight": torch.ones(3)}, storage_writer=HuggingFaceStorageWriter(URL, fqn_to_index_mapping={"weight": 1}), no_dist=True)
local = sorted(str(path) for path in Path().rglob("*") if path.is_file())
print("HuggingFaceStorageWriter: in the store", memory.find("/"), "in the working directory", local)
assert memory.find("/") == [] and local and all(path.startswith("memory:/run/step-1/") for path in local)
state = {"weight": torch.zeros(3)}
dcp.load(state, storage_reader=HuggingFaceStorageReader(URL), no_dist=True)
print("read back:", state["weight"].tolist())
assert torch.equal(state["weight"], torch.ones(3))
dcp.save({"weight": torch.ones(3)}, storage_writer=FsspecWriter("memory://run/step-2", sync_files=False), no_dist=True)
print("FsspecWriter: in the store", memory.find("/"))
assert any("step-2" in path for path in memory.find("/")) and not Path("memory:/run/step-2").exists()
print("as described")
PY
