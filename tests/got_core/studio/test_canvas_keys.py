"""What an artist does on the canvas without a pointer: each convention by keys alone, in a real browser."""

from __future__ import annotations

import pytest

from tests.got_core.studio.page_driver import Artist

pytestmark = pytest.mark.slow

ONE, OTHER = (200, 200, 500, 500), (600, 600, 900, 900)
PLAN = "a red circle (200,200),(500,500) and a blue square (600,600),(900,900)"


@pytest.fixture
def page(artist: Artist) -> Artist:
    """Two boxes, the first of them chosen by key."""
    artist.write("a star (0,0),(10,10)")
    artist.write(PLAN)
    artist.keys("Escape", ".")
    assert artist.chosen == 0
    return artist


def tabbed(page: Artist, name: str) -> None:
    """Tab from the canvas back to one of its tools."""
    page.page.locator("#canvas .surface").focus()
    for _ in range(12):
        page.page.keyboard.press("Shift+Tab")
        if page.page.evaluate("document.activeElement.dataset.do") == name:
            return
    raise AssertionError(f"no key leads to {name}")


def test_a_key_makes_a_box_and_asks_for_its_name(page: Artist) -> None:
    page.keys("n")
    page.page.keyboard.type("a green star")
    page.page.keyboard.press("Enter")
    page.wait_text("and a green star (")
    assert page.names[2] == "a green star" and page.chosen == 2


def test_arrows_move_and_the_text_follows(page: Artist) -> None:
    page.keys("ArrowRight", "ArrowUp")
    assert page.boxes == [(210, 190, 510, 490), OTHER]
    page.keys("Shift+ArrowDown", "Shift+ArrowLeft")
    page.wait_text("a red circle (160,240),(460,540) and a blue square")


def test_alt_and_arrows_resize(page: Artist) -> None:
    page.keys("Alt+ArrowRight", "Alt+Shift+ArrowDown")
    page.wait_text("a red circle (200,200),(510,550)")


def test_the_edge_holds_a_box(page: Artist) -> None:
    page.keys(*["Shift+ArrowLeft"] * 5, *["Alt+Shift+ArrowDown"] * 11)
    assert page.boxes[0] == (0, 200, 300, 999)


def test_a_box_made_small_is_kept(page: Artist) -> None:
    page.keys(*["Alt+Shift+ArrowLeft"] * 7, *["Alt+Shift+ArrowUp"] * 7)
    assert page.boxes[0] == (200, 200, 200, 200)
    page.wait_text("a red circle (200,200),(200,200) and")


def test_a_full_canvas_takes_another_box(page: Artist) -> None:
    page.write("a red circle (0,0),(999,999)")
    tabbed(page, "add")
    page.page.keyboard.press("Enter")
    page.page.keyboard.type("a star")
    page.page.keyboard.press("Enter")
    page.wait_text("a red circle (0,0),(999,999) and a star (")


def test_keys_go_through_all_boxes(page: Artist) -> None:
    page.write("a red circle (200,200),(800,800) and a blue square (200,200),(800,800)")
    chosen = []
    for key in (".", ".", ".", ","):
        page.keys(key)
        chosen.append(page.chosen)
    assert chosen in ([0, 1, 0, 1], [1, 0, 1, 0])


def test_delete_removes_and_escape_lets_go(page: Artist) -> None:
    page.keys("Escape", "Delete")
    assert page.chosen is None and len(page.boxes) == 2
    page.keys(".", ".", "Delete")
    assert page.names == ["a red circle"] and page.chosen is None
    page.keys("Delete")
    assert page.names == ["a red circle"], "a second press takes nothing else"
    page.keys(".", "Backspace")
    assert page.names == []


def test_enter_renames(page: Artist) -> None:
    page.keys("Enter")
    page.page.keyboard.type("a red heart")
    page.page.keyboard.press("Enter")
    page.wait_text("a red heart (200,200),(500,500) and")


def test_brackets_order(page: Artist) -> None:
    page.keys("]")
    assert page.chosen == 1
    page.wait_text("a blue square (600,600),(900,900) and a red circle (200,200),(500,500)")
    page.keys("[")
    page.wait_text(PLAN)


def test_l_locks_and_unlocks(page: Artist) -> None:
    page.keys("l", "ArrowRight", "Delete")
    assert page.boxes == [ONE, OTHER]
    page.keys("l", "ArrowRight")
    assert page.boxes[0] == (210, 200, 510, 500)


def test_keys_undo_and_redo(page: Artist) -> None:
    page.keys("ArrowRight", "Control+z")
    page.wait_text(PLAN)
    page.keys("Control+Shift+Z")
    page.wait_text("(210,200),(510,500)")
    page.keys("Control+z", "Control+y")
    assert page.boxes[0] == (210, 200, 510, 500)


def test_corners_are_read_out(page: Artist) -> None:
    page.keys("ArrowRight")
    assert page.page.inner_text("#canvas .layers li.chosen .corners") == "(210,200),(510,500)"


def test_keys_reach_the_pictures_opacity_and_the_models_colours(page: Artist) -> None:
    tabbed(page, "opacity")
    page.page.keyboard.press("Home")
    assert page.page.input_value("#canvas [data-do=opacity]") == "0"
    page.page.keyboard.press("End")
    tabbed(page, "masks")
    page.page.keyboard.press("Space")
    assert page.page.is_checked("#canvas [data-do=masks]")
    page.page.keyboard.press("Space")
    assert not page.page.is_checked("#canvas [data-do=masks]")
