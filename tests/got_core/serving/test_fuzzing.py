"""Requests made from the OpenAPI page itself: whatever they are, no answer is a fault of the server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.got_core.serving.served import Served

schemathesis = pytest.importorskip("schemathesis")

EXAMPLES = 8
"""Requests for each route; `got bench bench_fuzzing` sends more."""


@pytest.mark.filterwarnings("ignore")
def test_requests_made_from_the_page(server: Served) -> None:
    from bench.bench_fuzzing import fuzz

    found: dict[str, Any] = fuzz(f"{server.url}/openapi.json", EXAMPLES)
    assert found["faults"] == [] and found["requests"] >= 5 * EXAMPLES
    assert server.ask("/health") == (200, {"status": "ok"})
