#!/bin/sh
# s3fs 2026.9.0 with aiobotocore 3.10.0: a bucket that asks to slow down gets 25 requests for one read, as two layers retry.
#
# Seen: S3 throttles with 503 and the code SlowDown. botocore retries that (five attempts by default), and s3fs runs the whole of this
# again up to `S3FileSystem.retries` = 5 times, for it finds the word SlowDown in the error's text: the attempts multiply, also in mode
# "standard", and many workers that share a bucket load it 25 times as much just then. `config_kwargs={"retries": ...}` bounds one
# layer only: with botocore's attempts at one (which means "no retries") five requests are still sent. The other code of a busy
# server, ServiceUnavailable with the same status, is not retried by s3fs: there botocore's setting is all. What is raised is
# `OSError` with errno 16 (EBUSY) and the message without its code, both ways.
# What helps: set both, `fs.retries` (a class attribute, no argument of the constructor) and botocore's `total_max_attempts`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 's3fs==2026.9.0' 'fsspec==2026.9.0' 'aiobotocore==3.10.0'
"$folder/venv/bin/python" - <<'PY'
import errno
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import botocore.retryhandler
import s3fs

os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_DEFAULT_REGION="us-east-1")
state = {"code": "", "requests": 0}


class Busy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        state["requests"] += 1
        body = f"<?xml version='1.0'?><Error><Code>{state['code']}</Code><Message>busy</Message></Error>".encode()
        self.send_response(503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()


def requests(code, outer=None, inner=None, mode="legacy"):
    """Requests sent for one range of one object; `outer` is s3fs' number of attempts, `inner` botocore's."""
    state.update(code=code, requests=0)
    retries = {"mode": mode} if inner is None else {"mode": mode, "total_max_attempts": inner}
    fs = s3fs.S3FileSystem(
        endpoint_url=f"http://127.0.0.1:{server.server_port}", config_kwargs={"retries": retries}, skip_instance_cache=True
    )
    if outer is not None:
        fs.retries = outer
    try:
        fs.cat_file("pictures/0.tar", start=0, end=5)
    except OSError as error:
        assert error.errno == errno.EBUSY and code not in str(error)
    else:
        raise AssertionError("the read succeeded")
    print(f"{code}: s3fs {outer or 'default'}, botocore {inner or 'default'}, {mode}: {state['requests']} requests", flush=True)
    return state["requests"]


assert s3fs.S3FileSystem.retries == 5
for outer, inner, mode in ((1, 1, "legacy"), (2, 2, "legacy"), (3, 2, "legacy"), (2, 2, "standard"), (5, 1, "legacy")):
    assert requests("SlowDown", outer, inner, mode) == outer * inner
assert requests("SlowDown", None, 1) == 5
assert requests("ServiceUnavailable", None, 1) == 1
# The defaults of both, with botocore's waits (up to 15 s for five attempts) made short; s3fs' own waits stay as they are.
botocore.retryhandler.delay_exponential = lambda *_, **__: 0.01
assert requests("SlowDown") == 25
server.shutdown()
print("as described")
PY
