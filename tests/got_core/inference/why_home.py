"""A home as a tiny run leaves it: rendered pictures, ingested, annotated, curated; a model of random weights
scored on scenes and registered. Every part is the real one, the graph and training are left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from got_core.annotate.edit import assemble_edit_chains, describe_edits, ground_edits
from got_core.annotate.scene_annotator import SceneAnnotator
from got_core.annotate.t2i import assemble_chains, caption_images, extract_entities, ground_entities
from got_core.corpus.ingest import ImageReader, ingest_edit_pairs, ingest_images
from got_core.corpus.shards import assign_edit_shards, assign_image_shards
from got_core.curate.manifest import archive_manifest, build_manifest
from got_core.curate.rules import select_edits, select_t2i
from got_core.evaluate.benchmarks import BENCHMARKS
from got_core.inference.why.home import WhyHome
from got_core.recipes import Recipe, tiny
from got_core.registry.tracking import connect
from got_core.scenes.config import CorpusConfig
from got_core.scenes.corpus import write_corpus
from got_core.storage import Storage
from tests.got_core.tiny_pipeline import sees_its_conditions, tiny_pipeline

RECIPE = replace(tiny(), corpus=CorpusConfig(images=10, edits=4))
WEIGHTS = "5e" * 32
EARLIER = "a1" * 32
ASSETS = {
    "geneval/scenes": "geneval",
    "edits/scenes": "scene_edits",
    "imagenhub/scenes": "scene_imagenhub",
}


@dataclass(frozen=True)
class Made:
    """The home and what it is about."""

    home: Path
    manifest: str
    """Content hash of the training manifest."""

    recipe: Recipe = RECIPE

    @property
    def storage(self) -> Storage:
        return Storage(f"file://{self.home / 'storage'}")

    def why(self, **more: object) -> WhyHome:
        """What evidence is looked for in."""
        given = {
            "storage": self.storage,
            "recipe": self.recipe,
            "registry": self.home / "mlflow" / "mlflow.db",
            "roots": {kind: str(self.home / "raw" / name) for kind, name in KINDS.items()},
        }
        return WhyHome(**(given | more))  # type: ignore[arg-type]


KINDS = {"t2i": "images", "edit": "edits"}


def make_home(home: Path) -> Made:
    """Write it all."""
    storage = Storage(f"file://{home / 'storage'}")
    manifest = _data(home, storage)
    _scores(storage)
    _documents(storage, manifest)
    _register(home, manifest)
    return Made(home=home, manifest=manifest)


def _data(home: Path, storage: Storage) -> str:
    raw, edits = home / "raw" / "images", home / "raw" / "edits"
    write_corpus(RECIPE.world, RECIPE.corpus, raw, edits, home / "truth" / "scenes.parquet")
    images, pairs = {}, {}
    for shard in assign_image_shards(storage, str(raw), RECIPE.ingest):
        images[shard] = _images(storage, str(raw), shard)
    for shard in assign_edit_shards(storage, str(edits / "pairs.csv"), RECIPE.ingest):
        pairs[shard] = _pairs(storage, edits, shard)
    manifest = build_manifest(images, pairs)
    storage.write_table("training_manifest", manifest)
    return archive_manifest(storage, manifest)


def _images(storage: Storage, raw: str, shard: str):
    reader, annotator = ImageReader(raw, RECIPE.ingest), SceneAnnotator()
    table = ingest_images(storage, raw, shard, RECIPE.ingest)
    captions = caption_images(table, reader.open, annotator)
    entities = extract_entities(captions, annotator)
    boxes = ground_entities(entities, table, reader.open, annotator)
    chains = assemble_chains(captions, boxes, annotator)
    chosen = select_t2i(chains, table, RECIPE.curate)
    names = ("raw_images", "captions", "entities", "boxes", "t2i_chains", "t2i_selection")
    for name, frame in zip(names, (table, captions, entities, boxes, chains, chosen), strict=True):
        storage.write_table(f"{name}/{shard}", frame)
    return chosen, chains, table


def _pairs(storage: Storage, edits: Path, shard: str):
    reader, annotator = ImageReader(str(edits), RECIPE.ingest), SceneAnnotator()
    table = ingest_edit_pairs(storage, str(edits / "pairs.csv"), shard, RECIPE.ingest)
    described = describe_edits(table, reader.open, annotator)
    boxes = ground_edits(table, described, reader.open, annotator)
    chains = assemble_edit_chains(table, described, boxes, annotator)
    chosen = select_edits(chains, table, RECIPE.curate)
    names = ("edit_pairs", "edit_descriptions", "edit_boxes", "edit_chains", "edit_selection")
    for name, frame in zip(names, (table, described, boxes, chains, chosen), strict=True):
        storage.write_table(f"{name}/{shard}", frame)
    return chosen, chains, table


def _scores(storage: Storage) -> None:
    pipeline = sees_its_conditions(tiny_pipeline())
    for one in BENCHMARKS:
        if one.name in ASSETS:
            one.score(pipeline, RECIPE.world, RECIPE.evaluate, storage, WEIGHTS)


def _documents(storage: Storage, manifest: str) -> None:
    """As the graph's assets leave them."""
    for one in BENCHMARKS:
        if one.name in ASSETS:
            document = {"prefix": one.prefix(WEIGHTS), "weights_hash": WEIGHTS, "scores": {}}
            storage.write_json(f"{ASSETS[one.name]}.json", document)
    made = {"weights_hash": WEIGHTS, "start_weights_hash": EARLIER, "stage": "finetune", "steps": 2}
    storage.write_json("finetuned_model.json", {**made, "manifest_hash": manifest, "mlflow_run_id": "run"})


def _register(home: Path, manifest: str) -> None:
    client = connect(f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")
    client.create_registered_model("got")
    for weights in (EARLIER, WEIGHTS):
        tags = {"weights_hash": weights, "manifest_hash": manifest, "recipe": "tiny"}
        client.create_model_version("got", source=str(home), tags={**tags, "git_commit": "c0ffee" * 6})
    client.set_registered_model_alias("got", "champion", "2")
    client.set_registered_model_alias("got", "challenger", "1")
