"""What a deletion request is, and what requests that hold others accept."""

from __future__ import annotations

import dataclasses
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol

import numpy as np

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index
from eigenforget.record.reading import read_bytes

_MOST_BYTES_OF_LIST = 1 << 30

Duplicates = Annotated[
    Literal["error", "forget"],
    "identical content on both sides: 'error' names the ids, 'forget' forgets every copy",
]


def text_of_list(path: str | Path) -> str:
    """The text of a file with ids or scores.

    Raises:
        RecordError: It cannot be read, or has more than 1 GiB.
        UnicodeDecodeError: It is no text in UTF-8.
    """
    # utf-8-sig: some editors put a byte-order mark before the first id.
    return read_bytes(path, _MOST_BYTES_OF_LIST).decode("utf-8-sig")


def ids_of(text: str) -> list[str]:
    """The ids of a text that has one on each line."""
    return [line.strip() for line in text.splitlines() if line.strip()]


class ForgetRequest(Protocol):
    """A frozen dataclass that selects samples to forget.

    A class may declare `personal`, which of its fields can name a person, in the terms of
    `record.Personal.kinds`: {"ids": "id"}, or {} for none. With --hash-ids the records show
    pseudonyms in these fields; of a class that declares nothing they hide every value.
    """

    name: ClassVar[str]

    @property
    def duplicates(self) -> str:
        """What to do with identical content on both sides: "error" or "forget"."""

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget.

        A request that names whole classes beside other samples also has the method
        whole_classes(index), which gives them.

        Raises:
            EigenforgetError: The data do not have the class, id or share.
        """
        ...


def inner_request(value: Any) -> Any:
    """The value, if it is a request that selects samples.

    Raises:
        ValueError: It is none, or a sequence of them (pydantic reports it).
    """
    made = dataclasses.is_dataclass(value) and not isinstance(value, type)
    if made and callable(getattr(value, "select", None)) and hasattr(value, "duplicates"):
        return value
    if made and hasattr(value, "again"):
        raise ValueError(
            f"{value.name} is several deletions, one after the other, and stands inside no other "
            "request"
        )
    raise ValueError(f"a request is needed, such as by_class(label=3), got {value!r}")


def as_tuple(value: Any) -> Any:
    """One value or a list as a tuple: `(by_class(label=3))` is no tuple in Python but means one."""
    return (
        value if isinstance(value, tuple) else tuple(value) if isinstance(value, list) else (value,)
    )


def inner_requests(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """The values, if they are requests that select samples, at least one.

    Raises:
        ValueError: They are not (pydantic reports it).
    """
    if not values:
        raise ValueError("at least one request is needed")
    return tuple(inner_request(value) for value in values)


def how_many(*, fraction: float | None, n: int | None, rows: int, what: str) -> int:
    """The number n, or the rounded share of the rows.

    Raises:
        EigenforgetError: n is more than there are.
    """
    if n is None:
        return round((fraction or 0.0) * rows)
    if n > rows:
        raise EigenforgetError(f"{what}: n={n} is more than the {rows} samples to choose from")
    return n


ClassLabel = int | str
"""The number of a class, or its name."""


def rows_of_classes(index: Index, label: ClassLabel | tuple[ClassLabel, ...]) -> np.ndarray:
    """Positions of the samples of these classes.

    Raises:
        EigenforgetError: None is named, or one that the training data does not have.
    """
    return np.flatnonzero(np.isin(index.labels, class_numbers(index, label)))


def class_numbers(index: Index, label: ClassLabel | tuple[ClassLabel, ...]) -> tuple[int, ...]:
    """The numbers of these classes, each once, in the order given.

    Raises:
        EigenforgetError: None is named, one that the training data does not have, or a name that
            two classes bear.
    """
    wanted = label if isinstance(label, tuple) else (label,)
    known = np.unique(index.labels).tolist()
    names = {number: index.class_names[number] for number in known if index.class_names}
    found: dict[int, None] = {}
    for one in wanted:
        fitting = [c for c in known if one == (names.get(c) if isinstance(one, str) else c)]
        if len(fitting) > 1:
            raise EigenforgetError(f"classes {listed(fitting)} are all named {one!r}; give numbers")
        if not fitting:
            raise EigenforgetError(_unknown(one, known, names))
        found[fitting[0]] = None
    if not found:
        raise EigenforgetError(f"unknown class (): none is named; {_having(known, names)}")
    return tuple(found)


def _unknown(one: ClassLabel, known: list[int], names: dict[int, str]) -> str:
    near = get_close_matches(one, names.values(), n=1) if isinstance(one, str) else ()
    hint = f"; do you mean {near[0]!r}?" if near and str(one) not in near else ""
    return f"unknown class {one!r}; {_having(known, names)}{hint}"


def _having(known: list[int], names: dict[int, str]) -> str:
    shown = [c if names.get(c, str(c)) == str(c) else f"{c} ({names[c]})" for c in known]
    return f"the training data has classes: {listed(shown, 20)}"
