"""What is to be forgotten: requests select training samples by what the Index knows of them; `split` makes the two sides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, ClassVar, Literal, Protocol

import numpy as np
from pydantic import Field

from eigenforget import seeds
from eigenforget.spec import configured
from eigenforget.types import EigenforgetError, Index, Split, digest_of_rows, listed

Duplicates = Annotated[
    Literal["error", "forget"],
    Field(description="identical content on both sides: 'error' names the ids, 'forget' forgets every copy"),
]


class ForgetRequest(Protocol):
    """A frozen dataclass that selects samples to forget."""

    name: ClassVar[str]
    duplicates: str

    def select(self, index: Index) -> np.ndarray:
        """Positions of the samples to forget. Errors: a class, id or share that the data does not have."""
        ...


@configured
class ByClass:
    """Forget every training sample of one or several classes."""

    name: ClassVar[str] = "by_class"
    label: Annotated[int | tuple[int, ...], Field(description="class, or classes as a tuple")]
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        wanted = np.atleast_1d(np.asarray(self.label, dtype=np.int64))
        known = np.unique(index.labels)
        missing = np.setdiff1d(wanted, known)
        if len(missing) or not len(wanted):
            raise EigenforgetError(f"unknown class {listed(missing) or '()'}; the training data has classes: {listed(known, 20)}")
        return np.flatnonzero(np.isin(index.labels, wanted))


@configured
class ByIds:
    """Forget the training samples with these ids: given here, or one per line in a text file."""

    name: ClassVar[str] = "by_ids"
    ids: Annotated[tuple[str, ...], Field(description="sample ids")] = ()
    path: Annotated[str, Field(description="text file with one id per line; blank lines are skipped")] = ""
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        wanted = list(dict.fromkeys((*self.ids, *self._from_file())))
        if not wanted:
            raise EigenforgetError("by_ids selects nothing: give ids=(…) or path='…' with one id per line")
        where = {str(name): position for position, name in enumerate(index.ids)}
        missing = [name for name in wanted if name not in where]
        if missing:
            raise EigenforgetError(f"ids not in the training data: {listed(missing)}")
        return np.sort(np.asarray([where[name] for name in wanted], dtype=np.int64))

    def _from_file(self) -> list[str]:
        if not self.path:
            return []
        try:
            lines = Path(self.path).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise EigenforgetError(f"cannot read the id list {self.path!r}: {error}") from None
        return [line.strip() for line in lines if line.strip()]


@configured
class AtRandom:
    """Forget a random share of the training samples. The choice depends on the seed and the ids, not on their order."""

    name: ClassVar[str] = "at_random"
    fraction: Annotated[float, Field(gt=0, lt=1, description="share of the training samples")] = 0.1
    seed: Annotated[int, Field(ge=0, description="which samples are drawn")] = 0
    duplicates: Duplicates = "error"

    def select(self, index: Index) -> np.ndarray:
        count = round(self.fraction * len(index))
        by_id = np.argsort(index.ids, kind="stable")
        drawn = np.random.default_rng(seeds.derive(self.seed, "at_random")).permutation(len(index))[:count]
        return np.sort(by_id[drawn])


REQUESTS: list[type] = [ByClass, ByIds, AtRandom]


def split(request: ForgetRequest, index: Index) -> Split:
    """Disjoint, covering, non-empty forget and retain positions, with an order-free digest.

    Errors: nothing or everything is forgotten; a sample with identical content stands on both sides (the ids are named).
    """
    chosen = np.zeros(len(index), dtype=bool)
    chosen[request.select(index)] = True
    chosen = _with_copies(request, index, chosen)
    if not chosen.any():
        raise EigenforgetError(f"{request.name} forgets none of the {len(index)} training samples")
    if chosen.all():
        raise EigenforgetError(f"{request.name} forgets all {len(index)} training samples; nothing would be retained")
    gone = np.setdiff1d(index.labels[chosen], index.labels[~chosen])
    sides = (f"{name}\x1f{int(side)}" for name, side in zip(index.ids, chosen, strict=True))
    return Split(np.flatnonzero(chosen), np.flatnonzero(~chosen), tuple(int(c) for c in gone), digest_of_rows(sides))


def retain_sample(retain: np.ndarray, labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """A seeded share of the retain positions, stratified by label, at least one of each class; `labels` are of all samples."""
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


def _with_copies(request: ForgetRequest, index: Index, chosen: np.ndarray) -> np.ndarray:
    if index.content is None or not chosen.any():
        return chosen
    twins = ~chosen & np.isin(index.content, np.unique(index.content[chosen]))
    if not twins.any():
        return chosen
    if request.duplicates == "forget":
        return chosen | twins
    raise EigenforgetError(
        f"{int(twins.sum())} retained samples are identical to forgotten ones: {listed(index.ids[twins])}; "
        f'say duplicates="forget" in the request to forget every copy'
    )
