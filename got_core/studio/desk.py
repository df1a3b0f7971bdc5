"""What an artist does, as functions of a session: plan, change, draw, go back, compare, save.

Belongs here: from what the page sends to what it shows. Not here: widgets (`page`), models (`painter`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from got_core.chain.grammar import Chain, Dropped, parse
from got_core.planning.any_prompt import faults_of, repaired
from got_core.registry.picture_file import NoNoteError, read_note
from got_core.studio.feedback import Consent, save_correction
from got_core.studio.painter import Order, Painted, Painter, Step
from got_core.studio.pictures import change_outside, data_url, heat_map
from got_core.studio.plans import (
    PlanError,
    canvas_value,
    changed_plan,
    differences,
    fault_sentence,
    picture_plan,
    text_plan,
    unfinished,
)
from got_core.studio.project import Project, Round, upload_bytes

NEW, EDIT = "New picture", "Change the shown picture"
_SEED_LIMIT = 2**53
"""What a page's number holds exactly."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One artist's session."""

    project: Project = field(default_factory=Project)
    source: int | None = None
    """The round whose picture the plan of now edits; None: a new picture."""

    asked: str = ""
    """The words that the plan answers."""

    planned: str = ""
    """The model's own plan, data form."""

    dropped: tuple[Dropped, ...] = ()

    @property
    def shown(self) -> Round | None:
        """The round that the page shows."""
        return self.project.get(self.project.shown)

    @property
    def edited(self) -> Round | None:
        """The round whose picture is edited."""
        return self.project.get(self.source)

    @property
    def before(self) -> Chain | None:
        """The plan that is being changed: of the shown picture where it answers the same words, else the
        model's own."""
        shown = self.shown
        own = shown is not None and shown.kind == "drawn"
        if shown is not None and own and (shown.prompt, shown.source) == (self.asked, self.source):
            return text_plan(shown.chain)
        return parse(self.planned) if self.planned else None


@dataclass(frozen=True, kw_only=True)
class View:
    """What the page shows after something was done."""

    desk: Desk
    chain: Chain
    said: str = ""
    earlier: Chain | None = None
    """Whose boxes are shown where they were."""

    prompt: str | None = None
    seed: int | None = None
    mode: str | None = None
    """None: as they are."""


