"""Predictions of a registered model in batches on Ray Data, against the same rows in one process.

The embedded model with fresh weights, two actors. BENCH_ROWS sets the number of rows. Pixels are compared.
"""

from __future__ import annotations

import base64
import io
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image

from bench.bench_drawing import build_pipeline

ROWS = int(os.environ.get("BENCH_ROWS", "32"))
STEPS = {"num_inference_steps": 4, "max_new_tokens": 4}


class Predictor:
    """What each actor keeps: the model."""

    def __init__(self, uri: str) -> None:
        import mlflow

        mlflow.set_tracking_uri(uri)
        self.model = mlflow.pyfunc.load_model("models:/got@challenger")

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        answer = self.model.predict(rows, params=STEPS)
        return answer.assign(row=rows["seed"].to_numpy())


def main() -> dict[str, float | str]:
    """Seconds of both, and levels in which pictures differ at most."""
    from got_core.registry.log import register

    with tempfile.TemporaryDirectory() as place:
        build_pipeline().save_pretrained(Path(place) / "pipeline")
        uri = f"sqlite:///{place}/mlflow.db"
        register(Path(place) / "pipeline", tracking_uri=uri, tags={"weights_hash": "bench"})
        frame = pd.DataFrame({"prompt": [f"a photo of {k} cats" for k in range(ROWS)], "seed": range(ROWS)})
        started = time.perf_counter()
        here = Predictor(uri)(frame)
        alone = time.perf_counter() - started
        seconds, there = on_ray(uri, frame)
    order = there.set_index("row").loc[range(ROWS)]
    unlike = max(_difference(*pair) for pair in zip(here["image"], order["image"], strict=True))
    return {
        "one process, s": alone,
        "Ray Data, two actors, with Ray's start, s": seconds,
        "rows with an error": float(order["error"].notna().sum()),
        "levels that differ at most": float(unlike),
    }


def on_ray(uri: str, frame: pd.DataFrame) -> tuple[float, pd.DataFrame]:
    """The same by Ray Data."""
    import ray

    started = time.perf_counter()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        rows = ray.data.from_pandas(frame)
        options: dict[str, Any] = {"batch_format": "pandas", "batch_size": 8, "concurrency": 2}
        found = rows.map_batches(Predictor, fn_constructor_args=(uri,), **options).to_pandas()
    finally:
        ray.shutdown()
    return time.perf_counter() - started, found


def _difference(one: str, other: str) -> int:
    import numpy as np

    first, second = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).astype(int) for text in (one, other)
    )
    return int(np.abs(first - second).max())
