"""Registering, promoting and loading with a real MLflow (SQLite) and a pipeline of the real classes."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from got_core.chain.grammar import parse
from got_core.model.formats.weights import weights_hash
from got_core.model.pipeline import GoTPipeline
from got_core.registry import log
from got_core.registry.log import RegistrationError, check_folder, find_version, register
from got_core.registry.promote import promote
from got_core.registry.request import ANSWER, PLANNING, SETTINGS
from got_core.registry.results import read_results
from got_core.registry.tracking import connect, ensure_experiment, fluent
from tests.got_core.tiny_pipeline import tiny_pipeline

from .scored import result

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*"),
]


def scores(mean: float, digest: str = "p1") -> dict:
    return dict(result(round(100 * (1 - mean)), digest=digest).scores)


def outcomes(mean: float, digest: str = "p1") -> dict:
    return {"geneval/scenes": result(round(100 * (1 - mean)), digest=digest).outcomes}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "finetuned"
    tiny_pipeline().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def uri(tmp_path_factory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry')}/mlflow/mlflow.db"


@pytest.fixture(scope="module")
def first(folder: Path, uri: str) -> str:
    tags = {"weights_hash": "w1", "git_commit": "c1", "dagster_run_id": "r1", "nothing": None}
    edits = scores(0.75) | {"protocol": "edits/scenes", "plan_overall": 0.9, "grounding": {"mean": 0.6}}
    return register(
        folder,
        tracking_uri=uri,
        scores=scores(0.5),
        others=[edits],
        outcomes=outcomes(0.5),
        tags=tags,
        metrics={"loss": 0.25},
    )


def pixels(text: str) -> bytes:
    return Image.open(io.BytesIO(base64.b64decode(text))).tobytes()


def entry_files(uri: str, version: str) -> list[str]:
    """Of an entry, those packed in its one archive among them."""
    with fluent(uri):
        entry = Path(mlflow.artifacts.download_artifacts(f"models:/got/{version}"))
    names = {path.relative_to(entry).as_posix() for path in entry.rglob("*") if path.is_file()}
    packed = "code/got_core/library.zip"
    with zipfile.ZipFile(entry / packed) as library:
        return [*(names - {packed}), *library.namelist()]


def test_entry_holds_text_and_safetensors_only(first: str, uri: str) -> None:
    files = entry_files(uri, first)
    assert sum(name.endswith(".safetensors") for name in files) == 4, "no weights but the pipeline's own"
    known = {".safetensors", ".json", ".jinja", ".py", ".yaml", ".toml", ".txt", ".css", ".js", ".typed", ""}
    assert {Path(name).suffix for name in files} <= known
    # Without a suffix MLflow writes two text files of its own.
    assert {n for n in files if not Path(n).suffix} <= {"MLmodel", "registered_model_meta"}


def test_entry_says_what_it_is(first: str, uri: str) -> None:
    client = connect(uri)
    version = client.get_model_version_by_alias("got", "challenger")
    assert str(version.version) == first
    tags = version.tags
    assert (tags["weights_hash"], tags["git_commit"], tags["dagster_run_id"]) == ("w1", "c1", "r1")
    assert "nothing" not in tags
    stored = json.loads(tags["scores"])
    assert {name: one["overall"] for name, one in stored.items()} == {
        "geneval/scenes": pytest.approx(0.5),
        "edits/scenes": pytest.approx(0.75),
    }
    assert tags["protocol"] == "geneval/scenes p1, edits/scenes p1"
    run = client.get_run(version.run_id)
    assert run.data.metrics["loss"] == 0.25
    assert run.data.metrics["geneval/scenes/overall"] == pytest.approx(0.5)
    edits = {
        name: run.data.metrics[f"edits/scenes/{name}"] for name in ("overall", "plans_right", "grounding_iou")
    }
    assert edits == {"overall": 0.75, "plans_right": 0.9, "grounding_iou": 0.6}
    for file, overall in (("scores-geneval-scenes.json", 0.5), ("scores-edits-scenes.json", 0.75)):
        logged = json.loads(Path(client.download_artifacts(run.info.run_id, file)).read_text())
        assert (logged["overall"], "protocol_record" in logged) == (overall, True)
    with fluent(uri):
        entry = mlflow.models.Model.load(f"models:/got/{first}")
    assert entry.signature is not None
    assert set(entry.metadata["inputs"]) == {"prompt", "seed", "chain", "image", "earlier"}
    assert entry.signature.outputs.input_names() == list(ANSWER)
    assert entry.saved_input_example_info is not None


def test_registering_draws_one_small_picture(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, dict]] = []
    draw = GoTPipeline.draw

    def noted(pipeline: GoTPipeline, chains: list, *rest: object, **options: object) -> object:
        drawn.append((len(chains), options))
        return draw(pipeline, chains, *rest, **options)

    monkeypatch.setattr(GoTPipeline, "draw", noted)
    register(folder, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", tags={"weights_hash": "w"})
    ((pictures, options),) = drawn
    assert (pictures, options["num_inference_steps"]) == (1, 2)
    assert options["height"] == options["width"] < tiny_pipeline().config.resolution


def test_every_setting_of_a_request_stands_in_the_signature() -> None:
    """MLflow leaves out, with a warning only, what does not."""
    declared = [one.name for one in log.signature().params.params]
    assert declared == [*SETTINGS, *PLANNING]


def test_requirements_are_pinned_and_need_neither_dagster_nor_ray() -> None:
    names = [line.split("==")[0] for line in log.requirements()]
    assert all("==" in line and "+" not in line for line in log.requirements())
    assert {"torch", "diffusers", "transformers", "mlflow"} <= set(names)
    assert not {"dagster", "ray"} & set(names)


def test_a_retry_finds_its_version_and_uploads_nothing(first: str, uri: str, folder: Path) -> None:
    client, experiment = connect(uri), ensure_experiment(uri, log.EXPERIMENT)

    def there() -> tuple[int, int]:
        return len(client.search_logged_models([experiment])), len(client.search_runs([experiment]))

    def held() -> dict:
        return read_results(client, client.get_model_version("got", first))

    models, runs = there()
    tags = {"weights_hash": "w1"}
    again = register(folder, tracking_uri=uri, scores=scores(0.6, "p9"), tags=tags)
    assert again == first and there() == (models, runs + 1), "new scores have a run of their own"
    assert held()["geneval/scenes"].scores["protocol_digest"] == "p9"
    assert held()["geneval/scenes"].outcomes is None and "edits/scenes" in held()
    for _ in range(2):
        register(folder, tracking_uri=uri, scores=scores(0.5), outcomes=outcomes(0.5), tags=tags)
    assert there() == (models, runs + 2), "equal ones have none"
    kept = held()["geneval/scenes"].outcomes
    assert kept.drop("value").equals(outcomes(0.5)["geneval/scenes"]) and kept["value"].is_null().all()


def test_equal_weights_in_other_files_are_one_version(first: str, uri: str, tmp_path: Path) -> None:
    pipeline, versions = tiny_pipeline(seed=3), []
    for name, size in (("whole", "1GB"), ("cut", "60KB")):
        pipeline.save_pretrained(tmp_path / name, max_shard_size=size)
        tags = {"weights_hash": weights_hash(tmp_path / name)}
        versions.append(register(tmp_path / name, tracking_uri=uri, scores=scores(0.5), tags=tags))
    assert versions[0] == versions[1] != first


def test_a_crash_before_the_version_leaves_none_and_the_retry_starts_clean(
    folder: Path, tmp_path: Path, monkeypatch
) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    tags = {"weights_hash": "w"}
    with monkeypatch.context() as patch:
        patch.setattr(log, "_check_upload", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            register(folder, tracking_uri=uri, tags=tags)
    assert find_version(connect(uri), "got", "w") is None
    version = register(folder, tracking_uri=uri, tags=tags)
    uploads = list((tmp_path / "artifacts" / log.EXPERIMENT / "models").iterdir())
    assert (version, len(uploads)) == ("1", 1), "what was uploaded whole is not uploaded again"
    assert register(folder, "other", tracking_uri=uri, tags=tags) == "1"
    uploads = list((tmp_path / "artifacts" / log.EXPERIMENT / "models").iterdir())
    assert len(uploads) == 1
    (weights,) = uploads[0].rglob("unet/*.safetensors")
    weights.unlink()
    assert register(folder, "third", tracking_uri=uri, tags=tags) == "1"
    assert len(list((tmp_path / "artifacts" / log.EXPERIMENT / "models").iterdir())) == 2, "it was not whole"


def test_mlflow_settings_of_the_process_are_left_alone(uri: str) -> None:
    before = (mlflow.is_tracking_uri_set(), dict(os.environ), list(sys.path))
    with fluent(uri):
        assert mlflow.get_tracking_uri() == uri == mlflow.get_registry_uri()
        sys.path.insert(0, "/nowhere")
    assert (mlflow.is_tracking_uri_set(), dict(os.environ), list(sys.path)) == before


def test_an_interrupted_first_use_leaves_no_half_made_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"sqlite:///{tmp_path / 'new' / 'mlflow.db'}"

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, "search_experiments", cut_off)
        with pytest.raises(KeyboardInterrupt):
            connect(uri)
    assert not list((tmp_path / "new").iterdir())
    assert ensure_experiment(uri, "first") == ensure_experiment(uri, "first")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["mlflow.db"]


def test_champion_moves_only_for_the_better(folder: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    register(
        folder, tracking_uri=uri, scores=scores(0.5), outcomes=outcomes(0.5), tags={"weights_hash": "w1"}
    )
    assert promote(tracking_uri=uri).champion == "1"
    again = promote(tracking_uri=uri)
    assert (again.promoted, again.champion) == (False, "1")
    verdicts = []
    for weights, mean, digest in (("w2", 0.4, "p1"), ("w3", 0.7, "other"), ("w4", 0.7, "p1")):
        # Other weights, same bytes: only the identity matters here.
        more = {"scores": scores(mean, digest), "outcomes": outcomes(mean, digest)}
        register(folder, tracking_uri=uri, **more, tags={"weights_hash": weights})
        decision = promote(tracking_uri=uri)
        verdicts.append((decision.promoted, decision.champion))
        assert decision.champion == str(connect(uri).get_model_version_by_alias("got", "champion").version)
    assert verdicts == [(False, "1"), (False, "1"), (True, "4")]
    assert "| geneval/scenes/position | 0.500 | 0.700 | +0.200 | 20 and 0 | 1 |" in decision.markdown()
    tags = connect(uri).get_model_version("got", "4").tags
    assert tags["promotion"] == decision.reason and tags["promotion_figures"] == decision.markdown()


def test_without_a_score_there_is_no_promotion(folder: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(ValueError, match="no @challenger"):
        promote(tracking_uri=uri)
    register(folder, tracking_uri=uri, tags={"weights_hash": "w"})
    decision = promote(tracking_uri=uri)
    assert not decision.promoted
    assert decision.reason == "version 1 has no benchmark result; run the benchmarks and register it again"
    register(folder, tracking_uri=uri, scores=scores(0.5) | {"complete": False}, tags={"weights_hash": "w"})
    assert "its result of geneval/scenes is partial" in promote(tracking_uri=uri).reason
    # Nothing is compared yet, so what each sample came to may be unknown.
    register(folder, tracking_uri=uri, scores=scores(0.5), tags={"weights_hash": "w"})
    assert promote(tracking_uri=uri).promoted
    # What the champion was scored by and the challenger was not is missed.
    edits = scores(0.5) | {"protocol": "edits/scenes"}
    register(folder, tracking_uri=uri, scores=scores(0.5), others=[edits], tags={"weights_hash": "w"})
    register(folder, tracking_uri=uri, scores=scores(0.9), outcomes=outcomes(0.9), tags={"weights_hash": "v"})
    decision = promote(tracking_uri=uri)
    assert not decision.promoted and "its result of edits/scenes is missing" in decision.reason


@pytest.mark.parametrize("name", ["unet/diffusion_pytorch_model.bin", "optimizer.pt", "x.pkl"])
def test_pickles_are_refused(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text("{}")
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(RegistrationError, match=name):
        check_folder(tmp_path)
    check_folder(folder)


def test_bad_input_is_named(folder: Path, uri: str, tmp_path: Path) -> None:
    with pytest.raises(RegistrationError, match=r"no model_index\.json"):
        register(tmp_path, tracking_uri=uri, tags={"weights_hash": "w"})
    with pytest.raises(RegistrationError, match="weights_hash"):
        register(folder, tracking_uri=uri, tags={})


FRESH = """
    import json, sys

    class Blocker:
        def find_spec(self, name, path=None, target=None):
            if name.split(".")[0] in ("dagster", "ray", "got_assets"):
                raise ImportError(name + " is not installed for consumers")

    sys.meta_path.insert(0, Blocker())
    import mlflow
    import pandas as pd

    mlflow.set_tracking_uri(sys.argv[1])
    model = mlflow.pyfunc.load_model("models:/got@champion")
    chain = "a red circle (100,100),(400,400) on a grey background"
    rows = [{"prompt": "a photo of a red circle", "seed": 3, "chain": None}] * 2
    rows += [{"prompt": "a photo of a red circle", "seed": 3, "chain": chain}]
    answer = model.predict(pd.DataFrame(rows), params={"num_inference_steps": 1})
    import got_core
    print(json.dumps({"rows": answer.to_dict("records"), "code": got_core.__file__}))
