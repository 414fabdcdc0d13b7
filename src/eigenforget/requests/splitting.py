"""From a request to the two sides of the training data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.text import listed
from eigenforget.core.types import Index, Split, digest_of_rows
from eigenforget.data.sources import Source
from eigenforget.requests.request import ForgetRequest


def split(request: ForgetRequest, index: Index) -> Split:
    """The two sides that a request makes of the training data: disjoint, covering and not empty.

    Raises:
        EigenforgetError: Nothing or everything would be forgotten, or samples of both sides have
            identical content; the message names their ids.
    """
    if not hasattr(request, "select"):
        raise EigenforgetError(
            f"{request.name} is several deletions, one after the other: steps() makes their splits"
        )
    chosen = selected(request, index)
    check_copies(index, chosen)
    return sides(request.name, index, chosen)


def selected(request: ForgetRequest, index: Index) -> np.ndarray:
    """Which samples the request selects, bool [N].

    With duplicates="forget" every copy of them counts.
    """
    chosen = np.zeros(len(index), dtype=bool)
    chosen[request.select(index)] = True
    return chosen | _copies(index, chosen) if request.duplicates == "forget" else chosen


def check_copies(index: Index, chosen: np.ndarray) -> None:
    """Checks that no sample outside `chosen` [N] is identical to one inside.

    Raises:
        EigenforgetError: One is; the message names the ids.
    """
    copies = _copies(index, chosen)
    if copies.any():
        raise EigenforgetError(
            f"{int(copies.sum())} samples of the retain set are identical to samples of the "
            "forget set: "
            f"{listed(index.ids[copies])}; "
            f'say duplicates="forget" in the request to forget every copy'
        )


def sides(name: str, index: Index, chosen: np.ndarray) -> Split:
    """The Split that forgets `chosen` [N].

    Raises:
        EigenforgetError: Nothing or everything would be forgotten; the message names the request.
    """
    if not chosen.any():
        raise EigenforgetError(f"{name} forgets none of the {len(index)} training samples")
    if chosen.all():
        raise EigenforgetError(
            f"{name} forgets all {len(index)} training samples; nothing would be retained"
        )
    gone = np.setdiff1d(index.labels[chosen], index.labels[~chosen])
    rows = (f"{name}\x1f{int(side)}" for name, side in zip(index.ids, chosen, strict=True))
    return Split(
        np.flatnonzero(chosen),
        np.flatnonzero(~chosen),
        tuple(int(c) for c in gone),
        digest_of_rows(rows),
    )


def retain_sample(retain: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
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

    This, and neither the largest label nor the width of a head, is what k of DA counts: class
    numbers may have gaps, and heads outputs of which there is no sample.
    """
    return tuple(int(c) for c in np.unique(labels))


def gone_classes(forget: Source, retain: Source) -> tuple[int, ...]:
    """Classes that occur in the forget set and not in the retain set."""
    return tuple(int(c) for c in np.setdiff1d(forget.labels(), retain.labels()))
