#!/bin/sh
# transformers 5.19.0: a folder without vocabulary gives a tokenizer of next to no tokens, and no error.
#
# Seen: `from_pretrained` of a local folder in which `tokenizer_config.json` stands alone (the vocabulary left out of a partial copy, or
# kept in another folder of a pipeline) returns a working tokenizer: CLIP's has 2 tokens, BERT's its 5 special ones, Qwen2's one. Every
# prompt of CLIP becomes its first token and as many unknowns as it has letters, numbered 2 although there are only 0 and 1; BERT's prompts
# differ by the number of words alone; those of Qwen2 become nothing at all. `AutoTokenizer` does the same. So scores of pictures
# against texts, and conditions of a diffusion model, are figures about nothing.
# What helps: comparing the length with the model's `vocab_size`, or looking for the files, before a tokenizer is used.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'transformers==5.19.0' 'tokenizers==0.23.3'
HF_HUB_OFFLINE=1 "$folder/venv/bin/python" - <<'PY'
import json
import pathlib
import tempfile

from transformers import AutoTokenizer, BertTokenizer, CLIPTokenizer, Qwen2Tokenizer


def without_vocabulary(loader, kind):
    """What comes of a folder whose tokenizer is configured and not there."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in (("config", {"model_type": "clip"}), ("tokenizer_config", {"tokenizer_class": kind})):
            pathlib.Path(folder, f"{name}.json").write_text(json.dumps(content))
        tokenizer = loader.from_pretrained(folder)
    ids = [tokenizer(text).input_ids for text in ("a red bench", "two old cats")]
    print(f"{loader.__name__} of a {kind}: {len(tokenizer)} tokens, {ids}")
    return len(tokenizer), ids


size, ids = without_vocabulary(CLIPTokenizer, "CLIPTokenizer")
assert size == 2 and [set(one) for one in ids] == [{0, 2}] * 2, "numbers that the vocabulary does not have"
assert without_vocabulary(AutoTokenizer, "CLIPTokenizer") == (size, ids)
size, ids = without_vocabulary(BertTokenizer, "BertTokenizer")
assert size == 5 and ids == [[2, 1, 1, 1, 3]] * 2, "two texts of three words are the same"
assert without_vocabulary(Qwen2Tokenizer, "Qwen2Tokenizer") == (1, [[], []])
print("as described")
PY
