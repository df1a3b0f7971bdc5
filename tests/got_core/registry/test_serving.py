"""The registered model behind MLflow's scoring server: rows answer for themselves, requests in a sentence."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow.exceptions import MlflowException
from PIL import Image

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.registry import log
from got_core.registry.loading import DEFAULTS
from got_core.registry.picture_file import read_note
from got_core.registry.rows import redrawn
from tests.got_core.pictures import awkward
from tests.got_core.pictures.awkward import encode, halves
from tests.got_core.tiny_pipeline import tiny_pipeline
from tests.ports import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::UserWarning:mlflow.*"),
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic.*"),
    pytest.mark.filterwarnings("ignore:.*httpx.*:DeprecationWarning"),
]

STEPS = {"num_inference_steps": 1}
CHAIN = "a red circle (100,100),(400,400)"
PICTURE = base64.b64encode(encode(halves(), "PNG")).decode()
LARGE = 2**53 + 1


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved model, as an entry of the registry holds it."""
    root = tmp_path_factory.mktemp("served")
    tiny_pipeline().save_pretrained(root / "pipeline")
    mlflow.pyfunc.save_model(
        root / "entry",
        python_model=str(Path(log.__file__).with_name("pyfunc.py")),
        artifacts={"pipeline": str(root / "pipeline")},
        signature=log.signature(),
        model_config=DEFAULTS,
        metadata={"weights_hash": "0123456789abcdef"},
        pip_requirements=log.requirements(),
    )
    return root / "entry"


@pytest.fixture(scope="module")
def model(entry: Path) -> Any:
    return mlflow.pyfunc.load_model(str(entry))


@pytest.fixture(scope="module")
def client(model: Any) -> Iterator[TestClient]:
    from mlflow.pyfunc import scoring_server  # warns on import

    with TestClient(scoring_server.init(model)) as client:
        yield client


@pytest.fixture(scope="module")
def alone(model: Any) -> Any:
    """The pixels that one row gets when it is requested alone."""

    def drawn(**cells: Any) -> bytes:
        return pixels(model.predict([{"prompt": "a star"} | cells], params=STEPS)["image"][0])

    return drawn


def post(client: TestClient, body: Any, kind: str = "application/json") -> Any:
    content = body if isinstance(body, str) else json.dumps(body)
    answer = client.post("/invocations", content=content, headers={"content-type": kind})

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return answer.status_code, json.loads(answer.text, parse_constant=no_constant)


def rows_of(client: TestClient, body: dict[str, Any]) -> list[dict[str, Any]]:
    status, answer = post(client, body | {"params": STEPS})
    assert status == 200, answer
    return answer["predictions"]


def pixels(text: str) -> bytes:
    return open_picture(text).tobytes()


