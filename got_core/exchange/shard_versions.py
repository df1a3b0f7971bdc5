"""Which imported chains belong to each shard, as a version: it changes with the chains of the shard's rows.

Belongs here: comparing imports with the index of ids. Not here: importing (`parts`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

from got_core.corpus.item_index import ItemIndex, keys_of
from got_core.digests import digest
from got_core.exchange.parts import FOLDER, chain_parts, finished_imports
from got_core.frame_hash import content_hash
from got_core.storage import Storage

_STATE = "shards-{kind}.json"


def import_versions(storage: Storage, index: ItemIndex) -> dict[str, str]:
    """By shard with imported chains: digest of them. Worked out again only for other imports or shards."""
    kind, item = ("t2i", "image_id") if index.kind == "images" else ("edit", "pair_id")
    imports = {name: one["id"] for name, one in finished_imports(storage).items() if one["kind"] == kind}
    if not imports:
        return {}
    made_from = digest([imports, dict(index.versions)])
    name = f"{FOLDER}/{_STATE.format(kind=kind)}"
    state: dict[str, Any] = storage.read_json(name) if storage.exists(name) else {}
    if state.get("made_from") != made_from:
        parts = [part for one in sorted(imports) for part in chain_parts(storage, one)]
        state = {"made_from": made_from, "versions": _versions(storage, parts, item, index)}
        storage.write_json(name, state)
    return state["versions"]


def _versions(storage: Storage, parts: list[str], item: str, index: ItemIndex) -> dict[str, str]:
    found: dict[str, Any] = {}
    for shard, text in _shard_texts(storage, parts, item, index):
        found.setdefault(shard, hashlib.sha256()).update(text.encode())
    return {shard: one.hexdigest()[:12] for shard, one in sorted(found.items())}


def _shard_texts(
    storage: Storage, parts: list[str], item: str, index: ItemIndex
) -> Iterator[tuple[str, str]]:
    """Shard and hash of its chains in each part."""
    rows = index.rows()
    for part in parts:
        chains = storage.read_table(part).with_row_index("row")
        keyed = chains.select("row", key=keys_of(chains[item]))
        places = keyed.join(rows, on="key", how="inner").sort("row")
        for (shard,), of_shard in places.group_by("shard", maintain_order=True):
            yield str(shard), content_hash(chains.drop("row")[of_shard["row"]])
