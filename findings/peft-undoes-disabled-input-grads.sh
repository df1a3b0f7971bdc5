#!/bin/sh
# peft 0.21.2 with transformers 5.19.0: attaching adapters undoes an earlier `disable_input_require_grads()`, and a vision tower that is
# frozen whole is then run backward.
#
# Seen: `get_peft_model` on a model whose gradient checkpointing is on asks it again to make its inputs need a gradient. On Qwen2.5-VL
# transformers hooks the patch embedding of the vision tower too, not only the token embedding. No parameter there is trained, yet the
# patches need a gradient, so every backward pass goes through the whole tower: more work and memory, the same results, no message.
# What helps: attach adapters first, turn checkpointing on behind them, and only then call `disable_input_require_grads()`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'torch==2.13.0' 'transformers==5.19.0' 'peft==0.21.2'
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

CONFIG = Qwen2_5_VLConfig(
    text_config=dict(
        hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, intermediate_size=64, vocab_size=128,
        rope_parameters={"rope_type": "default", "rope_theta": 1e4, "mrope_section": [4, 6, 6]},
    ),
    vision_config=dict(depth=1, hidden_size=32, num_heads=2, intermediate_size=32, out_hidden_size=64, patch_size=14),
)
LORA = LoraConfig(r=2, target_modules=r".*language_model.*\.q_proj")


def patches_need_a_gradient(checkpointing_first):
    model = Qwen2_5_VLForConditionalGeneration(CONFIG)

    def checkpointing():
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.disable_input_require_grads()

    if checkpointing_first:
        checkpointing()
    get_peft_model(model, LORA)
    if not checkpointing_first:
        checkpointing()
    visual = model.model.visual
    assert not any(p.requires_grad for p in visual.parameters())
    return visual.patch_embed(torch.zeros(4, 3 * 2 * 14 * 14)).requires_grad


before, behind = patches_need_a_gradient(True), patches_need_a_gradient(False)
print(f"all of the vision tower is frozen; its patches need a gradient: adapters last {before}, checkpointing last {behind}")
assert before and not behind
print("as described")
PY
