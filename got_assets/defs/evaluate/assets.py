"""Benchmarks of the candidate model, and their page. Scores are kept with their protocol."""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import dagster as dg

from got_assets.clustered import clustered
from got_assets.project import PROJECT, Project, code_version, git_commit
from got_assets.reporting import document_hash, document_result, log_progress, markdown_table, stored_image
from got_assets.scored import benchmark_cluster

if TYPE_CHECKING:
    from got_core.evaluate.benchmarks import Benchmark
    from got_core.evaluate.report import Section
    from got_core.evaluate.report.stages import StagePart

Document = dict[str, Any]
_CANDIDATE = {"candidate": dg.AssetIn(PROJECT.recipe.candidate)}
_EVALUATE = PROJECT.recipe.evaluate
_STAGES = ["stage_scores"] if _EVALUATE.stage_requests else []
"""What each stage added, where that is measured."""


@dataclass(frozen=True)
class _Kind:
    """What the asset of a benchmark says of itself."""

    number: int
    """Of its code version, raised by hand."""

    description: str


_KINDS = {
    "geneval": _Kind(
        4,
        "GenEval's rules on rendered scenes (`geneval/scenes`): six tasks, drawn from chains that the model "
        "wrote.\n\nPictures that are in storage already are not drawn again, so an interrupted run goes on.",
    ),
    "scene_edits": _Kind(
        4,
        "Edits of unseen scenes (`edits/scenes`) by kind, traces of what they should have taken away, and "
        "the grounding of their chains in the source.\n\nResumes as `geneval` does.",
    ),
    "scene_imagenhub": _Kind(
        2,
        "ImagenHub's two scores on rendered scenes (`imagenhub/scenes`): success of the edit and "
        "over-editing, judged exactly.\n\nPictures are those of `edits/scenes`, and edits of objects that "
        "are not there.",
    ),
    "scene_emu_edit": _Kind(
        1,
        "Emu-Edit's figures on rendered scenes (`emu_edit/scenes`): agreement with source and target, and "
        "the share of the asked change that was made.\n\nPictures are those of `edits/scenes`.",
    ),
    "scene_reason_edit": _Kind(
        2,
        "Edits of rendered scenes whose instructions need reasoning (`reason_edit/scenes`), by Reason-Edit's "
        "classes, scored as `imagenhub/scenes`.\n\nResumes as `geneval` does.",
    ),
}
_SHARING = ("scene_imagenhub", "scene_emu_edit")
"""They judge the pictures of `scene_edits`, and draw them where nobody else does."""


def _before(key: str) -> list[str]:
    """The asset that draws the same pictures: at the same time both would draw them."""
    sharing = [one for one in ("scene_edits", *_SHARING) if one in _EVALUATE.assets]
    return sharing[: sharing.index(key)][-1:] if key in _SHARING else []


def benchmark_asset(key: str, name: str) -> dg.AssetsDefinition:
    """The asset that scores the candidate by the benchmark of that name."""

    @dg.asset(
        name=key,
        description=_KINDS[key].description,
        ins=_CANDIDATE,
        deps=_before(key),
        group_name="evaluate",
        kinds={"pytorch"},
        owners=["team:model"],
        code_version=code_version(_KINDS[key].number, _EVALUATE.measuring(name), PROJECT.recipe.world),
    )
    @clustered
    def scored(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], candidate: Document
    ) -> dg.MaterializeResult[Document]:
        from got_core.evaluate.benchmarks import benchmarks_named

        (benchmark,) = benchmarks_named([name])
        return _benchmark(project, candidate, benchmark)

    return scored


def published_asset(key: str, name: str) -> dg.AssetsDefinition:
    """The asset that scores the candidate by the published benchmark of that name."""

    @dg.asset(
        name=key,
        description=f"The published benchmark `{name}`, with data and networks of GOT_BENCHMARKS."
        "\n\nPictures that are drawn and verdicts that are made already are kept, so an interrupted run goes "
        "on.",
        ins=_CANDIDATE,
        group_name="evaluate",
        kinds={"pytorch", "ray"},
        owners=["team:model"],
        code_version=code_version(1, name, _EVALUATE.sampler),
    )
    @clustered
    def scored(
        context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], candidate: Document
    ) -> dg.MaterializeResult[Document]:
        return _published(project, candidate, name)

    return scored


