#!/bin/sh
# MLflow 3.17.2: of one upload that is registered as two versions, the file with a version's name names whichever was opened last.
#
# Seen: `register_model` of the same logged model twice gives two versions of one artifact folder. Opening a version from a local store
# (`download_artifacts`, `load_model`) gives that folder in place, and writes name and version into its file `registered_model_meta`. A
# process that has version 1 open finds version 2 there as soon as anybody has opened version 2; reading changes what is stored.
# What helps: read the file right after loading and keep what it says, ask the registry instead, or upload once a version.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'mlflow==3.17.2' 'sqlalchemy==2.1.9'
mkdir "$folder/home"
MLFLOW_DISABLE_TELEMETRY=true "$folder/venv/bin/python" -W ignore - "$folder/home" 2>"$folder/log" <<'PY' || { tail -20 "$folder/log"; exit 1; }
import sys
from pathlib import Path

import mlflow

home = Path(sys.argv[1])
mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
mlflow.set_experiment(experiment_id=mlflow.create_experiment("one", artifact_location=f"file://{home}/artifacts"))
(home / "model.py").write_text("""
import mlflow

class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input

mlflow.models.set_model(Model())
""")
uploaded = mlflow.pyfunc.log_model(name="one", python_model=str(home / "model.py"), pip_requirements=[])
for _ in range(2):
    mlflow.register_model(uploaded.model_uri, "both")
opened, said = [], []
for version in (1, 2):
    opened.append(mlflow.artifacts.download_artifacts(f"models:/both/{version}"))
    (meta,) = home.rglob("registered_model_meta")
    said.append(meta.read_text().split()[-1].strip("'"))
    print(f"version {version} opened: {meta.name} in the store says version {said[-1]}")
assert opened[0] == opened[1] and said == ["1", "2"]
print("as described")
PY
