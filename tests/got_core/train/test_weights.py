"""GOT_WEIGHTS: pipelines, released checkpoints and registered versions that training starts from."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from got_core.model.config import ModelConfig, SchedulerConfig
from got_core.model.formats.configs import ConfigFolders
from got_core.model.formats.released import Lora, load_got_checkpoint, save_got_checkpoint
from got_core.model.formats.saved import load_pipeline
from got_core.model.formats.weights import weights_hash
from got_core.recipes import finetune_own, tiny
from got_core.registry.reference import NoModelError, manifests_of
from got_core.registry.tracking import connect, ensure_experiment
from got_core.storage import Storage
from got_core.train.run import TrainingRun
from got_core.train.stage import check_start
from got_core.train.start import starting_pipeline
from got_core.train.weights import take_weights
from tests.got_core.model import tiny_checkpoints
from tests.got_core.model.tiny_checkpoints import write_published
from tests.got_core.tiny_pipeline import TINY, tiny_pipeline


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights") / "pipeline"
    tiny_pipeline(seed=3).save_pretrained(folder)
    return folder


def started_from(
    run: TrainingRun, weights: Path | str, model: ModelConfig = TINY, **fields: Any
) -> TrainingRun:
    return replace(run, weights=str(weights), recipe=finetune_own(model), **fields)


def test_a_saved_pipeline_is_copied_once_and_takes_the_recipes_settings(
    training_run: TrainingRun, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    model = replace(TINY, resolution=128, inference_steps=5)
    run = started_from(training_run, saved, model, progress=lines.append)
    reference = take_weights(run)
    assert (reference["weights"], reference["stage"], reference["steps"]) == (str(saved), "weights", 0)
    assert reference["weights_hash"] == weights_hash(saved), "names the same weights as where they came from"
    folder = run.storage().download(reference["folder"])
    pipeline = starting_pipeline(folder, reference["stage"], model, 0)
    assert (pipeline.config.resolution, pipeline.config.inference_steps) == (128, 5)
    assert torch.equal(pipeline.unet.conv_in.weight, load_pipeline(saved).unet.conv_in.weight)
    again = take_weights(run)
    assert again["folder"] == reference["folder"] and lines == [f"weights: {saved}"]


def test_a_pipeline_behind_a_url_is_fetched(training_run: TrainingRun, saved: Path, s3_server: Any) -> None:
    options = {"endpoint_url": s3_server.url}
    Storage(f"s3://{s3_server.bucket}/models", **options).upload(saved, "got")
    url = f"s3://{s3_server.bucket}/models/got"
    reference = take_weights(started_from(training_run, url, weights_options=options))
    assert (reference["weights"], reference["weights_hash"]) == (url, weights_hash(saved))
    with pytest.raises(FileNotFoundError, match="models/other is not a folder, or is empty"):
        take_weights(started_from(training_run, f"{url[:-3]}other", weights_options=options))


def released_run(run: TrainingRun, folder: Path, **fields: Any) -> TrainingRun:
    model = replace(tiny_checkpoints.TINY, scheduler=SchedulerConfig(prediction="epsilon"))
    return started_from(run, folder, model, **fields)


def test_a_released_checkpoint_with_and_without_its_configurations(
    training_run: TrainingRun, saved: Path, tmp_path: Path
) -> None:
    save_got_checkpoint(load_pipeline(saved), tmp_path / "whole")
    own = take_weights(started_from(training_run, tmp_path / "whole"))
    assert own["weights_hash"] == weights_hash(saved)
    folders = write_published(tmp_path / "published")
    published = (str(folders.sdxl), str(folders.qwen))
    tiny_checkpoints.write_shards(folders.released, tmp_path / "lora")
    configs = ConfigFolders.published(folders.sdxl, folders.qwen)
    lora = Lora(rank=tiny_checkpoints.RANK, alpha=tiny_checkpoints.ALPHA)
    learned = load_got_checkpoint(tmp_path / "lora", configs, lora=lora, **tiny_checkpoints.SETTINGS)
    save_got_checkpoint(learned, tmp_path / "released")
    for part in [path for path in (tmp_path / "released").iterdir() if path.is_dir()]:
        shutil.rmtree(part)
    with pytest.raises(FileNotFoundError, match=r"configurations are missing: .*; set GOT_SDXL and GOT_QWEN"):
        take_weights(released_run(training_run, tmp_path / "released"))
    taken = take_weights(released_run(training_run, tmp_path / "released", published=published))
    pipeline = load_pipeline(training_run.storage().download(taken["folder"]))
    assert torch.equal(pipeline.unet.conv_in.weight, learned.unet.conv_in.weight)
    assert pipeline.config.prediction == "epsilon"


def registered(uri: str, folder: Path, tags: dict[str, str]) -> str:
    """A version whose entry holds the pipeline, without the library's code and the trial of drawing."""
    import mlflow
    from mlflow.models import Model

    client = connect(uri)
    run = client.create_run(ensure_experiment(uri, "test")).info
    entry = Path(run.artifact_uri.removeprefix("file://")) / "pipeline"
    shutil.copytree(folder, entry / "artifacts" / "pipeline")
    flavor = {"artifacts": {"pipeline": {"path": "artifacts/pipeline", "uri": "x"}}}
    Model(flavors={"python_function": {"loader_module": "mlflow.pyfunc.model", **flavor}}).save(
        str(entry / "MLmodel")
    )
    assert mlflow.__version__
    if not client.search_registered_models("name = 'got'"):
        client.create_registered_model("got")
    version = client.create_model_version("got", entry.as_uri(), tags=tags).version
    client.set_registered_model_alias("got", "champion", version)
    return str(version)