"""


def test_champion_draws_in_a_fresh_process_without_dagster_ray_or_this_repository(
    first: str, uri: str, tmp_path: Path
) -> None:
    if promote(tracking_uri=uri).champion is None:
        pytest.fail("no champion")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "MLFLOW_TRACKING_URI")}
    command = [sys.executable, "-c", textwrap.dedent(FRESH), uri]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    assert "/artifacts/" in answer["code"], "the code that went with the entry is the code that runs"
    pictures = [Image.open(io.BytesIO(base64.b64decode(row["image"]))) for row in answer["rows"]]
    assert [p.size for p in pictures] == [(64, 64)] * 3
    first_two = [np.asarray(p) for p in pictures[:2]]
    assert (first_two[0] == first_two[1]).all(), "same prompt, same seed, same picture"
    assert answer["rows"][2]["chain"] == "a red circle (100,100),(400,400) on a grey background"


def test_what_is_answered_with_an_error_only_is_not_registered(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "EXAMPLE", {"prompt": " "})
    with pytest.raises(RegistrationError, match="cannot draw: `prompt` is blank"):
        register(folder, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", tags={"weights_hash": "w"})


def test_predict_tells_faults_and_repairs_the_models_own_plans(
    first: str, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fluent(uri):
        model = mlflow.pyfunc.load_model(f"models:/got/{first}")
    overlapping = "a red circle (100,100),(400,400) and a blue square (300,100),(600,400)"
    own = parse(overlapping).to_model()
    pipeline = model.unwrap_python_model().pipeline
    monkeypatch.setattr(
        pipeline, "write_chains", lambda prompts, _: [f"{own} <|box_start|>(9"] * len(prompts)
    )
    pair = "a photo of a circle and a square"
    frame = pd.DataFrame([{"prompt": pair}, {"prompt": pair, "chain": overlapping}, {"prompt": "a castle"}])
    touching = "boxes 0 and 1 have no 0 units between them"
    for repair, left in ((False, [touching]), (True, [])):
        drawn = model.predict(frame, params={"num_inference_steps": 1, "repair": repair})
        malformed, *others = json.loads(drawn["plan_faults"][0])
        assert "at character" in malformed and others == left
        assert (drawn["chain"][0].strip() == overlapping) is not repair
        # A plan that was given is drawn as it is.
        assert (drawn["chain"][1], json.loads(drawn["plan_faults"][1])) == (overlapping, [touching])
        assert pd.isna(drawn["plan_faults"][2])


def test_predict_edits(first: str, uri: str) -> None:
    with fluent(uri):
        model = mlflow.pyfunc.load_model(f"models:/got/{first}")
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(buffer, "PNG")
    source = base64.b64encode(buffer.getvalue()).decode()
    box = "the red circle (100,100),(400,400) remove it"
    rows = [
        {"prompt": "a photo of a star"},
        {"prompt": "remove the red circle", "image": source, "chain": box},
    ]
    frame = pd.DataFrame(rows, index=[7, 9])
    answer, kept = model.predict(frame), model.predict(frame, params={"keep_outside": True})
    assert list(answer.index) == list(kept.index) == [7, 9]
    assert answer["image"][7] != answer["image"][9]
    before, after = ([pixels(table["image"][k]) for k in (7, 9)] for table in (answer, kept))
    assert before[0] == after[0] and before[1] != after[1]
    assert json.loads(answer["plan_faults"][9]) == ["the plan has 0 steps where 1 are asked for"]
