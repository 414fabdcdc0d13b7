"""From a request to the two sides of the training data."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from eigenforget.core import notices, seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import counted, displayed, listed
from eigenforget.core.types import Index, Split, digest_of_rows
from eigenforget.data.sources import Source
from eigenforget.requests.request import ForgetRequest


def split(request: ForgetRequest, index: Index) -> Split:
    """The two sides that a request makes of the training data: disjoint, covering and not empty.

    Args:
        request: What is to be forgotten, such as ByClass(label=3).
        index: The training data's ids, labels and columns, such as `Digits().load().train_index`.

    Raises:
        EigenforgetError: Nothing or everything would be forgotten, or samples of both sides have
            identical content; the message names their ids. Or an argument is something else.
    """
    if not isinstance(index, Index) or not hasattr(request, "name"):
        got = f"{type(request).__name__} and {type(index).__name__}"
        raise EigenforgetError(
            "split takes a request, such as ByClass(label=3), and the index of a data set, such as "
            f"Digits().load().train_index; got {got}"
        )
    if not hasattr(request, "select"):
        raise EigenforgetError(
            f"{request.name} is several deletions, one after the other: steps() makes their splits"
        )
    chosen = selected(request, index)
    check_copies(index, chosen)
    return sides(request.name, index, chosen, requests=(request,))


def selected(request: ForgetRequest, index: Index) -> np.ndarray:
    """Which samples the request selects, bool [N].

    With duplicates="forget" every copy of them counts.

    Raises:
        EigenforgetError: A request of the user's own gives no positions.
    """
    chosen = np.zeros(len(index), dtype=bool)
    chosen[_positions(request, index)] = True
    return chosen | _copies(index, chosen) if request.duplicates == "forget" else chosen


def _positions(request: ForgetRequest, index: Index) -> np.ndarray:
    given, n = request.select(index), len(index)
    try:
        found = np.asarray(given)
    except ValueError:  # lists of different lengths
        found = np.empty((0, 0))
    if found.dtype == bool and found.shape == (n,):
        return np.flatnonzero(found)
    if found.ndim != 1 or (found.size and found.dtype.kind not in "iu"):
        raise EigenforgetError(
            f"{request.name} must give the positions of the samples to forget, such as [0, 17], or "
            f"a mask of {n} truth values; got {displayed(given)}"
        )
    outside = found[(found < 0) | (found >= n)]
    if outside.size:
        raise EigenforgetError(
            f"{request.name} gives position {outside[0]}; those of the training samples are 0 to "
            f"{n - 1}"
        )
    return found.astype(np.int64)


def check_copies(index: Index, chosen: np.ndarray) -> None:
    """Checks that no sample outside `chosen` [N] is identical to one inside.

    Raises:
        EigenforgetError: One is; the message names the ids.
    """
    copies = _copies(index, chosen)
    if copies.any():
        found = counted(
            int(copies.sum()), "sample of the retain set is", "samples of the retain set are"
        )
        raise EigenforgetError(
            f"{found} identical to samples of the forget set: "
            f"{listed(index.ids[copies])}; "
            f'say duplicates="forget" in the request to forget every copy'
        )


def sides(
    name: str, index: Index, chosen: np.ndarray, *, requests: Sequence[ForgetRequest] = ()
) -> Split:
    """The Split that forgets `chosen` [N].

    Classes are gone as a whole if `chosen` consists of whole classes, or if one of the requests
    names them. A random request that happens to select every sample of a rare class selects
    samples, not a class.

    Args:
        name: What forgets them, for messages and the digest.
        index: The training data.
        chosen: Which of its samples.
        requests: The requests that chose them.

    Raises:
        EigenforgetError: Nothing or everything would be forgotten; the message names the request.
    """
    if not chosen.any():
        raise EigenforgetError(f"{name} forgets none of the {len(index)} training samples")
    if chosen.all():
        raise EigenforgetError(
            f"{name} forgets all {len(index)} training samples; nothing would be retained"
        )
    gone, doubtful = gone_classes(index.labels[chosen], retain=index.labels[~chosen])
    if doubtful:
        named = {c for request in requests for c in whole_classes(request, index)}
        gone = tuple(c for c in doubtful if c in named)
        if len(gone) < len(doubtful):
            found = tuple(c for c in doubtful if c not in named)
            notices.warn(
                f"{name} takes every sample of {_named(found)} beside samples of others: "
                "this does not count as gone as a whole; a union with by_class says that it is"
            )
    rows = (f"{name}\x1f{int(side)}" for name, side in zip(index.ids, chosen, strict=True))
    return Split(np.flatnonzero(chosen), np.flatnonzero(~chosen), gone, digest_of_rows(rows))


def retain_sample(
    retain: np.ndarray, *, labels: np.ndarray, fraction: float, seed: int
) -> np.ndarray:
    """A seeded share of the retain positions, stratified by label, at least one of each class.

    Args:
        retain: Positions of the retain set.
        labels: Labels of all training samples [N].
        fraction: The share.
        seed: Which of them.
    """
    if not 0 < fraction <= 1:
        raise EigenforgetError(f"retain fraction {fraction} must be above 0 and at most 1")
    if fraction == 1:
        return retain
    rng = np.random.default_rng(seeds.derive(seed, "retain_sample"))
    kept = []
    for label in np.unique(labels[retain]):
        rows = retain[labels[retain] == label]
        kept.append(rng.permutation(rows)[: max(1, round(fraction * len(rows)))])
    return np.sort(np.concatenate(kept))


def _copies(index: Index, chosen: np.ndarray) -> np.ndarray:
    """Samples outside `chosen` whose content is that of one inside, bool [N]."""
    if index.content is None or not chosen.any():
        return np.zeros(len(index), dtype=bool)
    return ~chosen & np.isin(index.content, np.unique(index.content[chosen]))


def sides_of(labels: np.ndarray, forgotten_classes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Positions of the samples of forgotten and of other classes, each in order."""
    of_forgotten = np.isin(labels, list(forgotten_classes))
    return np.flatnonzero(of_forgotten), np.flatnonzero(~of_forgotten)


