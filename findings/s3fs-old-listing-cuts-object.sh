#!/bin/sh
# s3fs 2026.9.0 with fsspec 2026.9.0: `cat_file` of an object that another writer replaced gives its new bytes at its old length.
#
# Seen: for a whole object `cat_file` takes the size from the listing that the file system holds since an `ls` of the folder, and if that
# is more than `default_block_size` (50 MiB by default) fetches ranges up to it, without asking that the object is still the one listed.
# Replaced by a longer object, it comes cut; replaced by one that is a little shorter, it comes padded with zeros to the old length;
# no error, no warning, and `len(data)` agrees with `info()`. A file opened with `open` raises FileExpired (an OSError) in
# this place (`IfMatch` with the listed ETag), and objects of at most one block are right, so that tests with small files pass.
# Instances are shared in a process: the `ls` may have been another module's.
# What helps: `use_listings_cache=False`, `max_concurrency=1`, or `invalidate_cache(path)` before; names that are never written twice.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
    's3fs==2026.9.0' 'fsspec==2026.9.0' 'aiobotocore==3.10.0' 'moto[server]==5.2.5'
"$folder/venv/bin/python" - <<'PY'
import logging
import os

import s3fs
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
server.start()
BLOCK, PATH = 1000, "shards/day/0.tar"  # a block small enough for a quick run; the default is checked below


def client(**options):
    url = f"http://127.0.0.1:{server.get_host_and_port()[1]}"
    return s3fs.S3FileSystem(endpoint_url=url, skip_instance_cache=True, default_block_size=BLOCK, **options)


assert s3fs.S3FileSystem.default_block_size == 50 * 2**20
writer = client()
writer.mkdir("shards")


def listed_then_replaced(old, new, **options):
    """A reader that listed the folder while the object had `old` bytes; it has `new` bytes now."""
    writer.pipe_file(PATH, b"a" * old)
    reader = client(**options)
    reader.ls("shards/day")
    writer.pipe_file(PATH, b"b" * new)
    return reader


for old, new, options, expected in (
    (2500, 4000, {}, b"b" * 2500),
    (2500, 2100, {}, b"b" * 2100 + bytes(400)),
    (500, 4000, {}, b"b" * 4000),
    (2500, 4000, {"max_concurrency": 1}, b"b" * 4000),
    (2500, 4000, {"use_listings_cache": False}, b"b" * 4000),
):
    data = listed_then_replaced(old, new, **options).cat_file(PATH)
    print(f"listed with {old} bytes, now {new}, {options}: {len(data)} bytes, {data.count(0)} of them zeros")
    assert data == expected

reader = listed_then_replaced(2500, 4000)
reader.invalidate_cache("shards/day")
assert reader.cat_file(PATH) == b"b" * 4000
try:
    with listed_then_replaced(2500, 4000).open(PATH) as file:
        print("open() reads", len(file.read()))
except OSError as error:
    print("open() raises", repr(error))
    assert type(error).__name__ == "FileExpired"
else:
    raise AssertionError("open() does not notice either")
server.stop()
print("as described")
PY
