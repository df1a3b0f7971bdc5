"""Tables of the data line in which rows are quarantined though asking had failed.

Belongs here: finding such tables of the data line. Not here: which rows those are
(`got_core.annotate.stored_faults`), and making them (`run`, `retry`).
"""

from __future__ import annotations

from collections.abc import Iterable

from got_assets.names import value_name
from got_core.storage import Storage


def why_again(storage: Storage, asset: str, partition: str) -> str:
    """Why a stored table is to be made again; "" if no row of it is quarantined for a fault."""
    from got_core.annotate.stored_faults import faults_among

    name = value_name(asset, partition)
    if not storage.exists(f"{name}.parquet"):
        return ""
    count = faults_among(storage.read_table(name))
    return f"{count} rows are quarantined though asking may have failed" if count else ""


def first_with_faults(storage: Storage, assets: Iterable[str], partition: str) -> tuple[str, str]:
    """The first of some assets whose table is to be made again, and why; ("", "") if there is none."""
    found = ((asset, why_again(storage, asset, partition)) for asset in assets)
    return next((one for one in found if one[1]), ("", ""))
