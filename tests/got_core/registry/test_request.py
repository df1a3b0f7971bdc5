"""What a caller sends: any spelling of a missing cell, exact seeds, bounded pictures, one sentence else."""

from __future__ import annotations

import base64
import zlib
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from got_core.corpus.config import IngestConfig
from got_core.corpus.decode import decode_image
from got_core.model.config import GuidanceReuse
from got_core.registry.request import (
    COLUMNS,
    MAX_CHAIN,
    MAX_PROMPT,
    MAX_ROWS,
    PictureLimits,
    Row,
    RowError,
    cells_of,
    read_frame,
    read_params,
    read_row,
)
from tests.got_core.pictures import awkward
from tests.got_core.pictures.awkward import encode, halves

BOX = "a red circle (100,100),(400,400)"


LIMITS = PictureLimits()


def read(limits: PictureLimits = LIMITS, reasoning: bool = True, **cells: Any) -> Row:
    given = dict.fromkeys(COLUMNS) | {"prompt": "a photo of a star"} | cells
    return read_row(3, given, reasoning=reasoning, limits=limits)


def fault(**cells: Any) -> str:
    with pytest.raises(RowError) as caught:
        read(**cells)
    assert len(str(caught.value)) < 300
    return str(caught.value)


def packed(data: bytes) -> str:
    return base64.b64encode(data).decode()


MISSING = [
    None,
    float("nan"),
    np.nan,
    np.float32("nan"),
    pd.NA,
    pd.NaT,
    np.datetime64("NaT"),
    Decimal("NaN"),
    "",
    " ",
]


@pytest.mark.parametrize("nothing", MISSING, ids=repr)
def test_a_cell_may_be_missing_in_any_spelling(nothing: Any) -> None:
    row = read(seed=nothing, chain=nothing, image=nothing)
    assert (row.number, row.seed, row.chain, row.source) == (3, 0, None, None)
    assert "`prompt`" in fault(prompt=nothing)


@pytest.mark.parametrize(
    ("given", "seed"),
    [
        (1, 1),
        (1.0, 1),
        ("1", 1),
        ("1.0", 1),
        (" +7 ", 7),
        (np.int64(5), 5),
        (np.uint8(5), 5),
        (np.float32(5), 5),
        (-1, -1),
        ("-3", -3),
        (2**53 - 1, 2**53 - 1),
        (float(2**53 - 1), 2**53 - 1),
        (2**53 + 1, 2**53 + 1),
        (str(2**53 + 1), 2**53 + 1),
        (2**64 - 1, 2**64 - 1),
        (-(2**63), -(2**63)),
    ],
)
def test_seeds_are_taken_exactly(given: Any, seed: int) -> None:
    found = read(seed=given).seed
    assert (found, type(found)) == (seed, int)


@pytest.mark.parametrize(
    "given",
    [
        True,
        np.True_,
        1.5,
        "1.5",
        "x",
        "1e3",
        "0x1",
        "\u0661",
        float("inf"),
        2**64,
        -(2**63) - 1,
        "9" * 5000,
        [1],
        {},
    ],
)
def test_what_is_no_seed(given: Any) -> None:
    assert "`seed` must be a whole number" in fault(seed=given)


