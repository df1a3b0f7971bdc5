"""The page: widgets, and which of them tells what to which.

Belongs here: Gradio. Not here: what is done (`desk`), the canvas (`static`), who may come in (`app`).
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import gradio as gr

from got_core.chain.palette import PALETTE
from got_core.studio.desk import (
    EDIT,
    NEW,
    Desk,
    Studio,
    View,
    canvas_of,
    comparison,
    drawn_sentence,
    number_of,
    picture_of,
    rounds_of,
)
from got_core.studio.feedback import Consent
from got_core.studio.painter import PaintingError, Step
from got_core.studio.pictures import data_url
from got_core.studio.plans import changed_plan

_SCRIPTS = ("konva.min.js", "boxes.js", "canvas.js", "rounds.js")
HEAD = '<link rel="stylesheet" href="/studio/studio.css">' + "".join(
    f'<script src="/studio/{name}"></script>' for name in _SCRIPTS
)
_HOST = '<div class="host"></div>'
_READY = "Ready: write what the picture shows, and press Plan."
_SAVE = """(packed) => { if (!packed) return;
  const [name, type, data] = packed.split("|");
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([bytes], { type }));
  link.download = name; link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000); }"""
_CHANGED = "The plan has changed: press Draw to see it."
_TERMS = "The picture and its plan may be stored with my name and used to train models."
_NUMBERS = {
    "num_inference_steps": "Steps",
    "text_scale": "Strength of prompt and plan",
    "spatial_scale": "Strength of the boxes",
    "reference_scale": "Strength of the source",
}
_FORESEEN = (ValueError, PaintingError, OSError)
_KEPT_SECONDS = 3600
"""For which Gradio keeps uploaded files."""


def make_page(studio: Studio, at_once: int) -> gr.Blocks:
    """The page of a studio; `at_once`: drawings under way together, which share the model's calls."""
    with gr.Blocks(
        title="GoT studio", analytics_enabled=False, delete_cache=(_KEPT_SECONDS, _KEPT_SECONDS)
    ) as page:
        _Page(page, studio, at_once)
    return page.queue(max_size=4 * at_once, api_open=False)


