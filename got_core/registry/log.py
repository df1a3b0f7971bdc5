"""Putting a finished pipeline into the MLflow registry.

Belongs here: one model folder becomes one registered version with its scores and tags. Not here: deciding
which version is the champion (`promote`), or what a consumer runs (`pyfunc`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import LoggedModelStatus
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from got_core.registry.aliases import move_alias
from got_core.registry.card import card_text
from got_core.registry.library import library_hash, packed_library
from got_core.registry.loading import DEFAULTS
from got_core.registry.request import ANSWER, COLUMNS
from got_core.registry.results import (
    EXPERIMENT,
    BenchmarkResult,
    benchmark_of,
    log_results,
    store_results,
    tag_entries,
    tags_of,
)
from got_core.registry.tracking import MlflowClient, connect, ensure_experiment, fluent, mlflow

CHALLENGER = "challenger"
WEIGHTS_TAG = "weights_hash"

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

_DESCRIPTION = 5_000
"""Characters that MLflow's database keeps of a description."""

EXAMPLE = {"prompt": "a photo of a red circle", "seed": 0}
_EXAMPLE_PARAMS = {"plan_only": True, "max_new_tokens": 16}
"""Of the example, which MLflow has answered at each upload: a picture in all its steps takes long."""
UPLOAD_TAG = "upload_of"
"""Tag of a logged model: weights, code and requirements in one hash, by which it is found again."""
_CHECKED = {"num_inference_steps": 2, "max_new_tokens": 16}
"""How little is drawn to see that an upload draws."""


class RegistrationError(RuntimeError):
    """A model folder that must not or could not be registered."""


def register(
    folder: Path,
    name: str = "got",
    *,
    tracking_uri: str,
    scores: Mapping[str, Any] | None = None,
    others: Sequence[Mapping[str, Any]] = (),
    outcomes: Mapping[str, pl.DataFrame] | None = None,
    plans: Mapping[str, bytes] | None = None,
    tags: Mapping[str, Any],
    metrics: Mapping[str, float] | None = None,
) -> str:
    """Register a pipeline folder, point `@challenger` at it, and return its version.

    `tags` must hold `weights_hash`, by which a retry finds the version that exists already (its scores are
    brought up to date, nothing is uploaded again). `scores` and `others`: score dicts of benchmarks with
    their protocols, as `evaluate` returns them; `outcomes`: what became of each sample
    (`results.OUTCOMES`), `plans`: the lines of `plans.jsonl`, both by benchmark. Promotion compares scores
    and outcomes. Weights that were uploaded with the same code are not uploaded again, under whatever name;
    else an attempt uploads to a new artifact folder. A version appears only once its model has been loaded
    from there and has drawn a small picture. Raises RegistrationError for a folder that is no pipeline, holds
    anything but safetensors and text, or does not load.
    """
    folder = Path(folder)
    check_folder(folder)
    wanted = _version_tags(tags)
    given = [*([] if scores is None else [scores]), *others]
    results = [
        BenchmarkResult(one, (outcomes or {}).get(benchmark_of(one)), (plans or {}).get(benchmark_of(one)))
        for one in given
    ]
    client = connect(tracking_uri)
    version = find_version(client, name, wanted[WEIGHTS_TAG])
    if version is None:
        version = _upload(client, folder, name, tracking_uri, wanted, results, metrics or {})
    elif results:
        store_results(client, name, client.get_model_version(name, version), results, tracking_uri)
    reason = f"registered with the weights {wanted[WEIGHTS_TAG][:12]}"
    move_alias(client, name, CHALLENGER, version, reason)
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


def _version_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    if not tags.get(WEIGHTS_TAG):
        raise RegistrationError(f"tags need a {WEIGHTS_TAG}: without it a retry could not find its version")
    return {key: str(value) for key, value in tags.items() if value is not None}


def _upload(
    client: MlflowClient,
    folder: Path,
    name: str,
    tracking_uri: str,
    tags: Mapping[str, str],
    results: Sequence[BenchmarkResult],
    metrics: Mapping[str, float],
) -> str:
    # Made by the client, so that an MLFLOW_RUN_ID in the environment cannot redirect it.
    run = client.create_run(
        ensure_experiment(tracking_uri, EXPERIMENT), tags=dict(tags), run_name=f"register {name}"
    )
    run_id = run.info.run_id
    with fluent(tracking_uri), mlflow.start_run(run_id=run_id, nested=True):
        log_results(client, run_id, results, metrics)
        upload = _upload_hash(tags[WEIGHTS_TAG])
        uri = _usable(folder, _uploaded(client, tracking_uri, upload))
        if uri is None:
            uri = _log_model(folder, tags[WEIGHTS_TAG], upload)
            _check_upload(folder, uri)
        every = {**tags, **tags_of(tag_entries(results, run_id))}
        made = mlflow.register_model(uri, name, tags=every)
        _store_card(client, run_id, folder, made, every)
    return str(made.version)