def classes_in(labels: np.ndarray) -> tuple[int, ...]:
    """The classes that occur in labels [N], in order.

    This is what k of DA counts, and neither the largest label nor the width of a head. Class
    numbers may have gaps, and heads may have outputs without any sample.
    """
    return tuple(int(c) for c in np.unique(labels))


class GoneClasses(NamedTuple):
    """What labels say about classes that are gone as a whole.

    Attributes:
        classes: Those that are, where the labels leave no doubt.
        doubtful: Those that the retain set lacks although it has other classes of the forget set.
            Such a class may be rare, or the retain set a small sample that happens to lack it.
    """

    classes: tuple[int, ...]
    doubtful: tuple[int, ...]


def gone_classes(forget: np.ndarray, *, retain: np.ndarray) -> GoneClasses:
    """The classes that are gone as a whole, from labels of the forget and the retain set.

    They are inferred only where the forget set consists of exactly the classes that the retain set
    lacks.
    """
    missing = classes_in(np.setdiff1d(forget, retain))
    if len(missing) == len(classes_in(forget)):
        return GoneClasses(missing, ())
    return GoneClasses((), missing)


def settled_classes(
    forget: Source, retain: Source | None, given: Sequence[int] | None
) -> tuple[int, ...]:
    """The classes that are gone as a whole: those that were given, else what is inferred.

    What is inferred is said (`notices.inform`); a doubt is a warning.

    Raises:
        EigenforgetError: What was given are no integers, or the retain set has samples of them.
    """
    kept = np.zeros(0, dtype=np.int64) if retain is None else retain.labels()
    if given is not None:
        try:
            named = tuple(sorted({operator.index(c) for c in given}))
        except TypeError:
            raise EigenforgetError(f"forgotten_classes must be integers, got {given!r}") from None
        _check_gone(named, kept)
        return named
    if retain is None:
        return ()
    found = gone_classes(forget.labels(), retain=kept)
    if found.doubtful:
        notices.warn(
            f"the forget set has samples of {_named(found.doubtful)}, which the retain set lacks, "
            "beside samples of classes that it has: no class counts as gone as a whole; say "
            f"forgotten_classes={found.doubtful} if they are gone, and () if not"
        )
    elif found.classes:
        line = (
            f"gone as a whole: {_named(found.classes)}, since the forget set consists of exactly "
            "the classes that the retain set lacks"
        )
        there = len(classes_in(kept))
        if len(kept) < _FEW * there:
            notices.warn(
                f"{line}, but with {len(kept)} samples of {there} classes it may lack them by "
                f"chance; say forgotten_classes={found.classes} if they are gone, and () if not"
            )
        else:
            notices.inform(f"{line}; forgotten_classes=() says otherwise")
    return found.classes


_FEW = 8
"""Samples of a class, on average, from which on no class is missing by chance: that happens once in
exp(8), about 3,000 draws."""


def _check_gone(classes: Sequence[int], kept: np.ndarray) -> None:
    """Checks that none of the classes has samples with these labels, which are of the retain set.

    Raises:
        EigenforgetError: One has.
    """
    for label in classes:
        count = int((kept == label).sum())
        if count:
            raise EigenforgetError(
                f"forgotten_classes: class {label} has {counted(count, 'sample', 'samples')} in "
                "the retain set; remove them from it, or the class from forgotten_classes"
            )


def whole_classes(request: ForgetRequest, index: Index) -> tuple[int, ...]:
    """The classes that a request takes as a whole, because it names them or consists of them."""
    named = getattr(request, "whole_classes", None)
    if callable(named):
        return tuple(named(index))
    chosen = selected(request, index)
    return gone_classes(index.labels[chosen], retain=index.labels[~chosen]).classes


def _named(classes: Sequence[int]) -> str:
    return f"class{'' if len(classes) == 1 else 'es'} {listed(classes)}"
