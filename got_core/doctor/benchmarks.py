"""Whether what the recipe's published benchmarks need is there.

Belongs here: the finding. Not here: the look (`got_core.evaluate.published.needed`).
"""

from __future__ import annotations

from got_core.doctor.finding import Finding, fail, ok
from got_core.recipes import get_recipe
from got_core.settings import Settings


def check_benchmarks(settings: Settings) -> Finding:
    """Data and networks below GOT_BENCHMARKS; files with a published SHA-256 are compared with it."""
    recipe = get_recipe(settings.recipe)
    names = recipe.evaluate.published
    if not names:
        return ok("benchmarks", f"recipe {recipe.name} names no published ones")
    from got_core.evaluate.published.needed import check_needed, needed

    place = settings.benchmarks
    try:
        judge = settings.judge_server.config() is not None
        check_needed(names, place, f"the model of recipe {recipe.name!r}", judge)
    except (FileNotFoundError, ValueError) as error:
        return fail("benchmarks", str(error), "`got score fetch-list` says what goes where")
    assert place is not None
    others = [one.path for one in needed(names, place) if one.state(place) == "another"]
    own = f"; another list than the published one, so another protocol: {', '.join(others)}" if others else ""
    return ok("benchmarks", f"{', '.join(names)}: all downloads are in {place}{own}")
