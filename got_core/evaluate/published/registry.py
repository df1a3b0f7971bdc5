"""Which published benchmarks there are.

Belongs here: their names, and what each needs downloaded. Not here: opening them (`pictures`, `edits`,
`answers`). Loads no network and no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from got_core.evaluate.emu_edit.emu import EmuEdit
from got_core.evaluate.emu_edit.magicbrush import ALL_TURNS, MagicBrush
from got_core.evaluate.geneval.prompts import PUBLISHED_SHA256
from got_core.evaluate.geneval2.prompts import PUBLISHED_SHA256 as QUESTIONS_SHA256
from got_core.evaluate.geneval2.questions import SCRIPT_SHA256
from got_core.evaluate.judged_names import is_own
from got_core.evaluate.network_profiles import BASE, CLIP_B32, CLIP_L14, DINO_S16, LARGE, Profile
from got_core.evaluate.network_profiles import PublishedNetwork as _Network
from got_core.evaluate.published.answers import QUESTIONS, SCRIPT, TOKENIZER, QuestionOpener
from got_core.evaluate.published.benchmark import PublishedBenchmark
from got_core.evaluate.published.downloads import SETTING, Download
from got_core.evaluate.published.edits import EditOpener, network_path
from got_core.evaluate.published.judged import own_benchmarks, own_named, shipped_benchmarks
from got_core.evaluate.published.masked import reason_edit_masked
from got_core.evaluate.published.pictures import DETECTOR, METADATA, open_geneval

_HUB = "huggingface.co"
_MAGIC_SOURCE = "the archive that github.com/OSU-NLP-Group/MagicBrush links to"
_EMU_DATA, _MAGIC_DATA = "emu_edit_test_set", "magicbrush"
_LICENCES = {CLIP_B32: "see its card", CLIP_L14: "see its card", DINO_S16: "Apache-2.0"}


def _network(network: _Network) -> Download:
    return Download(
        what=f"folder of {network.name.rpartition('/')[2]} with config.json, preprocessor_config.json, "
        "safetensors and, for CLIP, its tokenizer",
        where=f"{_HUB}/{network.name}",
        licence=_LICENCES[network],
        path=network_path(network),
        judging=True,
    )


def _networks(profile: Profile) -> tuple[Download, ...]:
    return tuple(_network(one) for one in (profile.clip, profile.dino) if one is not None)


_EMU_EDIT = Download(
    what="folder of Emu-Edit's test set in parquet",
    where=f"{_HUB}/datasets/{EmuEdit.data}",
    licence="CC-BY-NC 4.0",
    path=_EMU_DATA,
)
_MAGICBRUSH = (
    Download(
        what="MagicBrush's unpacked test set: edit_sessions.json and images/",
        where=_MAGIC_SOURCE,
        licence="CC-BY-4.0",
        path=_MAGIC_DATA,
    ),
    Download(
        what="MagicBrush's local descriptions of targets",
        where=f"{_MAGIC_SOURCE}, in the same archive",
        licence="CC-BY-4.0",
        path=f"{_MAGIC_DATA}/local_descriptions.json",
    ),
)


def _emu_edit(name: str, profile: Profile) -> PublishedBenchmark:
    return PublishedBenchmark(
        name=f"emu_edit/{name}",
        folder="published/emu_edit",
        files=(_EMU_EDIT, *_networks(profile)),
        unit="edits",
        opener=EditOpener(
            kind=EmuEdit, profile=profile, data=_EMU_DATA, setting="all", figures=("clip_dir", "clip_t")
        ),
        judged_by=f"CLIP-dir, CLIP-T and others with {profile.name}",
    )


def _magicbrush(name: str, profile: Profile) -> PublishedBenchmark:
    return PublishedBenchmark(
        name=f"magicbrush/{name}",
        folder="published/magicbrush",
        files=(*_MAGICBRUSH, *_networks(profile)),
        unit="edits",
        opener=EditOpener(
            kind=MagicBrush,
            profile=profile,
            data=_MAGIC_DATA,
            setting=ALL_TURNS,
            figures=("clip_i", "clip_t", "dino"),
        ),
        judged_by=f"CLIP-I, CLIP-T and others against targets, with {profile.name}",
    )


GENEVAL = PublishedBenchmark(
    name="geneval",
    folder="published/geneval",
    files=(
        Download(
            what="GenEval's 553 prompts, prompts/evaluation_metadata.jsonl",
            where="github.com/djghosh13/geneval",
            licence="MIT",
            path=METADATA,
            sha256=PUBLISHED_SHA256,
        ),
        Download(
            what="folder of the detector with config.json, preprocessor_config.json and safetensors",
            where=f"{_HUB}/facebook/mask2former-swin-small-coco-instance",
            licence="see its card",
            path=DETECTOR,
            judging=True,
        ),
        _network(CLIP_L14),
    ),
    unit="pictures",
    opener=open_geneval,
    judged_by="GenEval's rules over what Mask2Former and CLIP find, or a file says",
)

_GENEVAL2_SOURCE = "github.com/facebookresearch/GenEval2"
_GENEVAL2_LICENCE = "CC BY-NC 4.0"
_QUESTIONS = Download(
    what="GenEval 2's 800 prompts with 6,012 questions, geneval2_data.jsonl",
    where=_GENEVAL2_SOURCE,
    licence=_GENEVAL2_LICENCE,
    path=QUESTIONS,
    sha256=QUESTIONS_SHA256,
)
_WORDING = (
    Download(
        what="GenEval 2's evaluation.py, of which the wording of questions is read",
        where=_GENEVAL2_SOURCE,
        licence=_GENEVAL2_LICENCE,
        path=SCRIPT,
        sha256=SCRIPT_SHA256,
        judging=True,
    ),
    Download(
        what="tokenizer.json of the judge",
        where=f"{_HUB}/Qwen/Qwen3-VL-8B-Instruct",
        licence="see its card",
        path=TOKENIZER,
        judging=True,
    ),
)


def _geneval2(*, published: bool) -> PublishedBenchmark:
    way = "the published way, sums of first tokens" if published else "numbers in digits, each spelling once"
    return PublishedBenchmark(
        name="geneval2/published" if published else "geneval2",
        folder="published/geneval2",
        files=(_QUESTIONS, *(_WORDING if published else ())),
        unit="pictures",
        opener=QuestionOpener(published=published),
        judged_by=f"a vision model's log-probabilities (GOT_JUDGE_URL), asked {way}",
        by_server=True,
    )


PUBLISHED = (
    GENEVAL,
    _emu_edit("base", BASE),
    _emu_edit("large", LARGE),
    _magicbrush("base", BASE),
    _magicbrush("large", LARGE),
    _geneval2(published=False),
    _geneval2(published=True),
    *shipped_benchmarks(),
    reason_edit_masked(_network(CLIP_L14)),
    reason_edit_masked(_network(CLIP_L14), published=True),
)
PUBLISHED_NAMES = tuple(one.name for one in PUBLISHED)


def published_benchmark(name: str, place: Path | None = None) -> PublishedBenchmark:
    """The published benchmark of this name, or the user's own such as `judged/my_edits` below `place`
    (GOT_BENCHMARKS). Raises ValueError, which lists the names, and DefinitionError."""
    if is_own(name):
        if place is None:
            raise ValueError(f"{name} is a folder below {SETTING}, which is not set")
        return own_named(name, place)
    found = next((one for one in PUBLISHED if one.name == name), None)
    if found is None:
        raise ValueError(f"there is no published benchmark {name}; there are {', '.join(PUBLISHED_NAMES)}")
    return found


def published_benchmarks(
    names: Sequence[str] = (), place: Path | None = None
) -> tuple[PublishedBenchmark, ...]:
    """Those of these names, or all for none, a user's own below `place` among them. Raises as
    `published_benchmark`."""
    if not names:
        return (*PUBLISHED, *(own_benchmarks(place) if place is not None else ()))
    return tuple(published_benchmark(name, place) for name in names)
