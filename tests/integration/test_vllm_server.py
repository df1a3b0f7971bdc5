"""The annotator and a real vLLM server: a vision model of a few hundred thousand parameters, JSON schemas."""

from __future__ import annotations

import threading
import time

import polars as pl

from got_core.annotate import t2i
from got_core.annotate.config import OpenAIConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator
from got_core.storage import Storage
from tests.integration.conftest import Shard
from tests.integration.tables import annotate, check_none_lost
from tests.integration.vllm_server import VLLMServer

SCOPE = "images-00000"


def annotator_for(server: VLLMServer, storage: Storage, notices: list[str] | None = None) -> OpenAIAnnotator:
    config = OpenAIConfig(
        url=server.url,
        vision_model=str(server.model),
        box_unit="thousandths",
        boxes="one by one",  # what the small model has learned
        concurrency=4,
        longest_wait=2.0,
    )
    return OpenAIAnnotator(config, Ledger(storage, SCOPE), notices.append if notices is not None else None)


def test_a_shard_is_annotated_and_no_row_lost(server: VLLMServer, storage: Storage, shard: Shard) -> None:
    images, pairs, pictures = shard
    with annotator_for(server, storage) as annotator:
        tables = annotate(images, pairs, pictures, annotator)
        requests = annotator.requests
    check_none_lost(tables, images, pairs)
    for name, table in tables.items():
        print(name, table.height, "rows,", table["error"].count(), "quarantined", table["reason"].to_list())
    # What the model has learned goes through to the end, and what it never learned is quarantined as it came.
    assert tables["t2i_chains"]["boxes"].sum() > 0
    assert tables["edit_boxes"]["error"].null_count() > 0
    chains = tables["edit_chains"]
    assert chains["reason"].to_list() == ["bad_reply"] * chains.height and chains.height > 0

    ledger = Ledger(storage, SCOPE)
    assert sum(record.replies for record in ledger._records.values()) == requests
    assert {"ground", "t2i_entities", "edit_task", "edit_chain"} <= {
        record.step for record in ledger._records.values()
    }
    with annotator_for(server, storage) as annotator:
        again = annotate(images, pairs, pictures, annotator)
        # Some rows have the same question: two pictures with one caption.
        assert annotator.requests == 0 and annotator.reused >= len(ledger)
    assert all(again[name].equals(table) for name, table in tables.items())


def test_a_server_that_is_killed_in_the_middle_of_a_shard(
    server: VLLMServer, storage: Storage, shard: Shard
) -> None:
    images, _, pictures = shard
    made: list[pl.DataFrame] = []
    notices: list[str] = []
    with annotator_for(server, storage, notices) as annotator:
        work = threading.Thread(
            target=lambda: made.append(t2i.caption_images(images, pictures, annotator)), daemon=True
        )
        work.start()
        while len(annotator.ledger) < 6:
            time.sleep(0.01)
        server.kill()
        before = set(annotator.ledger._records)
        server.start()
        work.join(timeout=300)
        assert made, "the shard did not go on"
        requests, replies = annotator.requests, sum(r.replies for r in annotator.ledger._records.values())
    assert 6 <= len(before) < 2 * images.height
    assert "does not reply" in notices[0] and "replies again" in notices[-1]
    assert made[0]["image_id"].to_list() == images["image_id"].to_list()
    assert set(made[0]["reason"].to_list()) <= {None, "bad_reply"}
    # Beside the replies there were only those requests that the kill cut off, and attempts to connect.
    assert requests > replies
    with annotator_for(server, storage) as annotator:
        assert t2i.caption_images(images, pictures, annotator).equals(made[0])
        assert annotator.requests == 0
