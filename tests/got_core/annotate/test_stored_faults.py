from __future__ import annotations

import polars as pl
import pytest

from got_core.annotate.canary import proven
from got_core.annotate.envelope import RefusedError
from got_core.annotate.stored_faults import faults_among


@pytest.mark.parametrize(
    ("error", "again"),
    [
        ("refused: HTTP 400: model is loading", True),
        ("refused: I cannot describe this person", False),
        ("refused: the server's filter ended the reply (content_filter)", False),
        (str(proven(RefusedError("refused", "HTTP 400: no picture"))), False),
        ("refused: OutOfMemoryError: CUDA out of memory", True),
        ("refused: ValueError: prompt of 9000 tokens is longer than max_model_len", False),
        ("server_error: 6 requests failed, the last one: HTTP 500", True),
        ("server_error: in 3 runs; 6 requests failed while others went well", False),
        ("refused_reply: the server sent a compressed reply", True),
        ("unreadable: OSError Input/output error", True),
        ("permission_denied: the file may not be read by this user", True),
        ("bad_reply: the reply holds no JSON", False),
        ("vanished: the file is no longer there", False),
        (None, False),
    ],
)
def test_faults_are_told_from_verdicts(error: str | None, again: bool) -> None:
    reason = error.partition(":")[0] if error else None
    schema = {"error": pl.String, "reason": pl.String}
    assert faults_among(pl.DataFrame([[error], [reason]], schema=schema)) == again


def test_tables_without_errors_hold_none() -> None:
    assert faults_among(pl.DataFrame({"chain_id": ["a"]})) == 0
