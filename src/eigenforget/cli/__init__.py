"""The command line: `eigenforget COMMAND`, one file for each command.

Commands are registered by import path, and help reads their docstrings from the files, so that
nothing heavy is loaded before a command runs.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cyclopts import App, CycloptsError

from eigenforget.cli.launching import NotLaunchedError, let_first_speak, prefix, supervise
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import as_line
from eigenforget.core.version import __version__
from eigenforget.record import RecordError

__all__ = ["COMMANDS", "app", "main"]

COMMANDS = (
    "demo",
    "train",
    "unlearn",
    "evaluate",
    "analyze",
    "sequence",
    "duplicates",
    "audit_metrics",
    "methods",
    "scores",
    "report",
    "verify",
    "keygen",
    "sign",
    "certificate",
    "export",
    "check",
    "card",
    "bench",
    "leaderboard",
)
"""Each is the function of this name in the module of this name."""

app = App(
    name="eigenforget",
    help="Make a trained PyTorch classifier forget chosen training data, and measure in feature "
    "space whether it did.",
    version=__version__,
    result_action="return_value",
)


def _docstring(command: str) -> str:
    """The docstring of a command, read from its file without importing it."""
    text = (Path(__file__).parent / f"{command}.py").read_text(encoding="utf-8")
    functions = (node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef))
    return next(ast.get_docstring(node) or "" for node in functions if node.name == command)


for _command in COMMANDS:
    app.command(f"eigenforget.cli.{_command}:{_command}", help=_docstring(_command))
app.command(
    "eigenforget.cli.cache:cache", help="List, check and remove the trained models in a store."
)


def main(argv: Sequence[str] | None = None) -> Any:
    """Runs a command. Bad input ends with one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        with _plain_warnings(), notices.collected():
            return app(arguments, exit_on_error=False, print_error=False)
    except NotLaunchedError as wanted:
        raise SystemExit(supervise(arguments, wanted.count)) from None
    except (CycloptsError, EigenforgetError, RecordError, OSError) as error:
        let_first_speak()
        print("eigenforget: " + prefix() + as_line(_message(error)), file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def _message(error: Exception) -> str:
    """The message; of the operating system's errors, with the file first."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return str(error) or type(error).__name__


@contextmanager
def _plain_warnings() -> Iterator[None]:
    """Prints a doubt as one line, each once; other warnings stay as they are."""
    said: set[str] = set()
    with warnings.catch_warnings():
        show = warnings.showwarning

        def plainly(
            message: Warning | str, category: type[Warning], *place: Any, **more: Any
        ) -> None:
            line = as_line(str(message))
            if not issubclass(category, notices.EigenforgetWarning):
                show(message, category, *place, **more)
            elif line not in said:
                said.add(line)
                print(f"warning: {prefix()}{line}", file=sys.stderr)

        warnings.simplefilter("always", notices.EigenforgetWarning)
        warnings.showwarning = plainly
        yield
