"""The plans of pictures that are drawn already, from what their own PNG files say.

Belongs here: reading them. Not here: what they are set against (`followed`, `changes`).
"""

from __future__ import annotations

import json
from typing import Any

from got_core.chain.grammar import Dropped, parse_tolerant
from got_core.evaluate.geneval.layout import drawing_record
from got_core.evaluate.samples import Plan


def drawn_plan(data: bytes) -> Plan | None:
    """The plan that a picture's file says it was drawn from; None for other programs' pictures, damaged ones,
    and empty ones whose drawing failed."""
    record: dict[str, Any] = drawing_record(data) or {}
    if not isinstance(record.get("chain"), str) or record.get("fault"):
        return None
    chain, _ = parse_tolerant(record["chain"])
    try:
        return Plan(chain, tuple(Dropped(*one) for one in record.get("dropped", ())))
    except TypeError:
        return Plan(chain)


def spelled(value: Any) -> str:
    """A column's value as JSON."""
    return json.dumps(value, ensure_ascii=False)
