#!/bin/sh
# MLflow 3.17.2 with SQLAlchemy 2.1.9: the two read one `sqlite:///` URI as two different paths.
#
# Seen: SQLAlchemy 2.1 percent-decodes the path of a database URL, MLflow makes the folder of the path as it is written. In a
# folder called `runs%2B` an unescaped URI has MLflow make nothing new, while the database is looked for in `runs+`, which is
# not there. The escaped URI (`runs%252B`) works, but MLflow leaves an empty folder `runs%252B` beside the real one.
# What helps: let SQLAlchemy write the URL (`URL.create`), only where the plain one would be read otherwise, and expect the
# empty twin; or keep `%` and `?` out of the path.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'mlflow-skinny==3.17.2' 'sqlalchemy==2.1.9' 'alembic>=1.13' 'pandas>=2.2'
"$folder/venv/bin/python" - "$folder" <<'PY'
import logging
import os
import sys
from pathlib import Path

os.environ["MLFLOW_SQLALCHEMYSTORE_POOL_SIZE"] = "1"
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
from mlflow import MlflowClient
from sqlalchemy import URL, make_url

logging.disable(logging.CRITICAL)
folder = Path(sys.argv[1]) / "runs%2B"
folder.mkdir()
database = folder / "mlflow.db"
read = make_url(f"sqlite:///{database}").database
print("SQLAlchemy reads", Path(read).parent.name, "where", folder.name, "was written")
assert Path(read).parent.name == "runs+"
escaped = URL.create("sqlite", database=str(database)).render_as_string()
MlflowClient(escaped).search_experiments()
there = sorted(path.name for path in Path(sys.argv[1]).iterdir() if path.name.startswith("runs"))
print("after the first use of the escaped URI:", there, "database in", folder.name, database.is_file())
assert database.is_file() and there == ["runs%252B", "runs%2B"]
assert not [*(Path(sys.argv[1]) / "runs%252B").iterdir()]
print("as described")
PY
