#!/bin/sh
# MLflow 3.17.2: with basic-auth every request costs the server a password's hash, so that a logged folder costs it by its number of files.
#
# Seen: `mlflow server --app-name basic-auth` hashes the password anew with every request (scrypt with 32 MB), and each file of a folder is
# at least one request. 50 small files take the server's processor five to ten times as long as without users, some 0.1 s a file and more on
# a busy machine; with `auth_cache_ttl_seconds` in the file of MLFLOW_AUTH_CONFIG_PATH hardly longer. Without that file it is 0.
# What helps: that option (a changed password of another worker counts so much later), and few files in a logged model.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'mlflow[auth]==3.17.2' 'psutil==7.1.3'
cd "$folder"
cat >look.py <<'PY'
import os, pathlib, socket, subprocess, sys, time, urllib.request
import psutil

FILES = 50


def seconds(folder: pathlib.Path, app: str, remembered: int = 0) -> float:
    """Of the server's processor while the files are logged."""
    folder.mkdir()
    options = [("database_uri", f"sqlite:///{folder}/users.db"), ("default_permission", "READ"), ("auth_cache_ttl_seconds", remembered)]
    (folder / "auth.ini").write_text("[mlflow]\n" + "".join(f"{name} = {value}\n" for name, value in options))
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    server = subprocess.Popen(
        command + (["--app-name", app] if app else []), cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env=os.environ | {"MLFLOW_FLASK_SERVER_SECRET_KEY": "key", "MLFLOW_AUTH_ADMIN_USERNAME": "admin", "MLFLOW_AUTH_ADMIN_PASSWORD": "of-this-trial-alone",
        "MLFLOW_AUTH_CONFIG_PATH": str(folder / "auth.ini")},
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


os.environ |= {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": "of-this-trial-alone"}
here = pathlib.Path.cwd()
plain, checked, remembered = seconds(here / "plain", ""), seconds(here / "checked", "basic-auth"), seconds(here / "kept", "basic-auth", 60)
print(f"{FILES} files: {plain:.1f} s of the server's processor, with basic-auth {checked:.1f} s, where it remembers for a minute {remembered:.1f} s")
assert checked - plain > FILES * 0.03 and remembered - plain < (checked - plain) / 3
print("as described")
PY
venv/bin/python look.py
