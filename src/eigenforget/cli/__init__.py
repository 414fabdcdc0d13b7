"""The command line. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from cyclopts import CycloptsError

from eigenforget.cli import benching, certificates, exports, judging, making, records, scores
from eigenforget.cli.launching import NotLaunchedError, let_first_speak, prefix, supervise
from eigenforget.cli.options import app
from eigenforget.core.errors import EigenforgetError
from eigenforget.record import RecordError

__all__ = ["app", "main"]

_COMMANDS = (benching, certificates, exports, judging, making, records, scores)
"""Modules that add their commands to `app` when they are imported."""


def main(argv: Sequence[str] | None = None) -> Any:
    """Entry point: bad input ends with one line on standard error and exit code 2."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    try:
        return app(arguments, exit_on_error=False, print_error=False)
    except NotLaunchedError as wanted:
        raise SystemExit(supervise(arguments, wanted.count)) from None
    except CycloptsError as error:
        fail(str(error))
    except (EigenforgetError, RecordError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def fail(message: str) -> None:
    """One line on standard error, exit code 2."""
    let_first_speak()
    print("eigenforget: " + prefix() + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)
