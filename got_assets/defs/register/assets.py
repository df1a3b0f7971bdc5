"""The model registry: the candidate becomes `@challenger`, and `@champion` if it is the better one."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import dataclasses
import time
from pathlib import PurePosixPath
from typing import Any

import dagster as dg
import polars as pl

from got_assets.clustered import clustered
from got_assets.project import PROJECT, Project, code_version, git_commit
from got_assets.promotion import promote_challenger
from got_assets.reporting import document_hash, document_result, log_progress

Document = dict[str, Any]
MODEL_NAME = "got"


_STAGES = tuple(stage.asset for stage in PROJECT.recipe.stages)
_BENCHMARKS = PROJECT.recipe.evaluate.assets


@dg.asset(
    ins={name: dg.AssetIn(name) for name in (*_STAGES, *_BENCHMARKS)},
    group_name="register",
    kinds={"mlflow"},
    owners=["team:model"],
    code_version=code_version(6),
)
@clustered
def registered_model(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    foundation_models: Document,
    **inputs: Document,
) -> dg.MaterializeResult[Document]:
    """The candidate as a version of `got` in MLflow, tagged with all it was made from, as `@challenger`.

    Weights that have a version already get no second one.
    """
    from got_core.frame_hash import content_hash
    from got_core.registry.log import register
    from got_core.registry.reporting import plans_of

    started = time.monotonic()
    models = (foundation_models, *(inputs[name] for name in _STAGES))
    candidate, trained = models[-1], [one for one in models if one["steps"]]
    tags = {
        "dagster_run_id": context.run.run_id,
        "git_commit": git_commit(),
        "recipe": project.recipe.name,
        # Of all stages: who asks what a version was trained on must not miss an earlier manifest.
        "trained_on": ",".join(f"{_folder(one)}@{one['manifest_hash']}" for one in trained),
        "manifest_hashes": ",".join(_manifests(foundation_models, trained)),
        "weights": foundation_models.get("weights"),
        **{
            name: candidate[name]
            for name in ("manifest_hash", "weights_hash", "config_digest", "mlflow_run_id")
        },
        **_held_out_tags(candidate, start=models[-2]),
    }
    uri = project.settings.tracking_uri
    tags |= _lineage(project, tags, foundation_models)
    folder = project.storage.download(candidate["folder"])
    results = {benchmark: inputs[asset] for asset, benchmark in _BENCHMARKS.items()}
    scores, outcomes = [one["scores"] for one in results.values()], _outcomes(project, results)
    version = register(
        folder,
        MODEL_NAME,
        tracking_uri=uri,
        others=scores,
        outcomes=outcomes,
        plans=plans_of(
            project.storage, list(results), candidate["weights_hash"], project.settings.benchmarks
        ),
        tags=tags,
    )
    document = {"name": MODEL_NAME, "version": version, "weights_hash": candidate["weights_hash"]}
    judged = {name: content_hash(table) for name, table in outcomes.items()}
    compared = {**document, "scores": scores, "outcomes": judged, "tracking_uri": uri}
    return document_result(
        document,
        version=document_hash(compared),
        started=started,
        model_version=version,
        uri=f"models:/{MODEL_NAME}@challenger",
        tracking_uri=uri,
    )


def _folder(model: Document) -> str:
    """Where is kept what happened to a model's data: beside its pipeline. Of foundation models nothing is."""
    return str(PurePosixPath(model["folder"]).parent) if "taken_down" in model else model["stage"]


def _outcomes(project: Project, results: dict[str, Document]) -> dict[str, pl.DataFrame]:
    """What became of each sample, by benchmark."""
    from got_core.evaluate.benchmarks import BENCHMARKS
    from got_core.evaluate.published.scoring import OUTCOMES_TABLE

    scenes = {one.name: one for one in BENCHMARKS}
    tables = {}
    for name, one in results.items():
        if name in scenes:
            tables[name] = scenes[name].outcomes(project.storage.read_table(f"{one['prefix']}/samples"))
        else:
            tables[name] = project.storage.read_table(f"{one['prefix']}/{OUTCOMES_TABLE}")
    return tables


def _manifests(start: Document, trained: list[Document]) -> list[str]:
    """Of this training, and of the registered model that it started from."""
    return list(dict.fromkeys([*start.get("manifests", []), *(one["manifest_hash"] for one in trained)]))


def _lineage(project: Project, tags: Document, foundation: Document) -> dict[str, str]:
    """Data sets with licences and counts, also of the registered model that training started from."""
    from got_core.registry.lineage import lineage_tags
    from got_core.registry.reference import SCHEME, NoModelError, manifests_of, version_tags

    start, before = foundation.get("weights"), dict[str, str]()
    if start and start.startswith(SCHEME):
        try:
            before = version_tags(start, project.settings.tracking_uri)[1]
        except NoModelError:  # deleted since: its data is not known
            return {}
    elif start and not foundation.get("manifests"):  # a folder or URL that does not say what its data was
        return {}
    own = [one for one in manifests_of(tags) if one not in manifests_of(before)]
    return lineage_tags(project.storage, own, before)


def _held_out_tags(model: Document, start: Document) -> dict[str, str]:
    from got_core.registry.held_out import HeldOut

    found = HeldOut.of_training(model, start)
    return found.tags() if found else {}


@dg.asset(
    group_name="register",
    kinds={"mlflow", "pytorch"},
    owners=["team:model"],
    code_version=code_version(4, PROJECT.recipe.promotion),
)
@clustered
def promoted_model(
    project: dg.ResourceParam[Project], registered_model: Document
) -> dg.MaterializeResult[Document]:
    """`@champion` moves to the challenger if the recipe's primary score is better, no benchmark is worse by
    more than its margin, and no task is worse.

    A champion that was scored under other protocols is scored again first. Where the recipe names no
    benchmark, the held-out loss has to be lower.
    """
    started = time.monotonic()
    decision = promote_challenger(project, registered_model["name"], log_progress)
    document = dataclasses.asdict(decision)
    return document_result(
        document,
        version=document_hash({"champion": decision.champion, "challenger": decision.challenger}),
        started=started,
        promoted=decision.promoted,
        reason=decision.reason,
        champion=str(decision.champion),
        scored_again=decision.scored_again,
        comparison=dg.MetadataValue.md(decision.markdown() or "nothing to compare with"),
    )