@pytest.mark.parametrize("given", [2.0**53, float(2**53 + 1), 1e300, np.float32(2**24), np.float16(2**11)])
def test_a_float_that_cannot_count_by_ones_is_no_seed(given: Any) -> None:
    assert "may have lost digits" in fault(seed=given)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"prompt": 5}, "`prompt` must be a text, got 5"),
        ({"prompt": ["a"]}, "`prompt` must be a text"),
        ({"prompt": {"a": 1}}, "`prompt` must be a text"),
        ({"prompt": "x" * (MAX_PROMPT + 1)}, "at most"),
        ({"prompt": "a \ud800 b"}, "`prompt` is no valid Unicode"),
        ({"chain": 5}, "`chain` must be a text"),
        ({"chain": "a (1,2) b"}, "`chain` cannot be read"),
        ({"chain": "a (5,5),(2,2)"}, "`chain` cannot be read"),
        ({"chain": "x" * (MAX_CHAIN + 1)}, "at most"),
        ({"chain": "\ud800"}, "`chain` is no valid Unicode"),
        ({"chain": "a (1,2),(3,4) " * 101}, "`chain` has 101 boxes; at most 100 are drawn"),
        ({"image": 5}, "`image` must be a text"),
        ({"image": b"x"}, "`image` must be a text"),
        ({"image": ["x"]}, "`image` must be a text"),
        ({"image": "????"}, "`image` is not base64"),
        ({"image": "é"}, "`image` is not base64"),
        ({"image": "/tmp/picture.png"}, "`image` is not base64"),
        ({"image": "https://example.org/a.png"}, "`image` is not base64"),
        ({"image": "data:image/png;base64,"}, "empty_file"),
        ({"image": packed(b"just words")}, "not_an_image"),
        ({"image": packed(encode(halves(), "GIF"))}, "unsupported_format"),
        ({"image": packed(encode(halves(), "PNG")[:60])}, "truncated"),
        ({"image": packed(encode(halves(size=(40, 680)), "PNG"))}, "longer than 16:1"),
        ({"earlier": 5}, "`earlier` must be a text"),
        ({"earlier": packed(encode(halves(), "PNG")[:60])}, "`earlier` cannot be used: truncated"),
        (
            {"earlier": packed(encode(halves(), "PNG"))},
            "`earlier` cannot be used: it does not say how it was",
        ),
        ({"earlier": packed(encode(halves(), "JPEG"))}, "`earlier` cannot be used: it is no PNG"),
    ],
)
def test_what_cannot_be_used_is_named(cells: dict, message: str) -> None:
    assert message in fault(**cells)


def test_a_damaged_png_is_the_rows_fault() -> None:
    data = bytearray(encode(halves(), "PNG"))
    data[40] ^= 0xFF
    assert "corrupt" in fault(image=packed(bytes(data)))


def test_pictures_are_bounded_before_they_are_decoded() -> None:
    small = PictureLimits(max_bytes=1000, max_pixels=5000)
    assert "`image` is too large" in fault(limits=small, image="A" * 2001)
    assert "too_large" in fault(limits=small, image=packed(bytes(1001)))
    assert "decompression_bomb" in fault(limits=small, image=packed(encode(halves(size=(100, 51)), "PNG")))
    text = b"zTXt" + b"k\0\0" + zlib.compress(bytes(80_000_000))
    chunk = (len(text) - 4).to_bytes(4, "big") + text + zlib.crc32(text).to_bytes(4, "big")
    data = encode(halves(), "PNG")
    assert "decompression_bomb" in fault(image=packed(data[:33] + chunk + data[33:]))


@pytest.mark.parametrize("head", ["", "data:image/png;base64,", "DATA:image/png;base64,", "\n"])
def test_base64_as_tools_write_it(head: str) -> None:
    data = encode(halves(), "PNG")
    lines = base64.encodebytes(data).decode()
    source = read(image=head + lines).source
    assert source is not None and source.tobytes() == halves().tobytes()


@pytest.mark.parametrize("name", awkward.files())
def test_pictures_are_read_as_ingestion_reads_them(name: str) -> None:
    data = awkward.files()[name]
    source, ingested = read(image=packed(data)).source, decode_image(data, IngestConfig())
    assert source is not None and source.size == ingested.size and source.tobytes() == ingested.tobytes()


def test_a_model_without_reasoning_takes_no_plan() -> None:
    assert read(reasoning=False).chain is None
    assert "draws without a chain" in fault(reasoning=False, chain=BOX)


def records(given: Any) -> list[tuple[Any, Any]]:
    return [(cells["prompt"], cells["seed"]) for cells in cells_of(read_frame(given))]


LARGE = 2**53 + 1


