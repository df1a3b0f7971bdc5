"""vLLM's engines on Ray: the same questions, readers, tables and ledger as over HTTP."""

from __future__ import annotations

import pytest

from got_core.annotate import schemas, t2i
from got_core.annotate.annotator import Annotator
from got_core.annotate.config import OpenAIConfig, VLLMConfig
from got_core.annotate.ledger import Ledger
from got_core.annotate.openai_annotator import OpenAIAnnotator, revision_of
from got_core.annotate.ray_batch import RayAnnotator
from got_core.storage import Storage
from tests.got_core.annotate.scenes_on_hand import Pictures, table
from tests.integration.conftest import Shard
from tests.integration.vllm_server import VENV, VLLMServer

SCOPE = "images-00000"
ROWS = 4
ENGINE = {"dtype": "float32", "enforce_eager": True, "max_num_seqs": 8, "max_model_len": 4096}


@pytest.fixture(autouse=True)
def _small_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")


def config_for(server: VLLMServer, **settings: object) -> VLLMConfig:
    usual = {"cpus": 1, "batch_size": 8, "rows_per_task": 2, "gpu": False, "engine": ENGINE}
    python = str(VENV / "bin" / "python")
    usual |= {"boxes": "one by one"}  # what the small model has learned
    named = {"vision_model": str(server.model), "box_unit": "thousandths", **usual, **settings}
    return VLLMConfig(python=python, **named)  # type: ignore[arg-type]


def grounded(shard: Shard, annotator: Annotator):
    """Two phrases of each picture; the first picture cannot be opened."""
    images, _, pictures = shard
    images = images.head(ROWS)
    known = Pictures({path: picture for path, picture in pictures.items() if path != images["path"][0]})
    rows = [{"image_id": key, "entities": ["red cross", "blue triangle"]} for key in images["image_id"]]
    return t2i.ground_entities(table(rows, schemas.ENTITIES), images, known, annotator)


def test_pictures_and_schemas_give_the_tables_that_a_server_gives(
    server: VLLMServer, storage: Storage, shard: Shard
) -> None:
    config = config_for(server, attempts=2)
    notices: list[str] = []
    with RayAnnotator(config, storage, SCOPE, notice=notices.append) as engines:
        boxes = grounded(shard, engines)
        assert engines.spent.tokens > 0
        requests = engines.requests
    print(boxes["reason"].to_list(), requests, notices)
    replies = sum(record.replies for record in Ledger(storage, SCOPE)._records.values())
    assert boxes["image_id"].to_list() == shard[0]["image_id"].to_list()[:ROWS]
    assert boxes["reason"][0] == "vanished"
    assert notices[0].startswith(f"{2 * (ROWS - 1)} questions for ")
    assert requests == replies >= 2 * (ROWS - 1)
    bad = boxes.filter(boxes["reason"] == "bad_reply")
    assert bad["raw_reply"].null_count() == 0

    # The ledger holds an answer to just the questions of requests over HTTP: nothing is requested again.
    http = OpenAIConfig(
        url=server.url,
        vision_model=config.vision_model,
        box_unit="thousandths",
        attempts=2,
        boxes="one by one",
    )
    assert revision_of(http) == revision_of(config)
    with OpenAIAnnotator(http, Ledger(storage, SCOPE)) as annotator:
        assert grounded(shard, annotator).equals(boxes)
        assert annotator.requests == 0
    # And the model reads the same: as many tokens of each question.
    with OpenAIAnnotator(http, Ledger(storage, "other")) as annotator:
        grounded(shard, annotator)
    first, second = (
        {
            key: record.tokens_in
            for key, record in Ledger(storage, scope)._records.items()
            if record.replies == 1
        }
        for scope in (SCOPE, "other")
    )
    assert first.keys() & second.keys()
    assert all(first[key] == second[key] for key in first.keys() & second.keys())


def test_texts_go_to_the_text_model_and_bad_replies_are_told_and_quarantined(
    server: VLLMServer, storage: Storage
) -> None:
    captions = ["a green cross on a grey background", "Nine quiet violins beneath a copper moon."]
    rows = [{"image_id": f"image-{k}", "caption": text} for k, text in enumerate(captions)]
    frame = table(rows, schemas.CAPTIONS)
    config = config_for(server, vision_model="unused", text_model=str(server.model), attempts=1)
    with RayAnnotator(config, storage, SCOPE) as engines:
        entities = t2i.extract_entities(frame, engines)
    assert entities.height == 2 and entities["reason"][1] == "bad_reply"
    assert "exact words" in entities["error"][1] and entities["raw_reply"][1].startswith('{"entities": [')
    with RayAnnotator(config, storage, SCOPE) as engines:
        assert t2i.extract_entities(frame, engines).equals(entities)
        assert engines.requests == 0 and engines.reused == 2