benchmark_assets = [
    published_asset(key, name) if name in _EVALUATE.published else benchmark_asset(key, name)
    for key, name in _EVALUATE.assets.items()
]


def _published(project: Project, model: Document, name: str) -> dg.MaterializeResult[Document]:
    """Run a published benchmark on a model's pipeline; the document holds its scores and where they are."""
    from got_core.evaluate.drawers.costs import costs
    from got_core.evaluate.published.cluster import score_on
    from got_core.evaluate.published.downloads import benchmarks_place
    from got_core.evaluate.published.registry import published_benchmark

    started, weights = time.monotonic(), model["weights_hash"]
    place = benchmarks_place(project.settings.benchmarks)
    benchmark = published_benchmark(name, place)
    made = score_on(
        benchmark_cluster(project),
        benchmark,
        place,
        model["folder"],
        project.storage,
        weights,
        sampler=_EVALUATE.sampler,
        batch_size=_EVALUATE.batch_size,
        report=log_progress,
    )
    prefix, scores = benchmark.results(weights), made.scores
    document = {"prefix": prefix, "weights_hash": weights, "scores": scores}
    more: dict[str, Any] = {
        **_notes(scores),
        **_seconds(costs(project.storage, f"{prefix}/costs")),
        **_figures(scores),
    }
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        judged=scores["of"],
        protocol=f"{scores['protocol']} {scores['protocol_digest']}",
        scores=score_table(scores),
        pictures=stored_image(project.storage, f"{prefix}/grid.png"),
        **more,
    )


def _seconds(spent: Document) -> dict[str, float]:
    """Of a device for a picture, on average."""
    named = {"seconds_to_plan": spent["plan_seconds"], "seconds_to_draw": spent["draw_seconds"]}
    return {name: value for name, value in named.items() if value is not None}


def _notes(scores: Document) -> dict[str, dg.MarkdownMetadataValue]:
    """What was found about the data."""
    lines = [f"- {one}" for one in scores.get("notes", ())]
    return {"notes": dg.MetadataValue.md("\n".join(lines))} if lines else {}


def _figures(scores: Document) -> dict[str, float]:
    """Overall and task scores, those that there are."""
    named = {"overall": scores["overall"], **{task: one["mean"] for task, one in scores["tasks"].items()}}
    return {name: value for name, value in named.items() if value is not None}


def _benchmark(project: Project, model: Document, benchmark: "Benchmark") -> dg.MaterializeResult[Document]:
    """Run a benchmark on a model's pipeline; the document holds its scores and where its pictures are."""
    from got_core.evaluate.benchmarks import open_pipeline
    from got_core.evaluate.trace_scores import FILE as TRACES

    started = time.monotonic()
    weights = model["weights_hash"]
    prefix = benchmark.prefix(weights)
    result = benchmark.score(
        open_pipeline(project.storage.download(model["folder"])),
        project.recipe.world,
        project.recipe.evaluate,
        project.storage,
        weights,
        progress=lambda done, total: log_progress(f"{done} of {total} {benchmark.unit}"),
    )
    document = {"prefix": prefix, "weights_hash": weights, "scores": result.scores}
    grounding = result.scores.get("grounding", {}).get("mean")
    more: dict[str, Any] = _notes(result.scores) | ({} if grounding is None else {"grounding_iou": grounding})
    if result.traces_png:
        more["largest_traces"] = stored_image(project.storage, f"{prefix}/{TRACES}")
    if trace := (result.scores.get("traces") or {}).get("trace"):
        more["trace"] = trace["median"]
    return document_result(
        document,
        version=document_hash(document),
        started=started,
        overall=result.scores["overall"],
        plans_right=result.scores["plan_overall"],
        pictures_judged=result.samples.height,
        protocol=f"{result.scores['protocol']} {result.scores['protocol_digest']}",
        scores=score_table(result.scores),
        pictures=stored_image(project.storage, f"{prefix}/grid.png"),
        **more,
        **{task: score["mean"] for task, score in result.scores["tasks"].items()},
    )


