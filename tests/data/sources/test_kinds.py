"""The kinds of sources give the same batches."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.augment import Crop
from eigenforget.data.sources import (
    DatasetSource,
    JoinedSource,
    TensorSource,
    as_source,
    in_memory,
    unaugmented,
)
from eigenforget.models.text import TextMlp
from eigenforget.training.engine import Engine
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Optimizer, Phase
from tests.data.sources.toys import (
    LENGTH,
    Dicts,
    N,
    Points,
    assert_same,
    flat,
    images,
    points,
    texts,
)


class Pairs(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: TensorSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        assert isinstance(self.source.inputs, Tensor)
        return self.source.inputs[i], int(self.source.targets[i])


def test_a_dict_batch_is_what_indexing_gives_and_engines_call_by_name(engine: Engine) -> None:
    source, model = (
        texts(),
        TextMlp(dim=4, hidden=(3,), vocabulary=20).build(
            num_classes=3, input_shape=(LENGTH,), seed=0
        ),
    )
    assert isinstance(source.inputs, dict)
    generator = seeds.generator(1, "order")
    order = torch.randperm(N, generator=seeds.generator(1, "order"))
    first = next(source.batches(8, generator))
    for name, value in source.inputs.items():
        assert torch.equal(first.inputs[name], value[order[:8]])
    assert torch.equal(first.labels, source.targets[order[:8]]) and torch.equal(
        first.positions, order[:8]
    )

    def loss(part: LossInputs) -> Tensor:
        return cross_entropy(part.outputs.logits, part.batch.labels)

    engine.fit(model, [Phase("p", (source,), loss, Optimizer(lr=0.5), 8)], epochs=2, seed=0)
    got = torch.cat([o.logits for _, o in engine.forward(model, source, batch_size=5)])
    torch.testing.assert_close(got, model(**source.inputs))


@pytest.mark.parametrize("seed", [None, 2])
def test_joined_dicts_are_the_samples_one_after_the_other(seed: int | None) -> None:
    one, two = texts(9), texts(8, seed=1)
    assert isinstance(one.inputs, dict) and isinstance(two.inputs, dict)
    both = TensorSource(
        {name: torch.cat([one.inputs[name], two.inputs[name]]) for name in one.inputs},
        torch.cat([one.targets, two.targets]),
    )
    for joined in (JoinedSource((one, two)), JoinedSource((one, as_source(Dicts(two))))):
        assert joined.labels().tolist() == both.labels().tolist()
        generator = None if seed is None else seeds.generator(seed, "order")
        order = (
            torch.arange(17)
            if seed is None
            else torch.randperm(17, generator=seeds.generator(seed, "order"))
        )
        batches = list(joined.batches(4, generator))
        assert len(batches) == (
            5 if seed is None else 4
        )  # a last batch of one is left out of training
        for batch, chunk in zip(batches, order.split(4), strict=False):
            assert sorted(batch.positions.tolist()) == sorted(chunk.tolist())
            assert torch.equal(batch.labels, both.targets[batch.positions])
            for name, value in both.inputs.items():
                assert torch.equal(batch.inputs[name], value[batch.positions])


class Counting(Pairs):
    """Counts the processes that its samples were read in."""

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return torch.tensor([float(os.getpid())]), 0


def test_joined_datasets_are_read_by_one_loader_each() -> None:
    """Two workers a source for the whole pass, and not for each batch."""
    one, two = (DatasetSource(Counting(images()), workers=2) for _ in range(2))
    inputs = [b.inputs for b in JoinedSource((one, two)).batches(4, seeds.generator(0))]
    assert len(inputs) > 4 and len(torch.cat(inputs).unique()) <= 4


def test_joined_sources_that_copy_the_state_of_the_generator_draw_differently() -> None:
    class Drawing(Pairs):
        def __getitem__(self, i: int) -> tuple[Tensor, int]:
            return torch.rand(1), 0

    sides = tuple(DatasetSource(Drawing(images()), workers=1) for _ in range(2))
    batches = list(JoinedSource(sides).batches(6, seeds.generator(0)))
    drawn = torch.cat([batch.inputs for batch in batches])
    assert len(drawn.unique()) == len(drawn)


@pytest.mark.parametrize("workers", [0, 2])
def test_augmentation_is_the_same_for_tensors_and_datasets_and_only_in_training(
    workers: int,
) -> None:
    tensors = images(augment=Crop(padding=2))
    stream = DatasetSource(Pairs(tensors), workers=workers, augment=Crop(padding=2))
    assert_same(flat(stream, 4, 7), flat(tensors, 4, 7))
    assert_same(flat(stream, 4, None), flat(images(), 4, None))
    assert_same(flat(stream.subset(np.arange(7)), 4, 7), flat(tensors.subset(np.arange(7)), 4, 7))
    changed = [
        not torch.equal(a["inputs"], b["inputs"])
        for a, b in zip(flat(stream, 4, 7), flat(images(), 4, 7), strict=True)
    ]
    assert any(changed)
    for source in (unaugmented(stream), unaugmented(tensors), unaugmented(JoinedSource((stream,)))):
        assert all(
            torch.equal(batch.inputs, tensors.inputs[batch.positions])  # type: ignore[index]
            for batch in source.batches(4, seeds.generator(7, "order"))
        )


@pytest.mark.parametrize("count", [7, 600])
def test_samples_in_memory_are_the_same_ones(count: int) -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = TensorSource(
        torch.randn(count, 3, generator=generator), torch.arange(count, dtype=torch.long) % 4
    )
    streams = DatasetSource(Pairs(tensors)), JoinedSource((DatasetSource(Pairs(tensors)), tensors))
    for source in (*streams, DatasetSource(Dicts(texts()))):
        held = in_memory(source)
        assert isinstance(held, TensorSource) and in_memory(held) is held
        assert_same(flat(held, 5, None), flat(source, 5, None))


def test_batches_that_cannot_be_joined_stay_where_they_are() -> None:
    rows = [(torch.zeros(3 if number < 512 else 4), 0) for number in range(600)]
    source = DatasetSource(rows)  # type: ignore[arg-type]
    assert in_memory(source) is source
    strange = DatasetSource([(0.5, 1)] * 3, collate=lambda _: (["a", "b", "c"], [0, 1, 2]))  # type: ignore[arg-type]
    assert in_memory(strange) is strange


def test_streaming_leaves_all_global_randomness_alone_and_dropout_equal(engine: Engine) -> None:
    tensors = images()
    state = torch.get_rng_state()
    list(DatasetSource(Pairs(tensors)).batches(4, seeds.generator(0)))
    list(DatasetSource(Pairs(tensors)).batches(4))
    assert torch.equal(torch.get_rng_state(), state)
    results = []
    for source in (tensors, DatasetSource(Pairs(tensors))):
        torch.manual_seed(0)
        model = torch.nn.Sequential(
            torch.nn.Flatten(), torch.nn.Linear(20, 8), torch.nn.Dropout(0.5), torch.nn.Linear(8, 3)
        )
        phase = Phase(
            "p",
            (source,),
            lambda p: cross_entropy(p.outputs.logits, p.batch.labels),
            Optimizer(),
            8,
        )
        results.append(engine.fit(model, [phase], epochs=3, seed=0).state_dict())
    assert all(torch.equal(value, results[1][name]) for name, value in results[0].items())


class Noisy(Pairs):
    """The user's own random transform."""

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        x, y = super().__getitem__(i)
        return x + torch.rand(()), y


