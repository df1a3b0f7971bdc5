"""A real S3 server on loopback that answers every request a while later.

moto's server in a process of its own, behind a relay that holds each request back. `python -m bench.slow_s3
SECONDS` prints the relay's URL and serves until its input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
import sys
from collections.abc import Iterator

from moto.server import ThreadedMotoServer


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


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    """Pass on what comes, each piece so many seconds later."""
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(1 << 16):
            if seconds:
                await asyncio.sleep(seconds)
            writer.write(piece)
            await writer.drain()
    writer.close()


async def _serve(seconds: float, host: str, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, port)
        await asyncio.gather(_relay(reader, ours, seconds), _relay(theirs, writer, 0.0))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    print("http://{}:{}".format(*server.sockets[0].getsockname()), flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


def _main() -> None:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        asyncio.run(_serve(float(sys.argv[1]), *moto.get_host_and_port()))
    finally:
        moto.stop()


if __name__ == "__main__":
    _main()
