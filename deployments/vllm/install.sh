#!/bin/sh
# Builds vLLM's own environment. Usage: install.sh [folder], by default .venv-vllm beside this checkout.
#
# VLLM_BUILD=gpu or cpu chooses the build; without it, gpu where nvidia-smi finds one. An environment that is as
# the files of this folder say is left alone, so calling this costs nothing.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${1:-$here/../../.venv-vllm}
python=${PYTHON:-$(command -v python3.11 || command -v python3.12 || command -v python3)}
if [ -z "${VLLM_BUILD:-}" ]; then
    if nvidia-smi -L >/dev/null 2>&1; then VLLM_BUILD=gpu; else VLLM_BUILD=cpu; fi
fi
case $VLLM_BUILD in
    gpu | cpu) ;;
    *) echo "VLLM_BUILD must be gpu or cpu, not '$VLLM_BUILD'" >&2; exit 2 ;;
esac

stamp=$venv/.installed
wanted="$VLLM_BUILD $(cat "$here/install.sh" "$here/torchvision_ops.py" "$here/requirements-$VLLM_BUILD.txt" "$here/lock-$VLLM_BUILD.txt" | cksum)"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then exit 0; fi

echo "installing vLLM ($VLLM_BUILD build) into $venv (3 GB or more, a few minutes) ..."
"$python" -m venv --clear "$venv"
"$venv/bin/python" -m pip install -qq --disable-pip-version-check \
    -r "$here/requirements-$VLLM_BUILD.txt" -c "$here/lock-$VLLM_BUILD.txt"
if [ "$VLLM_BUILD" = cpu ]; then
    # Their PyPI builds need CUDA; importing them fails, and with them vLLM.
    "$venv/bin/python" -m pip uninstall -qq -y torchaudio torchcodec triton
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    cp "$here/torchvision_ops.py" "$site/_torchvision_ops.py"
    echo 'import _torchvision_ops' >"$site/torchvision_ops.pth"
fi
"$venv/bin/python" -c 'import torch, torchvision, vllm'
echo "$wanted" >"$stamp"
