"""A moto server that writes down each request when it comes."""

from __future__ import annotations

from collections import Counter
from typing import Any

from got_core.storage import Storage


class CountedS3:
    """What a running server (the fixture `s3_server`) is asked from now on; `requests` has the method and the
    key or query of each request since `reset`."""

    def __init__(self, server: Any) -> None:
        self.requests: list[str] = []
        self.url, self.bucket = server.url, server.bucket
        self._app, server._server.app = server._server.app, self._count

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
