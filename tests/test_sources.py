"""Sources of one or several tensors, of datasets and of joined ones: the same batches whatever
keeps the samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.data.augment import Crop
from eigenforget.data.sources import (
    DatasetSource,
    JoinedSource,
    TensorSource,
    as_source,
    unaugmented,
)
from eigenforget.models.text import TextMlp
from eigenforget.training.engine import Engine
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import LossInputs, Optimizer, Phase

N, LENGTH = 23, 6


def texts(n: int = N, seed: int = 0) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, 20, (n, LENGTH), generator=g)
    mask = (torch.arange(LENGTH) < torch.randint(1, LENGTH + 1, (n, 1), generator=g)).long()
    return TensorSource({"input_ids": ids * mask, "attention_mask": mask}, ids.sum(1) % 3)


def images(n: int = N, augment: Any = None) -> TensorSource:
    g = torch.Generator().manual_seed(3)
    return TensorSource(torch.randn(n, 1, 5, 4, generator=g), torch.arange(n) % 3, augment)


class Dicts(Dataset[dict[str, Any]]):
    """Samples as Hugging Face gives them."""

    def __init__(self, source: TensorSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> dict[str, Any]:
        assert isinstance(self.source.inputs, dict)
        return {name: value[i] for name, value in self.source.inputs.items()} | {
            "labels": int(self.source.targets[i])
        }


class Pairs(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: TensorSource) -> None:
        self.source = source

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        assert isinstance(self.source.inputs, Tensor)
        return self.source.inputs[i], int(self.source.targets[i])


def flat(source: Any, size: int, seed: int | None) -> list[dict[str, Tensor]]:
    """Each batch as one dict of tensors."""
    generator = None if seed is None else seeds.generator(seed, "order")
    found = []
    for batch in source.batches(size, generator):
        inputs = batch.inputs if isinstance(batch.inputs, dict) else {"inputs": batch.inputs}
        found.append({**inputs, "labels": batch.labels, "positions": batch.positions})
    return found


def assert_same(one: list[dict[str, Tensor]], two: list[dict[str, Tensor]]) -> None:
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        assert list(a) == list(b)
        assert all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("seed", [None, 5])
def test_dicts_of_tensors_datasets_and_loaders_give_the_same_batches(seed: int | None) -> None:
    tensors = texts()
    assert isinstance(tensors.inputs, dict)
    given = {name: value.numpy() for name, value in tensors.inputs.items()}
    kinds = [
        as_source((tensors.inputs, tensors.targets)),
        as_source((given, tensors.targets.numpy().astype(np.uint8))),
        as_source([given, tensors.targets.tolist()]),
        as_source(Dicts(tensors)),
        as_source(DataLoader(Dicts(tensors), batch_size=3, shuffle=True)),
        as_source(DataLoader(Dicts(tensors), batch_size=3, num_workers=2)),
    ]
    for source in kinds:
        np.testing.assert_array_equal(source.labels(), tensors.labels())
        assert source.labels().dtype == np.int64
        assert_same(flat(source, 4, seed), flat(tensors, 4, seed))
        rows = np.array([4, 1, 9, 4])
        assert_same(flat(source.subset(rows), 3, seed), flat(tensors.subset(rows), 3, seed))


def test_a_dict_batch_is_what_indexing_gives_and_engines_call_by_name(engine: Engine) -> None:
    source, model = texts(), TextMlp(dim=4, hidden=(3,), vocabulary=20).build(3, (LENGTH,), 0)
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
    assert named.reads == 0
    changed = as_source(Named([2, 0, 1, 1, 2], lambda label: label % 2))
    assert (
        changed.labels().tolist()
        == [0, 0, 1, 1, 0]
        == [int(y) for b in changed.batches(2) for y in b.labels]
    )
    floats = Named(np.array([1.0, 0.0, 2.0]))
    assert as_source(floats).labels().tolist() == [1, 0, 2] and floats.reads == 3


def test_numpy_arrays_of_every_layout() -> None:
    wide = np.arange(24.0).reshape(6, 4)
    frozen = wide.copy()
    frozen.flags.writeable = False
    labels = np.array([0, 1, 2, 0, 1, 2])
    for array in (
        wide,
        frozen,
        wide[:, ::-1][:, ::-1],
        np.asfortranarray(wide),
        wide.astype(">f8"),
        wide.astype(np.longdouble),
    ):
        source = as_source((array, labels[::-1]))
        assert isinstance(source, TensorSource) and isinstance(source.inputs, Tensor)
        assert source.inputs.dtype == torch.float32 and torch.equal(
            source.inputs, torch.arange(24.0).view(6, 4)
        )
        assert source.labels().tolist() == [2, 1, 0, 2, 1, 0]
    double = as_source((torch.ones(2, 3, dtype=torch.float64), torch.tensor([0, 1])))
    assert (
        isinstance(double, TensorSource)
        and isinstance(double.inputs, Tensor)
        and double.inputs.dtype == torch.float64
    )
    small = as_source((np.ones((2, 3), np.float16), labels[:2]))
    assert (
        isinstance(small, TensorSource)
        and isinstance(small.inputs, Tensor)
        and small.inputs.dtype == torch.float16
    )
    # Two samples in a list are a dataset, not a pair of inputs and labels.
    pairs = as_source([(torch.ones(3), 1), (torch.zeros(3), 0)])
    assert isinstance(pairs, DatasetSource) and pairs.labels().tolist() == [1, 0]


IDS = torch.zeros(2, 3, dtype=torch.long)
BAD = {
    "counts": (
        ({"ids": IDS, "mask": IDS[:1]}, torch.tensor([0, 1])),
        "^1 mask and 2 labels: the counts must be equal$",
    ),
    "float labels": (
        ({"ids": IDS}, np.array([0.0, 1.0])),
        "labels must be a 1-D integer tensor, got torch.float32",
    ),
    "2-D labels": ((IDS, IDS), r"labels must be a 1-D integer tensor, got torch.int64 \[2, 3\]"),
    "words as labels": ((IDS, np.array(["a", "b"])), r"^x: labels must be numbers, got <U1 \[2\]$"),
    "objects": (
        ({"ids": np.array([[None], [1]])}, np.array([0, 1])),
        "^x: ids must be numbers, got object",
    ),
    "empty": (({"ids": IDS[:0]}, torch.zeros(0, dtype=torch.long)), "^x is empty$"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_pairs_are_refused_in_one_line(case: str) -> None:
    value, line = BAD[case]
    with pytest.raises(EigenforgetError, match=line) as caught:
        as_source(value, "x")
    assert "\n" not in str(caught.value)


def test_what_cannot_be_augmented_or_joined_is_refused() -> None:
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask; choose none"
    ):
        TensorSource(texts().inputs, texts().targets, Crop())
    stream = DatasetSource(Dicts(texts()), augment=Crop())
    assert len(list(stream.batches(8))) == 3
    with pytest.raises(
        EigenforgetError, match="these inputs are a dict of input_ids, attention_mask"
    ):
        next(stream.batches(8, seeds.generator(0)))
    mixed = JoinedSource((texts(4), images(4)))
    with pytest.raises(
        EigenforgetError,
        match=r"joined sources give different inputs: .*'attention_mask': \[6\].* and .*\[1, 5, 4\]",
    ):
        next(mixed.batches(8))
    with pytest.raises(EigenforgetError, match="without any tensor"):
        TensorSource({}, torch.tensor([0]))
    soft = as_source(TensorDataset(torch.ones(2, 3), torch.ones(2, 2)[:, 0].long(), torch.ones(2)))
    assert soft.labels().tolist() == [1, 1]
    with pytest.raises(
        EigenforgetError, match=r"labels must be a 1-D integer tensor, got torch\.float64"
    ):
        as_source([(torch.ones(2), 0.5), (torch.ones(2), 1.0)]).labels()


def points(n: int = 23) -> TensorSource:
    g = torch.Generator().manual_seed(1)
    return TensorSource(torch.randn(n, 5, generator=g), torch.randint(0, 3, (n,), generator=g))


class Points(Dataset[tuple[Tensor, int]]):
    def __init__(self, source: TensorSource) -> None:
        self.source, self.reads = source, 0

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        self.reads += 1
        return self.source.inputs[i], int(self.source.targets[i])


def test_tensors_datasets_and_loaders_give_the_same_batches() -> None:
    tensors = points()
    kinds = [
        as_source((tensors.inputs, tensors.targets)),
        as_source((tensors.inputs.numpy(), tensors.targets.numpy())),
        as_source(TensorDataset(tensors.inputs, tensors.targets)),
        as_source(Points(tensors)),
        as_source(DataLoader(Points(tensors), batch_size=3, shuffle=True)),
    ]
    for source in kinds:
        np.testing.assert_array_equal(source.labels(), tensors.labels())
        for generator in (None, 5):
            for got, want in zip(
                passes(source, generator), passes(tensors, generator), strict=True
            ):
                assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
        part = source.subset(np.array([4, 1, 9]))
        assert torch.equal(next(part.batches(8)).inputs, tensors.inputs[[4, 1, 9]])


def test_a_loader_with_its_own_sampler_keeps_its_selection() -> None:
    tensors = points()
    source = as_source(
        DataLoader(Points(tensors), batch_size=4, sampler=SubsetRandomSampler([7, 3, 11]))
    )
    assert torch.equal(next(source.batches(8)).inputs, tensors.inputs[[3, 7, 11]])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((torch.zeros(2, 3), torch.zeros(3, dtype=torch.long)), "2 .*3 "),
        ((torch.zeros(2, 3), torch.zeros(2)), "1-D integer"),
        ((torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "x is empty"),
        (3, "int$"),
    ],
)
def test_wrong_data(value: object, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        as_source(value, "x")


def test_a_trailing_batch_of_one_is_left_out_of_training() -> None:
    source = points(9)
    assert [len(b.labels) for b in source.batches(4, torch.Generator().manual_seed(0))] == [4, 4]
    assert [len(b.labels) for b in source.batches(4)] == [4, 4, 1]
    assert isinstance(as_source(Points(source)), DatasetSource)


def passes(source: object, seed: int | None) -> Iterator[tuple[Tensor, ...]]:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    return iter([tuple(b) for b in source.batches(4, generator)])  # type: ignore[attr-defined]
