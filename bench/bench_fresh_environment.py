"""A registry entry in a new environment with only its logged requirements, against the pipeline here.

Makes a virtual environment, installs the entry's `requirements.txt` (a few GB of disk; by uv where that is on
the PATH, which is quicker), loads the entry in it from a folder that has nothing of this checkout, and draws.
BENCH_ENVIRONMENT=FOLDER uses an environment again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from bench.bench_drawing import build_pipeline

_DRAW = """
import base64, sys
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
rows = pd.DataFrame([{"prompt": "a photo of one cat", "seed": 3}])
answer = model.predict(rows, params={"num_inference_steps": 4})
assert answer["error"][0] is None, answer["error"][0]
open(sys.argv[2], "wb").write(base64.b64decode(answer["image"][0]))
"""


def main() -> dict[str, float | str]:
    """Seconds to install and to draw, and whether pixels are the same."""
    import mlflow

    from got_core.registry.log import register
    from got_core.registry.tracking import fluent

    with tempfile.TemporaryDirectory() as place:
        here, uri = Path(place), f"sqlite:///{place}/mlflow.db"
        pipeline = build_pipeline()
        pipeline.save_pretrained(here / "pipeline")
        register(here / "pipeline", tracking_uri=uri, tags={"weights_hash": "bench"})
        with fluent(uri):
            entry = mlflow.artifacts.download_artifacts("models:/got/1", dst_path=str(here / "entry"))
        python, installed = environment(Path(entry) / "requirements.txt", here)
        started = time.perf_counter()
        clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        command = [python, "-c", _DRAW, entry, str(here / "picture.png")]
        subprocess.run(command, cwd=here / "entry", env=clean, check=True)
        seconds = time.perf_counter() - started
        made = pipeline(
            "a photo of one cat", generator=torch.Generator().manual_seed(3), num_inference_steps=4
        )
        same = Image.open(here / "picture.png").tobytes() == made.images[0].tobytes()
    return {"installing, s": installed, "loading and drawing, s": seconds, "same pixels": str(same)}


def environment(requirements: Path, place: Path) -> tuple[str, float]:
    """The Python of a new environment with these requirements, and the seconds that it took."""
    started = time.perf_counter()
    folder = Path(os.environ.get("BENCH_ENVIRONMENT", str(place / "environment")))
    python = str(folder / "bin" / "python")
    if not Path(python).exists():
        uv = shutil.which("uv")
        subprocess.run(
            [sys.executable, "-m", "venv", *(["--without-pip"] if uv else []), str(folder)], check=True
        )
        installer = [uv, "pip", "install", "--python", python] if uv else [python, "-m", "pip", "install"]
        subprocess.run([*installer, "-q", "-r", str(requirements)], check=True)
    return python, time.perf_counter() - started
