"""Which samples a loader stands for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import as_source

DATA = TensorDataset(torch.arange(30.0)[:, None], torch.arange(30) % 3)


def rows(loader: Any) -> list[int]:
    return [int(x) for b in as_source(loader).batches(8) for x in b.inputs]


def test_a_batch_sampler_keeps_its_selection() -> None:
    data = TensorDataset(torch.arange(30.0)[:, None], torch.arange(30) % 3)
    batches = BatchSampler(SubsetRandomSampler([4, 9, 21]), batch_size=2, drop_last=False)
    assert as_source(DataLoader(data, batch_sampler=batches)).labels().tolist() == [1, 0, 0]
    with pytest.warns(UserWarning, match="4 samples, of which 3 differ"):
        found = as_source(DataLoader(data, batch_sampler=[[4, 9], [9, 21]]))
    assert len(found) == 3


def test_a_sampler_with_replacement_selects_nothing_by_chance() -> None:
    data = TensorDataset(torch.arange(30.0)[:, None], torch.arange(30) % 3)
    weights = torch.ones(30)
    weights[:5] = 0
    for sampler, taken in (
        (RandomSampler(data, replacement=True), 30),
        (WeightedRandomSampler(weights, 30), 25),
    ):
        with pytest.warns(UserWarning, match=f"{taken} of 30"):
            assert len(as_source(DataLoader(data, batch_size=4, sampler=sampler))) == taken


class Shuffled(Sampler[int]):
    """Ten samples by a generator that torch does not know."""

    def __iter__(self) -> Iterator[int]:
        return iter(random.sample(range(30), 5) + np.random.permutation(30)[:5].tolist())


@pytest.mark.parametrize(
    "sampler",
    [
        RandomSampler(DATA, num_samples=10),
        RandomSampler(DATA, num_samples=10, generator=torch.Generator().manual_seed(7)),
        WeightedRandomSampler(torch.ones(30), 10, replacement=False),
        Shuffled(),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_sampler_that_draws_a_part_gives_the_same_part_in_each_call(sampler: Any) -> None:
    loader = DataLoader(DATA, batch_size=4, sampler=sampler)
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.warns(EigenforgetWarning, match=r"other samples in each pass: the \d+ of 30"):
        first = rows(loader)
    now = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    assert torch.equal(states[0], now[0]) and states[1:] == now[1:]
    torch.manual_seed(3), random.seed(3)
    with pytest.warns(EigenforgetWarning):
        assert rows(loader) == first and len(first) <= 10
    if generator := getattr(sampler, "generator", None):
        generator.manual_seed(8)
        with pytest.warns(EigenforgetWarning):
            assert rows(loader) != first


def test_the_share_of_one_process_stands_for_the_whole_dataset() -> None:
    sampler = DistributedSampler(DATA, num_replicas=3, rank=1)
    with pytest.warns(EigenforgetWarning, match="one of 3 processes.*all 30"):
        assert rows(DataLoader(DATA, batch_size=4, sampler=sampler)) == list(range(30))


@pytest.mark.parametrize("shuffle", [False, True])
def test_drop_last_leaves_no_sample_out(
    shuffle: bool, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with caplog.at_level("INFO"):
        assert len(rows(DataLoader(DATA, batch_size=7, drop_last=True, shuffle=shuffle))) == 30
    assert "drop_last" in caplog.text and not recwarn.list
    own = BatchSampler(RandomSampler(DATA), 7, drop_last=True)
    assert rows(DataLoader(DATA, batch_sampler=own)) == list(range(30))


class Endless(Sampler[int]):
    def __iter__(self) -> Iterator[int]:
        while True:
            yield 1


@pytest.mark.parametrize(
    "sampler",
    [Endless(), ["a"], [30], [-1], [1.5e30]],
    ids=lambda s: type(s).__name__ if isinstance(s, Sampler) else str(s),
)
def test_what_gives_no_positions_is_one_line(sampler: Any) -> None:
    with pytest.raises(EigenforgetError, match=r"^x: the loader's .* positions.*Subset"):
        as_source(DataLoader(DATA, batch_size=4, sampler=sampler), "x")


def test_whole_batches_and_collate_functions_that_lose_samples_are_refused() -> None:
    with pytest.raises(EigenforgetError, match="batch_size=None"):
        as_source(DataLoader(DATA, batch_size=None))

    def halved(samples: list[Any]) -> Any:
        return torch.utils.data.default_collate(samples[::2])

    with pytest.raises(EigenforgetError, match="15 labels of 30 samples"):
        as_source(DataLoader(DATA, batch_size=4, collate_fn=halved))


def test_a_loader_in_the_wrapping_of_fabric_is_a_loader() -> None:
    from lightning_fabric import Fabric

    loader = DataLoader(DATA, batch_size=4, sampler=SubsetRandomSampler([7, 3]))
    assert rows(Fabric(accelerator="cpu").setup_dataloaders(loader)) == [3, 7]
