#!/bin/sh
# Starts a vLLM server that the annotator can talk to. Usage: serve.sh MODEL [argument of vLLM ...]
#
# MODEL is a folder, or a name that vLLM downloads. The server listens on 127.0.0.1:8000 unless --host and --port
# say otherwise; VLLM_API_KEY is the bearer token that it asks for. What is given behind MODEL goes to vLLM and
# wins over the values below.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
venv=${VLLM_VENV:-$here/../../.venv-vllm}
if [ $# -lt 1 ]; then
    echo "usage: serve.sh MODEL [argument of vLLM ...]" >&2
    exit 2
fi
if [ ! -f "$venv/.installed" ]; then
    echo "no vLLM in $venv: run $here/install.sh first" >&2
    exit 2
fi
model=$1
shift

export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
read -r build _ <"$venv/.installed"
if [ "$build" = cpu ]; then
    # GiB for keys and values. Without --enforce-eager the server compiles for minutes.
    export VLLM_CPU_KVCACHE_SPACE=${VLLM_CPU_KVCACHE_SPACE:-1}
    set -- --dtype float32 --enforce-eager --max-num-seqs 16 "$@"
fi
# A question has one picture at most; the longest has about 2,000 tokens of text, 1,400 of a picture of 1024 x 1024
# and a reply of 1,280. Sampling is what the annotator asks for, not what the model's generation_config adds. White
# space between the parts of JSON stays out: a weak model would write it until the limit.
exec "$venv/bin/python" -m vllm.entrypoints.openai.api_server \
    --model "$model" --served-model-name "$model" --host 127.0.0.1 --port 8000 \
    --max-model-len 8192 --limit-mm-per-prompt '{"image": 1, "video": 0}' --generation-config vllm \
    --structured-outputs-config '{"backend": "xgrammar", "disable_any_whitespace": true}' "$@"
