"""Whether a model knows the samples that it is said to have been trained on."""

from __future__ import annotations

import copy
import warnings
from contextlib import suppress

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget import Finetune, analyze, evaluate, unlearn
from eigenforget.core.errors import Diverged
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import DatasetSource, Source
from eigenforget.training.recall import Recall, of_answers, recall, warn_of_damage
from eigenforget.training.recipe import Recipe, fit_recipe
from tests.toys import ENGINE, net, sides


def learned(source: Source) -> nn.Module:
    return fit_recipe(net(), source, Recipe(epochs=20, batch_size=16), engine=ENGINE, seed=0).eval()


def test_what_is_known_is_counted_on_samples_of_the_whole_source() -> None:
    _, retain, _ = sides(by_class=False)
    model = learned(retain)
    known = recall(model, retain, ENGINE)
    answers = model(retain.inputs).argmax(1)
    assert known.samples == len(retain) == 120
    assert recall(copy.deepcopy(model).double(), retain, ENGINE) == known, "in the inputs' type"
    assert known.correct == int((answers == retain.targets).sum()) > 100
    said, true = (np.bincount(c, minlength=4) / 120 for c in (answers, retain.targets))
    assert known.chance == pytest.approx(said @ true) and known.doubt() == ""
    assert Recall.from_json(known.as_json()) == known._replace(chance=round(known.chance, 6))


def test_guessing_is_told_from_knowing() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(1000) % 10
    guesses = of_answers(rng.permutation(labels), labels)
    assert guesses.guesses and "guessing gives 0.1" in guesses.doubt()
    some = np.where(rng.random(1000) < 0.09, labels, rng.permutation(labels))
    assert not of_answers(some, labels).guesses
    assert "accuracy 0.1" in of_answers(some, labels).doubt(), "a fifth above guessing is little"
    half = of_answers(np.where(rng.random(1000) < 0.5, labels, rng.permutation(labels)), labels)
    assert half.doubt() == ""


def test_a_constant_answer_on_unbalanced_classes_is_guessing() -> None:
    labels = (np.arange(500) % 20 == 0).astype(int)
    assert of_answers(np.zeros(500, dtype=int), labels).guesses
    assert not of_answers(labels, labels).guesses


def test_nothing_is_concluded_from_few_samples_or_one_class() -> None:
    labels = np.arange(10) % 2
    assert of_answers(1 - labels, labels).doubt() == ""
    ones = np.ones(500, dtype=int)
    assert of_answers(ones, ones).doubt() == "" and of_answers(0 * ones, ones).doubt() != ""


def test_what_was_known_when_saved_is_compared() -> None:
    before, now = Recall(900, 1000, 0.1), Recall(600, 1000, 0.1)
    assert "0.900 when saved" in now.doubt(before) and now.doubt() == ""
    assert Recall(860, 1000, 0.1).doubt(before) == ""
    poor = Recall(150, 1000, 0.1)
    assert poor.doubt(poor) == "" and poor.doubt() != "", "it is as good as it was"


@pytest.mark.parametrize(
    "value", [None, 3, {}, {"correct": 5, "samples": 0, "chance": 0}, {"correct": "x"}]
)
def test_what_is_no_recall_is_none(value: object) -> None:
    assert Recall.from_json(value) is None


def test_the_doors_warn_of_a_model_that_knows_nothing() -> None:
    forget, retain, test = sides(by_class=True)
    data = {
        "forget": (forget.inputs, forget.targets),
        "retain": (retain.inputs, retain.targets),
    }
    held_out = (test.inputs, test.targets)
    untrained, original = net(3), learned(retain)
    skip = ("relearning", "linear_probe", "prototypes", "zrf")
    doors = {
        "unlearn": lambda m: unlearn(m, **data, method=Finetune(epochs=1), engine=ENGINE),
        "evaluate": lambda m: evaluate(
            {"original": m}, **data, test=held_out, engine=ENGINE, skip=skip
        ),
        "analyze": lambda m: analyze(m, oracles=[original], **data, engine=ENGINE, layers=[]),
    }
    for name, door in doors.items():
        with pytest.warns(EigenforgetWarning, match="may not know its training data"):
            door(untrained)
        with warnings.catch_warnings():
            warnings.simplefilter("error", EigenforgetWarning)
            door(original)
        assert name
    with warnings.catch_warnings():
        warnings.simplefilter("error", EigenforgetWarning)
        unlearn(untrained, **data, method=Finetune(epochs=1), engine=ENGINE, allow_untrained=True)


def test_looking_moves_no_random_state() -> None:
    class Noisy(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, n: int) -> tuple[torch.Tensor, int]:
            return torch.randn(8), n % 4

    state, meter = torch.get_rng_state(), ENGINE.meter.forwarded
    recall(net(), DatasetSource(Noisy()), ENGINE)
    assert torch.equal(torch.get_rng_state(), state) and ENGINE.meter.forwarded == meter


@pytest.mark.parametrize(
    ("right", "samples", "warns"), [(40, 50, True), (42, 50, False), (0, 10, False)]
)
def test_what_a_method_took_from_the_model_is_a_warning(
    right: int, samples: int, warns: bool
) -> None:
    before, after = Recall(samples * 98 // 100, samples, 0.1), Recall(right, samples, 0.1)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_damage("finetune", after, before)
    lines = [str(w.message) for w in found]
    assert len(lines) == warns
    assert all("finetune damaged" in x and "0.800 of 50" in x and "0.980" in x for x in lines)


@pytest.mark.parametrize("lr", [0.01, 20.0])
def test_the_door_says_that_a_method_ruined_the_model(lr: float) -> None:
    forget, retain, _ = sides(by_class=False)
    model = learned(retain)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        with suppress(Diverged):
            unlearn(
                model,
                forget=forget,
                retain=retain,
                method=Finetune(epochs=1, lr=lr, momentum=0.0, batch_size=8),
                engine=ENGINE,
            )
    assert any("damaged the model" in str(w.message) for w in found) == (lr == 20.0)
