#!/bin/sh
# ray 2.60.0 (Train v2): a training that is given no data set starts two processes of Ray Data all the same.
#
# Seen: DataParallelTrainer with one worker and without `datasets` starts, beside its controller and worker, the actors `DatasetManager` and
# `_AutoscalingCoordinatorActor`, each over 80 MiB of memory of its own (PSS). Half a minute after `fit()` has returned both are still
# there, and the training's controller, too. (With `include_dashboard=False` a dashboard agent runs all the same, 50 MiB.)
# What helps: nothing public in this version; on a small machine count with it, and end Ray when the trainings are done.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'ray[train]==2.60.0' 'pandas==2.3.3' 'pyarrow==22.0.0' 'numpy==2.3.4' \
    'psutil==7.1.3' 'setuptools==80.9.0'
cd "$folder"
RAY_USAGE_STATS_ENABLED=0 RAY_TRAIN_V2_ENABLED=1 timeout 300 "$folder/venv/bin/python" -W ignore - <<'PY' 2>"$folder/log" || { tail -20 "$folder/log"; exit 1; }
import logging
import os
import threading
import time

import psutil
import ray
from ray.train import RunConfig, ScalingConfig
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer


def processes():
    """Names of Ray's processes below this one, and their memory in MiB."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        try:
            name = " ".join(process.cmdline()).split(".")[0].strip()
            if name.startswith("ray::") and "IDLE" not in name:
                found[name] = process.memory_full_info().pss >> 20
        except psutil.Error:
            pass
    return found


def reads_nothing(config):
    ray.train.report({"seen": 1})


ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
seen, finished = {}, threading.Event()


def look():
    while not finished.wait(0.5):
        seen.update(processes())


looking = threading.Thread(target=look)
looking.start()
DataParallelTrainer(
    reads_nothing, train_loop_config={}, scaling_config=ScalingConfig(num_workers=1),
    run_config=RunConfig(storage_path=os.getcwd()),
).fit()
finished.set()
looking.join()
time.sleep(30)
later = processes()
print("seen meanwhile, MiB:", seen)
print("half a minute later:", later)
for name in ("DatasetManager", "_AutoscalingCoordinatorActor"):
    assert seen[f"ray::{name}"] > 80 and later[f"ray::{name}"] > 80
assert "ray::RayTrainWorker" not in later and "ray::DashboardAgent" in later
print("as described")
PY
