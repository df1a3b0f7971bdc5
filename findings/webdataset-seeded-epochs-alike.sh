#!/bin/sh
# webdataset 1.0.2 with torch 2.13.0: with a seed, every epoch comes in the same order; without persistent workers `detshuffle` does too.
#
# Seen: `WebDataset(urls, shardshuffle=n, seed=s)` and `.shuffle(n, seed=s)` start their generator anew each time the data set is iterated, so
# epoch after epoch the "shuffled" order is one and the same; nothing counts epochs. `detshuffle=True` counts them, but inside the data set
# object: in DataLoader workers that end with the epoch (the default) each new worker gets the copy that has counted nothing, and the
# order repeats again. `with_epoch(n)` counts in each worker: with two of them an epoch is 2 n samples, each one twice.
# What helps: `detshuffle=True` with `persistent_workers=True`, or an order of one's own made of seed and epoch.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'numpy==2.3.5' 'webdataset==1.0.2'
"$folder/venv/bin/python" -W ignore - "$folder" <<'PY'
import io
import sys
import tarfile
from collections import Counter

import webdataset as wds
from torch.utils.data import DataLoader

URLS, SAMPLES = [f"{sys.argv[1]}/{shard}.tar" for shard in range(4)], 40
for shard, url in enumerate(URLS):
    with tarfile.open(url, "w") as tar:
        for sample in range(shard * 10, shard * 10 + 10):
            member = tarfile.TarInfo(f"{sample:03d}.txt")
            member.size = 1
            tar.addfile(member, io.BytesIO(b"x"))


def key(sample):
    return sample["__key__"]


def data(shuffle_samples=False, **options):
    pipeline = wds.WebDataset(URLS, shardshuffle=100, seed=3, **options)
    return (pipeline.shuffle(20, seed=3) if shuffle_samples else pipeline).map(key)


def workers(dataset, **options):
    return DataLoader(dataset, batch_size=None, num_workers=2, **options)


cases = {
    "seeded shards": (data(), True),
    "seeded shards and samples": (data(shuffle_samples=True), True),
    "seeded shards and samples, two workers": (workers(data(shuffle_samples=True), persistent_workers=True), True),
    "detshuffle": (data(detshuffle=True), False),
    "detshuffle, two workers": (workers(data(detshuffle=True)), True),
    "detshuffle, two workers that stay": (workers(data(detshuffle=True), persistent_workers=True), False),
}
for name, (loader, expected) in cases.items():
    epochs = [list(loader) for _ in range(3)]
    assert all(len(epoch) == len(set(epoch)) == SAMPLES for epoch in epochs)
    alike = epochs[0] == epochs[1] == epochs[2]
    print(f"{name}: three epochs in the same order: {alike}")
    assert alike == expected
counts = Counter(workers(data().with_epoch(SAMPLES)))
print(f"with_epoch({SAMPLES}), two workers: {counts.total()} samples of {SAMPLES}")
assert counts.total() == 2 * SAMPLES
print("as described")
PY
