"""Dagster's own folder: DAGSTER_HOME below GOT_HOME, with the instance settings of `deployments/local`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from got_assets.project import ROOT, Project


def prepare_dagster_home(project: Project) -> Path:
    """Make `$GOT_HOME/dagster` (unless DAGSTER_HOME names another place), set DAGSTER_HOME, and return the
    folder.

    Settings are copied once and then belong to the user.
    """
    home = Path(os.environ.get("DAGSTER_HOME") or project.settings.home / "dagster").absolute()
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "dagster.yaml").exists():
        shutil.copyfile(ROOT / "deployments" / "local" / "dagster.yaml", home / "dagster.yaml")
    os.environ["DAGSTER_HOME"] = str(home)
    return home
