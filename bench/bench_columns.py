"""Two columns of a stored table on S3 against fetching it whole: requests and bytes, counted at the server.

BENCH_ROWS sets the number of rows. Counts and bytes do not depend on the machine.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import polars as pl
import s3fs
from moto.server import ThreadedMotoServer

from got_core.storage import Storage
from got_core.table_columns import read_columns

logging.getLogger("werkzeug").setLevel(logging.ERROR)
ROWS = int(os.environ.get("BENCH_ROWS", "50000"))


def table() -> pl.DataFrame:
    """Ids, captions and chains of words drawn at random; one row in a hundred has an error."""
    rng = np.random.default_rng(0)
    words = np.array([f"word{k}" for k in range(5000)])
    texts = [" ".join(words[rng.integers(0, 5000, 60)]) for _ in range(ROWS)]
    return pl.DataFrame(
        {
            "chain_id": [f"{k:032x}" for k in range(ROWS)],
            "caption": texts,
            "chain": [f"{text} (1,2),(300,400)" for text in texts],
            "error": [None if k % 100 else "not_a_chain: x" for k in range(ROWS)],
        }
    )


class Counting:
    """A WSGI application that counts the requests that it passes on, and the bytes of their answers."""

    def __init__(self, inner: Any) -> None:
        self._inner, self.requests, self.size = inner, 0, 0

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.requests += 1
        for piece in self._inner(environ, start_response):
            self.size += len(piece)
            yield piece

    def of(self, work: Callable[[], object]) -> tuple[int, float]:
        """Requests and MiB of some work."""
        self.requests = self.size = 0
        work()
        return self.requests, self.size / 2**20


def main() -> dict[str, float | str]:
    """Requests and MiB of both, and the ratio of the MiB."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        os.environ[name] = "testing"
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    counting = server._server.app = Counting(server._server.app)  # type: ignore[union-attr]
    url = "http://{}:{}".format(*server.get_host_and_port())
    s3fs.S3FileSystem(endpoint_url=url).mkdir("bench")
    storage = Storage("s3://bench/got", endpoint_url=url)
    storage.write_table("chains", table())
    wanted, failed = ["chain_id", "error"], pl.col("error").is_not_null()
    whole = counting.of(lambda: storage.read_table("chains").filter(failed).select(wanted))
    columns = counting.of(lambda: read_columns(storage, "chains", wanted, failed))
    server.stop()
    return {
        "rows": str(ROWS),
        "requests, whole": str(whole[0]),
        "requests, columns": str(columns[0]),
        "MiB, whole": whole[1],
        "MiB, columns": columns[1],
        "ratio of MiB": columns[1] / whole[1],
    }