@dataclass(frozen=True)
class Studio:
    """All that sessions share. Methods raise PlanError, PaintingError, ProjectError, FeedbackError or
    ValueError with a sentence for the artist."""

    painter: Painter
    feedback: Path

    # -- the plan -----------------------------------------------------------------------------------------

    def plan(self, desk: Desk, mode: str, prompt: str) -> View:
        """The model's plan of a prompt, or of an instruction for the shown picture."""
        source = self._source(desk, mode)
        asked = _prompt(prompt)
        made = self.painter.plan(Order(prompt=asked, source=source.picture if source else None))
        desk = replace(
            desk,
            source=source.id if source else None,
            asked=asked,
            planned=made.chain.to_data(),
            dropped=tuple(made.dropped),
        )
        return View(desk=desk, chain=made.chain, said=_planned(desk, made.chain))

    def _source(self, desk: Desk, mode: str) -> Round | None:
        if mode != EDIT:
            return None
        if desk.shown is None:
            raise PlanError("there is no picture to change yet: draw one, or upload one")
        return desk.shown

    def now(self, canvas: Any, text: str) -> Chain:
        """The plan that the page shows: its text where that was typed since, else the canvas."""
        chain = changed_plan(canvas)
        # The canvas says beside which text it was changed: that one is older than it.
        known = (chain.to_data().strip(), str(canvas.get("seen", "")).strip())
        return chain if text.strip() in known else text_plan(text)

    def faults(self, desk: Desk, chain: Chain, prompt: str) -> list[str]:
        """What is wrong with a plan, and how it differs from the model's; for showing."""
        edited = desk.edited
        image = edited.image if edited else None
        found = faults_of(chain, prompt, edited is not None, desk.dropped, image) if prompt.strip() else None
        faults = [fault_sentence(one, chain) for one in found or ()] + unfinished(chain)
        said = [f"Fault: {one}" for one in faults]
        if found == [] and not faults:
            said = ["No faults found."]
        before = desk.before
        return said + ([f"Changed: {one}" for one in differences(before, chain)] if before else [])

    def repair(self, desk: Desk, chain: Chain, prompt: str) -> View:
        """The plan with its boxes moved to where the prompt wants them."""
        edited = desk.edited
        image = edited.image if edited else None
        better = repaired(chain, prompt, edited is not None, image)
        moved = differences(chain, better)
        said = "Repaired: " + "; ".join(moved) + "." if moved else "Nothing that moving boxes can repair."
        return View(desk=desk, chain=better, earlier=chain, said=said)

    # -- pictures -----------------------------------------------------------------------------------------

    def draw(
        self,
        desk: Desk,
        chain: Chain,
        prompt: str,
        seed: Any,
        settings: Mapping[str, Any],
        *,
        keep_rest: bool = False,
    ) -> Iterator[Step | Desk]:
        """Steps, then the session with a round more. `keep_rest`: where only boxes were changed, the shown
        picture stays outside of them."""
        edited = desk.edited
        if edited is None and not chain.boxes:
            raise PlanError("the plan has no box: press Plan, or drag on the canvas")
        if edited is None and settings.get("keep_outside"):
            settings = {name: value for name, value in settings.items() if name != "keep_outside"}
        order = Order(
            prompt=_prompt(prompt),
            chain=chain,
            source=edited.picture if edited else None,
            earlier=_earlier(desk, prompt, seed) if keep_rest else None,
            seed=seed_of(seed),
            settings={name: value for name, value in settings.items() if value is not None},
        )
        for made in self.painter.draw(order):
            if isinstance(made, Painted):
                yield self._with_picture(desk, order, made)
            else:
                yield made

    def _with_picture(self, desk: Desk, order: Order, made: Painted) -> Desk:
        parent = desk.edited or desk.shown
        project = desk.project.with_round(
            "drawn",
            made.picture,
            parent=parent.id if parent else None,
            source=desk.source,
            prompt=order.prompt,
            chain=order.chain.to_data() if order.chain else "",
            planned=desk.planned,
            seed=order.seed,
            model=made.model,
        )
        return replace(desk, project=project, asked=order.prompt)

    def upload(self, desk: Desk, data: bytes) -> View:
        """A picture to change, with a plan of what is in it: the plan that it was drawn from where it says
        so, else the objects that the scene reader finds."""
        picture = upload_bytes(data)
        desk = replace(desk, project=desk.project.with_round("upload", picture), source=None, dropped=())
        shown = desk.shown
        assert shown is not None
        try:
            note = read_note(picture)
            desk = replace(desk, planned=note.plan().to_data())
            said = "Opened with its own plan."
            own = View(desk=desk, chain=note.plan(), said=said, mode=EDIT)
            return replace(own, prompt=note.prompt, seed=note.seed)
        except NoNoteError:
            desk = replace(desk, planned="")
        try:
            chain = picture_plan(shown.image)
        except PlanError as error:
            return View(desk=desk, chain=Chain(()), said=f"Opened: {error}.", mode=EDIT)
        said = f"Opened: {len(chain.boxes)} objects were found in it. Say what is to change, and press Plan."
        return View(desk=desk, chain=chain, said=said, mode=EDIT)

    def round_of(self, desk: Desk, number: Any) -> Round:
        """A round by its number, as a page has it."""
        found = desk.project.get(number) if type(number) is int else None
        if found is None:
            raise PlanError("there is no such round")
        return found

    def go_back(self, desk: Desk, number: Any) -> View:
        """To an earlier round, and its plan; what is drawn next branches off there."""
        shown = self.round_of(desk, number)
        desk = replace(desk, project=desk.project.showing(shown.id), dropped=())
        desk = replace(desk, source=shown.source, asked=shown.prompt, planned=shown.planned)
        drawn = shown.kind == "drawn"
        return View(
            desk=desk,
            chain=text_plan(shown.chain),
            prompt=shown.prompt if drawn else None,
            seed=shown.seed if drawn else None,
            mode=NEW if drawn and shown.source is None else EDIT,
            said=f"Back at round {number}: {_next_step(shown)}",
        )

    # -- files --------------------------------------------------------------------------------------------

    def open(self, data: bytes) -> View:
        """A saved project."""
        project = Project.from_bytes(data)
        if not project.rounds:
            return View(desk=Desk(project=project), chain=Chain(()), said="Opened: it is empty.")
        last = project.shown if project.shown is not None else project.rounds[-1].id
        return replace(
            self.go_back(Desk(project=project), last), said=f"Opened: {len(project.rounds)} rounds."
        )

    def give(self, desk: Desk, consent: Consent) -> str:
        """The shown picture and its plan into the data set; what was done."""
        if desk.shown is None:
            raise PlanError("there is no picture yet: draw one")
        number = save_correction(self.feedback, desk.shown, consent)
        return f"Saved as row {number[:12]} in {self.feedback.name}."


