#!/bin/sh
# s3fs 2026.9.0 with aiobotocore 3.10.0: `rm` of several objects says nothing of those that the store has kept.
#
# Seen: S3 answers a bulk delete with status 200 and names each object that it did not delete in the body (a policy, a legal
# hold). `rm([...])` raises nothing for them: all objects refused looks as all deleted. What it returns
# does not help either: it asks for a quiet answer, in which deleted objects are not named, so a store that heeds this makes it
# return an empty list in both cases. `rm_file` of a single such object raises PermissionError.
# What helps: `call_s3("delete_objects", ...)` and its `Errors`, or `rm_file` one by one, wherever data has to be gone.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check \
    's3fs==2026.9.0' 'fsspec==2026.9.0' 'aiobotocore==3.10.0'
"$folder/venv/bin/python" - <<'PY'
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import s3fs

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
DENIED = "<Code>AccessDenied</Code><Message>Access Denied</Message>"


class Store(BaseHTTPRequestHandler):
    """A bucket whose policy lets nobody delete what lies below `kept/`; in the published form of answers."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
        assert "<Quiet>true</Quiet>" in asked
        keys = [key for key in re.findall("<Key>(.*?)</Key>", asked) if key.startswith("kept/")]
        errors = "".join(f"<Error><Key>{key}</Key>{DENIED}</Error>" for key in keys)
        self.answer(200, f"<DeleteResult>{errors}</DeleteResult>")

    def do_DELETE(self):
        self.answer(403, f"<Error>{DENIED}</Error>") if "/kept/" in self.path else self.answer(204, "")

    def answer(self, status, body):
        data = (HEAD + body).encode() if body else b""
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
threading.Thread(target=server.serve_forever, daemon=True).start()
fs = s3fs.S3FileSystem(key="a", secret="b", endpoint_url=f"http://127.0.0.1:{server.server_port}")
results = {folder: fs.rm([f"bucket/{folder}/0", f"bucket/{folder}/1"]) for folder in ("free", "kept")}
print("rm of two objects:", results)
assert results == {"free": [], "kept": []}
fs.rm_file("bucket/free/0")
try:
    fs.rm_file("bucket/kept/0")
except PermissionError as error:
    print("rm_file of one that is kept:", type(error).__name__, error)
else:
    raise AssertionError("rm_file raised nothing")
said = fs.call_s3("delete_objects", Bucket="bucket", Delete={"Objects": [{"Key": "kept/0"}], "Quiet": True})
print("delete_objects:", said["Errors"])
assert [one["Code"] for one in said["Errors"]] == ["AccessDenied"]
server.shutdown()
print("as described")
PY