class _Page:
    """The widgets of one page."""

    def __init__(self, page: gr.Blocks, studio: Studio, at_once: int) -> None:
        self.page, self.studio = page, studio
        self.desk = gr.State(Desk())
        # Not inside of what is closed at first: there the browser has not read it when the page is loaded.
        self.terms = gr.BrowserState({"agreed": False, "who": "", "licence": "CC0-1.0"}, "got-studio-terms")
        with gr.Row():
            with gr.Column(scale=2, min_width=280):
                self._asking()
            with gr.Column(scale=3, min_width=320):
                self._canvas()
            with gr.Column(scale=2, min_width=280):
                self._results()
        self.all = [
            self.desk,
            self.canvas,
            self.text,
            self.faults,
            self.rounds,
            self.pair,
            self.said,
        ]
        self._wire(at_once)
        page.load(lambda: _READY, None, [self.said], api_visibility="private")

    # -- widgets ------------------------------------------------------------------------------------------

    def _asking(self) -> None:
        self.mode = gr.Radio([NEW, EDIT], value=NEW, label="1. What to do", elem_id="mode")
        self.prompt = gr.Textbox(
            label="2. What it shows, or what is to change",
            placeholder="a photo of a red circle and a blue square",
            max_lines=1,  # or Enter would not plan
            max_length=4000,
            elem_id="prompt",
        )
        self.plan_button = gr.Button("Plan", variant="primary", elem_id="plan")
        self.said = gr.Textbox(label="What happened", interactive=False, elem_id="said")
        with gr.Accordion("How it is drawn", open=False):
            self.keep_rest = gr.Checkbox(
                True, label="Where only boxes were changed, keep the rest of the picture", elem_id="keep-rest"
            )
            self.keep = gr.Checkbox(True, label="Edits: keep what lies outside of the boxes", elem_id="keep")
            # Text, since a field for numbers shows, and sends, 0 where it is empty.
            self.numbers = [
                gr.Textbox(label=label, placeholder="the model's own", max_lines=1, elem_id=name)
                for name, label in _NUMBERS.items()
            ]
        with gr.Accordion("Files", open=False, elem_id="files"):
            self.upload = gr.UploadButton(
                "Open a picture", type="binary", file_types=["image"], elem_id="upload"
            )
            self.save = gr.Button("Save the project", elem_id="save")
            self.open = gr.UploadButton("Open a project", type="binary", file_types=[".zip"], elem_id="open")
            self.packed = gr.Textbox(visible="hidden")
        with gr.Accordion("Give this plan as training data", open=False, elem_id="give-it"):
            self.agreed = gr.Checkbox(False, label=_TERMS, elem_id="agreed")
            self.who = gr.Textbox(label="Your name", max_length=200, elem_id="who")
            self.licence = gr.Textbox("CC0-1.0", label="Licence", max_length=200, elem_id="licence")
            self.give = gr.Button("Give it", elem_id="give")

    def _canvas(self) -> None:
        gr.Markdown(
            "**3. The plan.** Drag on empty ground: a new box. Drag a box to move it, its edges to resize it."
        )
        self.canvas = gr.HTML(
            {"chain": "", "boxes": [], "ghosts": [], "rev": "start"},
            html_template=_HOST,
            js_on_load="window.GotStudio.canvas(element, props, trigger, watch); // 'input'",
            elem_id="canvas",
            apply_default_css=False,
            picture=None,
            palette=list(PALETTE),
        )
        self.draw_button = gr.Button("4. Draw", variant="primary", elem_id="draw")
        with gr.Row(equal_height=True):
            seed = "Seed: kept, so that the rest stays"
            self.seed = gr.Number(0, label=seed, precision=0, elem_id="seed", min_width=160)
            self.other_seed = gr.Button("Another seed", elem_id="other-seed", min_width=80)
        self.text = gr.Textbox(label="The plan as text", lines=3, max_length=20_000, elem_id="text")
        self.faults = gr.Textbox(label="Checked", lines=3, interactive=False, elem_id="faults")
        self.repair = gr.Button("Repair", elem_id="repair")

    def _results(self) -> None:
        gr.Markdown("**5. Compare, go on, or go back.** Press a picture to go on from it.")
        self.rounds = gr.HTML(
            {"shown": None, "list": []},
            html_template=_HOST,
            js_on_load="window.GotStudio.rounds(element, props, trigger, watch); // 'select', 'download'",
            elem_id="rounds",
            apply_default_css=False,
        )
        self.pair = gr.HTML(
            None,
            html_template=_HOST,
            js_on_load="window.GotStudio.compare(element, props, trigger, watch);",
            elem_id="pair",
            apply_default_css=False,
        )

    # -- what leads to what -------------------------------------------------------------------------------

    def _wire(self, at_once: int) -> None:
        quick: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "queue": False}
        slow: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": at_once}
        planned = [*self.all, self.prompt, self.seed, self.mode]
        asked = [self.desk, self.mode, self.prompt]
        for start in (self.plan_button.click, self.prompt.submit):
            start(self._told(self._plan, planned), asked, planned, concurrency_id="plan", **slow)
        now = [self.desk, self.canvas, self.text, self.prompt]
        moved, written = [self.text, self.faults, self.said], [self.canvas, self.faults, self.said]
        self.canvas.input(self._told(self._moved, moved), now, moved, trigger_mode="always_last", **quick)
        self.text.blur(self._told(self._written, written), now, written, **quick)
        self.repair.click(self._told(self._repair, planned), now, planned, **slow)
        drawn = [self.desk, self.canvas, self.rounds, self.pair, self.said]
        chosen = [*now, self.seed, self.keep_rest, self.keep, *self.numbers]
        self.drawing = self.draw_button.click(
            self._draw, chosen, drawn, concurrency_id="draw", show_progress_on=[self.said], **slow
        )
        self.other_seed.click(_other_seed, None, [self.seed, self.said], **quick)
        self.rounds.select(self._told(self._back, planned), [self.desk], planned, **quick)
        self._saving(self.rounds.download, self._picture, slow)
        self._wire_files(planned, slow)

    def _wire_files(self, planned: list[Any], slow: dict[str, Any]) -> None:
        # What is still being drawn would come back with the session that it began in.
        first: dict[str, Any] = {"fn": None, "cancels": [self.drawing], "api_visibility": "private"}
        for button, act, given in (
            (self.upload, self._upload, [self.desk, self.upload]),
            (self.open, self._open, [self.open]),
        ):
            button.upload(**first).then(self._told(act, planned), given, planned, **slow)
        self._saving(self.save.click, self._project, slow)
        given, kept = [self.desk, self.agreed, self.who, self.licence], [self.said, self.terms]
        self.give.click(self._told(self._give, kept), given, kept, **slow)
        terms = [self.agreed, self.who, self.licence]
        self.page.load(_remembered, [self.terms], terms, api_visibility="private")

    def _saving(self, start: Any, make: Callable[..., tuple[str, str]], options: dict[str, Any]) -> None:
        """Something leads to a file that the browser saves."""
        outputs = [self.packed, self.said]
        made = start(self._told(make, outputs), [self.desk], outputs, **options)
        made.then(None, [self.packed], None, js=_SAVE, api_visibility="private")

    # -- what is done -------------------------------------------------------------------------------------

    def _told(self, act: Callable[..., Any], outputs: list[Any]) -> Callable[..., Any]:
        """The act; where it goes wrong the page says so and stays as it is. Gradio's own messages would
        cover it, and show as HTML what may quote a file or a plan from anywhere."""

        @wraps(act)
        def told(*given: Any) -> Any:
            try:
                return act(*given)
            except _FORESEEN as error:
                return tuple(_not_done(error) if one is self.said else gr.skip() for one in outputs)

        return told

    def _plan(self, desk: Desk, mode: str, prompt: str) -> tuple[Any, ...]:
        return self._view(self.studio.plan(desk, mode, prompt), prompt)

    def _repair(self, desk: Desk, canvas: Any, text: str, prompt: str) -> tuple[Any, ...]:
        return self._view(self.studio.repair(desk, self.studio.now(canvas, text), prompt), prompt)

    def _moved(self, desk: Desk, canvas: Any, text: str, prompt: str) -> tuple[Any, ...]:
        chain = changed_plan(canvas)
        return chain.to_data(), _lines(self.studio.faults(desk, chain, prompt)), _CHANGED

    def _written(self, desk: Desk, canvas: Any, text: str, prompt: str) -> tuple[Any, ...]:
        chain = self.studio.now(canvas, text)
        if chain == changed_plan(canvas):
            return gr.skip(), gr.skip(), gr.skip()
        value = canvas_of(View(desk=desk, chain=chain))
        return gr.update(value=value), _lines(self.studio.faults(desk, chain, prompt)), _CHANGED

    def _draw(self, desk: Desk, canvas: Any, text: str, prompt: str, seed: Any, *rest: Any) -> Iterator[Any]:
        keep_rest, keep, *numbers = rest
        nothing = (gr.skip(), gr.skip())
        try:
            chain = self.studio.now(canvas, text)
            fields = zip(_NUMBERS.items(), numbers, strict=True)
            settings = {name: number_of(written, label) for (name, label), written in fields}
            settings["keep_outside"] = keep or None
            for made in self.studio.draw(desk, chain, prompt, seed, settings, keep_rest=keep_rest):
                if isinstance(made, Step):
                    behind = gr.update(picture=data_url(made.preview)) if made.preview else gr.skip()
                    yield gr.skip(), behind, *nothing, f"Drawing: step {made.done} of {made.of}."
                    continue
                shown = made.shown
                picture = data_url(shown.picture) if shown else None
                behind = gr.update(picture=picture)
                yield made, behind, rounds_of(made), comparison(made), drawn_sentence(desk, made)
        except _FORESEEN as error:
            yield gr.skip(), gr.update(picture=picture_of(desk, prompt)), *nothing, _not_done(error)

    def _back(self, desk: Desk, event: gr.EventData) -> tuple[Any, ...]:
        return self._view(self.studio.go_back(desk, event._data.get("round")))

    def _picture(self, desk: Desk, event: gr.EventData) -> tuple[str, str]:
        one = self.studio.round_of(desk, event._data.get("round"))
        return _packed(f"round-{one.id}.png", "image/png", one.picture)

    def _project(self, desk: Desk) -> tuple[str, str]:
        return _packed("studio-project.zip", "application/zip", desk.project.to_bytes())

    def _upload(self, desk: Desk, data: bytes) -> tuple[Any, ...]:
        return self._view(self.studio.upload(desk, data))

    def _open(self, data: bytes) -> tuple[Any, ...]:
        return self._view(self.studio.open(data))

    def _give(self, desk: Desk, agreed: bool, who: str, licence: str) -> tuple[Any, ...]:
        said = self.studio.give(desk, Consent(who=who, licence=licence, given=agreed))
        return said, {"agreed": agreed, "who": who, "licence": licence}

    def _view(self, view: View, prompt: str | None = None) -> tuple[Any, ...]:
        """`prompt`: what stands on the page, where the view leaves it as it is."""
        written = view.chain.to_data()
        desk, words = view.desk, view.prompt if view.prompt is not None else prompt
        return (
            desk,
            gr.update(value=canvas_of(view), picture=picture_of(desk, words)),
            written,
            _lines(self.studio.faults(desk, view.chain, words or "")),
            rounds_of(desk),
            comparison(desk),
            view.said,
            gr.skip() if view.prompt is None else view.prompt,
            gr.skip() if view.seed is None else view.seed,
            gr.skip() if view.mode is None else view.mode,
        )


def _not_done(error: Exception) -> str:
    return f"Not done: {error}"


def _other_seed() -> tuple[int, str]:
    seed = secrets.randbelow(2**31)
    return seed, f"The seed is {seed} now: press Draw."


def _lines(lines: list[str]) -> str:
    return "\n".join(lines)


def _packed(name: str, kind: str, data: bytes) -> tuple[str, str]:
    """A file on its way to the browser, as `_SAVE` reads it, and what is said."""
    return f"{name}|{kind}|{base64.b64encode(data).decode()}", f"Saved: {name}"


def _remembered(terms: Any) -> tuple[Any, ...]:
    """What was agreed to in this browser before."""
    found = terms if isinstance(terms, dict) else {}
    return bool(found.get("agreed")), str(found.get("who", "")), str(found.get("licence") or "CC0-1.0")
