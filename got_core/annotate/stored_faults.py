"""Rows quarantined though asking had failed: faults of servers and disks that older versions stored.

Belongs here: telling them from rows that are quarantined for what they are. Not here: making their tables
again, which asks for these rows alone (answers are in the ledger).
"""

from __future__ import annotations

import polars as pl

from got_core.annotate.canary import PROVEN
from got_core.annotate.refusals import is_engine_fault

REASONS = ("refused", "server_error", "refused_reply", "unreadable", "permission_denied")
"""Reasons that have stood for faults too."""


def faults_among(table: pl.DataFrame) -> int:
    """How many rows of a table of ingestion or annotation to ask for again: their reason may be a fault.

    A row that the present version has judged is one only if its file could not be read, which costs nothing
    to try again.
    """
    if not {"error", "reason"} <= set(table.columns):
        return 0
    rows = table.filter(pl.col("reason").is_in(REASONS)).select("error", "reason").iter_rows()
    return sum(_may_be_fault(reason, error or "") for error, reason in rows)


def _may_be_fault(reason: str, error: str) -> bool:
    said = error.partition(": ")[2]
    if reason == "refused":
        return (said.startswith("HTTP ") and PROVEN not in said) or is_engine_fault(said)
    return not (reason == "server_error" and said.startswith("in "))
