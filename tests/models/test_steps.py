"""Models that answer at each step of a sequence, and features whose samples are on another axis."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.models.features import capture
from eigenforget.models.steps import StepForm, head_form, samples_axis
from eigenforget.training.engine import Engine

STEPS, WIDTH, CLASSES = 5, 6, 3


class Answers(nn.Module):
    """A head on all steps of [B, T, W], or with `first` of [T, B, W], and what becomes of its answers."""

    def __init__(self, taken: str, *, first: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.taken, self.first = taken, first
        self.body, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, CLASSES)

    def steps(self, x: Tensor) -> Tensor:
        return self.norm(self.body(x.movedim(0, 1) if self.first else x))

    def forward(self, x: Tensor) -> Tensor:
        answers = self.head(self.steps(x))
        answers = answers.movedim(0, 1) if self.first else answers
        if self.taken == "one":  # another step in each sample, as where padding differs
            return answers[torch.arange(len(x)), (x[:, 0, 0] > 0).long() + 2]
        return answers.mean(1) if self.taken == "mean" else answers.amax(1)


@pytest.mark.parametrize("count", [4, STEPS], ids=["B", "B=T"])
@pytest.mark.parametrize("first", [False, True], ids=["BTD", "TBD"])
@pytest.mark.parametrize("taken", ["one", "mean"])
def test_features_are_those_that_the_logits_come_from(taken: str, first: bool, count: int) -> None:
    model, x = Answers(taken, first=first), torch.randn(count, STEPS, WIDTH)
    with capture(model) as tap, torch.no_grad():
        for batch in (x, x[:2]):  # the second batch is read as the first was
            found = tap(batch)
            assert found.features.shape == (len(batch), WIDTH)
            assert torch.allclose(model.head(found.features), found.logits, atol=1e-6)


def test_gradients_flow_through_the_features() -> None:
    model = Answers("one")
    with capture(model) as tap:
        tap(torch.randn(4, STEPS, WIDTH)).features.sum().backward()
    assert model.body.weight.grad is not None


@pytest.mark.parametrize("count", [2, 4, STEPS], ids=["2", "4", "B=T"])
@pytest.mark.parametrize("first", [False, True], ids=["BTD", "TBD"])
def test_a_named_layer_has_a_row_for_each_sample(first: bool, count: int) -> None:
    model, x = Answers("mean", first=first).train(), torch.randn(count, STEPS, WIDTH)
    state = torch.random.get_rng_state()
    with capture(model, "norm", ["body"]) as tap, torch.no_grad():
        found = tap(x)
        expected = model.steps(x)
    expected = expected.movedim(0, 1) if first else expected
    assert torch.equal(found.features, expected.flatten(1))
    assert found.layers["body"].shape == (count, STEPS * WIDTH)
    assert model.training and torch.equal(torch.random.get_rng_state(), state)


def test_answers_that_are_no_step_and_no_average_leave_all_steps() -> None:
    with capture(Answers("most")) as tap:
        assert tap(torch.randn(4, STEPS, WIDTH)).features.shape == (4, STEPS * WIDTH)


class Views(nn.Module):
    """Several rows for each sample, one beside the other or view after view."""

    def __init__(self, *, last: bool, pooled: str = "mean") -> None:
        super().__init__()
        self.last, self.pooled = last, pooled
        self.body, self.head = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        answers = self.head(self.body((x if self.last else x.movedim(1, 0)).flatten(0, 1)))
        shape = (len(x), -1) if self.last else (-1, len(x))
        answers = answers.unflatten(0, shape).movedim(int(self.last), 0)
        return answers.mean(0) if self.pooled == "mean" else answers.amax(0)


@pytest.mark.parametrize("last", [True, False])
def test_the_features_of_several_views_are_averaged(last: bool) -> None:
    model, x = Views(last=last), torch.randn(4, STEPS, WIDTH)
    with capture(model) as tap:
        found = tap(x)
    assert torch.allclose(model.head(found.features), found.logits, atol=1e-6)


def test_features_without_a_row_for_each_sample_are_one_line() -> None:
    model = Views(last=True, pooled="most")
    with capture(model) as tap, pytest.raises(EigenforgetError, match=r"4 samples.*--layer"):
        tap(torch.randn(4, STEPS, WIDTH))


def test_recurrent_layers_give_their_outputs_by_name() -> None:
    model = nn.Sequential()
    model.rnn, model.head = nn.GRU(WIDTH, 4), nn.Linear(4, CLASSES)
    model.forward = lambda x: model.head(model.rnn(x.movedim(0, 1))[0][-1])  # type: ignore[method-assign]
    with capture(model, "rnn") as tap:
        assert tap(torch.randn(3, STEPS, WIDTH)).features.shape == (3, STEPS * 4)


def test_forms() -> None:
    logits, answers = torch.randn(2, 3), torch.randn(4, 2, 3)
    assert head_form(torch.randn(4, 2, 8), answers, logits) == StepForm(1, "all")
    answers[1] = logits
    assert head_form(torch.randn(4, 2, 8), answers, logits) == StepForm(1, "one")
    assert samples_axis(torch.zeros(2, 7), 2) == 0
    with pytest.raises(EigenforgetError, match=r"\[7, 2\]"):
        samples_axis(torch.zeros(7, 2), 2)


def test_all_steps_side_by_side_are_measured_without_the_head(engine: Engine) -> None:
    samples = [(torch.randn(n, STEPS, WIDTH), torch.arange(n) % CLASSES) for n in (12, 18, 12)]
    forget, retain, test = samples
    found = evaluate(
        {"original": Answers("most")},
        forget=forget,
        retain=retain,
        test=test,
        skip=[kind.name for kind in AUDITS],
        engine=engine,
    )
    assert found["original"]["da"].value is not None
    assert "not the input of a head" in found["original"]["nc3"].reason
