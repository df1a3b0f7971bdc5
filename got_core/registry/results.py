"""A version's benchmark results in MLflow: logged with a run, named by the version's tag, read back.

A version's tag `scores` holds, for each benchmark, what promotion compares at a glance, and the run that
holds the rest: the score dict and, sample by sample, what was right.

Belongs here: that form. Not here: making scores (`got_core.evaluate`), comparing them (`rule`).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from mlflow.entities import Metric
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from got_core.evaluate.protocol import digest_of
from got_core.evaluate.suite import VARIANTS
from got_core.registry.tracking import MlflowClient, ensure_experiment

SCORES_TAG = "scores"
PROTOCOL_TAG = "protocol"
EXPERIMENT = "got-registry"

OUTCOMES: dict[str, pl.DataType] = {
    "sample_id": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "correct": pl.Boolean(),
    "value": pl.Float64(),
}
"""One row a sample and task. `sample_id`: the same for all models under one protocol; `cluster`: samples that
share one (a prompt, a scene) are not independent; `correct`: null where the sample could not be scored;
`value`: the figure of benchmarks that measure instead of judging (higher is better), null where a sample has
none. The column may be absent."""


def benchmark_of(scores: Mapping[str, Any]) -> str:
    """The name by which a score dict is registered: the benchmark's, else that of its protocol."""
    return str(scores.get("benchmark") or scores["protocol"])


@dataclass(frozen=True)
class BenchmarkResult:
    """One benchmark of one model."""

    scores: Mapping[str, Any]
    """A score dict with its protocol, as `evaluate` returns it, or what `compact_scores` leaves of it."""

    outcomes: pl.DataFrame | None = None
    """OUTCOMES; None: not known."""

    plans: bytes | None = None
    """From which plans the pictures were drawn (`evaluate.plans`); None: not known."""


def compact_scores(scores: Mapping[str, Any]) -> dict[str, Any]:
    """What promotion needs of a score dict: protocol, overall and per task mean, interval and count."""
    keep = ("mean", "low", "high", "n")
    return {
        **{name: scores[name] for name in ("benchmark", "scale") if scores.get(name)},
        "protocol": scores["protocol"],
        "protocol_digest": scores["protocol_digest"],
        "complete": scores["complete"],
        "overall": scores["overall"],
        "low": scores["low"],
        "high": scores["high"],
        "tasks": {task: {k: score[k] for k in keep} for task, score in scores["tasks"].items()},
    }


