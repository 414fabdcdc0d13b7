"""Libraries that only some data sets need."""

from __future__ import annotations

import importlib
from typing import Any

from eigenforget.core.errors import EigenforgetError


def needed(module: str, *, extra: str, what: str) -> Any:
    """The imported module. Errors, with what to install: it is not there, or does not start."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise EigenforgetError(
            f"{what} needs {missing}, which is not installed: pip install 'eigenforget[{extra}]'"
        ) from None
    # A build for another PyTorch ends in a RuntimeError, a missing shared library in an OSError.
    except (ImportError, RuntimeError, OSError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise EigenforgetError(
            f"{what} needs {module}, which is installed but cannot be imported: {line}"
        ) from None
