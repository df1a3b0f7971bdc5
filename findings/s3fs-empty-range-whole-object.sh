#!/bin/sh
# s3fs 2026.9.0 with fsspec 2026.9.0: a range of no bytes is answered with the whole object.
#
# Seen: `cat_file(path, start=n, end=n)`, and `cat_ranges` with such a pair, send `Range: bytes=n-(n-1)`. HTTP has a server ignore a range
# whose end is before its start, so the body is the object from its first byte. fsspec's files in memory and on disk give `b""` for the
# same call. Whoever reads members of a tar by offset and size gets, for a member of no bytes (an empty caption is valid), the tar:
# its size in traffic and memory, and its bytes as the caption. A float as start does the same (`bytes=10.0-19`); no error, no warning.
# Beside it: `cat_ranges` hands exceptions back in its list unless `on_error="raise"`, so `len(list)` is right though a read failed.
# What helps: answer empty ranges without asking, hand in integers, compare each length with the one wanted, `on_error="raise"`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 's3fs==2026.9.0' 'fsspec==2026.9.0' 'moto[server]==5.2.5'
"$folder/venv/bin/python" - "$folder" <<'PY'
import io
import logging
import os
import sys
import tarfile

import fsspec
import s3fs
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
MEMBERS = {"0.jpg": b"p" * 3000, "0.txt": b"", "1.jpg": b"q" * 3000, "1.txt": b"a cat"}

stream = io.BytesIO()
with tarfile.open(fileobj=stream, mode="w") as tar:
    for name, body in MEMBERS.items():
        member = tarfile.TarInfo(name)
        member.size = len(body)
        tar.addfile(member, io.BytesIO(body))
data = stream.getvalue()
with tarfile.open(fileobj=io.BytesIO(data)) as tar:
    ranges = {member.name: (member.offset_data, member.offset_data + member.size) for member in tar}

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
s3 = s3fs.S3FileSystem(endpoint_url=f"http://127.0.0.1:{server.get_host_and_port()[1]}")
s3.mkdir("shards")
places = {s3: "shards/0.tar", fsspec.filesystem("memory"): "/0.tar", fsspec.filesystem("file"): f"{sys.argv[1]}/0.tar"}
for fs, path in places.items():
    fs.pipe_file(path, data)
    starts, ends = zip(*ranges.values(), strict=True)
    several = dict(zip(ranges, fs.cat_ranges([path] * len(ranges), list(starts), list(ends)), strict=True))
    one = fs.cat_file(path, start=ranges["0.txt"][0], end=ranges["0.txt"][1])
    print(f"{type(fs).__name__}: tar of {len(data)} bytes; 0.txt has 0 bytes, cat_file gives {len(one)}, cat_ranges {len(several['0.txt'])}")
    expected = data if fs is s3 else b""
    assert one == several["0.txt"] == expected
    assert all(several[name] == body for name, body in MEMBERS.items() if body)
assert s3.cat_file("shards/0.tar", start=512.0, end=515) == data
missing = s3.cat_ranges(["shards/0.tar", "shards/1.tar"], [0, 0], [4, 4])
print("a range of an object that is not there:", repr(missing[1]))
assert isinstance(missing[1], FileNotFoundError)
server.stop()
print("as described")
PY
