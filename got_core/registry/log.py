"""Putting a finished pipeline into the MLflow registry.

Belongs here: one model folder becomes one registered version with its scores and tags. Not here: deciding
which version is the champion (`promote`), or what a consumer runs (`pyfunc`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

import got_core
from got_core.registry.tracking import MlflowClient, connect, ensure_experiment, fluent, mlflow

CHALLENGER = "challenger"
SCORES_TAG = "scores"
WEIGHTS_TAG = "weights_hash"
EXPERIMENT = "got-registry"

ALLOWED = (".safetensors", ".json", ".txt", ".jinja", ".md")
"""What a model folder may hold: weights as safetensors only, the rest plain text."""

REQUIREMENTS = (
    "torch",
    "transformers",
    "diffusers",
    "accelerate",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "polars",
    "pillow",
    "mlflow",
)
"""What a consumer needs to load and run an entry, pinned to the versions that made it; no Dagster, no Ray."""

OTHER_WAYS = ("repaired", "kept_outside", "repaired_kept_outside")
"""Scores of a benchmark whose pictures were also drawn in another way."""

EXAMPLE = {"prompt": "a photo of a red circle", "seed": 0}


class RegistrationError(RuntimeError):
    """A model folder that must not or could not be registered."""


def register(
    folder: Path,
    name: str = "got",
    *,
    tracking_uri: str,
    scores: Mapping[str, Any] | None = None,
    others: Sequence[Mapping[str, Any]] = (),
    tags: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Register a pipeline folder, point `@challenger` at it, and return its version.

    `tags` must hold `weights_hash`, by which a retry finds the version that exists already (its scores are
    brought up to date, nothing is uploaded again). `scores`: a score dict with its protocol, as `evaluate`
    returns it: what promotion compares. `others`: score dicts of further benchmarks, logged beside it. Each
    attempt uploads to a new artifact folder, and a version appears only once its model has
    been loaded from there and has drawn. Raises RegistrationError for a folder that is no pipeline, holds
    anything but safetensors and text, or does not load.
    """
    folder = Path(folder)
    check_folder(folder)
    wanted = _version_tags(tags, scores)
    client = connect(tracking_uri)
    version = find_version(client, name, wanted[WEIGHTS_TAG])
    if version is None:
        files = {} if scores is None else {"scores.json": scores}
        files |= {f"scores-{one['protocol'].replace('/', '-')}.json": one for one in others}
        logged = _all_metrics(files.values(), metrics)
        version = _upload(client, folder, name, tracking_uri, wanted, logged, files)
    else:
        _update_scores(client, name, version, wanted)
    client.set_registered_model_alias(name, CHALLENGER, version)
    return version


def check_folder(folder: Path) -> None:
    """Raise RegistrationError unless this is a saved pipeline of safetensors and text files only."""
    if not (folder / "model_index.json").is_file():
        raise RegistrationError(f"{folder} is no saved pipeline: it has no model_index.json")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    strange = [path.relative_to(folder).as_posix() for path in files if path.suffix not in ALLOWED]
    if strange:
        raise RegistrationError(
            f"{folder} holds {', '.join(strange[:3])}: only {', '.join(ALLOWED)} may be registered; "
            "save the pipeline with safe_serialization=True into an empty folder"
        )


def find_version(client: MlflowClient, name: str, weights_hash: str) -> str | None:
    """The newest version of the model with these weights, or None."""
    quoted = weights_hash.replace("'", "")
    found = client.search_model_versions(f"name = '{name}' and tag.{WEIGHTS_TAG} = '{quoted}'")
    return max((str(version.version) for version in found), key=int, default=None)