SEEDED = [["a star", LARGE], ["a star", None]]
FORMS: dict[str, dict[str, Any]] = {
    "records": {"dataframe_records": [{"prompt": "a star", "seed": 7}, {"prompt": "a star"}]},
    "null in records": {
        "dataframe_records": [{"prompt": "a star", "seed": 7}, {"prompt": "a star", "seed": None}]
    },
    "text in records": {
        "dataframe_records": [{"prompt": "a star", "seed": "7"}, {"prompt": "a star", "seed": ""}]
    },
    "split": {"dataframe_split": {"columns": ["prompt", "seed"], "data": [["a star", 7], ["a star", None]]}},
    "columns": {"inputs": {"prompt": ["a star", "a star"], "seed": [7, None]}},
    "inputs": {"inputs": [{"prompt": "a star", "seed": 7}, {"prompt": "a star"}]},
    "instances": {"instances": [{"prompt": "a star", "seed": 7}, {"prompt": "a star", "seed": None}]},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_seed_in_some_rows_only(form: str, client: TestClient, alone: Any) -> None:
    first, second = rows_of(client, FORMS[form])
    assert (first["error"], second["error"]) == (None, None)
    assert (pixels(first["image"]), pixels(second["image"])) == (alone(seed=7), alone())
    assert pixels(first["image"]) != pixels(second["image"])


def test_chain_and_image_in_some_rows_only(client: TestClient, alone: Any) -> None:
    rows = [
        {"prompt": "a star"},
        {"prompt": "a star", "chain": CHAIN},
        {"prompt": "a star", "image": PICTURE},
    ]
    drawn = rows_of(
        client, {"dataframe_records": [*rows, rows[0] | {"chain": None, "image": None, "seed": None}]}
    )
    assert [row["error"] for row in drawn] == [None] * 4
    assert [pixels(row["image"]) for row in drawn] == [
        alone(),
        alone(chain=CHAIN),
        alone(image=PICTURE),
        alone(),
    ]


def test_csv_with_empty_cells(client: TestClient, model: Any) -> None:
    text = f'prompt,seed,chain,image\na star,7,,\na star,,"{CHAIN}",\na star,,,{PICTURE}\n'
    model.unwrap_python_model().pipeline.register_to_config(inference_steps=1)
    status, answer = post(client, text, "text/csv")
    assert (status, [row["error"] for row in answer["predictions"]]) == (200, [None] * 3)
    assert answer["predictions"][1]["chain"] == CHAIN


def test_one_prompt_without_a_table(client: TestClient, alone: Any) -> None:
    status, (row,) = post(client, {"prompt": "a star", "seed": 7} | STEPS)
    assert (status, row["error"], pixels(row["image"])) == (200, None, alone(seed=7))


def test_frames_of_any_type(model: Any, alone: Any) -> None:
    for seeds in ([7, 8], [7.0, np.nan], ["7", ""], pd.array([7, pd.NA], dtype="Int64"), [7, pd.NaT]):
        frame = pd.DataFrame({"prompt": "a star", "seed": seeds, "image": [None, None]}, index=[5, 5])
        answer = model.predict(frame, params=STEPS)
        assert list(answer.index) == [5, 5] and answer["error"].to_list() == [None, None]
        assert pixels(answer["image"].iloc[0]) == alone(seed=7)


def test_a_large_seed_is_exact_or_refused(client: TestClient, alone: Any) -> None:
    (exact,) = rows_of(client, {"dataframe_records": [{"prompt": "a star", "seed": LARGE}]})
    assert (exact["error"], pixels(exact["image"])) == (None, alone(seed=LARGE))
    assert pixels(exact["image"]) != alone(seed=LARGE - 1)
    # Beside a missing one pandas has made a float of it.
    lost, other = rows_of(client, {"dataframe_split": {"columns": ["prompt", "seed"], "data": SEEDED}})
    assert "may have lost digits" in lost["error"] and lost["image"] is None and other["error"] is None
    numbered, _ = rows_of(
        client, {"dataframe_records": [{"prompt": "a star", "seed": str(LARGE)}, {"prompt": "a star"}]}
    )
    assert pixels(numbered["image"]) == pixels(exact["image"])


def bad_rows() -> dict[str, dict[str, Any]]:
    damaged = bytearray(encode(halves(), "PNG"))
    damaged[40] ^= 0xFF
    bomb = encode(Image.new("1", (10000, 5001)), "PNG")
    good = {"prompt": "a star"}
    return {
        "`prompt`": {"prompt": " "},
        "`prompt` must": {"prompt": 5},
        "`prompt` must be": {"prompt": None},
        "`seed`": good | {"seed": 1.5},
        "`seed` must": good | {"seed": True},
        "`chain`": good | {"chain": "a (1,2) b"},
        "not base64": good | {"image": "????"},
        "truncated": good | {"image": base64.b64encode(encode(halves(), "PNG")[:60]).decode()},
        "corrupt": good | {"image": base64.b64encode(damaged).decode()},
        "decompression_bomb": good | {"image": base64.b64encode(bomb).decode()},
        "unsupported_format": good | {"image": base64.b64encode(encode(halves(), "GIF")).decode()},
    }


def test_bad_rows_answer_for_themselves_and_the_others_are_drawn_once(
    client: TestClient, model: Any, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = alone(seed=3), alone(image=PICTURE)
    pipeline, drawn = model.unwrap_python_model().pipeline, []
    draw = type(pipeline).draw
    monkeypatch.setattr(
        pipeline,
        "draw",
        lambda chains, *rest, **more: drawn.append(len(chains)) or draw(pipeline, chains, *rest, **more),
    )
    rows = [{"prompt": "a star", "seed": 3}, *bad_rows().values(), {"prompt": "a star", "image": PICTURE}]
    answer = rows_of(client, {"dataframe_records": rows})
    first, *bad, last = answer
    assert (pixels(first["image"]), pixels(last["image"])) == expected
    assert (first["error"], last["error"]) == (None, None)
    assert drawn == [1, 1]
    for row, message in zip(bad, bad_rows(), strict=True):
        assert message in row["error"]
        assert [row[name] for name in ("image", "chain", "boxes", "plan_faults")] == [None] * 4


def test_several_pictures_a_row_and_plans_alone(client: TestClient, alone: Any) -> None:
    rows = [{"prompt": "a star", "seed": 6, "chain": CHAIN}, {"prompt": " "}, {"prompt": "a star", "seed": 1}]
    status, answer = post(client, {"dataframe_records": rows, "params": STEPS | {"num_images_per_prompt": 2}})
    drawn = answer["predictions"]
    assert (status, [row["seed"] for row in drawn]) == (200, ["6", "7", None, None, "1", "2"])
    assert [row["error"] is None for row in drawn] == [True, True, False, False, True, True]
    assert pixels(drawn[1]["image"]) == alone(seed=7, chain=CHAIN)
    assert json.loads(drawn[0]["boxes"]) == [{"phrase": "a red circle", "box": [100, 100, 400, 400]}]
    assert {row["model_version"] for row in drawn} == {"weights 0123456789ab"}
    status, answer = post(client, {"dataframe_records": rows, "params": {"plan_only": True}})
    assert [(row["image"], row["chain"] is None) for row in answer["predictions"]] == [
        (None, False),
        (None, True),
        (None, False),
    ]
    assert answer["predictions"][0]["chain"] == CHAIN


def test_a_size(client: TestClient) -> None:
    body = {"dataframe_records": [{"prompt": "a star"}], "params": STEPS | {"height": 32, "width": 96}}
    _, answer = post(client, body)
    assert open_picture(answer["predictions"][0]["image"]).size == (96, 32)


def test_a_picture_says_how_it_was_drawn(client: TestClient, model: Any) -> None:
    (row,) = rows_of(client, {"dataframe_records": [{"prompt": "a star", "seed": 7, "chain": CHAIN}]})
    note = read_note(base64.b64decode(row["image"]))
    assert (note.prompt, note.seed, note.weights_hash) == ("a star", 7, "0123456789abcdef")
    assert redrawn(model.unwrap_python_model().pipeline, note).tobytes() == pixels(row["image"])


@pytest.mark.parametrize(
    ("config", "message"), [({"dtype": "int8"}, "dtype must be one of"), ({"batch": 0}, "batch must be")]
)
def test_a_load_option_is_refused_by_name(entry: Path, config: dict[str, Any], message: str) -> None:
    with pytest.raises(MlflowException, match=message):
        mlflow.pyfunc.load_model(str(entry), model_config=config)


def test_load_options_reach_the_model(entry: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = mlflow.pyfunc.load_model(str(entry), model_config={"dtype": "bfloat16", "batch": 2})
    own = loaded.unwrap_python_model()
    assert own.pipeline.unet.dtype == torch.bfloat16 and own.drawer.batch.now(64, 64) == 2
    # What programs that load it themselves, MLflow's server among them, are told by the environment.
    monkeypatch.setenv("MLFLOW_PYFUNC_INFERENCE_CONFIG", json.dumps({"batch": 5}))
    assert mlflow.pyfunc.load_model(str(entry)).unwrap_python_model().drawer.batch.now(64, 64) == 5


def test_batches_keep_the_order(client: TestClient, alone: Any) -> None:
    rows = [{"prompt": "a star", "seed": k} if k % 5 else {"prompt": ""} for k in range(40)]
    answer = rows_of(client, {"dataframe_records": rows})
    assert [row["error"] is None for row in answer] == [k % 5 != 0 for k in range(40)]
    pictures = [np.asarray(open_picture(row["image"])).astype(int) for row in answer if row["image"]]
    assert len({picture.tobytes() for picture in pictures}) == 32
    assert (
        np.abs(
            pictures[-1] - np.frombuffer(alone(seed=39), np.uint8).reshape(pictures[-1].shape).astype(int)
        ).max()
        <= 1
    )


def test_plans_of_many_boxes_are_drawn_in_calls_of_their_own(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, drawn = model.unwrap_python_model().pipeline, []
    draw = type(pipeline).draw
    monkeypatch.setattr(
        pipeline,
        "draw",
        lambda chains, *rest, **more: drawn.append(len(chains)) or draw(pipeline, chains, *rest, **more),
    )
    rows = [{"prompt": "a star", "chain": "a (1,2),(30,40) " * boxes} for boxes in (60, 60, 1, 1, 100, 1)]
    assert list(model.predict(rows, params=STEPS)["error"]) == [None] * 6
    assert drawn == [2, 3, 1]


def test_requests_at_the_same_time_do_not_disturb_each_other(client: TestClient) -> None:
    bodies = [
        {
            "dataframe_records": [{"prompt": "a star", "seed": seed, "chain": CHAIN}],
            "params": {"num_inference_steps": steps},
        }
        for steps in (1, 5, 9)
        for seed in (1, 2)
    ]
    wanted = [post(client, body) for body in bodies]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda body: post(client, body), bodies * 4))
    assert found == wanted * 4 and {status for status, _ in wanted} == {200}


def open_picture(text: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(text)))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"dataframe_records": [{"text": "a"}]}, "the column `prompt` is missing"),
        (
            {"params": {"num_inference_steps": -3}},
            "`num_inference_steps` must be a whole number of at least 1, got -3",
        ),
        ({"params": {"num_inference_steps": 0}}, "`num_inference_steps` must be"),
        ({"params": {"num_inference_steps": 10**9}}, "a smaller number that does is"),
        ({"params": {"num_inference_steps": 2.5}}, "num_inference_steps"),
        ({"params": {"num_inference_steps": "ten"}}, "num_inference_steps"),
        ({"params": {"text_scale": float("nan")}}, "`text_scale` must be a number from -100 to 100, got nan"),
        ({"params": {"text_scale": float("inf")}}, "`text_scale` must be"),
        ({"params": {"reference_scale": 1e300}}, "`reference_scale` must be"),
        ({"params": {"text_scale": "four"}}, "text_scale"),
        ({"params": {"repair": "yes"}}, "repair"),
        ({"params": {"height": 63}}, "`height` and `width` must be multiples of 8, got 63 and 64"),
        ({"params": {"width": 10**6}}, "`width` must be a whole number from 1 to 8192"),
        ({"params": {"num_images_per_prompt": 101}}, "`num_images_per_prompt` must be"),
        ({"params": {"num_images_per_prompt": 2, "plan_only": True}}, "`plan_only` draws no picture"),
        ({"params": [1]}, "dictionary"),
    ],
)
def test_a_bad_request_is_a_400_with_one_sentence(client: TestClient, body: dict, message: str) -> None:
    status, answer = post(client, {"dataframe_records": [{"prompt": "a star"}]} | body)
    assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
    assert message in answer["message"]
    assert "stack_trace" not in answer


