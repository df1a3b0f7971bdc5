"""A real S3 server on loopback that answers every request a while later.

moto's server in a process of its own, behind a proxy that holds each request back. `python -m bench.slow_s3
SECONDS` prints the proxy's URL and serves until its input ends.
"""

from __future__ import annotations

import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator

from moto.server import ThreadedMotoServer

from tests.faults.proxy import FaultProxy
from tests.faults.rules import Latency


@contextlib.contextmanager
def slow_s3(seconds: float) -> Iterator[str]:
    """URL of a server that holds each request back for so many seconds."""
    command = [sys.executable, "-m", "bench.slow_s3", str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.stdin.close()


def _main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        with FaultProxy("http://{}:{}".format(*moto.get_host_and_port())) as proxy:
            proxy.add(Latency(float(sys.argv[1])))
            print(proxy.url, flush=True)
            sys.stdin.read()
    finally:
        moto.stop()


if __name__ == "__main__":
    _main()
