#!/bin/sh
# s3fs 2026.9.0 with aiobotocore 3.10.0: reading a small object sends HEAD and GET, `start=0` sends GET alone; finding nothing costs three.
#
# Seen: `cat_file(path)` asks for the size first, for it may fetch a large object in parts, so that each picture of some kilobytes is
# two requests, in time and on the bill, and needs both to be answered; `cat([...])` does it for each object. With `start=0`, or with
# `max_concurrency=1`, the same bytes come with one. `find(folder)` of an empty prefix, the usual question at the start of a run,
# sends LIST, then HEAD for an object of this name, then LIST again with a delimiter, for it looks whether the path is a
# file or a folder; `find(parent, prefix=name)` answers it with one. Where something is found both send one.
# What helps: `start=0` for objects known to be small; `find` on the parent with `prefix=` where nothing is a usual answer.
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
options = {"endpoint_url": f"http://127.0.0.1:{server.get_host_and_port()[1]}", "skip_instance_cache": True}
writer = s3fs.S3FileSystem(**options)
writer.mkdir("pictures")
for name in ("0.jpg", "1.jpg"):
    writer.pipe_file(f"pictures/day1/{name}", b"p" * 3000)


def requests(label, call, expected):
    """The requests that one call of a fresh file system sends, and what it returns."""
    fs, sent = s3fs.S3FileSystem(**options), []

    def note(request, **_):
        sent.append("LIST" if "list-type=2" in request.url else request.method)

    fs.connect()
    fs.s3.meta.events.register("before-send.s3", note)
    result = call(fs)
    print(f"{label}: {sent}")
    assert sorted(sent) == sorted(expected)
    return result


ONE, BOTH = "pictures/day1/0.jpg", ["pictures/day1/0.jpg", "pictures/day1/1.jpg"]
picture = b"p" * 3000
assert requests("cat_file(path)", lambda fs: fs.cat_file(ONE), ["HEAD", "GET"]) == picture
assert requests("cat_file(path, start=0)", lambda fs: fs.cat_file(ONE, start=0), ["GET"]) == picture
assert requests("cat_file(path, max_concurrency=1)", lambda fs: fs.cat_file(ONE, max_concurrency=1), ["GET"]) == picture
assert len(requests("cat([two paths])", lambda fs: fs.cat(BOTH), ["HEAD", "HEAD", "GET", "GET"])) == 2
assert requests("find(empty)", lambda fs: fs.find("pictures/day2"), ["LIST", "HEAD", "LIST"]) == []
assert requests("find(parent, prefix=empty)", lambda fs: fs.find("pictures", prefix="day2/"), ["LIST"]) == []
assert requests("find(folder)", lambda fs: fs.find("pictures/day1"), ["LIST"]) == BOTH
assert requests("find(parent, prefix=folder)", lambda fs: fs.find("pictures", prefix="day1/"), ["LIST"]) == BOTH
server.stop()
print("as described")
PY
