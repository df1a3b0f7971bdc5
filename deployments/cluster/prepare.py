"""What has to be there before Dagster starts: bucket, tables, limits of pools, MLflow's user.

    python prepare.py bucket database pools mlflow

Each step may be done again.

Belongs here: steps of a first installation and of an upgrade. Not here: starting servers. Settings come from
the environment, as in .env.example; secrets are never printed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from urllib.parse import urlsplit

POOLS = {"decoding": 4, "annotation": 8, "training": 1}
"""Runs at once that read raw pictures, ask the annotator, or train. Kept in Dagster's database: a limit that
is there already stays."""


def main(steps: list[str]) -> int:
    """Do the named steps in order; the exit status."""
    unknown = [step for step in steps if step not in STEPS]
    if unknown or not steps:
        sys.stderr.write(
            f"usage: prepare.py {' '.join(STEPS)} (unknown: {', '.join(unknown) or 'nothing named'})\n"
        )
        return 2
    for step in steps:
        print(f"{step}: {STEPS[step]()}", flush=True)
    return 0


def bucket() -> str:
    """Make the buckets of GOT_STORAGE, GOT_RAW, MLflow's artifacts and Dagster's logs that are not there."""
    import boto3
    from botocore.exceptions import ClientError

    client = boto3.client("s3", endpoint_url=os.environ.get("GOT_S3_ENDPOINT") or None)
    urls = (os.environ.get(name, "") for name in ("GOT_STORAGE", "GOT_RAW", "MLFLOW_ARTIFACTS_DESTINATION"))
    named = {urlsplit(url).netloc for url in urls if url.startswith("s3://")}
    names = sorted({*named, os.environ.get("CLUSTER_LOGS_BUCKET", "")} - {""})
    made = []
    for name in names:
        try:
            client.head_bucket(Bucket=name)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("404", "NoSuchBucket"):
                raise
            client.create_bucket(Bucket=name)
            made.append(name)
    return f"{', '.join(names) or 'none'} there, {len(made)} made"


def database() -> str:
    """Bring Dagster's tables to this version; on an empty database they are made."""
    subprocess.run(["dagster", "instance", "migrate"], check=True, stdout=subprocess.DEVNULL)
    return "Dagster's tables are of this version"


def pools() -> str:
    """Give pools that have no limit one."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        limits = instance.event_log_storage.get_pool_limits()
        there = {one.name for one in limits if not one.from_default}
        for name in POOLS.keys() - there:
            instance.event_log_storage.set_concurrency_slots(name, POOLS[name])
    return f"{len(POOLS.keys() - there)} of {len(POOLS)} limits set"


def mlflow() -> str:
    """Make the user that Dagster and Ray use, or give it the password of MLFLOW_TRACKING_PASSWORD."""
    name, password = os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    os.environ["MLFLOW_TRACKING_USERNAME"] = os.environ["MLFLOW_AUTH_ADMIN_USERNAME"]
    os.environ["MLFLOW_TRACKING_PASSWORD"] = os.environ["MLFLOW_AUTH_ADMIN_PASSWORD"]
    from mlflow.exceptions import MlflowException
    from mlflow.server import get_app_client

    client = get_app_client("basic-auth", os.environ["GOT_MLFLOW_URI"])
    try:
        client.create_user(name, password)
        return f"user {name} made"
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    client.update_user_password(name, password)
    return f"user {name} has the password of the environment"


STEPS: dict[str, Callable[[], str]] = {
    "bucket": bucket,
    "database": database,
    "pools": pools,
    "mlflow": mlflow,
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