def test_an_alias_becomes_the_version_that_it_points_at(
    training_run: TrainingRun, saved: Path, tmp_path: Path
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow/mlflow.db"
    run = started_from(training_run, "models:/got@champion", tracking_uri=uri)
    with pytest.raises(NoModelError, match="there is no models:/got@champion in sqlite"):
        take_weights(run)
    tags = {"weights_hash": weights_hash(saved), "manifest_hash": "b", "manifest_hashes": "a,b"}
    registered(uri, saved, tags)
    first = take_weights(run)
    assert (first["weights"], first["manifests"]) == ("models:/got/1", ["b", "a"])
    assert first["weights_hash"] == tags["weights_hash"], "by which promotion knows its start again"
    tiny_pipeline(seed=4).save_pretrained(tmp_path / "other")
    registered(uri, tmp_path / "other", {"manifest_hash": "c"})
    moved = take_weights(run)
    assert (moved["weights"], moved["manifests"]) == ("models:/got/2", ["c"])
    assert moved["weights_hash"] != first["weights_hash"]


def test_what_is_no_model_is_one_clear_error(training_run: TrainingRun, saved: Path, tmp_path: Path) -> None:
    cases: list[tuple[Path, type[Exception], str]] = [
        (
            tmp_path / "nowhere",
            FileNotFoundError,
            "nowhere is not there: name the folder of a saved pipeline",
        ),
        (tmp_path, ValueError, "is no saved pipeline .* and no checkpoint in the released layout"),
        (tmp_path / "sdxl", ValueError, "is a StableDiffusionXLPipeline, .* goes into GOT_SDXL"),
    ]
    (tmp_path / "sdxl").mkdir()
    index = {"_class_name": "StableDiffusionXLPipeline"}
    (tmp_path / "sdxl" / "model_index.json").write_text(json.dumps(index))
    for folder, kind, message in cases:
        with pytest.raises(kind, match=message):
            take_weights(started_from(training_run, folder))
    with pytest.raises(ValueError, match="is a saved pipeline, a whole model: unset GOT_SDXL and GOT_QWEN"):
        take_weights(started_from(training_run, saved, published=("/sdxl", "/qwen")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_tokens": 8}, "image_tokens is 4, not 8"),
        (
            {"unet": replace(TINY.unet, block_out_channels=(16, 64))},
            r"unet\.\S+ is \(32, .*, not \(64, .* more",
        ),
        ({"language_model": replace(TINY.language_model, layers=2)}, r"layers\.1\.\S+ is not there, not \("),
    ],
)
def test_a_model_of_other_sizes_than_the_recipes_is_named(
    training_run: TrainingRun, saved: Path, changes: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=rf"is another model than recipe 'finetune-own' is for: .*{message}"):
        take_weights(started_from(training_run, saved, replace(TINY, **changes)))


def test_a_recipe_of_adapters_needs_a_model() -> None:
    with pytest.raises(ValueError, match="trains adapters of a model that has learned GoT already: set"):
        check_start(finetune_own().stages, None)
    check_start(finetune_own().stages, "models:/got@champion")
    check_start(tiny().stages, None)


def test_tags_name_each_manifest_once() -> None:
    assert manifests_of({"manifest_hash": "b", "manifest_hashes": "a, b"}) == ["b", "a"]
    assert manifests_of({}) == []
