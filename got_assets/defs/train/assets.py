"""Training: foundation models and one model for each of the recipe's stages, such as `pretrained_model` and
`finetuned_model`. Not partitioned: all read the manifest.

What comes out is a reference to a folder in storage (weights as safetensors), never weights themselves. The
stages run on Ray and resume where they were interrupted.
"""

# No postponed annotations here: Dagster looks at the annotation objects themselves.

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from got_assets.clustered import clustered
from got_assets.needs import trained_on_tag
from got_assets.pools import TRAINING
from got_assets.project import PROJECT, Project, code_version, git_commit
from got_assets.reporting import (
    Metadata,
    document_hash,
    document_result,
    log_progress,
    markdown_table,
    stored_image,
)
from got_assets.scored import try_benchmarks
from got_core.frame_hash import content_hash
from got_core.storage import Storage
from got_core.train.config import StageConfig
from got_core.train.stage import Stage

if TYPE_CHECKING:
    from got_core.train.run import TrainingRun

_RECIPE = PROJECT.recipe
Reference = dict[str, Any]


def foundation_version(project: Project) -> tuple[Any, ...]:
    """What the foundation models depend on: the recipe's training of them, or the folder they come from."""
    recipe = project.recipe
    if (folder := project.settings.foundation_folder(recipe.model)) is None:
        return (recipe.model, recipe.foundation)
    with suppress(OSError):  # the asset says that there is no such folder
        return (recipe.model, folder.digest())
    return (recipe.model, str(folder.path))


@dg.asset(
    group_name="train",
    kinds={"pytorch", "huggingface"},
    owners=["team:model"],
    pool=TRAINING,
    code_version=code_version(
        4,
        *foundation_version(PROJECT),
        *(PROJECT.settings.published or ()),
        *filter(None, [PROJECT.settings.sdxl_variant, PROJECT.settings.weights]),
    ),
)
@clustered
def foundation_models(
    context: dg.AssetExecutionContext, project: dg.ResourceParam[Project], training_manifest: pl.DataFrame
) -> dg.MaterializeResult[Reference]:
    """What GoT training starts from: a language model that writes chains and sees, an autoencoder, a U-Net.

    GOT_WEIGHTS names a whole GoT model instead: a registered one is looked up here, and a moved alias alone
    makes nothing out of date. GOT_SDXL and GOT_QWEN name folders of published weights; without either the
    weights that come with the package are taken, or those of GOT_FOUNDATION. Where there are none for the
    recipe, small parts are trained from scratch on the manifest's samples, each by itself.
    """
    from got_core.train.ray.preflight import check_nodes
    from got_core.train.stage import check_start

    started, run = time.monotonic(), training_run(context, project, training_manifest)
    check_nodes(run)  # of the stages, too: nothing is trained for those that cannot follow
    check_start(run.recipe.stages, run.weights)
    try_benchmarks(project)
    return model_result(project, _start_of(run), started)


def _start_of(run: "TrainingRun") -> Reference:
    from got_core.foundation.train import train_foundation
    from got_core.train.start import take_foundation, take_published
    from got_core.train.weights import take_weights

    if run.weights:
        return take_weights(run)
    if run.published:
        return take_published(run)
    return take_foundation(run) if run.foundation else train_foundation(run)


READ_LATENTS = [stage for stage in _RECIPE.stages if stage.config.latents is not None]
"""Stages that read stored latents in place of pictures."""


def latents_asset() -> dg.AssetsDefinition:
    """The asset of the latents that stages of the recipe read."""

    @dg.asset(
        group_name="train",
        kinds={"pytorch", "ray", "file"},
        owners=["team:model"],
        pool=TRAINING,
        code_version=code_version(1, _RECIPE.model, [_latents_of(stage.config) for stage in READ_LATENTS]),
    )
    @clustered
    def latent_shards(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        training_manifest: pl.DataFrame,
        foundation_models: Reference,
    ) -> dg.MaterializeResult[dict[str, Any]]:
        """What the frozen autoencoder makes of the manifest's pictures and canvases, for stages that read it.

        Targets, sources of edits and the mean over boxes are encoded once; the language model's view of a
        source is kept beside them. What is there already is not made again.
        """
        from got_core.train.encoding.making import make_latents

        started, run = time.monotonic(), training_run(context, project, training_manifest)
        document = make_latents(run, foundation_models)
        return document_result(
            document,
            version=_latents_version(document),
            started=started,
            **_latents_metadata(document),
        )

    return latent_shards


def _latents_of(config: StageConfig) -> list[Any]:
    return [config.latents, config.geometry, config.bucket_multiple]


def _latents_version(document: dict[str, Any]) -> str:
    """Changes with what is stored, and not with how much of it was made at one time."""
    return document_hash({folder: one["index"] for folder, one in document["latents"].items()})


def _latents_metadata(document: dict[str, Any]) -> Metadata:
    columns = ("samples", "new", "listed", "bytes")
    rows = [(folder, *(one[name] for name in columns)) for folder, one in document["latents"].items()]
    return {
        "folders": markdown_table(["folder", "samples", "made now", "cannot be read", "bytes"], rows),
        "unused": markdown_table(["folder of another key"], [(folder,) for folder in document["unused"]]),
    }


latent_assets = [latents_asset()] if READ_LATENTS else []


