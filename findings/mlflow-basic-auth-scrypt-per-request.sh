#!/bin/sh
# MLflow 3.17.2: with basic-auth each request costs its server a password's scrypt; a model of many files is logged slowly.
#
# Seen: `mlflow server --app-name basic-auth` checks the password anew with every request (scrypt with 32 MB, about 0.1 s of
# one core), and remembers nothing. A folder of artifacts is one request a file through the server's proxy, so 50 small files
# take some 5 s of the server's processor where they take well under one without users.
# What helps: few files in a logged folder, artifacts directly in the store (--no-serve-artifacts), more --workers.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'mlflow[auth]==3.17.2' psutil
cd "$folder"
cat >look.py <<'PY'
import os, pathlib, socket, subprocess, sys, time, urllib.request
import psutil

FILES = 50


def seconds(app: str, folder: pathlib.Path) -> float:
    """Of the server's processor while the files are logged."""
    folder.mkdir()
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    server = subprocess.Popen(
        command + (["--app-name", app] if app else []), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_ADMIN_PASSWORD": "password1234"},
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/health")
                break
            except OSError:
                time.sleep(0.2)
        made = folder / "made"
        made.mkdir()
        for number in range(FILES):
            (made / f"{number}.txt").write_text("it")
        family = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        import mlflow

        mlflow.set_tracking_uri(url)
        with mlflow.start_run():
            before = sum(sum(one.cpu_times()[:2]) for one in family)
            mlflow.log_artifacts(str(made))
            return sum(sum(one.cpu_times()[:2]) for one in family) - before
    finally:
        for one in [*psutil.Process(server.pid).children(recursive=True), psutil.Process(server.pid)]:
            one.kill()
        server.wait()


os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "password1234"}
here = pathlib.Path.cwd()
plain, checked = seconds("", here / "plain"), seconds("basic-auth", here / "checked")
print(f"{FILES} files: {plain:.1f} s of the server's processor, with basic-auth {checked:.1f} s")
assert checked - plain > FILES * 0.03
print("as described")
PY
venv/bin/python look.py