# -- what the widgets get -----------------------------------------------------------------------------------


def drawn_sentence(before: Desk, after: Desk) -> str:
    """What was drawn, from which plan, and what may come next."""
    shown = after.shown
    if shown is None:
        return ""
    said = f"Drawn: round {shown.id}"
    if before.asked and before.asked != shown.prompt:
        return f'{said}, from the plan of "{before.asked}". Press Plan for one of the new words.'
    return f"{said}: {_next_step(shown)}"


def _next_step(shown: Round) -> str:
    if shown.kind == "upload":
        return "say what is to change, and press Plan."
    if shown.source is not None:
        return f"for the next change say it and press Plan; Draw changes round {shown.source} once more."
    return "move a box and draw again, or say what is to change in it."


def _planned(desk: Desk, chain: Chain) -> str:
    count = len(chain.boxes)
    if not count:
        return "Planned without a box: " + (
            "the whole picture may change." if desk.edited else "drag on the canvas to draw one."
        )
    boxes = f"{count} box{'' if count == 1 else 'es'}"
    if desk.edited:
        return f"Planned: {boxes} where the picture is to change. Correct what is wrong, and draw."
    return f"Planned: {boxes}. Move them to where you want them, and draw."


def picture_of(desk: Desk, prompt: str | None = None) -> str | None:
    """What lies behind the boxes: the shown picture; nothing where a new picture has another prompt."""
    shown = desk.shown
    if shown is None:
        return None
    elsewhere = (
        desk.source is None and shown.kind == "drawn" and prompt is not None and prompt != shown.prompt
    )
    return None if elsewhere else data_url(shown.picture)


def rounds_of(desk: Desk) -> dict[str, Any]:
    """Of the list of rounds."""
    listed = [
        {
            "id": one.id,
            "parent": one.parent,
            "said": _caption(one, desk.project.get(one.parent)),
            "picture": data_url(one.thumbnail),
        }
        for one in desk.project.rounds
    ]
    return {"shown": desk.project.shown, "list": listed}


def _caption(one: Round, parent: Round | None) -> str:
    """What is new in a round: its words, else what of the plan was changed, else its seed."""
    if one.kind == "upload":
        return "uploaded"
    if parent is None or (parent.kind, parent.prompt, parent.source) != (one.kind, one.prompt, one.source):
        return one.prompt
    changed = "; ".join(differences(text_plan(parent.chain), text_plan(one.chain)))
    return changed or (one.prompt if one.seed == parent.seed else f"with seed {one.seed}")


def comparison(desk: Desk) -> dict[str, Any] | None:
    """Of the shown round with the one before it; None where there is none."""
    after = desk.shown
    before = desk.project.get(after.parent) if after else None
    if after is None or before is None:
        return None
    boxes = [placed.box for one in (before, after) for placed in text_plan(one.chain).boxes]
    change = change_outside(before.image, after.image, boxes)
    return {
        "before": data_url(before.picture),
        "after": data_url(after.picture),
        "heat": data_url(heat_map(change)),
        "said": f"Round {before.id} and round {after.id}. Outside of the boxes the pictures differ by "
        f"{change.mean:.1f} levels of 255 on average (median {change.median:.1f}).",
    }


def canvas_of(view: View) -> dict[str, Any]:
    """Of the canvas."""
    return canvas_value(view.chain, view.earlier)


def number_of(text: Any, name: str) -> float | int | None:
    """What a field holds that may be left empty. Raises PlanError."""
    words = str(text or "").strip()
    try:
        return None if not words else int(words) if words.isdecimal() else float(words)
    except ValueError as error:
        raise PlanError(f"{name} must be a number, or left empty: {words[:40]!r} is none") from error


def _earlier(desk: Desk, prompt: str, seed: Any) -> bytes | None:
    """The shown picture, where it answers the same prompt with the same seed and, of an edit, source."""
    shown = desk.shown
    if shown is None or shown.kind != "drawn":
        return None
    same = (shown.prompt, shown.seed, shown.source) == (_prompt(prompt), seed_of(seed), desk.source)
    return shown.picture if same else None


def seed_of(value: Any) -> int:
    """A seed as a page has it. Raises PlanError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise PlanError("the seed must be a whole number")
    if value != int(value) or not 0 <= value < _SEED_LIMIT:
        raise PlanError(f"the seed must be a whole number from 0 to {_SEED_LIMIT - 1}")
    return int(value)


def _prompt(text: str) -> str:
    if not isinstance(text, str) or not text.strip():
        raise PlanError("write first what the picture shows")
    return text.strip()
