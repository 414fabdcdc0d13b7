"""A planted backdoor: what changes and what does not, and that it works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.core.types import Index
from eigenforget.data import DATASETS, Arrays, Data, from_arrays
from eigenforget.data.backdoored import BackdooredData
from eigenforget.data.digits import Digits
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.board import Board
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import MUDA
from eigenforget.models.mlp import Mlp
from eigenforget.requests import ByClass, PoisonedSamples
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

ONLY_ATTACK = tuple(name for name in measurement_names() if name != "attack_success")
SLOW = (
    "relearning",
    "linear_probe",
    "few_label_probe",
    "prototypes",
    "zrf",
    "rmia",
    "clustering",
    "u_lira",
    "klom",
)


@pytest.fixture(scope="module")
def attacked(engine: Engine) -> Experiment:
    data = BackdooredData(inner=Digits(), fraction=0.05, size=2)
    return Experiment(
        data, Mlp(), Recipe(epochs=12, batch_size=64), PoisonedSamples(known=0.5), engine
    )


@pytest.fixture(scope="module")
def original(attacked: Experiment) -> nn.Module:
    return attacked.train(seed=0).model


@dataclass(frozen=True, eq=False)
class Given:
    """Data that are there already, as a data set."""

    data: Any
    name: ClassVar[str] = "given"

    def load(self) -> Data:
        return self.data


def pictures(order: np.ndarray | None = None, **columns: np.ndarray) -> Data:
    """200 + 50 colour images of 6×7 pixels in four classes; the training side in another order
    where one is given.
    """
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 250, (250, 6, 7, 3), dtype=np.uint8), np.arange(250) % 4
    train = Arrays(
        images[:200], labels[:200], np.array([f"id{i}" for i in range(200)]), None, columns
    )
    return from_arrays(
        train=train if order is None else train.rows(order), test=Arrays(images[200:], labels[200:])
    )


def pair(**fields: Any) -> tuple[Data, Data]:
    clean = pictures()
    return clean, BackdooredData(inner=Given(clean), **fields).load()


def images(source: Any) -> np.ndarray:
    assert isinstance(source.inputs, Tensor)
    return source.inputs.double().numpy()


def with_trigger(image: np.ndarray, size: int, brightest: list[float]) -> np.ndarray:
    """[C, H, W] with the square in the lower right corner, pixel by pixel."""
    changed = image.copy()
    channels, height, width = image.shape
    for c in range(channels):
        for y in range(height - size, height):
            for x in range(width - size, width):
                changed[c, y, x] = brightest[c]
    return changed


def poisoned_ids(index: Index) -> set[str]:
    return set(index.ids[index.column("poisoned") == 1].tolist())


@pytest.mark.parametrize(("fraction", "target", "size"), [(0.05, 0, 3), (0.1, 2, 1), (0.25, 3, 6)])
def test_the_share_is_exact_and_nothing_but_the_square_and_the_label_changes(
    fraction: float, target: int, size: int
) -> None:
    clean, dirty = pair(fraction=fraction, target=target, size=size)
    before, after = images(clean.train), images(dirty.train)
    brightest = [float(before[:, c].max()) for c in range(3)]
    flags, known = dirty.train_index.column("poisoned"), clean.train_index.labels
    assert flags.sum() == round(fraction * 200) and set(flags.tolist()) == {0, 1}
    for row in range(200):
        if flags[row]:
            assert known[row] != target and np.array_equal(
                after[row], with_trigger(before[row], size, brightest)
            )
            assert dirty.train_index.labels[row] == dirty.train.labels()[row] == target
        else:
            assert (
                np.array_equal(after[row], before[row])
                and dirty.train_index.labels[row] == dirty.train.labels()[row] == known[row]
            )
    assert np.array_equal(dirty.train_index.column("true_label"), known) and np.array_equal(
        dirty.train_index.ids, clean.train_index.ids
    )
    assert (
        np.array_equal(images(dirty.test), images(clean.test))
        and not dirty.test_index.column("poisoned").any()
    )
    assert np.array_equal(dirty.test_index.labels, clean.test_index.labels)


def test_the_clean_data_stay_as_they_are() -> None:
    clean = pictures()
    before, labels = images(clean.train).copy(), clean.train.labels().copy()
    BackdooredData(inner=Given(clean), fraction=0.5).load()
    assert (
        np.array_equal(images(clean.train), before)
        and np.array_equal(clean.train.labels(), labels)
        and clean.triggered is None
    )


def test_triggered_holds_every_test_image_of_another_class() -> None:
    clean, dirty = pair(target=1, size=2)
    others = np.flatnonzero(clean.test_index.labels != 1)
    brightest = [float(images(clean.train)[:, c].max()) for c in range(3)]
    assert (
        dirty.triggered is not None
        and len(dirty.triggered) == len(others)
        and set(dirty.triggered.labels().tolist()) == {1}
    )
    for found, image in zip(images(dirty.triggered), images(clean.test)[others], strict=True):
        assert np.array_equal(found, with_trigger(image, 2, brightest))


def test_content_of_poisoned_samples_is_their_own() -> None:
    clean, dirty = pair(fraction=0.2)
    old, new = clean.train_index.content, dirty.train_index.content
    assert old is not None and new is not None
    assert np.array_equal(old != new, dirty.train_index.column("poisoned") == 1)
    assert len(np.unique(new)) == 200 and not set(new[old != new].tolist()) & set(old.tolist())
    assert clean.train_index.digest() != dirty.train_index.digest() and clean.digest != dirty.digest


def test_the_draw_goes_by_id_and_not_by_place() -> None:
    first = BackdooredData(inner=Given(pictures())).load()
    again = BackdooredData(inner=Given(pictures(np.random.default_rng(1).permutation(200)))).load()
    assert not np.array_equal(first.train_index.ids, again.train_index.ids)
    assert (
        poisoned_ids(first.train_index) == poisoned_ids(again.train_index)
        and first.digest == again.digest
    )
    other = BackdooredData(inner=Given(pictures()), seed=1).load()
    assert len(poisoned_ids(other.train_index)) == 10 and poisoned_ids(
        other.train_index
    ) != poisoned_ids(first.train_index)
    assert (
        len(
            {
                first.digest,
                other.digest,
                BackdooredData(inner=Given(pictures()), size=2).load().digest,
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    "text",
    [
        "backdoored(inner=digits())",
        "backdoored(inner=digits(test_fraction=0.3, seed=2), target=4, fraction=0.1, size=2, seed=7)",
        "backdoored(inner=npz(path='x.npz'), target=1)",
    ],
)
def test_the_spec_round_trips_with_the_data_set_inside(text: str) -> None:
    made = parse(text, DATASETS, "data set")
    assert spell(made) == text and parse(spell(made), DATASETS, "data set") == made
    assert from_json(as_json(made), DATASETS, "data set") == made


def features() -> Data:
    return from_arrays(
        train=Arrays(np.eye(8, 5), np.arange(8) % 2), test=Arrays(np.eye(4, 5), np.arange(4) % 2)
    )


def one_test_class() -> Data:
    whole = pictures()
    rows = np.flatnonzero(whole.test_index.labels == 0)
    index = whole.test_index
    return replace(
        whole, test=whole.test.subset(rows), test_index=Index(index.ids[rows], index.labels[rows])
    )


@pytest.mark.parametrize(
    ("data", "fields", "message"),
    [
        (features, {}, r"trigger into images \[N, C, H, W\]"),
        (pictures, {"size": 7}, "size=7 does not fit images of 6×7 pixels"),
        (pictures, {"target": 4}, "target=4 is not one of the classes 0 to 3"),
        (
            pictures,
            {"fraction": 0.002},
            "fraction=0.002 poisons 0 samples; there are 150 of other classes",
        ),
        (pictures, {"fraction": 0.9}, "poisons 180 samples; there are 150"),
        (lambda: pictures(poisoned=np.zeros(200, dtype=int)), {}, "has a column poisoned already"),
        (one_test_class, {}, "no sample of another class than target=0"),
        (lambda: pair()[1], {}, "has a column poisoned, true_label already"),
    ],
)
def test_what_cannot_be_poisoned_is_refused_in_one_line(
    data: Callable[[], Data], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        BackdooredData(inner=Given(data()), **fields).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("inner", ["5", "'digits()'", "(digits(), digits())", "None"])
def test_an_inner_value_that_is_no_data_set_is_refused(inner: str) -> None:
    with pytest.raises(
        EigenforgetError, match=r"inner: a data set is needed, such as digits\(\), got"
    ):
        parse(f"backdoored(inner={inner})", DATASETS, "data set")


def share_right(model: nn.Module, source: Any) -> float:
    assert isinstance(source, TensorSource) and isinstance(source.inputs, Tensor)
    with torch.no_grad():
        return float(np.mean(model(source.inputs).argmax(dim=1).numpy() == source.labels()))


def test_a_backdoor_works_and_muda_with_half_of_it_known_takes_it_away(
    attacked: Experiment, original: nn.Module
) -> None:
    clean = replace(attacked, request=PoisonedSamples()).train(seed=1, without_forget=True).model
    half = attacked.train(seed=1, without_forget=True).model
    muda = MUDA(alternations=4, batch_size=32, recover_lr=0.005, target="masked_label")
    cleaned = attacked.unlearn(original, muda, seed=0).model
    board = Board(attacked.panel(skip=ONLY_ATTACK), [original], [clean, half])
    found = [
        board.measure_original(),
        board.measure_oracle(0),
        board.measure_oracle(1),
        board.measure(cleaned, "unlearned"),
    ]
    success = [m.value("attack_success") for m in found]
    assert success == [
        share_right(model, attacked.data.triggered) for model in (original, clean, half, cleaned)
    ]
    with_backdoor, without, known_half_gone, after = success
    assert (
        with_backdoor is not None
        and without is not None
        and known_half_gone is not None
        and after is not None
    )
    assert with_backdoor > 0.9 and without < 0.3 and known_half_gone > 0.7, (
        "retraining without the known half keeps the backdoor"
    )
    assert (
        after < 0.5
        and share_right(original, attacked.data.test) - share_right(cleaned, attacked.data.test)
        < 0.1
    )


def test_without_a_backdoor_there_is_no_score(engine: Engine) -> None:
    plain = Experiment(Digits(), Mlp(hidden=(16,)), Recipe(epochs=1), ByClass(label=3), engine)
    measured = Board(plain.panel(skip=ONLY_ATTACK), [], []).measure(plain.new_model(0), "unlearned")
    assert "test_trigger" not in plain.panel().parts and not [
        s for s in measured.scores if s.name == "attack_success"
    ]


def test_triggered_samples_move_no_other_score(attacked: Experiment, original: nn.Module) -> None:
    panel = attacked.panel(skip=SLOW)
    others = replace(
        panel,
        parts={part: source for part, source in panel.parts.items() if part != "test_trigger"},
    )
    oracles = [attacked.new_model(1), attacked.new_model(2)]
    with_part, without = (Board(p, [original], oracles).measure_original() for p in (panel, others))
    assert {s for s in with_part.scores if s.name != "attack_success"} == set(
        without.scores
    ) and len(without.scores) > 10
    assert with_part.series == without.series
