"""The model registry: the candidate becomes `@challenger`, and `@champion` if it is the better one."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import dataclasses
import time
from typing import Any

import dagster as dg

from got_assets.project import Project, code_version, git_commit
from got_assets.reporting import document_hash, document_result

Document = dict[str, Any]
MODEL_NAME = "got"


@dg.asset(group_name="register", kinds={"mlflow"}, owners=["team:model"], code_version=code_version(3))
def registered_model(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    foundation_models: Document,
    pretrained_model: Document,
    finetuned_model: Document,
    geneval: Document,
    scene_edits: Document,
) -> dg.MaterializeResult[Document]:
    """The candidate as a version of `got` in MLflow, tagged with all it was made from, as `@challenger`.

    Weights that have a version already get no second one.
    """
    from got_core.registry.log import register

    started = time.monotonic()
    trained = [one for one in (foundation_models, pretrained_model, finetuned_model) if one["steps"]]
    tags = {
        "dagster_run_id": context.run_id,
        "git_commit": git_commit(),
        "recipe": project.recipe.name,
        # Of all stages: who asks what a version was trained on must not miss an earlier manifest.
        "manifest_hashes": ",".join(dict.fromkeys(one["manifest_hash"] for one in trained)),
        **{
            name: finetuned_model[name]
            for name in ("manifest_hash", "weights_hash", "config_digest", "mlflow_run_id")
        },
    }
    uri = project.settings.tracking_uri
    folder = project.storage.download(finetuned_model["folder"])
    scores, others = geneval["scores"], [scene_edits["scores"]]
    version = register(folder, MODEL_NAME, tracking_uri=uri, scores=scores, others=others, tags=tags)
    document = {"name": MODEL_NAME, "version": version, "weights_hash": finetuned_model["weights_hash"]}
    overall = [one["overall"] for one in (scores, *others)]
    scored = {**document, "overall": overall, "tracking_uri": uri}
    return document_result(
        document,
        version=document_hash(scored),
        started=started,
        model_version=version,
        uri=f"models:/{MODEL_NAME}@challenger",
        tracking_uri=uri,
    )


@dg.asset(group_name="register", kinds={"mlflow"}, owners=["team:model"], code_version=code_version(1))
def promoted_model(
    project: dg.ResourceParam[Project], registered_model: Document
) -> dg.MaterializeResult[Document]:
    """`@champion` moves to the challenger if that is better overall and no worse on any task within the
    interval."""
    from got_core.registry.promote import promote

    started = time.monotonic()
    decision = promote(registered_model["name"], tracking_uri=project.settings.tracking_uri)
    document = dataclasses.asdict(decision)
    return document_result(
        document,
        version=document_hash({"champion": decision.champion, "challenger": decision.challenger}),
        started=started,
        promoted=decision.promoted,
        reason=decision.reason,
        champion=str(decision.champion),
        comparison=dg.MetadataValue.md(decision.markdown() or "nothing to compare with"),
    )
