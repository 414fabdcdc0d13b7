"""The command line: `eigenforget COMMAND`, one file for each command.

Commands are registered by import path, and help reads their docstrings from the files, so that
nothing heavy is loaded before a command runs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from cyclopts import App, Group

from eigenforget.cli.endings import Terminal, exit_code, plain_output
from eigenforget.cli.launching import NotLaunchedError, supervise
from eigenforget.core import notices
from eigenforget.core.version import __version__

__all__ = ["COMMANDS", "app", "main"]

COMMAND_GROUPS = {
    "Make models": ("demo", "data", "train", "unlearn", "sequence"),
    "Measure": ("evaluate", "analyze", "audit_metrics", "duplicates", "methods", "scores"),
    "Report": ("report", "check", "card", "certificate", "export"),
    "Records": ("verify", "keygen", "sign"),
    "Benchmarks": ("bench", "leaderboard"),
}
"""Commands by what they are for, each the function of this name in the module of this name."""
COMMANDS = tuple(chain.from_iterable(COMMAND_GROUPS.values()))

app = App(
    name="eigenforget",
    help="Make a trained PyTorch classifier forget chosen training data, and measure in feature "
    "space whether it did.",
    version=__version__,
    result_action="return_value",
    console=Terminal(),
    suppress_keyboard_interrupt=False,
)


def _docstring(command: str) -> str:
    """The docstring of a command, read from its file without importing it."""
    text = (Path(__file__).parent / f"{command}.py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    return next(ast.get_docstring(node) or "" for node in functions if node.name == command)


for _number, (_title, _commands) in enumerate(COMMAND_GROUPS.items()):
    _group = Group(_title, sort_key=_number)
    for _place, _command in enumerate(_commands):
        app.command(
            f"eigenforget.cli.{_command}:{_command}",
            help=_docstring(_command),
            group=_group,
            sort_key=_place,
        )
app.command(
    "eigenforget.cli.cache:cache",
    help="List, check and remove the trained models in a store.",
    group=_group,
    sort_key=len(_commands),
)


def main(argv: Sequence[str] | None = None) -> Any:
    """Runs a command.

    Wrong input ends with one line on standard error and exit code 2, what nobody expected with exit
    code 3 and a file that holds the traceback.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with plain_output(), notices.collected():
            return app(arguments, exit_on_error=False, print_error=False)
    except NotLaunchedError as wanted:
        raise SystemExit(supervise(arguments, wanted.count)) from None
    except (Exception, KeyboardInterrupt) as error:  # whatever comes, the user gets one line
        raise SystemExit(exit_code(error, arguments)) from None
