"""Drawn shares and numbers of samples."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.spec import from_json, spell
from eigenforget.requests import REQUESTS as KINDS
from eigenforget.requests import AtRandom, ByClass, split
from tests.requests.toys import index


def test_at_random_draws_the_share_and_depends_on_the_seed() -> None:
    labels = [i % 4 for i in range(200)]
    first, again, other = (split(AtRandom(fraction=0.1, seed=s), index(labels)) for s in (0, 0, 1))
    assert len(first.forget) == 20 and first.digest == again.digest != other.digest
    assert first.forgotten_classes == ()


def test_at_random_has_one_size_and_reads_stored_specs() -> None:
    stored = {"name": "at_random", "fields": {"duplicates": "error", "fraction": 0.1, "seed": 0}}
    assert (
        AtRandom() == AtRandom(fraction=0.1) == from_json(stored, KINDS, "request") != AtRandom(n=4)
    )
    assert (
        spell(AtRandom()) == "at_random(fraction=0.1)" and spell(AtRandom(n=4)) == "at_random(n=4)"
    )
    with pytest.raises(ValueError, match="give fraction or n, not both"):
        AtRandom(fraction=0.1, n=4)


def test_at_random_draws_a_number_and_within_classes() -> None:
    labels = np.arange(40) % 4
    data = index(list(labels))
    assert list(split(AtRandom(n=12, seed=5), data).forget) == list(
        split(AtRandom(fraction=0.3, seed=5), data).forget
    )
    inside = split(AtRandom(n=4, label=2), data).forget
    assert len(inside) == 4 and set(labels[inside]) == {2}
    half = split(AtRandom(fraction=0.5, label=(1, 3)), data).forget
    assert len(half) == 10 and set(labels[half]) == {1, 3}
    assert split(AtRandom(n=10, label=2), data).digest == split(ByClass(label=2), data).digest
