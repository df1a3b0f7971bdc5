"""Libraries that speak only when something is wrong.

Belongs here: their environment variables. Not here: what is printed instead.
"""

from __future__ import annotations

import os

QUIET_LIBRARIES = {
    "TRANSFORMERS_VERBOSITY": "error",
    "DIFFUSERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "RAY_COLOR_PREFIX": "0",
    # Runs of the ablation side by side: more processes than Ray expects of two cores, most of them idle.
    "RAY_DEDUP_LOGS_SKIP_REGEX": "worker processes have been started",
}
"""Environment of this process and of Ray's, unless set otherwise."""


def quiet_libraries() -> None:
    """Set the variables; to be called before the libraries are imported."""
    for name, value in QUIET_LIBRARIES.items():
        os.environ.setdefault(name, value)
