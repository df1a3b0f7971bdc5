"""Links, files and names in the documentation lead somewhere."""

from __future__ import annotations

import re

import pytest

from tests.docs import pages, repository
from tests.docs.pages import PAGES, ROOT

README_LINES = 150
CHANGES = 10
ROOM = re.compile(r"(?P<room>got_core/\w+|got_assets/(?:defs/)?\w+)(?:/.*)?")
FILE = re.compile(r"(?:got_core|got_assets|tests|docs|deployments|bench|findings)/[\w./*<>-]*")
MODULE = re.compile(r"(?:got_core|got_assets)(?:\.\w+)+")
MEMBER = re.compile(r"(?P<owner>[A-Z]\w+)\.(?P<name>[a-z]\w*)")
SETTING = re.compile(r"\bGOT_[A-Z0-9_]*[A-Z0-9]\b")
PUBLIC = ("https://", "http://", "mailto:")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    for target in pages.links(page):
        if target.startswith(PUBLIC):
            continue
        name, _, anchor = target.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), f"{page}: {target} is no file"
        if anchor:
            linked = path.resolve().relative_to(ROOT).as_posix()
            assert anchor in pages.anchors(linked), f"{page}: {target} is no heading of {linked}"


@pytest.mark.parametrize("page", PAGES)
def test_files_that_are_named_exist(page: str) -> None:
    for span in pages.code_spans(page):
        if FILE.fullmatch(span) and not set("*<>") & set(span):
            assert (ROOT / span).exists(), f"{page} names {span}"


@pytest.mark.parametrize("page", PAGES)
def test_modules_and_members_that_are_named_exist(page: str) -> None:
    for span in pages.code_spans(page):
        plain = span.partition("(")[0]
        if MODULE.fullmatch(plain):
            assert repository.resolves(plain), f"{page} names {plain}"
        elif match := MEMBER.fullmatch(plain):
            known = repository.members(match["owner"])
            assert known is None or match["name"] in known, f"{page} names {plain}"


@pytest.mark.parametrize("page", PAGES)
def test_settings_that_are_named_exist(page: str) -> None:
    named = set(SETTING.findall(pages.text_of(page)))
    assert named <= repository.settings(), f"{page}: {sorted(named - repository.settings())}"


def test_every_setting_is_described() -> None:
    described = set(
        SETTING.findall(pages.text_of("docs/operations.md") + pages.text_of("docs/annotators.md"))
    )
    assert repository.settings() <= described, sorted(repository.settings() - described)


def test_every_page_is_reached_from_the_readme() -> None:
    reached, open_pages = set(), ["README.md"]
    while open_pages:
        page = open_pages.pop()
        reached.add(page)
        targets = ((ROOT / page).parent / link.partition("#")[0] for link in pages.links(page))
        for target in targets:
            if target.suffix == ".md" and target.is_relative_to(ROOT) and target.exists():
                name = target.resolve().relative_to(ROOT).as_posix()
                open_pages += [name] if name not in reached else []
    assert set(PAGES) <= reached, sorted(set(PAGES) - reached)


def test_the_readme_is_short() -> None:
    assert len(pages.text_of("README.md").splitlines()) <= README_LINES


def test_names_are_looked_up_and_not_taken_on_trust() -> None:
    assert repository.resolves("got_core.chain.edits.move_box")
    assert repository.resolves("got_core.recipes")
    assert not repository.resolves("got_core.chain.edits.nothing_of_this_name")
    assert not repository.resolves("got_core.no_such_room.thing")
    assert "#" not in "".join(pages.anchors("README.md"))


def test_ten_changes_need_two_rooms_at_most() -> None:
    _, *sections = re.split(r"^## ", pages.text_of("docs/adding.md"), flags=re.MULTILINE)
    assert len(sections) >= CHANGES
    for section in sections:
        title, _, text = section.partition("\n")
        rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
        named = {span for row in rows for span in re.findall(r"`([^`]+)`", row)}
        found = {match["room"] for span in named if (match := ROOM.fullmatch(span))}
        rooms = {room for room in found if (ROOT / room).is_dir()}
        assert named and len(rooms) <= 2, f"{title}: {sorted(rooms)}"
