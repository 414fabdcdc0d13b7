"""`eigenforget cache`."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.table import Table
from rich.text import Text

from eigenforget.cli.terminal import console, say
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import counted
from eigenforget.experiments.model_cache import ModelCache, StoredModel

cache = App(
    name="cache",
    help="List, check and remove the trained models in a store.",
    result_action="return_value",
)

CacheFolder = Annotated[Path, Parameter(help="the folder of a store, or of trained models")]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@cache.command(name="list")
def list_models(folder: CacheFolder, /) -> None:
    """List the stored models, least recently used first.

    Example:
        eigenforget cache list store
    """
    models = _cache_in(folder)
    table = Table("file", "MiB", "last used", "model", "data")
    for model in models.entries():
        used = datetime.datetime.fromtimestamp(model.used).strftime("%Y-%m-%d %H:%M")
        specs = (model.about.get(key, "") for key in ("model", "data"))
        cells = (model.path.name, f"{model.size / 2**20:.1f}", used, *specs)
        table.add_row(*map(Text, cells))
    console.print(table)
    aside = models.set_aside()
    more = f"; {len(aside)} damaged ones set aside" if aside else ""
    say(f"{_counted(models.entries())}{more}", wrap=False)


@cache.command
def prune(
    folder: CacheFolder,
    /,
    *,
    max_size: Annotated[
        str, Parameter(help="total size of the models that may stay, such as 20G, 500M or 0")
    ],
) -> None:
    """Remove the least recently used models until the others fit.

    Example:
        eigenforget cache prune store --max-size 20G
    """
    limit, models = bytes_of(max_size), _cache_in(folder)
    for path in models.set_aside():
        path.unlink(missing_ok=True)
    say(f"removed {_counted(models.prune(limit))}, least recently used first", wrap=False)


@cache.command(name="check")
def check_models(folder: CacheFolder, /) -> None:
    """Read every model and compare it with its digest. Exit code 1 if one is damaged.

    Example:
        eigenforget cache check store
    """
    models = _cache_in(folder)
    problems = models.damaged()
    for line in problems:
        say(line, wrap=False)
    count = len(list(models.folder.glob("*.safetensors")))
    more = "; they are trained again when needed" if problems else ""
    say(f"{counted(count, 'model', 'models')}, {len(problems)} damaged{more}", wrap=False)
    raise SystemExit(1 if problems else 0)


def bytes_of(text: str) -> int:
    """The number of bytes in a size such as 20G, 500M or 0.

    Raises:
        EigenforgetError: It is not a size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise EigenforgetError(f"--max-size {text!r} is not a size such as 20G, 500M or 0")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _counted(models: Sequence[StoredModel]) -> str:
    size = sum(model.size for model in models) / 2**20
    return f"{counted(len(models), 'model', 'models')}, {size:.1f} MiB"


def _cache_in(folder: Path) -> ModelCache:
    """The cache in this folder, or in the store in this folder."""
    path = folder / "models" if (folder / "models").is_dir() else folder
    if not path.is_dir():
        raise EigenforgetError(f"{folder} is not the folder of a store or of trained models")
    return ModelCache(path)
