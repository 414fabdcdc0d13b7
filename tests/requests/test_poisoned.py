"""Requests for the discovered share of poisoned samples."""

from __future__ import annotations

import numpy as np
import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Index
from eigenforget.data.backdoored import BackdooredData
from eigenforget.data.digits import Digits
from eigenforget.requests import PoisonedSamples, split


def test_the_request_takes_the_discovered_share_by_id() -> None:
    index = BackdooredData(inner=Digits()).load().train_index
    rows = np.flatnonzero(index.column("poisoned") == 1)
    every, half = PoisonedSamples().select(index), PoisonedSamples(known=0.5).select(index)
    assert (
        np.array_equal(every, rows)
        and len(half) == round(0.5 * len(rows))
        and set(half) < set(rows)
    )
    order = np.random.default_rng(0).permutation(len(index))
    assert index.content is not None
    moved = Index(
        index.ids[order],
        index.labels[order],
        None,
        index.content[order],
        {"poisoned": index.column("poisoned")[order]},
    )
    assert set(moved.ids[PoisonedSamples(known=0.5).select(moved)]) == set(index.ids[half])
    assert set(PoisonedSamples(known=0.5, seed=1).select(index)) != set(half)
    found = split(PoisonedSamples(known=0.5), index)
    assert np.array_equal(found.forget, half) and found.forgotten_classes == ()


def test_a_request_without_poison_is_refused() -> None:
    index = Digits().load().train_index
    with pytest.raises(EigenforgetError, match="no column 'poisoned'"):
        PoisonedSamples().select(index)
    flags = np.zeros(len(index), dtype=np.int64)
    with pytest.raises(
        EigenforgetError, match=r"known=1.0 of the 0 poisoned samples rounds to none"
    ):
        PoisonedSamples().select(Index(index.ids, index.labels, columns={"poisoned": flags}))
    flags[:3] = 1
    with pytest.raises(
        EigenforgetError, match=r"known=0.1 of the 3 poisoned samples rounds to none"
    ):
        PoisonedSamples(known=0.1).select(
            Index(index.ids, index.labels, columns={"poisoned": flags})
        )