def stage_model(stage: Stage, start: str) -> dg.AssetsDefinition:
    """The asset of a stage's model, which is trained from the model of the asset ``start``."""
    start_asset = start
    latents = stage in READ_LATENTS

    @dg.asset(
        name=stage.asset,
        description=stage.description,
        ins={"start": dg.AssetIn(start)},
        deps=["latent_shards"] if latents else [],
        group_name="train",
        kinds={"pytorch", "ray"},
        owners=["team:model"],
        pool=TRAINING,
        code_version=code_version(3, _RECIPE.model, stage.identity()),
    )
    @clustered
    def trained(
        context: dg.AssetExecutionContext,
        project: dg.ResourceParam[Project],
        training_manifest: pl.DataFrame,
        start: Reference,
    ) -> dg.MaterializeResult[Reference]:
        from got_core.train.stages import train_stage

        started, run = time.monotonic(), training_run(context, project, training_manifest)
        model = train_stage(run, run.recipe.stage(stage.name), start)
        used = {"training_manifest": model["manifest_hash"], start_asset: model["start_weights_hash"]}
        if latents:
            used["latent_shards"] = _latents_version(project.storage.read_json("latent_shards.json"))
        return model_result(project, model, started, trained_on_tag(used))

    return trained


STARTS = ("foundation_models", *(stage.asset for stage in _RECIPE.stages[:-1]))
"""What each stage starts from."""

stage_models = [stage_model(*pair) for pair in zip(_RECIPE.stages, STARTS, strict=True)]


def training_run(
    context: dg.AssetExecutionContext, project: Project, manifest: pl.DataFrame
) -> "TrainingRun":
    """What the library needs to know about a training that an asset starts."""
    return make_run(project, manifest, {"dagster_run_id": context.run.run_id, "git_commit": git_commit()})


def make_run(project: Project, manifest: pl.DataFrame, tags: dict[str, str]) -> "TrainingRun":
    """A training run of the project; ``tags`` are those of its MLflow runs."""
    from got_core.curate.takedown import CurrentRemoval
    from got_core.train.run import TrainingRun

    settings = project.settings
    foundation = settings.foundation_folder(project.recipe.model)
    return TrainingRun(
        storage_url=settings.storage_url,
        storage_options=settings.storage_options,
        raw_options=settings.fs_options(settings.raw_url),
        edits_options=settings.fs_options(settings.edits_url) if settings.edits_url else {},
        raw_url=settings.raw_url,
        edits_url=settings.edits_url,
        manifest=manifest,
        manifest_hash=content_hash(manifest),
        recipe=project.recipe,
        published=settings.published,
        foundation=str(foundation.path) if foundation else None,
        weights=settings.weights,
        weights_options=settings.fs_options(settings.weights) if settings.weights else {},
        variant=settings.sdxl_variant,
        tracking_uri=settings.tracking_uri,
        ray_address=settings.ray_address,
        workers=settings.workers,
        device=settings.device,
        planned_gb=_planned_gb(project.storage),
        tags=tags,
        takedowns=CurrentRemoval(project.recipe.curate, project.readers()),
        progress=log_progress,
    )


def _planned_gb(storage: Storage) -> dict[str, float]:
    """Memory on a GPU by stage, as the stored plan says."""
    from got_core.budget.plan import GB, Memory

    if not storage.exists("training_plan.json"):
        return {}
    stages = storage.read_json("training_plan.json")["stages"]
    chosen = {one["name"]: [way for way in one["memory"] if way["chosen"]] for one in stages}
    with suppress(TypeError):  # a plan from before memory was counted so
        return {name: Memory(**ways[0]).total / GB for name, ways in chosen.items() if ways}
    return {}


def model_result(
    project: Project, reference: Reference, started: float, tags: dict[str, str] | None = None
) -> dg.MaterializeResult[Reference]:
    """What the asset of a model returns: its reference, with what is known of it."""
    names = (
        "stage",
        "weights",
        "steps",
        "cpu_seconds",
        "mlflow_run_id",
        "manifest_hash",
        "config_digest",
        "pinned",
    )
    shown = {name: reference[name] for name in names if name in reference}
    figures: Metadata = {
        name: value for name, value in reference.get("metrics", {}).items() if isinstance(value, int | float)
    }
    pictures: Metadata = {
        name: stored_image(project.storage, reference[name])
        for name in ("samples", "plot")
        if reference.get(name)
    }
    return document_result(
        reference,
        version=reference["weights_hash"],
        started=started,
        tags=tags,
        folder=dg.MetadataValue.url(project.storage.url_of(reference["folder"])),
        **_card_metadata(reference.get("card", {})),
        **_data_metadata(reference),
        **shown,
        **figures,
        **pictures,
    )


def _card_metadata(card: dict[str, Any]) -> Metadata:
    """What a folder of foundation weights says of itself."""
    if not card:
        return {}
    told = ("recipe", "seed", "commit", "manifest_hash", "cpu_seconds", "trained", "licence")
    scores = list(card.get("scores", {}).items())
    return {
        "card": markdown_table(["what", "value"], [(name, card[name]) for name in told if name in card]),
        "card_scores": markdown_table(["score of its own", "value"], scores),
    }


def _data_metadata(reference: Reference) -> Metadata:
    """What happened to a stage's data while it was trained."""
    if "substituted" not in reference:
        return {}
    faults, rows = reference["substituted"], reference["taken_down"]
    listed = [(one["sample_id"], one["path"], one["reason"]) for one in faults["first"]]
    taken_down = [(row["id"], row["sample_id"], row["from_step"]) for row in rows[:50]]
    return {
        "substituted_samples": faults["samples"],
        "substituted": markdown_table(["sample", "path", "reason"], listed),
        "taken_down_samples": len(rows),
        "taken_down": markdown_table(["id", "sample", "from step"], taken_down),
    }
