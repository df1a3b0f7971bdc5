"""Evidence for a terminal of 80 columns.

Belongs here: words and lines. Not here: what they say (`evidence`). All texts come from files of others, so
no control character, direction mark or half of a pair leaves this module.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Mapping

from got_core.evaluate.why.address import sample_address
from got_core.evaluate.why.cells import Failed
from got_core.evaluate.why.evidence import Evidence, SourceRecord, Training
from got_core.evaluate.why.neighbours import Annotation, Neighbour
from got_core.evaluate.why.pictures import THERE
from got_core.evaluate.why.readings import Answer, Judged, Reading, Verdict
from got_core.evaluate.why.values import FoundObject

WIDTH = 80
_LABEL = 11
_MOST_TEXT = 1200
"""Characters of one text that are shown; --json has all."""
_MOST_FOUND = 16
_MOST_ANSWERS = 20


def plain(text: object) -> str:
    """A text on one line that a terminal shows as it is: what it would act on is spelled out."""
    return "".join(one if one.isprintable() else _spelled(one) for one in str(text))


def _spelled(one: str) -> str:
    if one in "\n\t":
        return " "
    return f"\\x{ord(one):02x}" if ord(one) < 256 else f"\\u{ord(one):04x}"


def evidence_text(one: Evidence) -> str:
    """All of it, a label on the left of each part."""
    lines = [f"{plain(one.address)}: {_headline(one.verdict)}", ""]
    for label, texts in _parts(one):
        lines += _labelled(label, texts)
    return "\n".join(lines)


def _headline(verdict: Verdict) -> str:
    cause = f" ({plain(verdict.cause).replace('_', ' ')})" if verdict.cause else ""
    value = f", {verdict.value:.3f}" if verdict.value is not None and verdict.state == "measured" else ""
    return f"{verdict.state}{cause}{value}"


def _parts(one: Evidence) -> Iterator[tuple[str, list[str]]]:
    yield "verdict", list(_verdict(one))
    yield "prompt", [_cut(one.prompt) if one.prompt else "not known"]
    if one.asks:
        yield "asks for", [_cut(one.asks)]
    yield "plan", list(_plan(one))
    yield "seed", [_seed(one)]
    yield "picture", list(_picture(one))
    if one.source is not None:
        yield "source", list(_source(one.source))
    if one.found is not None:
        yield "found", list(_found(one.found))
    if one.judged is not None:
        yield "judge", list(_judge(one.judged))
    yield "protocol", list(_protocol(one))
    yield "model", list(_model(one))
    yield "training", list(_training(one.training)) or ["not asked for"]
    if one.notes:
        yield "notes", [*one.notes]


# -- parts -------------------------------------------------------------------------------------------


def _verdict(one: Evidence) -> Iterator[str]:
    yield one.verdict.reason or (
        "it is as asked for" if one.verdict.state == "right" else "no reason is kept"
    )
    if one.task:
        yield f"task {one.task}"
    if figures := _figures(one.verdict.figures):
        yield figures
    if one.figure:
        yield f"asked for: {one.figure}"


def _figures(figures: Mapping[str, float | str]) -> str:
    shown = (
        f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in figures.items()
    )
    return ", ".join(shown).replace("_", " ")


def _plan(one: Evidence) -> Iterator[str]:
    plan = one.plan
    if plan.missing:
        yield plan.missing
    if plan.chain is not None and not plan.missing:
        yield _cut(plan.chain) or "empty: the model wrote nothing that a chain can hold"
    for box in plan.boxes:
        yield f"- {box.phrase or 'no phrase'} {_corners(box.box)} {box.color}"
    if plan.correct is not None:
        yield "it is right" if plan.correct else f"faults: {', '.join(plan.faults) or 'of no kind'}"
    if plan.reason:
        yield _cut(plan.reason)
    if plan.dropped:
        yield f"written besides: {_cut('; '.join(plan.dropped))}"
    if plan.figures:
        yield _figures(plan.figures)


def _corners(box: Iterable[float]) -> str:
    x1, y1, x2, y2 = (f"{side:g}" for side in box)
    return f"({x1},{y1}),({x2},{y2})"


def _seed(one: Evidence) -> str:
    if one.seed is None:
        return "not known"
    sampling = "" if one.sampling_seed is None else f", sampling seed {one.sampling_seed}"
    return f"{one.seed}{sampling}"


def _picture(one: Evidence) -> Iterator[str]:
    picture = one.picture
    if picture.url:
        yield picture.url
    size = f"{picture.width} x {picture.height} pixels" if picture.width else ""
    state = "" if picture.state == THERE else picture.state
    yield ", ".join(filter(None, [state, size, f"SHA-256 {picture.sha256[:12]}" if picture.sha256 else ""]))
    if picture.fault:
        yield f"empty: {picture.fault}"


def _source(source: SourceRecord) -> Iterator[str]:
    if source.place:
        yield source.place
    if source.what:
        yield _cut(source.what)
    yield from (f"step {number}: {step}" for number, step in enumerate(source.steps, start=1))
    if source.target:
        yield f"a right result: {_cut(source.target)}"
    if source.true_chain:
        yield f"true plan: {_cut(source.true_chain)}"
    yield from source.missing


def _found(found: tuple[FoundObject, ...]) -> Iterator[str]:
    if not found:
        yield "nothing"
    for one in found[:_MOST_FOUND]:
        score = "" if one.score is None else f" {one.score:.2f}"
        box = _corners(round(side, 1) for side in one.box)
        yield f"- {' '.join(filter(None, [one.color, one.name]))}{score} {box} px"
    if len(found) > _MOST_FOUND:
        yield f"and {len(found) - _MOST_FOUND} more (--json has all)"


def _judge(judged: Judged) -> Iterator[str]:
    if judged.judge:
        yield f"{judged.judge}{f', asked {judged.asked}' if judged.asked else ''}"
    for one in judged.answers[:_MOST_ANSWERS]:
        yield _answer(one)
    if not judged.answers:
        yield "it was asked nothing"
    if len(judged.answers) > _MOST_ANSWERS:
        yield f"and {len(judged.answers) - _MOST_ANSWERS} more (--json has all)"


def _answer(one: Answer) -> str:
    value = "" if one.value is None else f" {one.value:.3f}"
    said = "no reply is kept" if one.reply is None else f'"{_cut(one.reply)}"'
    expected = "" if one.expected is None else f" (expected: {one.expected})"
    asked = f"- {_cut(one.question)} " if one.question else ""
    return f"{asked}{said}{value}{expected}{f': {one.unscored}' if one.unscored else ''}"


def _protocol(one: Evidence) -> Iterator[str]:
    protocol = one.protocol
    if protocol.name is None:
        yield "none: no score table has this picture"
        return
    yield f"{protocol.name} {protocol.digest}, version {protocol.version}"
    if protocol.judge:
        yield f"judged by {protocol.judge}"
    if protocol.scores:
        yield protocol.scores
    if protocol.complete is False:
        yield "a partial score"


def _model(one: Evidence) -> Iterator[str]:
    model = one.model
    aliases = f" ({', '.join(model.aliases)})" if model.aliases else ""
    yield f"{model.name or 'not registered'}{aliases}"
    if model.weights_hash:
        yield f"weights {model.weights_hash[:16]}"
    yield from (f"manifest {digest[:16]}" for digest in model.manifests)
    facts = {
        "recipe": model.recipe,
        "commit": (model.git_commit or "")[:12],
        "MLflow run": model.mlflow_run_id,
    }
    if text := ", ".join(f"{name} {value}" for name, value in facts.items() if value):
        yield text
    yield from model.missing


def _training(training: Training) -> Iterator[str]:
    if training.searched:
        hidden = f"; {training.hidden} as near were taken down and are not shown" if training.hidden else ""
        count = f"the {len(training.neighbours)} nearest of {training.searched} pictures"
        by_clip = any(one.similarity is not None for one in training.neighbours)
        yield f"{count} by perceptual hash{' and by CLIP' if by_clip else ''}{hidden}"
    yield from training.missing
    for number, one in enumerate(training.neighbours, start=1):
        yield from _neighbour(number, one)


def _neighbour(number: int, one: Neighbour) -> Iterator[str]:
    color = "" if one.color is None else f", colours {one.color:.0f} levels"
    clip = "" if one.similarity is None else f", CLIP {one.similarity:.3f}"
    known = {True: "trained on", False: "not trained on", None: "not known whether it was trained on"}
    yield f"{number}. {one.distance} bits{color}{clip}; {known[one.in_manifest]}"
    side = "" if one.pair_id is None else f", {one.side} of pair {one.pair_id[:16]}"
    yield f"  {one.place or one.path or 'path not known'}"
    yield f"  {one.shard}{side}"
    yield f"  id {one.image_id}"
    yield f"  from {one.source or 'not stated'}, licence {one.licence or 'not stated'}"
    for annotation in one.annotations:
        yield from (f"  {line}" for line in _annotation(annotation))
    yield from (f"  {line}" for line in one.missing)


def _annotation(one: Annotation) -> Iterator[str]:
    if one.error:
        yield f"not annotated: {_cut(one.error)}"
        return
    yield f"prompt: {_cut(one.prompt or 'none')}"
    yield f"chain: {_cut(one.chain or 'none')}"
    if one.entities:
        yield f"entities: {_cut(', '.join(one.entities))}"
    curated = {True: "accepted", False: f"rejected by {one.rule}: {one.detail}", None: "curation not known"}
    who = one.annotator or "an annotator that the tables do not name"
    yield f"annotated by {who}; {_cut(curated[one.accepted])}"
    if one.corrected:
        yield f"corrected: {_cut(one.corrected)}"


# -- lines -------------------------------------------------------------------------------------------


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}… ({len(text)} characters)"


def _labelled(label: str, texts: Iterable[str]) -> Iterator[str]:
    """Texts below each other, the label beside the first; two leading blanks indent a text."""
    first = label.ljust(_LABEL)
    for text in texts:
        inner = len(text) - len(text.lstrip(" "))
        shown = plain(text.strip())
        hanging = inner + (2 if shown.startswith("- ") else 0)
        for number, line in enumerate(_wrapped(shown, WIDTH - _LABEL - hanging) or [""]):
            indent = inner if number == 0 else hanging
            yield f"{first}{' ' * indent}{line}".rstrip()
            first = " " * _LABEL


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text; paths, URLs and ids are not broken, so that they can be copied."""
    lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
    return [part for line in lines for part in _parts_of(line, width)]


def _parts_of(line: str, width: int) -> list[str]:
    if len(line) <= width or "/" in line or (line.isascii() and line.isalnum() and len(line) <= 64):
        return [line]
    return [line[start : start + width] for start in range(0, len(line), width)]


# -- failing cells -----------------------------------------------------------------------------------


def failed_text(benchmark: str, found: Failed) -> str:
    """A line for each cell with its address, and below it the prompt."""
    shown = f"; the first {len(found.cells)}" if found.count > len(found.cells) else ""
    head = f"{benchmark}: {found.count} of {found.of} cells, {found.ordered}{shown}"
    return "\n".join([plain(head), *(line for one in found.cells for line in _failed(benchmark, one))])


def _failed(benchmark: str, one: Reading) -> Iterator[str]:
    yield f"{sample_address(benchmark, one.name)}  {plain(one.task or '')}  {_headline(one.verdict)}".rstrip()
    for text in filter(None, (one.prompt, one.verdict.reason)):
        yield from _indented(_cut(text))


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in _wrapped(plain(text), WIDTH - 2)[:3]]
