#!/bin/sh
# typer 0.29.2, with click 8.5.1 beside it: typer carries a click of its own, so click's exceptions do not catch typer's.
#
# Seen: `typer.BadParameter` derives from `UsageError` of a module inside typer. A program that runs its app with
# `standalone_mode=False` and catches `click.UsageError` or `click.ClickException`, as guides for click say, lets a wrong argument
# through as a traceback, although click is installed and `import click` works.
# What helps: catch the classes that typer's own exceptions derive from, such as the second class in `typer.BadParameter.__mro__`.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install -q --disable-pip-version-check 'typer==0.29.2' 'click==8.5.1'
"$folder/venv/bin/python" - <<'PY'
import click
import typer

app = typer.Typer()


@app.command()
def double(number: int) -> None:
    print(2 * number)


def caught_by(kind):
    try:
        app(["many"], standalone_mode=False)
    except kind:
        return True
    except Exception:
        return False


base = typer.BadParameter.__mro__[1]
print("typer.BadParameter derives from", f"{base.__module__}.{base.__name__}")
answers = {"click.UsageError": caught_by(click.UsageError), "click.ClickException": caught_by(click.ClickException)}
print("a wrong argument is caught by", answers | {"typer's base": caught_by(base)})
assert not any(answers.values()) and caught_by(base)
print("as described")
PY
