"""Requests that schemathesis makes from the OpenAPI page of `got serve`, valid ones and broken ones.

A tiny model; BENCH_EXAMPLES requests for each route. Counted are answers with 5xx, and the server's memory.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any

EXAMPLES = int(os.environ.get("BENCH_EXAMPLES", "200"))


def main() -> dict[str, float | str]:
    """Requests, faults, and memory before and after."""
    from bench.served import got_serve, resident
    from tests.got_core.tiny_pipeline import tiny_pipeline
    from tests.ports import free_port

    with tempfile.TemporaryDirectory() as place:
        pipeline, port = tiny_pipeline(), free_port()
        pipeline.register_to_config(inference_steps=1, max_new_tokens=2)
        pipeline.save_pretrained(place)
        with got_serve(place, port, GOT_SERVE_MAX_STEPS="5") as (server, _):
            page = f"http://127.0.0.1:{port}/openapi.json"
            fuzz(page, 10)
            before = resident(server.pid)
            found = fuzz(page, EXAMPLES)
            after = resident(server.pid)
    return {
        "requests": float(found["requests"]),
        "answered with 5xx": float(len(found["faults"])),
        "memory before, MiB": before,
        "memory after, MiB": after,
    }


def fuzz(page: str, examples: int) -> dict[str, Any]:
    """`requests`: how many were sent; `faults`: those answered with 5xx."""
    import hypothesis
    import schemathesis

    schema = schemathesis.openapi.from_url(page)
    faults: list[str] = []
    count = 0

    def send(case: Any) -> None:
        nonlocal count
        count += 1
        answer = case.call()
        if answer.status_code >= 500:
            faults.append(f"{case.method} {case.path}: {answer.status_code} {answer.text[:500]}")

    settings = hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    modes = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
    for operation in schema.get_all_operations():
        for mode in modes:
            strategy = operation.ok().as_strategy(generation_mode=mode)
            _run(strategy, send, settings)
    return {"requests": count, "faults": faults}


def _run(strategy: Any, send: Any, settings: Any) -> None:
    """Send what a strategy makes; a route that nothing broken can be sent to has none."""
    import hypothesis

    @settings
    @hypothesis.given(case=strategy)
    def sent(case: Any) -> None:
        send(case)

    try:
        sent()
    except hypothesis.errors.Unsatisfiable:
        return
