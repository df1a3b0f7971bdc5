"""The whole chain of evidence behind one cell, as plain data.

Belongs here: the record, and putting it together from the cell, its picture, the model and the training data.
Not here: each of those (`cells`, `pictures`, `neighbours`), or showing it (`text`). Nothing that is missing
is an error: it is said in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from got_core.evaluate.why.address import sample_address, why_command
from got_core.evaluate.why.cells import Cell
from got_core.evaluate.why.neighbours import Neighbour
from got_core.evaluate.why.pictures import GONE, HIDDEN, OpenStorage, PictureFile, image_of, picture_of
from got_core.evaluate.why.readings import Judged, Verdict
from got_core.evaluate.why.values import FoundObject

if TYPE_CHECKING:
    from PIL import Image

    from got_core.chain.grammar import Chain

NO_PLAN = "drawn without a plan"


@dataclass(frozen=True, kw_only=True)
class ProtocolRecord:
    """Under what the cell was judged, and where its scores lie."""

    name: str | None
    digest: str | None
    version: int | None
    scores: str | None
    """URL of the folder."""

    complete: bool | None
    judge: str | None
    """What judges: a detector, networks or a model behind a server."""


@dataclass(frozen=True, kw_only=True)
class ModelRecord:
    """The model that drew the picture, and where it comes from."""

    weights_hash: str | None
    name: str | None = None
    """`models:/got/3`, or what its scores call it."""

    aliases: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()
    """Content hashes of the training manifests of all its stages."""

    stages: tuple[str, ...] = ()
    """Folders of its stages in the storage, each with `@` and the manifest that it was trained on."""

    recipe: str | None = None
    git_commit: str | None = None
    mlflow_run_id: str | None = None
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PlannedBox:
    """A box of the plan, corners in 0..999."""

    phrase: str
    box: tuple[int, int, int, int]
    color: str


@dataclass(frozen=True, kw_only=True)
class PlanRecord:
    """The plan that the picture was drawn from, and its faults."""

    chain: str | None
    boxes: tuple[PlannedBox, ...] = ()
    correct: bool | None = None
    faults: tuple[str, ...] = ()
    reason: str | None = None
    dropped: tuple[str, ...] = ()
    """What the model wrote besides, and no chain can hold."""

    figures: Mapping[str, float] = field(default_factory=dict)
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """The picture."""

    name: str | None
    url: str | None
    sha256: str | None
    state: str
    width: int | None = None
    height: int | None = None
    fault: str | None = None
    """Why the drawing left it empty."""


@dataclass(frozen=True, kw_only=True)
class SourceRecord:
    """Of an edit: the picture that was to be edited, and what is known of the right answer."""

    what: str | None = None
    """In words: the scene, or the caption of the picture."""

    place: str | None = None
    """URL or name of the picture; None where it is made from a seed."""

    sha256: str | None = None
    steps: tuple[str, ...] = ()
    """What is to be done, one line for each step."""

    true_chain: str | None = None
    """The plan as the training data have it for the true source and target."""

    target: str | None = None
    """A right result, in words."""

    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class SourceFound:
    """A source with its pictures, which are no plain data."""

    record: SourceRecord
    image: Image.Image | None = None
    target: Image.Image | None = None
    true_boxes: tuple[tuple[tuple[float, float, float, float], str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training pictures nearest to the picture."""

    neighbours: tuple[Neighbour, ...] = ()
    searched: int = 0
    """Pictures that were compared."""

    hidden: int = 0
    """As near ones that are not shown: they were taken down."""

    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that is known of a cell."""

    address: str
    command: str
    benchmark: str
    sample_id: str
    task: str | None
    verdict: Verdict
    figure: str | None
    protocol: ProtocolRecord
    model: ModelRecord
    prompt: str | None
    asks: str | None
    plan: PlanRecord
    seed: int | None
    sampling_seed: int | None
    picture: PictureRecord
    source: SourceRecord | None
    found: tuple[FoundObject, ...] | None
    judged: Judged | None
    training: Training
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @property
    def missing(self) -> list[str]:
        """All that should be there and is not, one line each."""
        model, source = self.model.missing, self.source.missing if self.source else ()
        plan = [self.plan.missing] if self.plan.missing else []
        picture = [] if self.picture.url and self.picture.width else [f"the picture: {self.picture.state}"]
        near = [line for one in self.training.neighbours for line in one.missing]
        return [*model, *plan, *picture, *source, *self.training.missing, *near]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """Evidence with the pictures that a sheet of it shows."""

    evidence: Evidence
    picture: Image.Image | None = None
    source: SourceFound | None = None
    chain: Chain | None = None


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """Where evidence is looked for besides the cell itself."""

    open_storage: OpenStorage
    model: Callable[[Cell, PictureFile], ModelRecord]
    source: Callable[[Cell, PictureFile], SourceFound | None]
    """Of edits; None for a benchmark without sources."""

    training: Callable[[Image.Image, ModelRecord], Training]
    hidden: Collection[str] = ()
    """Ids of pictures, pairs and chains that were taken down."""


def evidence(cell: Cell, around: Surroundings) -> Shown:
    """The chain of evidence behind a cell. Never raises for what is missing."""
    reading = cell.reading
    file = picture_of(cell, around.open_storage, around.hidden)
    image = image_of(file.data) if file.data else None
    model = around.model(cell, file)
    source = around.source(cell, file)
    chain, plan = _plan(cell, file)
    record = file.record
    made = Evidence(
        address=sample_address(_benchmark(cell), reading.name),
        command=why_command(_benchmark(cell), reading.name, model=_model_option(model)),
        benchmark=_benchmark(cell),
        sample_id=reading.sample_id,
        task=reading.task,
        verdict=reading.verdict,
        figure=cell.figure,
        protocol=_protocol(cell),
        model=model,
        prompt=reading.prompt or _text(record.get("prompt")),
        asks=reading.asks,
        plan=plan,
        seed=reading.seed if reading.seed is not None else _whole(record.get("seed")),
        sampling_seed=reading.sampling_seed,
        picture=_picture(file, image),
        source=source.record if source else None,
        found=reading.found,
        judged=reading.judged,
        training=_training(around, image, file, model),
        notes=cell.notes,
    )
    return Shown(evidence=made, picture=image, source=source, chain=chain)


def _benchmark(cell: Cell) -> str:
    return cell.result.benchmark if cell.result else "picture"


def _model_option(model: ModelRecord) -> str | None:
    return None if "champion" in model.aliases else model.name or (model.weights_hash or "")[:12] or None


def _protocol(cell: Cell) -> ProtocolRecord:
    scores = cell.result.scores if cell.result else {}
    record = scores.get("protocol_record")
    return ProtocolRecord(
        name=_text(scores.get("protocol")),
        digest=_text(scores.get("protocol_digest")),
        version=_whole(record.get("version")) if isinstance(record, dict) else None,
        scores=cell.result.folder.url if cell.result else None,
        complete=scores["complete"] if isinstance(scores.get("complete"), bool) else None,
        judge=_judge(record if isinstance(record, dict) else {}),
    )


def _judge(record: Mapping[str, Any]) -> str | None:
    """What a protocol says that it judges by."""
    detector = record.get("detector")
    names = [_text(detector.get("name"))] if isinstance(detector, dict) else []
    networks = record.get("networks")
    for network in networks.values() if isinstance(networks, dict) else ():
        if isinstance(network, dict):
            revision = _text(network.get("revision"))
            named = _text(network.get("name"))
            names.append(f"{named} ({revision})" if named and revision and revision != named else named)
    return ", ".join(dict.fromkeys(name for name in names if name)) or None


def _plan(cell: Cell, file: PictureFile) -> tuple[Chain | None, PlanRecord]:
    from got_core.chain.grammar import parse_tolerant

    planned = cell.reading.plan
    written = planned.chain if planned.chain is not None else file.record.get("chain")
    if not isinstance(written, str):
        return None, PlanRecord(chain=None, missing=_no_plan(cell, file), **_judged_plan(cell))
    chain, _ = parse_tolerant(written)
    boxes = tuple(
        PlannedBox(phrase=one.phrase, box=(one.box.x1, one.box.y1, one.box.x2, one.box.y2), color=one.color)
        for one in chain.boxes
    )
    without = NO_PLAN if not written and _without_plans(cell) else None
    return chain, PlanRecord(
        chain=chain.to_data(), boxes=boxes, dropped=_dropped(file), missing=without, **_judged_plan(cell)
    )


def _judged_plan(cell: Cell) -> dict[str, Any]:
    plan = cell.reading.plan
    return {"correct": plan.correct, "faults": plan.faults, "reason": plan.reason, "figures": plan.figures}


def _no_plan(cell: Cell, file: PictureFile) -> str:
    if _without_plans(cell):
        return NO_PLAN
    if file.state == HIDDEN:
        return HIDDEN
    if file.state == GONE:
        return "the table keeps no plan, and the picture, whose file would say it, is gone"
    return "the picture's file says of no plan: another program drew it"


def _without_plans(cell: Cell) -> bool:
    record = cell.result.scores.get("protocol_record") if cell.result else None
    return isinstance(record, dict) and record.get("plan") is False


def _dropped(file: PictureFile) -> tuple[str, ...]:
    rows = file.record.get("dropped")
    said = [one for one in rows if isinstance(one, list) and len(one) == 3] if isinstance(rows, list) else []
    return tuple(f"{one[1]!r} ({one[2]})" for one in said)


def _picture(file: PictureFile, image: Image.Image | None) -> PictureRecord:
    state = file.state if image or not file.data else "there, and cannot be read"
    return PictureRecord(
        name=file.name,
        url=file.url,
        sha256=file.sha256,
        state=state,
        width=image.width if image else None,
        height=image.height if image else None,
        fault=_text(file.record.get("fault")),
    )


def _training(
    around: Surroundings, image: Image.Image | None, file: PictureFile, model: ModelRecord
) -> Training:
    if image is None:
        return Training(missing=("without the picture nothing is compared with the training pictures",))
    if file.record.get("fault"):
        return Training(missing=("the picture is empty: it is compared with no training picture",))
    return around.training(image, model)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
