"""The command `got`: everything a person does with this project, from one place.

Belongs here: arguments, what is printed, exit statuses. Not here: any work: a subcommand calls the library
and imports it inside its function, so that `got --help` answers at once.
"""

from got_assets.cli.app import main

__all__ = ["main"]
