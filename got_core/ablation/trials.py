"""The runs of the ablation: a trial is one row with one seed, trained and then scored.

Belongs here: the recipe of a trial, making the trials that are missing, their table. Not here: what the table
says about the rows (`table`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import polars as pl
import ray
import torch
from ray.exceptions import RayError

from got_core.ablation.config import ROWS, AblationConfig, Row
from got_core.ablation.schemas import TRIALS
from got_core.digests import digest
from got_core.evaluate.edits import EditScenes
from got_core.evaluate.runner import run_benchmark
from got_core.evaluate.scenes import GenEvalScenes
from got_core.foundation.train import train_foundation
from got_core.model.formats.saved import load_pipeline
from got_core.planning.geneval import TASKS
from got_core.ray_sessions import ray_session
from got_core.recipes import Recipe
from got_core.train.data.manifest_file import MANIFESTS, in_file
from got_core.train.ray.progress import relayed_progress
from got_core.train.ray.workers import Resources, fewer_workers, stage_workers
from got_core.train.run import VERSION, Reference, TrainingRun
from got_core.train.stage import Stage
from got_core.train.stages import train_stage

SEED_STRIDE = 1000
"""Distance of a stage's seeds of different trials: pretraining and finetuning never share one."""


@dataclass(frozen=True)
class Trial:
    """One row with one seed."""

    row: str
    seed: int

    def __str__(self) -> str:
        return f"{self.row}-{self.seed}"

    @property
    def setting(self) -> Row:
        """What the row has and how it is trained."""
        return ROWS[self.row]

    def recipe(self, recipe: Recipe) -> Recipe:
        """The recipe that trains and scores this trial, from the graph's own.

        Its stages are those that the trial trains: all of them with pretraining, else the last alone.
        """
        config, row = recipe.ablation, self.setting
        model = replace(recipe.model, reasoning=row.reasoning, spatial_guidance=row.spatial_guidance)
        *before, last = recipe.stages
        steps = config.finetune_steps + config.pretrain_steps * len(before) * row.prolonged
        earlier = [self._stage(stage, config.pretrain_steps, config) for stage in before]
        finetuned = self._stage(last, steps, config)
        finetuned = replace(finetuned, config=replace(finetuned.config, row_share=config.finetune_rows))
        stages = (*(earlier if row.pretrained else ()), finetuned)
        evaluate = replace(
            recipe.evaluate,
            images_per_task=config.images_per_task,
            edit_images=config.edit_images or recipe.evaluate.edit_images,
            sampling_seeds=(0,),
            repair="off",
            keep_outside="off",
        )
        return replace(recipe, model=model, stages=stages, evaluate=evaluate)

    def _stage(self, stage: Stage, steps: int, ablation: AblationConfig) -> Stage:
        """The stage with the same samples a step, whatever the number of workers."""
        config, workers = stage.config, ablation.workers
        samples = config.samples_per_step
        shorter = replace(
            config,
            steps=steps,
            workers=workers,
            batch_size=samples // (workers * config.layout().accumulation),
            global_batch=samples,
            seed=config.seed + SEED_STRIDE * self.seed,
            milestone_every=0,
            sample_every=0,
            latents=None,
        )
        rates = {"peak_rate": ablation.peak_rate, "language_rate": ablation.language_rate}
        given: dict[str, Any] = {name: rate for name, rate in rates.items() if rate is not None}
        return replace(stage, config=replace(shorter, **given))

    def key(self, recipe: Recipe, manifest_hash: str, foundation: Reference) -> str:
        """Digest of all that the trial's score depends on; ``recipe`` is the trial's own."""
        return digest(
            [
                VERSION,
                recipe.model,
                [stage.identity() for stage in recipe.stages],
                GenEvalScenes(recipe.world, recipe.evaluate).protocol().digest(),
                manifest_hash,
                foundation["weights_hash"],
                *([_edits(recipe).protocol().digest()] if recipe.ablation.edit_images else []),
            ]
        )


def train_without_got(run: TrainingRun) -> Reference:
    """Foundation models that know nothing of GoT, which all trials start from. Returns their reference; those
    that are in storage are found, not trained again.

    Raises ValueError as ``train_foundation``.
    """
    recipe = run.recipe
    foundation = recipe.ablation.start_of(recipe.foundation)
    return train_foundation(replace(run, recipe=replace(recipe, foundation=foundation)))


def run_trials(run: TrainingRun, foundation: Reference) -> pl.DataFrame:
    """Train and score all trials of ``run.recipe.ablation`` on Ray, side by side; a table with TRIALS.

    A finished trial is found in storage, an interrupted one goes on where it was. Raises ValueError as
    `Recipe.check_ablation`, and RuntimeError, after all others are finished, where trials failed.
    """
    run.recipe.check_ablation()
    config, storage = run.recipe.ablation, run.storage()
    trials = [Trial(row, seed) for row in config.rows for seed in config.seeds]
    names = {trial: _name(run, trial, foundation) for trial in trials}
    missing = [trial for trial in trials if not storage.exists(f"{names[trial]}/trial.json")]
    run.report(f"{len(trials)} runs, of which {len(trials) - len(missing)} are finished")
    # The longest first: cores then run out of work at about the same time.
    missing.sort(key=lambda trial: -_steps(trial, run.recipe))
    if missing:
        filed = in_file(run, f"{MANIFESTS}/ablation-{run.manifest_hash}")
        own = fewer_workers(filed, config.workers)
        if run.in_process:
            for trial in missing:
                run_trial(own, trial, foundation, names[trial])
        else:
            _on_ray(own, missing, foundation, names)
        storage.delete(f"{MANIFESTS}/ablation-{run.manifest_hash}")
    records = [storage.read_json(f"{names[trial]}/trial.json") for trial in trials]
    return pl.DataFrame(records, schema={name: dtype for name, (dtype, _) in TRIALS.items()})


