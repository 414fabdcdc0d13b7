"""The command line: `eigenforget COMMAND`, one file for each command.

Commands are registered by import path, and help reads their docstrings from the files, so that
nothing heavy is loaded before a command runs.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Group, Parameter
from rich.console import Console

from eigenforget.cli.endings import Terminal, exit_code, plain_output
from eigenforget.cli.launching import NotLaunchedError, supervise
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.lazy import loaded
from eigenforget.core.text import displayed, suggested
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


class CommandApp(App):
    """An App whose help ends with the example in the docstring of the command.

    It is printed without breaking its lines, so that it can be pasted.
    """

    def help_print(
        self,
        tokens: Annotated[str | Iterable[str] | None, Parameter(show=False)] = None,
        *,
        console: Annotated[Console | None, Parameter(parse=False)] = None,
    ) -> None:
        """Prints the help of the command that the tokens lead to."""
        given = tokens if tokens is None or isinstance(tokens, str) else list(tokens)
        super().help_print(given, console=console)
        _, apps, _ = self.parse_commands(given)
        command = apps[-1].default_command
        about = inspect.getdoc(command) if command else apps[-1].help
        example = example_of(str(about))
        for line in ("Example:", *(f"  {line}" for line in example.splitlines())):
            (console or self.console).print(line, soft_wrap=True, markup=False, highlight=False)


def example_of(docstring: str) -> str:
    """The commands in the last section of a docstring, as they can be pasted."""
    return textwrap.dedent(docstring.partition("\nExample:\n")[2]).strip()


app = CommandApp(
    name="eigenforget",
    help="Make a trained PyTorch classifier forget chosen training data, and measure in feature "
    "space whether it did.\n\nExample:\n    eigenforget demo",
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
    help="List, check and remove the trained models in a store.\n\n"
    "Example:\n    eigenforget cache list store",
    group=_group,
    sort_key=len(_commands),
)


def _check_command(word: str) -> None:
    """Checks the first word here: for a suggestion, cyclopts would load every command, and torch.

    Raises:
        EigenforgetError: There is no such command.
    """
    if word in app:
        return
    if word.startswith("-"):
        raise EigenforgetError(f"{displayed(word)} is no option; see eigenforget --help")
    known = [name for name in app if not name.startswith("-")]
    raise EigenforgetError(
        f"unknown command {displayed(word)}{suggested(word, known)}; choose from: "
        f"{', '.join(known)}"
    )


def main(argv: Sequence[str] | None = None) -> Any:
    """Runs a command.

    Wrong input ends with one line on standard error and exit code 2. An unexpected error ends with
    exit code 3 and a file that holds the traceback.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with plain_output(), notices.collected():
            command = arguments[0].replace("-", "_") if arguments else ""
            if arguments:
                _check_command(arguments[0])
            if command in COMMANDS:
                loaded(f"eigenforget.cli.{command}")
            return app(arguments, exit_on_error=False, print_error=False)
    except NotLaunchedError as wanted:
        raise SystemExit(supervise(arguments, wanted.count)) from None
    except (Exception, KeyboardInterrupt) as error:  # whatever comes, the user gets one line
        raise SystemExit(exit_code(error, arguments)) from None
