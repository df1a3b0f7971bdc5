"""A studio in a thread and a browser before it, by what a person sees and presses."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn

from got_core.server_settings import StudioSettings
from got_core.studio.app import make_app
from got_core.studio.desk import Studio
from tests.ports import free_port

Corners = tuple[int, int, int, int]
_CORNERS = r"\((\d+),(\d+)\),\((\d+),(\d+)\)"
_IN_STEP = r"""() => {
    const text = document.querySelector('#text textarea').value;
    const rows = [...document.querySelectorAll('#canvas .layers li')];
    const places = [...text.matchAll(/\((\d+),(\d+)\),\((\d+),(\d+)\)/g)].map(one => one.slice(1).join(','));
    return places.join(' ') === rows.map(row => row.dataset.box).join(' ')
        && rows.every(row => text.includes(row.querySelector('.phrase').value));
}"""
WAIT = 60_000
"""Milliseconds for anything on the page: machines may be slow."""


@contextmanager
def shown(studio: Studio, **settings: Any) -> Iterator[str]:
    """The URL of a studio's page."""
    chosen = StudioSettings(port=free_port(), **settings)
    server = uvicorn.Server(uvicorn.Config(make_app(studio, chosen), port=chosen.port, log_level="critical"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the studio did not start"
        thread.join(0.02)
    try:
        yield f"http://127.0.0.1:{chosen.port}/"
    finally:
        server.should_exit = server.force_exit = True
        thread.join(30)


@contextmanager
def browser() -> Iterator[Any]:
    """Debian's chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield opened
        opened.close()


@dataclass
class Artist:
    """Somebody before the page."""

    page: Any
    messages: list[str]
    asked: set[Any] = field(default_factory=set)
    """Requests that are not answered yet."""

    @classmethod
    def at(cls, chromium: Any, url: str, **options: Any) -> Artist:
        """Opens the page in a profile of its own."""
        context = chromium.new_context(viewport={"width": 1400, "height": 1400}, **options)
        page, messages = context.new_page(), []
        page.set_default_timeout(WAIT)
        page.on("console", lambda one: messages.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on(
            "request", lambda request: messages.append(request.url) if not _own(request.url, url) else None
        )
        artist = cls(page, messages)
        page.on("request", lambda one: artist.asked.add(one) if one.method == "POST" else None)
        for end in ("requestfinished", "requestfailed"):
            page.on(end, lambda one: artist.asked.discard(one))
        page.goto(url)
        page.wait_for_selector("#canvas .surface")
        artist.wait_said("^Ready")
        return artist

    # -- what is seen -------------------------------------------------------------------------------------

    @property
    def boxes(self) -> list[Corners]:
        """Of the canvas's list, in order."""
        found = self.page.eval_on_selector_all(
            "#canvas .layers li", "rows => rows.map(row => row.dataset.box)"
        )
        return [tuple(int(one) for one in text.split(",")) for text in found]  # type: ignore[misc]

    @property
    def names(self) -> list[str]:
        """Of the boxes."""
        return self.page.eval_on_selector_all(
            "#canvas .layers input.phrase", "rows => rows.map(row => row.value)"
        )

    @property
    def chosen(self) -> int | None:
        """Number of the box that is selected."""
        found = self.page.eval_on_selector_all(
            "#canvas .layers li", "rows => rows.findIndex(row => row.className === 'chosen')"
        )
        return None if found < 0 else found

    @property
    def text(self) -> str:
        """The plan as text."""
        return self.page.input_value("#text textarea")

    def wait_text(self, part: str) -> None:
        """Until the plan's text holds this."""
        self.page.wait_for_function(
            "part => document.querySelector('#text textarea').value.includes(part)", arg=part
        )

    def wait_said(self, pattern: str) -> str:
        """Until the page says this; what it said."""
        self.page.wait_for_function(
            "pattern => new RegExp(pattern).test(document.querySelector('#said textarea').value)",
            arg=pattern,
        )
        return self.page.input_value("#said textarea")

    @property
    def rounds(self) -> list[str]:
        """The pictures of all rounds, as data: URLs."""
        return self.page.eval_on_selector_all("#rounds li img", "all => all.map(one => one.src)")

    # -- what is done -------------------------------------------------------------------------------------

    def plan(self, prompt: str) -> None:
        """Type, press Plan, and wait for another plan than the one that is there."""
        self.page.fill("#prompt input, #prompt textarea", prompt)
        before = self.text
        self.page.click("#plan")
        self.page.wait_for_function(
            "before => document.querySelector('#text textarea').value !== before", arg=before
        )

    def settle(self) -> None:
        """Until the text is in step with the canvas, and no answer is under way that would change it."""
        self.page.wait_for_function(_IN_STEP)
        while self.asked:
            self.page.wait_for_timeout(10)
        self.page.wait_for_function(_IN_STEP)

    def write(self, text: str) -> None:
        """Put a plan in as text."""
        self.settle()
        self.page.fill("#text textarea", text)
        self.page.locator("#text textarea").blur()
        wanted = [
            [int(one) for one in found] for found in re.findall(r"\((\d+),(\d+)\),\((\d+),(\d+)\)", text)
        ]
        self.page.wait_for_function(
            "wanted => JSON.stringify([...document.querySelectorAll('#canvas .layers li')]"
            ".map(row => row.dataset.box.split(',').map(Number))) === JSON.stringify(wanted)",
            arg=wanted,
        )

    def draw(self) -> str:
        """Press Draw and wait for a round more; its picture."""
        count = len(self.rounds)
        self.page.click("#draw")
        self.page.wait_for_function(
            "count => document.querySelectorAll('#rounds li').length > count", arg=count
        )
        return self.rounds[-1]

    def upload(self, file: Path, place: int = 0) -> None:
        """A picture; `place` 1: a project."""
        if not self.page.is_visible("#upload"):
            self.page.click("#files button")
        self.page.set_input_files(f"#files input[type=file] >> nth={place}", file)

    def saved(self, button: str) -> bytes:
        """Press what leads to a file; the file."""
        with self.page.expect_download() as download:
            self.page.click(button)
        return Path(download.value.path()).read_bytes()

    def spot(self, x: float, y: float) -> tuple[float, float]:
        """Pixels of the window of a point in thousandths."""
        area = self.page.locator("#canvas .stage").bounding_box()
        return area["x"] + x / 1000 * area["width"], area["y"] + y / 1000 * area["height"]

    def drag(self, start: tuple[float, float], end: tuple[float, float], *, hold: str = "") -> None:
        """With the mouse, from point to point in thousandths; `hold`: a key that is down meanwhile."""
        self.page.locator("#canvas .surface").scroll_into_view_if_needed()
        if hold:
            self.page.keyboard.down(hold)
        self.page.mouse.move(*self.spot(*start))
        self.page.mouse.down()
        self.page.mouse.move(*self.spot(*((a + b) / 2 for a, b in zip(start, end, strict=True))))
        self.page.mouse.move(*self.spot(*end))
        self.page.mouse.up()
        if hold:
            self.page.keyboard.up(hold)

    def click(self, x: float, y: float) -> None:
        """On the canvas."""
        self.page.mouse.click(*self.spot(x, y))

    def keys(self, *names: str) -> None:
        """Pressed on the canvas."""
        self.page.locator("#canvas .surface").focus()
        for name in names:
            self.page.keyboard.press(name)

    def press(self, name: str) -> None:
        """A button of the canvas."""
        self.page.click(f"#canvas .tools [data-do={name}]")


def _own(url: str, home: str) -> bool:
    return url.startswith((home, "data:", "blob:"))