def _on_ray(
    run: TrainingRun, missing: list[Trial], foundation: Reference, names: Mapping[Trial, str]
) -> None:
    with ray_session(run.ray_address, run.workers), relayed_progress(run) as relayed:
        tasks = {
            str(trial): partial(run_trial, relayed, trial, foundation, names[trial]) for trial in missing
        }
        _side_by_side(tasks, _room(run, missing[0].recipe(run.recipe)))


def _name(run: TrainingRun, trial: Trial, foundation: Reference) -> str:
    return f"ablation/{trial}/{trial.key(trial.recipe(run.recipe), run.manifest_hash, foundation)}"


def _steps(trial: Trial, recipe: Recipe) -> int:
    return sum(stage.config.steps for stage in trial.recipe(recipe).stages)


def _room(run: TrainingRun, recipe: Recipe) -> int:
    """Trials that can train at once on the connected cluster, one of them with this recipe.

    Raises ValueError where none can (see ``train.ray.workers``).
    """
    found, workers = Resources.of_cluster(), stage_workers(replace(run, recipe=recipe), recipe.stages[-1])
    return max(1, (found.gpus if workers.gpu else found.cpus) // workers.count)


def _side_by_side(tasks: Mapping[str, Callable[[], None]], at_once: int) -> None:
    """Call functions in processes of their own, ``at_once`` of them at any time."""
    # They only wait for workers, or draw while no worker of theirs trains: no core is set aside for them.
    start = ray.remote(num_cpus=0, max_retries=1)(_call)
    waiting, running, failed = list(tasks), dict[Any, str](), dict[str, RayError]()
    while waiting or running:
        while waiting and len(running) < at_once:
            name = waiting.pop(0)
            running[start.remote(tasks[name])] = name
        (ready,), _ = ray.wait(list(running))
        name = running.pop(ready)
        try:
            ray.get(ready)
        except RayError as error:
            failed[name] = error
    if failed:
        first = next(iter(failed.values()))
        raise RuntimeError(
            f"{len(failed)} of {len(tasks)} runs failed ({', '.join(failed)}); the others are kept"
        ) from first


def _call(task: Callable[[], None]) -> None:
    torch.set_num_threads(1)
    task()


def run_trial(run: TrainingRun, trial: Trial, foundation: Reference, name: str) -> None:
    """Train and score one trial; what came out is written last, as ``<name>/trial.json``."""
    own = replace(
        run,
        recipe=trial.recipe(run.recipe),
        tags=run.tags | {"got.ablation": trial.row, "got.seed": str(trial.seed)},
        progress=run.progress and partial(_report_as, run.progress, str(trial)),
    )
    models = _train(own, foundation)
    record = asdict(trial) | {
        "steps": sum(model["steps"] for model in models),
        "cpu_seconds": sum(model["cpu_seconds"] for model in models),
        "weights_hash": models[-1]["weights_hash"],
        "model": models[-1]["folder"],
        "samples": name,
    }
    own.storage().write_json(f"{name}/trial.json", record | _score(own, models[-1], name))
    own.report(f"finished, {record['cpu_seconds']:.0f} CPU seconds")


def _report_as(report: Callable[[str], None], name: str, line: str) -> None:
    report(f"{name}: {line}")


def _train(run: TrainingRun, foundation: Reference) -> list[Reference]:
    """The models of the trial's stages, the last one being what is scored."""
    models: list[Reference] = []
    for stage in run.recipe.stages:
        models.append(train_stage(run, stage, [foundation, *models][-1]))
    for model in models:
        # Ray's own notes of a run are of no use once it is finished.
        run.storage().delete(f"ray/{model['stage']}-{model['config_digest']}")
    return models


def _edits(recipe: Recipe) -> EditScenes:
    return EditScenes(recipe.world, recipe.evaluate)


def _score(run: TrainingRun, model: Reference, name: str) -> dict[str, Any]:
    """`geneval/scenes` of a model and, where it is asked for, `edits/scenes`, by the columns' names."""
    recipe, storage = run.recipe, run.storage()
    pipeline, weights = load_pipeline(storage.download(model["folder"])), model["weights_hash"]
    suite = GenEvalScenes(recipe.world, recipe.evaluate)
    scores = run_benchmark(suite, pipeline, storage, name, weights_hash=weights).scores
    edits: dict[str, Any] = {"overall": None, "plan_overall": None, "traces": {"trace": None}}
    if recipe.ablation.edit_images:
        place = f"{name}/edits"
        edits = run_benchmark(_edits(recipe), pipeline, storage, place, weights_hash=weights).scores
    return {
        "edits": edits["overall"],
        "edit_plans_right": edits["plan_overall"] if recipe.model.reasoning else None,
        "edit_trace": (edits["traces"]["trace"] or {"median": None})["median"],
        "overall": scores["overall"],
        **{task: scores["tasks"][task]["mean"] for task in TASKS},
        "plans_right": scores["plan_overall"] if recipe.model.reasoning else None,
        "pictures": scores["found"],
        "protocol": scores["protocol"],
        "protocol_digest": scores["protocol_digest"],
    }
