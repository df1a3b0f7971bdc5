"""Settings: defaults, the environment, and what follows from giving own images."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from got_core.recipes import tiny
from got_core.settings import Settings
from got_core.settings_errors import settings_sentence
from got_core.storage import Storage


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_defaults_lie_below_home(tmp_path: Path) -> None:
    settings = Settings()
    assert settings.home == tmp_path / "var"
    assert settings.raw_url == f"{tmp_path}/var/raw/images"
    assert settings.edits_url == f"{tmp_path}/var/raw/edits/pairs.csv"
    assert settings.truth_url == f"{tmp_path}/var/truth/scenes.parquet"
    assert settings.storage_url == f"file://{tmp_path}/var/storage"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/var/mlflow/mlflow.db"
    assert (settings.own_images, settings.annotator_name, settings.recipe) == (False, "scenes", "embedded")


@pytest.mark.parametrize("home", ["elsewhere", "./elsewhere/", "{tmp}/elsewhere"])
def test_home_may_be_relative_or_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("GOT_HOME", home.format(tmp=tmp_path))
    settings = Settings()
    monkeypatch.chdir("/")
    assert settings.home == tmp_path / "elsewhere"
    Storage(settings.storage_url).write_bytes("a", b"1")
    assert (tmp_path / "elsewhere" / "storage" / "a").exists()


def test_own_images_bring_no_truth_no_pairs_and_no_annotator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOT_RAW", "photos")
    settings = Settings()
    assert settings.own_images
    assert settings.raw_url == f"{tmp_path}/photos"
    assert (settings.edits_url, settings.truth_url, settings.annotator_name) == (None, None, None)
    monkeypatch.setenv("GOT_EDITS", "pairs.csv")
    monkeypatch.setenv("GOT_ANNOTATOR", "scenes")
    assert Settings().edits_url == f"{tmp_path}/pairs.csv"
    assert Settings().annotator_name == "scenes"


def test_a_pair_table_without_images_of_ones_own_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_EDITS", "pairs.csv")
    with pytest.raises(ValueError, match="GOT_RAW"):
        Settings()


def test_empty_variables_count_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_RAW", "")
    monkeypatch.setenv("GOT_ANNOTATOR", "")
    assert not Settings().own_images


def test_an_s3_endpoint_goes_to_s3_urls_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_STORAGE", "s3://bucket/got/")
    monkeypatch.setenv("GOT_S3_ENDPOINT", "http://minio:9000")
    settings = Settings()
    assert settings.storage_url == "s3://bucket/got"
    assert settings.storage_options == {"endpoint_url": "http://minio:9000"}
    assert settings.fs_options("s3a://bucket/raw") == settings.storage_options
    assert settings.fs_options(settings.raw_url) == {}


def test_ray_address_has_two_names_and_ours_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "ray://one")
    assert Settings().ray_address == "ray://one"
    monkeypatch.setenv("GOT_RAY_ADDRESS", "ray://two")
    assert Settings().ray_address == "ray://two"


def test_dotenv_is_read_and_the_environment_goes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("GOT_RECIPE=paper\nGOT_HOME=fromfile\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("GOT_HOME", "fromenv")
    assert (Settings().recipe, Settings().home) == ("paper", tmp_path / "fromenv")


def test_a_wrong_value_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_ANNOTATOR", "oracle")
    with pytest.raises(ValidationError, match="annotator"):
        Settings()


def test_home_inside_the_raw_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_RAW", ".")
    with pytest.raises(ValidationError, match=r"GOT_HOME .*/var\) lies inside GOT_RAW"):
        Settings()
    monkeypatch.setenv("GOT_HOME", str(tmp_path.parent / "home"))
    assert Settings().own_images


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Settings().recipe = "other"  # type: ignore[misc]


def test_weights_are_a_folder_a_url_or_a_registered_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for given, found in (
        ("models/got", f"{tmp_path}/models/got"),
        ("s3://bucket/got/", "s3://bucket/got"),
        ("models:/got@champion", "models:/got@champion"),
    ):
        monkeypatch.setenv("GOT_WEIGHTS", given)
        assert Settings().weights == found
    monkeypatch.setenv("GOT_SDXL", "sdxl")
    monkeypatch.setenv("GOT_QWEN", "qwen")
    with pytest.raises(ValidationError, match="is a whole model: unset GOT_SDXL and GOT_QWEN"):
        Settings()
    monkeypatch.setenv("GOT_WEIGHTS", "models:/got")
    with pytest.raises(ValidationError, match="names no registered model: write models:/got@champion or"):
        Settings()


def test_a_foundation_is_trained_or_a_folder_and_the_only_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny().model
    assert Settings().foundation is None and Settings().foundation_folder(model) is None
    monkeypatch.setenv("GOT_FOUNDATION", "train")
    assert Settings().foundation == "train" and Settings().foundation_folder(model) is None
    monkeypatch.setenv("GOT_FOUNDATION", "weights/tiny")
    named = Settings().foundation_folder(model)
    assert named is not None and named.path == tmp_path / "weights/tiny"
    monkeypatch.setenv("GOT_WEIGHTS", "models:/got@champion")
    with pytest.raises(ValidationError, match=r"GOT_FOUNDATION=\S+ and GOT_WEIGHTS both say what training"):
        Settings()
    monkeypatch.delenv("GOT_WEIGHTS")
    monkeypatch.setenv("GOT_SDXL", "sdxl")
    monkeypatch.setenv("GOT_QWEN", "qwen")
    with pytest.raises(ValidationError, match="and GOT_SDXL and GOT_QWEN both say"):
        Settings()
    monkeypatch.setenv("GOT_FOUNDATION", "s3://bucket/weights")
    with pytest.raises(ValidationError, match="is neither train nor a folder of this machine"):
        Settings()


def test_a_judge_has_a_server_and_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().judge_server.config() is None
    monkeypatch.setenv("GOT_JUDGE_MODEL", "Qwen/Qwen3-VL-8B-Instruct")
    with pytest.raises(ValueError, match="set both GOT_JUDGE_URL and GOT_JUDGE_MODEL"):
        Settings().judge_server.config()
    for name, value in {"URL": "http://gpu-1:8000/v1", "KEY": "sk-secret", "TEMPERATURE": "none"}.items():
        monkeypatch.setenv(f"GOT_JUDGE_{name}", value)
    judge = Settings().judge_server.config()
    assert judge is not None and judge.published and judge.temperature is None
    assert judge.api_key == "sk-secret" and "sk-secret" not in repr(judge) + repr(Settings())
    monkeypatch.setenv("GOT_JUDGE_TOP_LOGPROBS", "1")
    with pytest.raises(ValueError, match=r"JudgeConfig.top_logprobs must be at least 2"):
        Settings().judge_server.config()
    monkeypatch.setenv("GOT_JUDGE_TOP_LOGPROBS", "5")
    monkeypatch.setenv("GOT_JUDGE_URL", "gpu-1:8000")
    with pytest.raises(ValueError, match=r"JudgeConfig.url must be a URL such as"):
        Settings().judge_server.config()


def test_a_wrong_setting_of_a_judge_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_JUDGE_TOP_LOGPROBS", "many")
    with pytest.raises(ValidationError) as caught:
        Settings()
    assert settings_sentence(caught.value).startswith("GOT_JUDGE_TOP_LOGPROBS is 'many': ")


def test_a_job_server_has_an_address_of_the_web(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOT_RAY_JOBS", "http://ray-head:8265/")
    assert Settings().ray_jobs == "http://ray-head:8265"
    monkeypatch.setenv("GOT_RAY_JOBS", "ray://ray-head:10001")
    with pytest.raises(ValidationError, match="belongs into GOT_RAY_ADDRESS"):
        Settings()