def _store_card(
    client: MlflowClient, run_id: str, folder: Path, version: Any, tags: Mapping[str, str]
) -> None:
    """The card with the run, and as the version's description, which may have so many characters."""
    config = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    text = card_text(f"models:/{version.name}/{version.version}", tags, config)
    client.log_text(run_id, text, "card.md")
    body = text.partition("---\n")[2].partition("---\n")[2].strip()
    if len(body) > _DESCRIPTION:
        end = "\n\n(cut; the whole card is `card.md` of the run)"
        body = body[: _DESCRIPTION - len(end)] + end
    client.update_model_version(version.name, str(version.version), description=body)


def _upload_hash(weights_hash: str) -> str:
    """Equal for uploads that hold the same: weights, the library that goes along, and requirements."""
    held = [weights_hash, library_hash(), requirements()]
    return hashlib.sha256(json.dumps(held).encode()).hexdigest()


def _uploaded(client: MlflowClient, tracking_uri: str, upload: str) -> str | None:
    """An upload that is there and whole, of a try that was cut off later or of another name; or None."""
    found = client.search_logged_models(
        [ensure_experiment(tracking_uri, EXPERIMENT)], filter_string=f"tags.{UPLOAD_TAG} = '{upload}'"
    )
    whole = [one for one in found if one.status == LoggedModelStatus.READY]
    return whole[0].model_uri if whole else None


def _usable(folder: Path, uri: str | None) -> str | None:
    """An earlier upload, if it is still there and draws; its files may have been damaged or removed since."""
    try:
        if uri is not None:
            _check_upload(folder, uri)
    except RegistrationError:
        return None
    return uri


def _log_model(folder: Path, weights_hash: str, upload: str) -> str:
    """A new logged model: its artifact folder has a fresh id, so files of an older upload cannot be in it."""
    import pandas as pd

    with packed_library() as code:
        info = mlflow.pyfunc.log_model(
            name="pipeline",
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"pipeline": str(folder)},
            code_paths=[str(code)],
            signature=signature(),
            input_example=(pd.DataFrame([EXAMPLE]), _EXAMPLE_PARAMS),
            metadata={"inputs": COLUMNS, "weights_hash": weights_hash},
            model_config=DEFAULTS,
            pip_requirements=requirements(),
            tags={UPLOAD_TAG: upload},
        )
    return str(info.model_uri)


def _check_upload(folder: Path, uri: str) -> None:
    """Load the entry from where it was uploaded and draw once, small: what a consumer will do."""
    import pandas as pd

    try:
        model = mlflow.pyfunc.load_model(uri)
        side = _smallest_side(model.unwrap_python_model().pipeline)
        output = model.predict(pd.DataFrame([EXAMPLE]), params=_CHECKED | {"height": side, "width": side})
    except Exception as error:
        raise RegistrationError(
            f"{folder} was uploaded but cannot draw: {error}; nothing was registered"
        ) from error
    if (fault := output["error"].iloc[0]) is not None:
        raise RegistrationError(f"{folder} was uploaded but cannot draw: {fault}; nothing was registered")
    if list(output.columns) != [column.name for column in signature().outputs] or len(output) != 1:
        raise RegistrationError(f"{folder}: the uploaded model answers with {list(output.columns)}")


def _smallest_side(pipeline: Any) -> int:
    """Pixels of a side that every level of the drawing network can halve."""
    levels = len(pipeline.unet.config.get("block_out_channels") or (1,))
    return min(int(pipeline.config.resolution), int(pipeline.vae_scale_factor) * 2**levels)


def signature() -> ModelSignature:
    """Answer and parameters of `predict`; what it reads is in the entry's metadata, under `inputs`.

    Columns of a signature are of one type each, for all rows: a whole number beside a missing one is refused
    before the model sees it, an array of texts has the text "None" for a missing one, and a column of any
    type makes CSV unreadable. So the model reads its rows itself.
    """
    outputs = Schema([ColSpec(DataType.string, name, required=False) for name in ANSWER])
    params = ParamSchema(
        [
            ParamSpec("num_inference_steps", DataType.long, None),
            *(
                ParamSpec(name, DataType.double, None)
                for name in ("text_scale", "spatial_scale", "reference_scale")
            ),
            ParamSpec("guidance_from", DataType.double, None),
            ParamSpec("guidance_until", DataType.double, None),
            ParamSpec("guidance_every", DataType.long, None),
            ParamSpec("height", DataType.long, None),
            ParamSpec("width", DataType.long, None),
            ParamSpec("keep_outside", DataType.boolean, None),
            ParamSpec("num_images_per_prompt", DataType.long, None),
            ParamSpec("plan_only", DataType.boolean, False),
            ParamSpec("repair", DataType.boolean, False),
            ParamSpec("max_new_tokens", DataType.long, None),
        ]
    )
    return ModelSignature(outputs=outputs, params=params)


def requirements() -> list[str]:
    """Pinned requirements of a registry entry; a build tag such as `+cpu` is left out."""
    return [f"{package}=={metadata.version(package).split('+')[0]}" for package in REQUIREMENTS]
