"""Edits of several steps from the rendered corpus to the samples that training reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from got_core.annotate import edit
from got_core.annotate.scene_annotator import SceneAnnotator
from got_core.chain.edits import read_edit_chain
from got_core.corpus.config import IngestConfig
from got_core.corpus.ingest import ingest_edit_pairs
from got_core.corpus.reader import ImageReader
from got_core.corpus.shards import assign_edit_shards
from got_core.curate.config import CurateConfig
from got_core.curate.manifest import build_manifest
from got_core.curate.rules import select_edits
from got_core.scenes.config import CorpusConfig
from got_core.scenes.corpus import write_corpus
from got_core.scenes.edits import parse_instruction
from got_core.scenes.world import FULL
from got_core.storage import Storage

INGEST, CURATE = IngestConfig(), CurateConfig()


@pytest.fixture(scope="module")
def edits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("corpus")
    config = CorpusConfig(images=0, edits=5, multi_turn=2.0)
    write_corpus(FULL, config, home / "raw", home / "edits", home / "truth.parquet")
    return home / "edits"


def test_multi_turn_pairs_become_training_samples(edits: Path, storage: Storage) -> None:
    from got_core.train.data.samples import TrainingData

    table = str(edits / "pairs.csv")
    reader, annotator = ImageReader(str(edits), INGEST), SceneAnnotator()
    (shard,) = assign_edit_shards(storage, table, INGEST)
    pairs = ingest_edit_pairs(storage, table, shard, INGEST)
    descriptions = edit.describe_edits(pairs, reader, annotator)
    boxes = edit.ground_edits(pairs, descriptions, reader, annotator)
    chains = edit.assemble_edit_chains(pairs, descriptions, boxes, annotator)
    selection = select_edits(chains, pairs, CURATE)
    assert selection["accepted"].to_list() == [True] * 15
    manifest = build_manifest({}, {shard: (selection, chains, pairs)})
    data = TrainingData(manifest, "", table, INGEST, 64)
    lengths = []
    for index in range(15):
        sample = data[index]
        counts = [len(parse_instruction(text).steps) for text in sample.prompts]
        steps = read_edit_chain(sample.chain).steps
        assert sample.source is not None and (sample.source != sample.target).any()
        assert set(counts) == {len(steps)} and len(counts) == 3
        lengths.append(len(steps))
    assert lengths.count(1) == 5 and set(lengths) == {1, 2, 3}
