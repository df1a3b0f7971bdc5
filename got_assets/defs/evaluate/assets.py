"""Benchmarks of the candidate model, and their page. Scores are kept with their protocol."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import os
import time
from typing import Any

import dagster as dg

from got_assets.project import PROJECT, Project, code_version, git_commit
from got_assets.reporting import document_hash, document_result, markdown_table, say, stored_image

Document = dict[str, Any]


@dg.asset(
    group_name="evaluate",
    kinds={"pytorch"},
    owners=["team:model"],
    code_version=code_version(1, PROJECT.recipe.evaluate, PROJECT.recipe.world),
)
def geneval(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], finetuned_model: Document
) -> dg.MaterializeResult[Document]:
    """GenEval's rules on rendered scenes (`geneval/scenes`): six tasks, drawn from chains that the model
    wrote.

    Pictures that are in storage already are not drawn again, so an interrupted run goes on.
    """
    import torch

    from got_core.evaluate.scenes import run_geneval_scenes
    from got_core.model.pipeline import GoTPipeline

    started = time.monotonic()
    # Nothing else computes meanwhile; the workers of training have one thread each instead.
    torch.set_num_threads(os.cpu_count() or 1)
    weights = finetuned_model["weights_hash"]
    prefix = f"geneval/{weights[:12]}"
    pipeline = GoTPipeline.from_pretrained(project.storage.download(finetuned_model["folder"]))
    pipeline.set_progress_bar_config(disable=True)
    recipe = project.recipe
    result = run_geneval_scenes(
        pipeline,
        recipe.world,
        recipe.evaluate,
        project.storage,
        prefix,
        progress=lambda done, total: say(f"{done} of {total} pictures drawn"),
        weights_hash=weights,
    )
    document = {"prefix": prefix, "weights_hash": weights, "scores": result.scores}
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        overall=result.scores["overall"],
        pictures_judged=result.samples.height,
        protocol=f"{result.scores['protocol']} {result.scores['protocol_digest']}",
        scores=score_table(result.scores),
        pictures=stored_image(project.storage, f"{prefix}/grid.png"),
        **{task: score["mean"] for task, score in result.scores["tasks"].items()},
    )


@dg.asset(group_name="evaluate", kinds={"html"}, owners=["team:model"], code_version=code_version(1))
def benchmark_report(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    finetuned_model: Document,
    geneval: Document,
) -> dg.MaterializeResult[Document]:
    """One page with all scores, intervals, pictures, failures, protocol and where the model comes from."""
    from got_core.evaluate.report import benchmark_report as write_page

    started = time.monotonic()
    storage, prefix = project.storage, geneval["prefix"]
    page = write_page(
        geneval["scores"],
        grid_png=storage.read_bytes(f"{prefix}/grid.png"),
        samples=storage.read_table(f"{prefix}/samples"),
        lineage={
            "weights": finetuned_model["weights_hash"],
            "manifest": finetuned_model["manifest_hash"],
            "recipe": f"{project.recipe.name} {finetuned_model['config_digest']}",
            "MLflow run": finetuned_model["mlflow_run_id"],
            "git commit": git_commit(),
            "Dagster run": context.run_id,
        },
    ).encode()
    storage.write_bytes("benchmark_report.html", page)
    url = storage.url_of("benchmark_report.html")
    # The page names its run, so its bytes always differ; what it says depends on the scores and the model.
    version = document_hash({"scores": geneval["scores"], "weights": finetuned_model["weights_hash"]})
    return document_result(
        {"page": "benchmark_report.html"}, version=version, started=started, page=dg.MetadataValue.url(url)
    )


def score_table(scores: Document) -> dg.MarkdownMetadataValue:
    """Task, score, interval and count, the overall score last."""
    rows = [
        (task, f"{one['mean']:.3f}", f"{one['low']:.3f} to {one['high']:.3f}", one["n"])
        for task, one in scores["tasks"].items()
    ]
    overall = (
        "overall",
        f"{scores['overall']:.3f}",
        f"{scores['low']:.3f} to {scores['high']:.3f}",
        scores["found"],
    )
    return markdown_table(["task", "score", "95 % interval", "pictures"], [*rows, overall])
