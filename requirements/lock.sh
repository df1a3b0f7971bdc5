#!/bin/sh
# Writes the lock of every environment: the newest versions inside the ranges of pyproject.toml and deployments/vllm that
# go together, for Python 3.11 and 3.12 and every system at once (lines with markers). `make lock` calls it.
#
# Usage: lock.sh UV, the path of uv. Mirrors and proxies come from UV_* variables and never reach the files.
#
# Out of the locks stay torch and what its CUDA build brings (triton, nvidia-*, cuda-*): pip takes a CPU build on one
# machine and a CUDA build on another, and the range in pyproject.toml is narrow. There are no hashes: pip then wants one of
# everything it installs, torch and this package included, and mirrors may serve builds of their own.
set -eu
uv=$1
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

# lock FILE TITLE USE ARGUMENT...
lock() {
    file=$1 title=$2 use=$3
    shift 3
    echo "resolving $file ..." >&2
    "$uv" pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-header --no-annotate \
        --overrides requirements/overrides.txt "$@" >"$new/resolved"
    {
        echo "# $title: $use"
        echo "# Made by \`make lock\`, see requirements/lock.sh: change ranges in pyproject.toml or deployments/vllm, not this."
        sed -E -e '/^(--|#|torch==|triton==|nvidia-|cuda-)/d' -e 's/^([^ ;]+)\+[^ ;]+/\1/' "$new/resolved"
    } >"$new/locked"
    cp "$new/locked" "$file"
}

lock requirements/all.txt "Everything but vLLM" "what .venv is installed with" --all-extras pyproject.toml
# Held to the same versions: what the tests ran with is what a consumer of a model gets.
lock requirements/core.txt "The light core" "pip install . -c requirements/core.txt" \
    -c requirements/all.txt pyproject.toml
for build in cpu gpu; do
    lock "deployments/vllm/lock-$build.txt" "vLLM's own environment ($build build)" "see install.sh" \
        "deployments/vllm/requirements-$build.txt"
done