@dg.asset(
    ins=_CANDIDATE | {name: dg.AssetIn(name) for name in (*_EVALUATE.assets, *_STAGES)},
    group_name="evaluate",
    kinds={"html"},
    owners=["team:model"],
    code_version=code_version(5),
)
@clustered
def benchmark_report(
    context: dg.AssetExecutionContext,
    project: dg.ResourceParam[Project],
    candidate: Document,
    **results: Document,
) -> dg.MaterializeResult[Document]:
    """One page with all scores, intervals, pictures, failures, protocol, what each stage added and where the
    model comes from, and with the champion beside it, picture by picture.

    Kept in MLflow too, with scores and plans.
    """
    from got_core.evaluate.report import benchmark_report as write_page
    from got_core.evaluate.report import report_markdown
    from got_core.registry.reporting import ReportMaker, log_report
    from got_core.registry.standing import CHAMPION, standing_at

    started = time.monotonic()
    storage, weights, uri = project.storage, candidate["weights_hash"], project.settings.tracking_uri
    champion = standing_at("got", CHAMPION, uri)
    maker = ReportMaker(
        storage=storage,
        world=project.recipe.world,
        config=_EVALUATE,
        downloads=project.settings.benchmarks,
    )
    sections = maker.sections(weights, list(_EVALUATE.assets.values()), champion)
    stages = _stage_part(project, results)
    page = write_page(
        sections,
        stages=stages,
        lineage={
            "weights": weights,
            "manifest": candidate["manifest_hash"],
            "recipe": f"{project.recipe.name} {candidate['config_digest']}",
            "MLflow run": candidate["mlflow_run_id"],
            "git commit": git_commit(),
            "Dagster run": context.run.run_id,
        },
    ).encode()
    storage.write_bytes("benchmark_report.html", page)
    scores = [one.scores for one in sections]
    run_id = log_report(uri, weights, {"benchmark_report.html": page, **_files(project, weights, sections)})
    # The page names its run, so its bytes always differ; what it says depends on the scores and the models.
    compared = champion.weights_hash if champion else None
    said = {"scores": scores, "weights": weights, "champion": compared}
    said |= {"stages": stages.document} if stages else {}
    return document_result(
        {"page": "benchmark_report.html"},
        version=document_hash(said),
        started=started,
        page=dg.MetadataValue.url(storage.url_of("benchmark_report.html")),
        scores=dg.MetadataValue.md(report_markdown(sections)),
        page_megabytes=len(page) / 1e6,
        mlflow_run=run_id,
    )


def _stage_part(project: Project, results: dict[str, Document]) -> "StagePart | None":
    """What the page shows of the stages; None where they are not compared."""
    from got_assets.defs.evaluate.stages import GRID, PLOT
    from got_core.evaluate.report.stages import StagePart

    if not _STAGES:
        return None
    pictures = project.storage.read_many([PLOT, GRID])
    document = results["stage_scores"]
    return StagePart(document=document, plot_png=pictures.get(PLOT), grid_png=pictures.get(GRID))


def _files(project: Project, weights: str, sections: "Sequence[Section]") -> dict[str, bytes]:
    """Scores and plans as artifacts."""
    from got_core.registry.reporting import plans_of

    plans = plans_of(project.storage, [one.name for one in sections], weights, project.settings.benchmarks)
    scores = {one.name: json.dumps(dict(one.scores), indent=1).encode() for one in sections}
    return {
        **{f"scores-{name.replace('/', '-')}.json": data for name, data in scores.items()},
        **{f"plans-{name.replace('/', '-')}.jsonl": data for name, data in plans.items()},
    }


def score_table(scores: Document) -> dg.MarkdownMetadataValue:
    """Task, score, interval, count and, where plans are judged, failures by cause; the overall score last."""
    from got_core.evaluate.scores import FAILURES

    causes = [failure for failure in FAILURES if failure in scores]
    rows = [
        (task, *_score(one, "mean"), one.get("of", one["n"]), *(one[failure] for failure in causes))
        for task, one in scores["tasks"].items()
    ]
    found = scores.get("of", scores["found"])
    overall = ("overall", *_score(scores, "overall"), found, *(scores[failure] for failure in causes))
    named = (failure.replace("_", " ") for failure in causes)
    return markdown_table(["task", "score", "95 % interval", "pictures", *named], [*rows, overall])


def _score(one: Document, mean: str) -> tuple[str, str]:
    """A score and its interval; empty where there is none."""
    if one[mean] is None:
        return "", ""
    return f"{one[mean]:.3f}", f"{one['low']:.3f} to {one['high']:.3f}"
