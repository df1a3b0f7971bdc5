"""Which shards a manifest takes, and the reason for each other one."""

from __future__ import annotations

import polars as pl

from got_core.corpus.schemas import polars_schema
from got_core.curate.manifest import AcceptedShards, accepted_shards
from got_core.curate.review_schemas import VERDICTS

NAMES = ("t2i_selection", "t2i_chains", "raw_images")
NOBODY = pl.DataFrame(schema=polars_schema(VERDICTS))


def shard(
    *, rows: int = 4, failed_images: int = 0, failed_chains: int = 0, images_removed: int = 0
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Selection, chains and images of a shard; all rows but the last one are accepted."""
    keys = [f"i{k}" for k in range(rows)]
    ids = [f"c{k}" for k in range(rows)]
    faults = ["broken"] * rows
    selection = pl.DataFrame({"chain_id": ids, "item_id": keys, "accepted": [*[True] * (rows - 1), False]})
    chains = pl.DataFrame(
        {"chain_id": ids, "error": [*[None] * (rows - failed_chains), *faults[:failed_chains]]},
        schema={"chain_id": pl.String, "error": pl.String},
    )
    images = pl.DataFrame(
        {"image_id": keys, "error": [*[None] * (rows - failed_images), *faults[:failed_images]]},
        schema={"image_id": pl.String, "error": pl.String},
    )
    return selection, chains, images[images_removed:]


def accepted(**shards: tuple[pl.DataFrame, ...]) -> AcceptedShards:
    """What becomes of shards by name, each with as many of its three tables as there are."""
    tables = {
        name: {one: stored[place] for one, stored in shards.items() if place < len(stored)}
        for place, name in enumerate(NAMES)
    }
    limits = {"max_ingest_errors": 0.25, "max_annotation_errors": 0.5}
    return accepted_shards(sorted(shards), tables, NOBODY, **limits)


def test_whole_shards_are_accepted_and_read_again_at_look_up() -> None:
    found = accepted(b=shard(), a=shard(rows=6, failed_chains=3))
    assert list(found) == ["a", "b"] and len(found) == 2 and found.left_out == {}
    assert found.selected == 5 + 3
    assert [table.height for table in found["a"]] == [6, 6, 6]


def test_the_reason_of_each_shard_that_is_left_out() -> None:
    found = accepted(
        a=shard()[:1],
        b=shard(failed_images=2, failed_chains=4),
        c=shard(failed_chains=3),
        d=shard(images_removed=1),
        e=shard(),
    )
    assert list(found) == ["e"] and found.selected == 3
    assert found.left_out["a"] == "no t2i_chains, no raw_images"
    assert found.left_out["b"].startswith("raw_images: 50.0% of 4 rows are quarantined")
    assert found.left_out["c"].startswith("t2i_chains: 75.0% of 4 rows are quarantined")
    assert "do not fit together" in found.left_out["d"]
