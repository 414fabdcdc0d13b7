"""Optional libraries, and the one message for a missing one."""

from __future__ import annotations

import importlib
from typing import Any

from eigenforget.core.errors import EigenforgetError


def needed(module: str, *, extra: str, what: str) -> Any:
    """Imports a module of an optional library.

    Args:
        module: Name of the module.
        extra: The extra of this package that installs it.
        what: What needs it, for the message.

    Raises:
        EigenforgetError: The module is not there, or does not start; the message says what to
            install.
    """
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