def test_own_transforms_stay_in_force_and_differ_from_pass_to_pass() -> None:
    plain = images()
    for workers in (0, 2):
        source = DatasetSource(Noisy(plain), workers=workers)
        generator = seeds.generator(0)
        passes = [
            torch.cat(
                [
                    (b.inputs - plain.inputs[b.positions]).mean((1, 2, 3))
                    for b in source.batches(8, generator)
                ]
            )
            for _ in "ab"
        ]
        assert (passes[0] > 0).all() and not torch.allclose(
            passes[0].sort().values, passes[1].sort().values
        )


class Named(Pairs):
    """A dataset that offers its targets, as torchvision's do, and may transform them."""

    def __init__(self, targets: Any, transform: Callable[[int], int] | None = None) -> None:
        super().__init__(images(len(targets)))
        self.targets, self.target_transform, self.reads = targets, transform, 0

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        label = self.targets[i]
        return super().__getitem__(i)[0], self.target_transform(
            label
        ) if self.target_transform else int(label)


def test_offered_targets_are_taken_unless_the_dataset_changes_them() -> None:
    named = Named([2, 0, 1, 1, 2])
    source = as_source(named)
    assert source.labels().tolist() == [2, 0, 1, 1, 2] and source.subset(
        np.array([4, 1])
    ).labels().tolist() == [2, 0]
    assert named.reads == 5, "the look at some samples before all else"
    loud = as_source(Named([2, 0, 1] * 20))
    assert len(loud.labels()) == 60 and loud.dataset.reads == 32
    changed = as_source(Named([2, 0, 1, 1, 2], lambda label: label % 2))
    assert (
        changed.labels().tolist()
        == [0, 0, 1, 1, 0]
        == [int(y) for b in changed.batches(2) for y in b.labels]
    )
    floats = Named(np.array([1.0, 0.0, 2.0]))
    assert as_source(floats).labels().tolist() == [1, 0, 2] and floats.reads == 6


def test_a_trailing_batch_of_one_is_left_out_of_training() -> None:
    source = points(9)
    assert [len(b.labels) for b in source.batches(4, torch.Generator().manual_seed(0))] == [4, 4]
    assert [len(b.labels) for b in source.batches(4)] == [4, 4, 1]
    assert isinstance(as_source(Points(source)), DatasetSource)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_sample_that_cannot_be_read_later_is_one_line(workers: int) -> None:
    samples = [(torch.ones(3), 0)] * 6 + [(torch.ones(2), 1)]
    source = DatasetSource(samples, workers=workers)  # type: ignore[arg-type]
    assert [len(batch.labels) for batch in source.batches(3)] == [3, 3, 1]
    with pytest.raises(EigenforgetError, match=r"^samples cannot be read: .*size") as caught:
        list(source.batches(7))
    assert "\n" not in str(caught.value)