@pytest.mark.parametrize(
    "given",
    [
        [{"prompt": "a", "seed": LARGE}, {"prompt": "b"}],
        [{"prompt": "a", "seed": np.array(LARGE)}, {"prompt": np.array("b")}],
        {"prompt": ["a", "b"], "seed": [LARGE, None]},
        {"prompt": np.array(["a", "b"]), "seed": np.array([LARGE, None])},
        {"prompt": pd.Series(["a", "b"]), "seed": pd.Series([LARGE, None], dtype="Int64")},
        pd.DataFrame({"prompt": ["a", "b"], "seed": [LARGE, None]}, index=[7, 7], dtype=object),
        pd.DataFrame({"prompt": ["a", "b"], "seed": pd.Series([LARGE, pd.NA], dtype="Int64"), "more": 1}),
    ],
    ids=["records", "arrays", "columns", "array columns", "series", "frame", "nullable"],
)
def test_rows_in_every_form(given: Any) -> None:
    rows = [read(prompt=prompt, seed=seed) for prompt, seed in records(given)]
    assert [(row.prompt, row.seed) for row in rows] == [("a", LARGE), ("b", 0)]


@pytest.mark.parametrize(
    "given", ["a", ["a"], np.array(["a"]), np.array("a"), {"prompt": "a"}, {"prompt": ["a"]}]
)
def test_prompts_alone(given: Any) -> None:
    assert records(given) == [("a", None)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (5, "takes a DataFrame"),
        (None, "takes a DataFrame"),
        ([{"text": "a"}], "`prompt` is missing \\(columns: text\\)"),
        (pd.DataFrame([[1, 2]], columns=["prompt", "prompt"]), "appears twice"),
        ({"prompt": ["a", "b"], "seed": [1]}, "do not fit together"),
        ({"prompt": ["a"] * (MAX_ROWS + 1)}, "send at most"),
    ],
)
def test_a_request_that_cannot_be_used(given: Any, message: str) -> None:
    with pytest.raises(MlflowException, match=message) as caught:
        read_frame(given)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def at_most_1000(steps: int) -> None:
    if steps > 1000:
        raise ValueError(f"`num_inference_steps` = {steps} does not fit")


def test_no_rows_are_no_fault() -> None:
    assert [len(read_frame(given)) for given in ([], pd.DataFrame(), pd.DataFrame(columns=["prompt"]))] == [
        0
    ] * 3


@pytest.mark.parametrize(
    "given",
    [
        {"num_inference_steps": -3},
        {"num_inference_steps": 0},
        {"num_inference_steps": 10**9},
        {"num_inference_steps": 2.5},
        {"num_inference_steps": True},
        {"num_inference_steps": "ten"},
        {"num_inference_steps": float("nan")},
        {"text_scale": float("nan")},
        {"spatial_scale": float("inf")},
        {"reference_scale": 1e300},
        {"text_scale": True},
        {"text_scale": "4"},
        {"text_scale": [4]},
        {"guidance_every": 0},
        {"guidance_every": 1.5},
        {"max_new_tokens": 10**9},
        {"num_images_per_prompt": 101},
        {"guidance_from": -0.1},
        {"guidance_until": 1.01},
        {"guidance_until": float("nan")},
        {"guidance_from": 0.5, "guidance_until": 0.5},
        {"keep_outside": 1},
        {"repair": "yes"},
        {"steps": 4},
    ],
    ids=repr,
)
def test_parameters_out_of_range_are_named(given: dict) -> None:
    with pytest.raises(MlflowException, match=next(iter(given))) as caught:
        read_params(given, at_most_1000)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


def test_parameters_that_are_left_out_are_the_models() -> None:
    assert read_params(None, at_most_1000).settings == {}
    params = read_params(
        {"num_inference_steps": np.int64(1000), "text_scale": None, "keep_outside": True}, at_most_1000
    )
    assert params.of(edits=False) == {"num_inference_steps": 1000}
    assert params.of(edits=True) == {"num_inference_steps": 1000, "keep_outside": True}
    assert not params.repair and read_params({"repair": True}, at_most_1000).repair
    guided = read_params({"guidance_until": 0.5, "guidance_every": np.int64(2)}, at_most_1000)
    assert guided.of(edits=False) == {"guidance_reuse": GuidanceReuse(interval=(0.0, 0.5), every=2)}
    with pytest.raises(MlflowException, match="`params` must be"):
        read_params([1], at_most_1000)  # type: ignore[arg-type]
