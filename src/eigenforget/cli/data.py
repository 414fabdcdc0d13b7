"""`eigenforget data`."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from eigenforget.cli.terminal import console, quoted, say
from eigenforget.core.spec import spell
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.data import DATASETS
from eigenforget.data.bundle import Data
from eigenforget.requests import (
    AtRandom,
    ByClass,
    ByGroup,
    ByIds,
    BySubclass,
    ConfusedSamples,
    ForgetRequest,
    PoisonedSamples,
)


def data(
    spec: Annotated[
        str, Parameter(help="data set, as in 'image_folder(path=\"photos\")' or 'digits()'")
    ],
    /,
) -> None:
    """Show what a data set holds, for writing a request: classes, counts, ids, groups and columns.

    Example:
        eigenforget data 'digits()'
    """
    found: Data = DATASETS.parse(spec).load()
    say(f"{len(found.train)} training samples, {len(found.test)} test samples")
    say(f"inputs: {found.inputs_in_words}", wrap=False)
    console.print(_classes(found))
    index = found.train_index
    say(f"ids: {listed(index.ids, 3)}", wrap=False)
    if index.groups is not None:
        say(f"groups: {_values(index.groups)}", wrap=False)
    for name, column in index.columns.items():
        say(f"column {name}: {_values(column)}", wrap=False)
    say("requests that fit these data:")
    for request in _requests(index):
        say(f"  --forget {quoted(spell(request))}", wrap=False)


def _classes(found: Data) -> Table:
    table = Table("class", "name", "training samples", "test samples", box=None)
    sides = [
        np.bincount(index.labels, minlength=found.num_classes)
        for index in (found.train_index, found.test_index)
    ]
    for number, name in enumerate(found.class_names):
        table.add_row(str(number), Text(name), *(str(side[number]) for side in sides))
    return table


def _values(column: np.ndarray) -> str:
    """How many values there are, and the first of them."""
    known = np.unique(column)
    return f"{len(known)} values: {listed(known, 5)}"


def _requests(index: Index) -> list[ForgetRequest]:
    number = int(index.labels[0])
    name = index.class_names[number]
    found: list[ForgetRequest] = [
        ByClass(label=number if name == str(number) else name),
        ByIds(ids=(str(index.ids[0]),)),
        AtRandom(fraction=0.1),
    ]
    if index.groups is not None:
        found.append(ByGroup(group=index.groups[0].item()))
    marked: dict[str, ForgetRequest] = {
        "poisoned": PoisonedSamples(),
        "confused": ConfusedSamples(),
    }
    for name, column in index.columns.items():
        if name in marked:
            found.append(marked[name])
        elif column.dtype.kind == "U" and column[0]:
            found.append(BySubclass(column=name, value=column[0].item()))
    return found
