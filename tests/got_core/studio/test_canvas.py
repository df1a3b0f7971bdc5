"""What artists do on the canvas with a mouse and a finger, in a real browser. Keys: `test_canvas_keys`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from got_core.chain.boxes import Box
from tests.got_core.studio.page_driver import Artist

pytestmark = pytest.mark.slow

ONE = (200, 200, 500, 500)
PLAN = "a red circle (200,200),(500,500) and a blue square (600,600),(900,900)"


def near(found: Any, wanted: Any, by: int = 4) -> bool:
    """Within the width of a pixel of the window."""
    return all(abs(a - b) <= by for a, b in zip(found, wanted, strict=True))


@pytest.fixture
def page(artist: Artist) -> Artist:
    """The same two boxes, none of them chosen."""
    artist.write("a star (0,0),(10,10)")
    artist.write(PLAN)
    artist.keys("Escape")
    assert artist.chosen is None
    return artist


def test_a_drag_on_empty_ground_is_a_new_box(page: Artist) -> None:
    page.drag((650, 100), (850, 300))
    assert page.chosen == 2 and near(page.boxes[2], (650, 100, 850, 300))
    page.page.keyboard.type("a green star")
    page.page.keyboard.press("Enter")
    page.wait_text("a blue square (600,600),(900,900) and a green star (")
    assert page.names[2] == "a green star"


def test_a_drag_inside_moves_and_the_text_follows(page: Artist) -> None:
    page.drag((350, 350), (450, 300))
    assert near(page.boxes[0], (300, 150, 600, 450)) and page.boxes[1] == (600, 600, 900, 900)
    x1, y1, x2, y2 = page.boxes[0]
    page.wait_text(f"a red circle ({x1},{y1}),({x2},{y2}) and a blue square (600,600),(900,900)")


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        ((500, 500), (560, 540), (200, 200, 560, 540)),
        ((200, 200), (150, 170), (150, 170, 500, 500)),
        ((200, 350), (120, 350), (120, 200, 500, 500)),
        ((350, 500), (350, 580), (200, 200, 500, 580)),
        ((510, 492), (570, 552), (200, 200, 560, 560)),
    ],
    ids=["corner", "other corner", "edge", "lower edge", "beside the corner"],
)
def test_corners_and_edges_resize(page: Artist, start: Any, end: Any, wanted: Any) -> None:
    page.click(350, 350)
    page.drag(start, end)
    assert len(page.boxes) == 2 and near(page.boxes[0], wanted, by=6)


def test_an_edge_of_a_box_that_is_not_chosen_resizes_from_beside_it(page: Artist) -> None:
    page.click(950, 50)
    assert page.chosen is None
    page.drag((ONE[2] + 5, ONE[3] + 5), (ONE[2] + 55, ONE[3] + 55))
    assert near(page.boxes[0], (ONE[0], ONE[1], ONE[2] + 50, ONE[3] + 50)) and len(page.boxes) == 2


def test_ctrl_draws_over_a_box(page: Artist) -> None:
    page.drag((250, 250), (450, 400), hold="Control")
    assert page.boxes[0] == ONE and near(page.boxes[2], (250, 250, 450, 400))


def test_what_leaves_the_canvas_stays_at_its_edge(page: Artist) -> None:
    page.drag((350, 350), (-200, 1300))
    assert near(page.boxes[0], (0, 699, 300, 999))
    page.drag((700, 100), (1300, -200), hold="Control")
    assert near(page.boxes[2], (700, 0, 999, 100))


def test_a_small_box_is_kept(page: Artist) -> None:
    page.drag((700, 100), (708, 108))
    assert len(page.boxes) == 3 and near(page.boxes[2], (700, 100, 708, 108))


def test_repeated_clicks_go_through_what_lies_there(page: Artist) -> None:
    page.write("a red circle (200,200),(800,800) and a blue square (300,300),(700,700)")
    chosen = []
    for _ in range(3):
        page.click(500, 500)
        chosen.append(page.chosen)
    assert chosen == [1, 0, 1]
    page.click(950, 50)
    assert page.chosen is None and len(page.boxes) == 2


def test_buttons_add_and_delete(page: Artist) -> None:
    page.press("add")
    assert len(page.boxes) == 3 and page.chosen == 2
    added, *others = (Box(*one) for one in reversed(page.boxes))
    assert not any(added.iou(one) for one in others), "where there is room"
    page.press("delete")
    assert len(page.boxes) == 2
    page.wait_text(PLAN)


def test_undo_and_redo_by_button_and_key(page: Artist) -> None:
    page.drag((350, 350), (450, 350))
    moved = page.boxes
    page.press("undo")
    assert page.boxes[0] == ONE
    page.wait_text(PLAN)
    page.press("redo")
    assert page.boxes == moved
    page.keys("Control+z")
    assert page.boxes[0] == ONE
    page.keys("Control+Shift+Z")
    assert page.boxes == moved


def test_escape_ends_a_drag(page: Artist) -> None:
    mouse = page.page.mouse
    mouse.move(*page.spot(350, 350))
    mouse.down()
    mouse.move(*page.spot(500, 700))
    assert page.boxes[0] != ONE
    page.page.keyboard.press("Escape")
    assert page.boxes[0] == ONE
    mouse.up()
    assert page.boxes[0] == ONE


def test_the_list_orders_renames_and_locks(page: Artist) -> None:
    row = page.page.locator("#canvas .layers li")
    row.nth(1).locator("[data-do=up]").click()
    page.wait_text("a blue square (600,600),(900,900) and a red circle (200,200),(500,500)")
    row.nth(0).locator("input").fill("a teal square")
    row.nth(0).locator("input").press("Enter")
    page.wait_text("a teal square (600,600),(900,900) and a red circle")
    row.nth(1).locator("[data-do=lock]").click()
    page.drag((350, 350), (300, 300))
    assert page.boxes[1] == ONE and len(page.boxes) == 3, "a locked box is drawn over"


def test_coordinates_are_shown_with_their_scale(page: Artist) -> None:
    page.page.mouse.move(*page.spot(500, 250))
    found = page.page.inner_text("#canvas .place")
    assert found.endswith("of 999") and near(
        [int(one) for one in found.split(" of ")[0].split(",")], (500, 250)
    )


def colour(page: Artist, x: int, y: int) -> list[int]:
    """Of the canvas at a point, once it is painted."""
    script = """([x, y]) => { const canvas = document.querySelector('#canvas .stage canvas');
        const at = [Math.round(canvas.width * x / 1000), Math.round(canvas.height * y / 1000)];
        return [...canvas.getContext('2d').getImageData(...at, 1, 1).data.slice(0, 3)]; }"""
    return page.page.evaluate(
        f"new Promise(done => requestAnimationFrame(() => done(({script})([{x}, {y}]))))"
    )


def test_the_models_colours(page: Artist) -> None:
    plain = colour(page, 350, 350)
    page.page.check("#canvas [data-do=masks]")
    assert colour(page, 350, 350) == [255, 0, 0], "the palette's first"
    page.page.uncheck("#canvas [data-do=masks]")
    assert colour(page, 350, 350) == plain


def test_the_last_picture_lies_behind_and_fades(chromium: Any, url: str, tmp_path: Path) -> None:
    own = Artist.at(chromium, url)
    Image.new("RGB", (64, 48), (40, 80, 230)).save(tmp_path / "blue.png")
    own.upload(tmp_path / "blue.png")
    own.wait_said("^Opened")
    own.page.wait_for_function(
        "() => { const { width, height } = document.querySelector('#canvas .stage').getBoundingClientRect();"
        " return Math.abs(height / width - 0.75) < 0.02; }"
    )
    assert colour(own, 500, 500) == [40, 80, 230]
    slider = own.page.locator("#canvas [data-do=opacity]")
    area = slider.bounding_box()
    own.page.mouse.click(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    assert 40 < colour(own, 500, 500)[0] < 240
    own.page.mouse.click(area["x"] + 2, area["y"] + area["height"] / 2)
    assert colour(own, 500, 500)[0] > 240, "the paper"
    own.page.context.close()


def test_a_finger_draws_and_moves(page: Artist, chromium: Any, url: str) -> None:
    finger = Artist.at(chromium, url, has_touch=True)
    finger.write(PLAN)
    client = finger.page.context.new_cdp_session(finger.page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        at = [dict(zip("xy", finger.spot(*point), strict=True)) for point in points]
        client.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})

    for start, end in (((350, 350), (450, 350)), ((650, 100), (850, 300))):
        touch("touchStart", start)
        touch("touchMove", end)
        touch("touchEnd")
    assert near(finger.boxes[0], (300, 200, 600, 500)) and near(finger.boxes[2], (650, 100, 850, 300))
    finger.page.context.close()