def test_a_picture_that_holds_nan_is_the_rows_fault_and_costs_the_others_nothing(
    client: TestClient, model: Any, alone: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, pipeline = alone(seed=1), model.unwrap_python_model().pipeline
    decode, calls = type(pipeline).decode, []

    def overflowing(latents: Any, *rest: Any) -> Any:
        calls.append(len(latents))
        latents[1] = float("nan")
        return decode(pipeline, latents, *rest)

    monkeypatch.setattr(pipeline, "decode", overflowing)
    rows = [{"prompt": "a star", "seed": seed} for seed in (1, 2, 1)]
    first, bad, last = rows_of(client, {"dataframe_records": rows})
    assert (pixels(first["image"]), pixels(last["image"]), calls) == (expected, expected, [3])
    assert "NaN or infinity" in bad["error"] and bad["image"] is None


def test_no_rows_are_no_answers(client: TestClient) -> None:
    assert rows_of(client, {"dataframe_records": []}) == []


def test_a_fault_of_the_model_is_not_the_rows(
    client: TestClient, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(model.unwrap_python_model().pipeline, "draw", broken)
    status, answer = post(client, {"dataframe_records": [{"prompt": "a star", "chain": CHAIN}]})
    assert (status, answer["error_code"]) == (500, "INTERNAL_ERROR")
    assert "not for a fault of the request: MemoryError: no memory left" in answer["message"]
    with pytest.raises(MlflowException, match="MemoryError"):
        model.predict([{"prompt": "a star", "chain": CHAIN}])


@pytest.mark.parametrize(
    "name", ["turned beside a broken tag", "rgba", "sixteen bits", "adobe rgb with alpha"]
)
def test_an_edit_sees_the_pixels_that_training_saw(name: str, alone: Any) -> None:
    data = awkward.files()[name]
    plain = encode(decode_image(data, IngestConfig()), "PNG")
    assert alone(image=base64.b64encode(data).decode()) == alone(image=base64.b64encode(plain).decode())


def test_a_real_server(entry: Path, tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(entry), "-p", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # it looks for uvicorn
    with open(tmp_path / "log", "wb") as out:
        server = subprocess.Popen(
            [*command, "--env-manager", "local"], cwd=tmp_path, stdout=out, stderr=out,
            env=os.environ | {"PATH": path},
        )  # fmt: skip
    try:
        _wait(f"http://127.0.0.1:{port}/ping", server)
        rows = [{"prompt": "a star", "seed": 3}, {"prompt": " "}, {"prompt": "a star", "image": PICTURE}]
        status, answer = _ask(port, {"dataframe_records": rows, "params": STEPS})
        assert (status, [row["error"] for row in answer["predictions"]]) == (
            200,
            [None, "`prompt` is blank", None],
        )
        assert open_picture(answer["predictions"][0]["image"]).size == (64, 64)
        status, answer = _ask(port, {"dataframe_records": rows, "params": {"text_scale": float("nan")}})
        assert status == 400 and "`text_scale` must be" in answer["message"] and "stack_trace" not in answer
    finally:
        server.terminate()
        server.wait(300)


def _wait(url: str, server: subprocess.Popen) -> None:
    for _ in range(240):
        assert server.poll() is None, "the server has ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError("the server does not answer")


def _ask(port: int, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/invocations",
        json.dumps(body).encode(),
        {"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)
