"""`got promote`, `got rollback`, `got export` and `got model`: versions in the registry.

Belongs here: arguments and what is printed. Not here: the rule, moves, cards and folders
(`got_core.registry`), which images a version was trained on (`got_core.curate.trained_on`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from got_assets.cli.errors import UsageError, usage_errors
from got_assets.cli.options import CHAMPION, MODEL_NAME, SETTINGS, Json, examples, print_json
from got_assets.cli.project import open_project

Reference = Annotated[
    str, typer.Argument(metavar="MODEL", help="Registered version: models:/got@champion, models:/got/3.")
]
Reason = Annotated[str, typer.Option(help="Why; it stays with the version.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog=examples(
            "got promote                                     the challenger, if the recipe's rule allows it",
            'got promote --version 3 --reason "better hands" a version, without the rule',
        )
    )(promote)
    app.command(
        epilog=examples(
            'got rollback --reason "text got worse"               to the champion before',
            'got rollback --to 2 --reason "text got worse"',
        )
    )(rollback)
    app.command(epilog=examples("got export ./got-champion", "got export ./got-3 --model models:/got/3"))(
        export
    )
    model = typer.Typer(
        name="model",
        help="What the registry knows of a version: its card, its aliases, the images behind it.",
        epilog=examples(
            "got model card models:/got@champion",
            "got model history",
            "got model images models:/got/3 --out images.csv",
            "got model saw ID",
        ),
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=SETTINGS,
    )
    model.command(epilog=examples("got model card models:/got/3 > card.md"))(card)
    model.command(epilog=examples("got model history --json"))(history)
    model.command(epilog=examples("got model images models:/got/3 --out images.parquet"))(images)
    model.command(epilog=examples("got model saw ID ID"))(saw)
    app.add_typer(model)


def promote(
    version: Annotated[
        str | None, typer.Option(metavar="N", help="This version, without the rule; needs --reason.")
    ] = None,
    reason: Reason = "",
    as_json: Json = False,
) -> None:
    """Move @champion to @challenger if the recipe's rule allows it, or to a version by name.

    A champion that was scored under other protocols is scored again first. The exit status is 0
    whether it moves or not.
    """
    if version is None and reason:
        raise UsageError("--reason goes with --version: the rule gives its own")
    project = open_project()
    uri = project.settings.tracking_uri
    if version is None:
        import dataclasses

        from got_assets.promotion import promote_challenger

        decision = promote_challenger(project, MODEL_NAME, lambda line: typer.echo(line, err=True))
        if as_json:
            print_json(dataclasses.asdict(decision))
        else:
            what = "is champion now" if decision.promoted else "stays challenger"
            typer.echo(f"version {decision.challenger} {what}: {decision.reason}")
        return
    from got_core.registry.by_hand import promote_version

    with usage_errors():
        move = promote_version(MODEL_NAME, version, reason, uri)
    _told(move, as_json, f"version {version} is champion already")


def rollback(
    reason: Reason = "",
    to: Annotated[
        str | None, typer.Option(metavar="N", help="Version. Not given: the champion before.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Move @champion back to the version that was champion before. Servers that follow it swap it."""
    uri = open_project().settings.tracking_uri
    from got_core.registry.by_hand import roll_back

    with usage_errors():
        move = roll_back(MODEL_NAME, reason, uri, to)
    _told(move, as_json, "")


def _told(move: Any, as_json: bool, otherwise: str) -> None:
    import dataclasses

    if as_json:
        print_json(None if move is None else dataclasses.asdict(move))
    elif move is None:
        typer.echo(otherwise)
    else:
        typer.echo(f"@{move.alias}: version {move.before or 'none'} -> {move.version} ({move.reason})")


def export(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="To write; it must not be there yet.")],
    model: Annotated[str, typer.Option(metavar="MODEL", help="As of `got generate`.")] = CHAMPION,
) -> None:
    """Write a model as a plain diffusers folder with a card, as the Hugging Face Hub has models.

    Nothing is uploaded. GoTPipeline.from_pretrained(FOLDER) opens it with the light core alone.
    """
    uri = open_project().settings.tracking_uri
    from got_core.registry.export import export_model

    name = export_model(model, uri, folder.absolute())
    typer.echo(f"{name} is in {folder}, with its card in {folder / 'README.md'}")


def card(model: Reference = CHAMPION) -> None:
    """Print a version's card: what it was made from, data with licences, scores with protocols, limits."""
    uri = open_project().settings.tracking_uri
    from got_core.registry.export import model_card

    typer.echo(model_card(model, uri), nl=False)


def history(as_json: Json = False) -> None:
    """Show every move of every alias, the oldest first."""
    uri = open_project().settings.tracking_uri
    import dataclasses

    from got_core.registry.aliases import alias_history
    from got_core.registry.tracking import connect
    from got_core.sqlite_urls import sqlite_path

    path = sqlite_path(uri)
    moves = [] if path is not None and not path.exists() else alias_history(connect(uri), MODEL_NAME)
    if as_json:
        print_json([dataclasses.asdict(one) for one in moves])
        return
    for one in moves:
        typer.echo(f"{one.at[:19]}  @{one.alias}: {one.before or 'none'} -> {one.version}  {one.reason}")
    if not moves:
        typer.echo("no alias was moved yet")


def images(
    model: Reference = CHAMPION,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the table: .parquet, or else CSV.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the raw images and pairs that a version was trained on, by its manifests."""
    project = open_project()
    from got_core.curate.trained_on import images_of
    from got_core.local_files import write_local
    from got_core.registry.reference import version_tags

    name, tags = version_tags(model, project.settings.tracking_uri)
    found = images_of(project.storage, tags)
    if out is not None:
        write = found.rows.write_parquet if out.suffix == ".parquet" else found.rows.write_csv
        write_local(out, write, exclusive=False)
    told = {"model": name, **found.counts(), "not_archived": found.missing}
    if as_json:
        print_json(told | ({} if out else {"rows": found.rows.to_dicts()}))
        return
    typer.echo(
        f"{name}: {told['images']} images in {told['samples']} samples of {told['manifests']} manifests"
    )
    for digest in found.missing:
        typer.echo(f"  manifest {digest} is not archived here: what it held is not known")
    if out is None:
        for image in found.rows["image_id"].unique().sort().to_list():
            typer.echo(image)


def saw(
    ids: Annotated[list[str], typer.Argument(metavar="ID", help="Ids of images or pairs.")],
    as_json: Json = False,
) -> None:
    """Show the versions that were trained on images or pairs."""
    from got_assets.cli.takedown import models

    models(ids, as_json)
