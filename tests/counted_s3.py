"""An S3 server on this machine that writes down each request."""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from typing import Any

import s3fs
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

from got_core.storage import Storage


class CountedS3:
    """moto's server; `requests` has the method and the key or query of each request since `reset`."""

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.bucket = f"got-{uuid.uuid4().hex}"
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._count, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def _count(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.requests.append(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}?{environ['QUERY_STRING']}")
        return self._app(environ, start_response)

    def reset(self) -> None:
        """Count from here on."""
        self.requests.clear()

    @property
    def methods(self) -> Counter[str]:
        """Number of requests by method."""
        return Counter(request.partition(" ")[0] for request in self.requests)

    def storage(self, **options: Any) -> Storage:
        """A storage in the server's bucket."""
        return Storage(f"s3://{self.bucket}/got", endpoint_url=self.url, **options)

    @contextlib.contextmanager
    def running(self) -> Iterator[CountedS3]:
        """Serve, with an empty bucket, within the block."""
        thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        thread.start()
        try:
            s3fs.S3FileSystem(endpoint_url=self.url, skip_instance_cache=True).mkdir(self.bucket)
            self.reset()
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()