def metrics_of(scores: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Of each benchmark overall and task scores, right plans, grounding and repair, by MLflow's names."""
    named: dict[str, float] = {}
    for one in scores:
        figures = (
            {task: score["mean"] for task, score in one["tasks"].items()}
            | {
                "overall": one["overall"],
                "plans_right": one.get("plan_overall"),
                "grounding_iou": one.get("grounding", {}).get("mean"),
            }
            | {f"{variant.key}_overall": one.get(variant.key, {}).get("overall") for variant in VARIANTS}
        )
        named |= {
            f"{benchmark_of(one)}/{key}": float(value) for key, value in figures.items() if value is not None
        }
    return named


def log_results(
    client: MlflowClient,
    run_id: str,
    results: Sequence[BenchmarkResult],
    metrics: Mapping[str, float] | None = None,
) -> None:
    """Log with a run each benchmark's metrics, its score dict and, where known, plans and what each
    sample came to."""
    figures = {**(metrics or {}), **metrics_of(one.scores for one in results)}
    moment = int(time.time() * 1000)
    client.log_batch(run_id, [Metric(key, float(value), moment, 0) for key, value in figures.items()])
    for one in results:
        benchmark = benchmark_of(one.scores)
        client.log_dict(run_id, dict(one.scores), _file("scores", benchmark))
        if one.outcomes is not None:
            client.log_dict(run_id, _payload(one), _file("outcomes", benchmark))
        if one.plans:
            client.log_text(run_id, one.plans.decode("utf-8", "replace"), _file("plans", benchmark, "jsonl"))


def tag_entries(results: Iterable[BenchmarkResult], run_id: str) -> dict[str, dict[str, Any]]:
    """What the version's tag holds of each benchmark; `outcomes` is the digest of what the run holds."""
    return {
        benchmark_of(result.scores): {
            **compact_scores(result.scores),
            "outcomes": None if result.outcomes is None else digest_of(_payload(result)),
            "run_id": run_id,
        }
        for result in results
    }


def tags_of(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The tags of a version with these benchmarks; none for none."""
    if not entries:
        return {}
    protocols = [f"{name} {one['protocol_digest']}" for name, one in entries.items()]
    # Scores last: `store_results` takes what they name for stored, so the rest is there by then.
    return {PROTOCOL_TAG: ", ".join(protocols), SCORES_TAG: json.dumps(entries, sort_keys=True)}


def store_results(
    client: MlflowClient, name: str, version: ModelVersion, results: Sequence[BenchmarkResult], uri: str
) -> None:
    """Results of a version that is registered already: a new run with metrics, scores and outcomes, then the
    version's tags. Results that the tags name already make no run; other benchmarks' results stay.
    """
    known = _entries(version)
    wanted = tag_entries(results, "")
    if all(wanted[one] == {**known.get(one, {}), "run_id": ""} for one in wanted):
        return
    run_tags = {"model_version": str(version.version), "weights_hash": version.tags.get("weights_hash", "")}
    run = client.create_run(
        ensure_experiment(uri, EXPERIMENT), tags=run_tags, run_name=f"score {name} {version.version}"
    )
    run_id, status = run.info.run_id, "FAILED"
    try:
        log_results(client, run_id, results)
        status = "FINISHED"
    finally:
        client.set_terminated(run_id, status)
    for key, text in tags_of(known | tag_entries(results, run_id)).items():
        client.set_model_version_tag(name, str(version.version), key, text)


def read_results(client: MlflowClient, version: ModelVersion) -> dict[str, BenchmarkResult]:
    """The version's results by benchmark. One that an older version of this software stored has no outcomes,
    nor has one whose run is gone or does not hold what the tag names. Parts of the tag that are no result are
    left out."""
    return {
        name: BenchmarkResult(entry, _outcomes(client, name, entry))
        for name, entry in _entries(version).items()
    }


def _entries(version: ModelVersion) -> dict[str, dict[str, Any]]:
    try:
        found = json.loads(version.tags.get(SCORES_TAG) or "{}")
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    # Once the tag held the scores of one benchmark only.
    entries = {found["protocol"]: found} if isinstance(found.get("protocol"), str) else found
    return {name: entry for name, entry in entries.items() if _is_entry(entry)}


def _is_entry(entry: Any) -> bool:
    """Whether a part of the tag, which anybody may edit, has the form of `compact_scores`."""
    try:
        figures = [entry[one] for one in ("overall", "low", "high")]
        figures += [task["mean"] for task in entry["tasks"].values()]
        texts = entry["protocol"], entry["protocol_digest"]
        whole = isinstance(entry["complete"], bool)
    except (AttributeError, KeyError, TypeError):
        return False
    numbers = all(one is None or isinstance(one, int | float) for one in figures)
    return whole and numbers and all(isinstance(one, str) for one in texts)


def _outcomes(client: MlflowClient, name: str, entry: Mapping[str, Any]) -> pl.DataFrame | None:
    if not entry.get("outcomes") or not entry.get("run_id"):
        return None
    run_id, file = entry["run_id"], _file("outcomes", name)
    try:
        if file not in {one.path for one in client.list_artifacts(run_id)}:
            return None
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    with tempfile.TemporaryDirectory() as folder:
        text = Path(client.download_artifacts(run_id, file, folder)).read_text(encoding="utf-8")
    try:
        payload = json.loads(text)
        if digest_of(payload) != entry["outcomes"]:
            return None
        known = {name: dtype for name, dtype in OUTCOMES.items() if name in payload["samples"]}
        return with_values(pl.DataFrame(payload["samples"], schema=known))
    except (ValueError, TypeError, KeyError, pl.exceptions.PolarsError):
        return None


def _payload(result: BenchmarkResult) -> dict[str, Any]:
    assert result.outcomes is not None
    samples = with_values(result.outcomes)
    if samples["value"].is_null().all():  # as before there were values: what is stored keeps its digest
        samples = samples.drop("value")
    return {
        "protocol_digest": result.scores["protocol_digest"],
        "samples": samples.to_dict(as_series=False),
    }


def with_values(outcomes: pl.DataFrame) -> pl.DataFrame:
    """The columns of OUTCOMES, with nulls for values that there are none of."""
    absent = [pl.lit(None).alias(name) for name in ("correct", "value") if name not in outcomes.columns]
    return outcomes.with_columns(absent).select(list(OUTCOMES)).cast(OUTCOMES)  # type: ignore[arg-type]


def _file(what: str, benchmark: str, ending: str = "json") -> str:
    return f"{what}-{benchmark.replace('/', '-')}.{ending}"