def compact_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What promotion needs of a score dict: protocol, overall and per task mean, interval and count."""
    keep = ("mean", "low", "high", "n")
    return {
        "protocol": scores["protocol"],
        "protocol_digest": scores["protocol_digest"],
        "complete": scores["complete"],
        "overall": scores["overall"],
        "low": scores["low"],
        "high": scores["high"],
        "tasks": {task: {k: score[k] for k in keep} for task, score in scores["tasks"].items()},
    }


def _version_tags(tags: Mapping[str, Any], scores: Mapping[str, Any] | None) -> dict[str, str]:
    if not tags.get(WEIGHTS_TAG):
        raise RegistrationError(f"tags need a {WEIGHTS_TAG}: without it a retry could not find its version")
    texts = {key: str(value) for key, value in tags.items() if value is not None}
    if scores is not None:
        texts |= {
            SCORES_TAG: json.dumps(compact_scores(scores), sort_keys=True),
            "protocol": f"{scores['protocol']} {scores['protocol_digest']}",
        }
    return texts


def _all_metrics(
    scores: Iterable[Mapping[str, Any]], metrics: Mapping[str, float] | None
) -> dict[str, float]:
    """Given metrics, and of each benchmark overall and task scores, right plans, grounding and repair."""
    named = {key: float(value) for key, value in (metrics or {}).items()}
    for one in scores:
        figures = (
            {task: score["mean"] for task, score in one["tasks"].items()}
            | {
                "overall": one["overall"],
                "plans_right": one.get("plan_overall"),
                "grounding_iou": one.get("grounding", {}).get("mean"),
            }
            | {f"{way}_overall": one.get(way, {}).get("overall") for way in OTHER_WAYS}
        )
        named |= {
            f"{one['protocol']}/{key}": float(value) for key, value in figures.items() if value is not None
        }
    return named


def _update_scores(client: MlflowClient, name: str, version: str, tags: Mapping[str, str]) -> None:
    for key in (SCORES_TAG, "protocol"):
        if key in tags:
            client.set_model_version_tag(name, version, key, tags[key])


def _upload(
    client: MlflowClient,
    folder: Path,
    name: str,
    tracking_uri: str,
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    files: Mapping[str, Mapping[str, Any]],
) -> str:
    run_tags = {key: value for key, value in tags.items() if key != SCORES_TAG}
    # Made by the client, so that an MLFLOW_RUN_ID in the environment cannot redirect it.
    run = client.create_run(
        ensure_experiment(tracking_uri, EXPERIMENT), tags=run_tags, run_name=f"register {name}"
    )
    with fluent(tracking_uri), mlflow.start_run(run_id=run.info.run_id, nested=True):
        mlflow.log_metrics(dict(metrics))
        for file, scores in files.items():
            client.log_dict(run.info.run_id, dict(scores), file)
        info = _log_model(folder)
        _check_upload(client, folder, info)
        made = mlflow.register_model(info.model_uri, name, tags=dict(tags))
    return str(made.version)


def _log_model(folder: Path) -> Any:
    """A new logged model: its artifact folder has a fresh id, so files of an older upload cannot be in it."""
    import pandas as pd

    return mlflow.pyfunc.log_model(
        name="pipeline",
        python_model=str(Path(__file__).with_name("pyfunc.py")),
        artifacts={"pipeline": str(folder)},
        # The library goes along, so an entry still loads when the code has moved on.
        code_paths=[str(Path(got_core.__file__).parent)],
        signature=signature(),
        input_example=pd.DataFrame([EXAMPLE]),
        pip_requirements=requirements(),
    )


def _check_upload(client: MlflowClient, folder: Path, info: Any) -> None:
    """Load the entry from where it was uploaded and draw once: what a consumer will do."""
    import pandas as pd

    try:
        output = mlflow.pyfunc.load_model(info.model_uri).predict(pd.DataFrame([EXAMPLE]))
    except Exception as error:
        raise RegistrationError(
            f"{folder} was uploaded but cannot draw: {error}; nothing was registered"
        ) from error
    if list(output.columns) != [column.name for column in signature().outputs] or len(output) != 1:
        raise RegistrationError(f"{folder}: the uploaded model answers with {list(output.columns)}")


def signature() -> ModelSignature:
    """Columns and parameters of `predict`."""
    inputs = Schema(
        [
            ColSpec(DataType.string, "prompt"),
            ColSpec(DataType.long, "seed", required=False),
            ColSpec(DataType.string, "chain", required=False),
            ColSpec(DataType.string, "image", required=False),
        ]
    )
    outputs = Schema(
        [
            ColSpec(DataType.string, "image"),
            ColSpec(DataType.string, "chain"),
            ColSpec(DataType.string, "plan_faults", required=False),
        ]
    )
    params = ParamSchema(
        [
            ParamSpec("num_inference_steps", DataType.long, None),
            *(
                ParamSpec(name, DataType.double, None)
                for name in ("text_scale", "spatial_scale", "reference_scale")
            ),
            ParamSpec("keep_outside", DataType.boolean, None),
            ParamSpec("repair", DataType.boolean, False),
        ]
    )
    return ModelSignature(inputs=inputs, outputs=outputs, params=params)


def requirements() -> list[str]:
    """Pinned requirements of a registry entry; a build tag such as `+cpu` is left out."""
    return [f"{package}=={metadata.version(package).split('+')[0]}" for package in REQUIREMENTS]
