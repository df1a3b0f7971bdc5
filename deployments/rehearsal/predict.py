"""A prediction of a registered model as another program would make it, in a process of its own.

Usage: ``python -m deployments.rehearsal.predict TRACKING_URI MODEL SOURCE``. Draws a prompt and edits the
picture SOURCE; prints one line of JSON: the size of both pictures, and the errors of rows.
"""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from PIL import Image


def predictions(tracking_uri: str, model: str, source: Path) -> dict[str, Any]:
    """Sizes of the two pictures, plans and errors."""
    mlflow.set_tracking_uri(tracking_uri)
    picture = base64.b64encode(source.read_bytes()).decode()
    rows = pd.DataFrame(
        {"prompt": ["a photograph with a red disc", "Remove the red disc"], "image": [None, picture]}
    )
    answer = mlflow.pyfunc.load_model(model).predict(rows)
    images = [Image.open(io.BytesIO(base64.b64decode(data))) for data in answer["image"].dropna()]
    return {
        "sizes": [list(image.size) for image in images],
        "errors": [error for error in answer.get("error", ()) if error is not None],
        "chains": list(answer["chain"]),
    }


if __name__ == "__main__":
    print(json.dumps(predictions(sys.argv[1], sys.argv[2], Path(sys.argv[3]))))
