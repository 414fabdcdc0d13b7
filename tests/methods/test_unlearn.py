"""The Python door: what it takes for a method, and one line for every wrong argument."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

import eigenforget.core.spec
import eigenforget.methods
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.sources import TensorSource, content
from eigenforget.methods import CMF, METHODS, SCRUB, Finetune, Identity, Masked, RandomLabel
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import as_method, unlearn
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.features import find_head
from eigenforget.models.prepare import prepare
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from tests import toys

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(30) % 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 3))


def call(**changes: Any) -> nn.Module:
    given = {
        "model": network(),
        "forget": (X[:10], Y[:10]),
        "retain": (X[10:], Y[10:]),
        "method": "finetune(epochs=1)",
    }
    return unlearn(**{**given, **changes})


def shift(task: Task, *, by: float = 0.5) -> nn.Module:
    """Changes the very model that it is given."""
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.add_(by)
    return task.model


class Shift:
    """An object that is called with a task."""

    def __call__(self, task: Task) -> nn.Module:
        return shift(task)


@dataclass(frozen=True)
class Named:
    name: str = "named"
    role: str = "control"

    def __call__(self, task: Task) -> nn.Module:
        return task.student()


def test_a_spec_a_recipe_and_an_instance_are_one_method() -> None:
    assert as_method("scrub(alpha=0.1)") == SCRUB(alpha=0.1)
    fields = {**SCRUB.recipes["cifar10-resnet18-scrub"], "epochs": 7}
    assert as_method("scrub(recipe='cifar10-resnet18-scrub', epochs=7)") == SCRUB(**fields)
    assert SCRUB(recipe="cifar10-resnet18-scrub", epochs=7) == SCRUB(**fields)
    assert model_digest(call()) == model_digest(call(method=Finetune(epochs=1)))


@pytest.mark.parametrize("own", [shift, Shift(), lambda task: shift(task)])
def test_a_function_or_object_is_a_method_and_the_model_stays_as_it_is(own: Any) -> None:
    model = network()
    before = model_digest(model)
    result = call(model=model, method=own)
    assert model_digest(model) == before
    for mine, original in zip(result.parameters(), model.parameters(), strict=True):
        assert torch.equal(mine, original + 0.5)
    method = as_method(own)
    assert method.role == "unlearned" and method.guarantee.startswith("none")
    assert method.log_rows == 0 and method.optimises == ()


def test_an_object_keeps_the_name_and_role_that_it_declares() -> None:
    method = as_method(Named())
    assert (method.name, method.role) == ("named", "control")


def test_a_file_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "def shrink(task, *, by: float = 0.5):\n"
        "    student = task.student()\n"
        "    for p in student.parameters():\n"
        "        p.data.mul_(by)\n"
        "    return student\n"
    )
    monkeypatch.chdir(tmp_path)
    result = call(method="python(path='mine.py:shrink', by=0.25)")
    for mine, original in zip(result.parameters(), network().parameters(), strict=True):
        assert torch.equal(mine, original * 0.25)


def test_every_method_class_is_a_name_of_the_package() -> None:
    for kind in METHODS.own:
        assert getattr(eigenforget.methods, kind.__name__) is kind
        assert kind.__name__ in eigenforget.methods.__all__


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"method": 3}, "int"),
        ({"method": None}, "NoneType"),
        ({"method": network()}, "Sequential"),
        ({"method": SCRUB}, "SCRUB()"),
        ({"method": "scrob()"}, "scrub"),
        ({"method": "scrub("}, "scrub("),
        ({"method": "scrub(alpha='x')"}, "alpha"),
        ({"method": "scrub(nope=1)"}, "nope"),
        ({"method": "scrub(recipe='nope')"}, "nope"),
        ({"method": "python(path='nope.py:F')"}, "nope.py"),
        ({"method": lambda: None}, "(task)"),
        ({"method": lambda task: None}, "NoneType"),
        ({"model": 3}, "int"),
        ({"model": None}, "NoneType"),
        ({"model": ModelAndCost(network(), 1.0, {})}, "ModelAndCost; give its attribute model"),
        ({"forget": (X[:10], Y[:10] + 1)}, "labels count from 0: subtract 1"),
        ({"model": "model.pt"}, "got str 'model.pt'; give a model with these weights, as load_ch"),
        ({"model": network().state_dict()}, "OrderedDict; give a model with these weights"),
        ({"model": lambda x: x}, "function"),
        ({"model": nn.Sequential()}, "trainable"),
        ({"forget": None}, "forget"),
        ({"forget": 3}, "int"),
        ({"forget": "abc"}, "abc"),
        ({"forget": [1, 2]}, "label"),
        ({"forget": (X[:10],)}, "label"),
        ({"forget": (X[:10], Y[:9])}, "9"),
        ({"forget": (X[:10], Y[:10].float())}, "float32"),
        ({"forget": (X[:0], Y[:0])}, "empty"),
        ({"forget": (X[:10], Y[:10] + 9)}, "9, 10, 11"),
        ({"forget": (X[:10], Y[:10] - 1)}, "-1"),
        ({"forget": (X[:10, :2], Y[:10])}, "8x2"),
        ({"forget": [(X[0], 5, 1), (X[1], 6, 0)]}, "Samples(data, inputs="),
        ({"retain": 5}, "int"),
        ({"retain": (X[:10], torch.rand(10))}, "float32"),
        ({"seed": "a"}, "str"),
        ({"seed": None}, "NoneType"),
        ({"allow_overlap": 1}, "allow_overlap"),
        ({"seed": 1.5}, "float"),
        ({"engine": "cpu"}, "str"),
        ({"layer": 3}, "int"),
        ({"layer": "nope"}, "nope"),
        ({"log": 3}, "int"),
        ({"look": 3}, "int"),
        ({"forgotten_classes": 3}, "3"),
        ({"forgotten_classes": (7,)}, "7"),
        ({"forgotten_classes": (1.5,)}, "1.5"),
        ({"forgotten_classes": "12"}, "12"),
    ],
    ids=lambda value: (
        re.sub(r" at 0x\w+", "", str(value))[:40].replace("\n", " ")
        if isinstance(value, dict)
        else ""
    ),
)
def test_a_wrong_argument_is_one_line_that_names_it(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(EigenforgetError) as caught:
        call(**wrong)
    assert named in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "fields", "named"),
    [
        (SCRUB, {"alpha": "x"}, "alpha"),
        (SCRUB, {"nope": 1}, "nope"),
        (SCRUB, {"recipe": "nope"}, "nope"),
        (SCRUB, {"msteps": 9}, "msteps=9"),
        (Masked, {"inner": 3}, "3"),
        (CMF, {"inner": Identity()}, "identity"),
    ],
)
def test_a_wrong_field_is_one_line_too(kind: Any, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(EigenforgetError) as caught:
        kind(**fields)
    assert named in str(caught.value) and "\n" not in str(caught.value)


def with_nan(rows: slice) -> tuple[torch.Tensor, torch.Tensor]:
    inputs = X[rows].clone()
    inputs[3] = float("nan")
    inputs[5, 0] = float("inf")
    return inputs, Y[rows]


@pytest.mark.parametrize("method", ["ssd()", "finetune(epochs=1)", "not_(epochs=1)"])
@pytest.mark.parametrize(("name", "rows"), [("forget", slice(10)), ("retain", slice(10, None))])
def test_samples_that_the_model_has_no_answer_for_are_one_line(
    method: str, name: str, rows: slice
) -> None:
    line = rf"^{name}: the inputs of sample 3 \(and of 1 more\) hold NaN .* leave them out$"
    with pytest.raises(EigenforgetError, match=line):
        call(method=method, **{name: with_nan(rows)})


def test_a_model_that_is_made_for_missing_values_may_have_them() -> None:
    class Filled(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.nan_to_num(0.0, 0.0, 0.0))

    assert call(model=Filled(*network()), forget=with_nan(slice(10))) is not None


def test_the_result_and_the_original_keep_the_memory_order_of_the_model() -> None:
    images = torch.randn(20, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 2
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2))
    strides = [p.stride() for p in model.parameters()]
    made = unlearn(
        model,
        forget=(images[:10], labels[:10]),
        retain=(images[10:], labels[10:]),
        method="finetune(epochs=1)",
        engine=Engine(device="cpu", channels_last=True),
    )
    assert [p.stride() for p in model.parameters()] == strides
    assert [p.stride() for p in made.parameters()] == strides


def test_what_a_method_needs_and_was_not_given_is_a_refusal() -> None:
    with pytest.raises(Refused, match="finetune"):
        call(retain=None)


@pytest.mark.parametrize(
    "method",
    [
        # A stand-in's head is drawn anew: its numbers follow from the number of outputs.
        "muda(w_probe=0.0, stand_in_samples=0, alternations=3, batch_size=16)",
        "probed_muda(w_probe=0.0, epochs=1, steps=3, batch_size=16)",
        "delete(epochs=1, batch_size=16)",
    ],
)
def test_class_numbers_with_gaps_and_unused_outputs_change_nothing(method: str) -> None:
    forget, retain, _ = toys.sides(by_class=True)
    model = toys.world().originals[0]
    plain, gaps = (
        unlearn(
            toys.spread(model, by) if by > 1 else model,
            forget=(forget.inputs, forget.targets * by),
            retain=(retain.inputs, retain.targets * by),
            method=method,
            engine=toys.ENGINE,
        )
        for by in (1, 11)
    )
    rows = gaps[-1].weight.shape[0] // 11  # type: ignore[index]
    for a, b in zip(plain.parameters(), gaps.parameters(), strict=True):
        torch.testing.assert_close(b if len(b) < 11 * rows else b[::11], a, atol=1e-5, rtol=1e-4)


def test_random_labels_are_classes_that_occur() -> None:
    forget, retain, _ = toys.sides(by_class=False)
    task = Task(
        toys.spread(toys.net()),
        TensorSource(forget.inputs, forget.targets * 11),
        TensorSource(retain.inputs, retain.targets * 11),
        toys.ENGINE,
        seed=0,
        num_classes=44,
    )
    drawn = RandomLabel().labels(task)
    assert set(drawn.tolist()) == {0, 11, 22, 33} and not (drawn == forget.targets * 11).any()


def test_a_retain_sample_that_lacks_a_class_does_not_destroy_it() -> None:
    forget, retain, _ = toys.sides(by_class=False)
    few = retain.subset(np.flatnonzero(retain.labels() != 2)[:40])
    given = {"forget": forget, "retain": few, "method": "muda(alternations=2)"}
    model = toys.world().originals[0]
    with pytest.warns(UserWarning, match="class 2"):
        found = unlearn(model, **given, engine=toys.ENGINE)
    said = unlearn(model, **given, forgotten_classes=(), engine=toys.ENGINE)
    assert model_digest(found) == model_digest(said)


def test_a_forget_set_inside_the_retain_set_is_an_error_that_says_how_many() -> None:
    for retain in ((X, Y), DataLoader(TensorDataset(X, Y), batch_size=4)):
        with pytest.raises(EigenforgetError, match=r"10 samples of the retain set.*allow_overlap"):
            call(retain=retain)
    assert isinstance(call(retain=(X, Y), allow_overlap=True), nn.Module)


class Streamed(Dataset[Any]):
    """Samples that are not in memory; some noise where it is asked for."""

    def __init__(self, rows: slice, noise: float = 0.0) -> None:
        self.inputs, self.labels, self.noise = X[rows], Y[rows].tolist(), noise

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, int]:
        return self.inputs[i] + self.noise * torch.rand(()), self.labels[i]


def test_an_overlap_that_was_not_looked_for_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    forget, retain = Streamed(slice(0, 10)), Streamed(slice(5, 30))
    with pytest.raises(EigenforgetError, match="5 samples"):
        call(forget=forget, retain=retain)
    noisy = Streamed(slice(5, 30), noise=0.1)
    with pytest.warns(EigenforgetWarning, match="differ each time.*eval_transform="):
        call(forget=forget, retain=noisy)
    monkeypatch.setattr(content, "READ", 20)
    with pytest.warns(EigenforgetWarning, match="35 samples.*allow_overlap=False"):
        call(forget=forget, retain=retain)
    with pytest.raises(EigenforgetError, match="5 samples"):
        call(forget=forget, retain=retain, allow_overlap=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="whether samples")
        call(forget=forget, retain=retain, allow_overlap=True)
        whole = Streamed(slice(0, 30))
        call(forget=Subset(whole, range(10)), retain=Subset(whole, range(10, 30)))


def test_the_result_of_every_head_that_a_method_makes_can_be_measured() -> None:
    made = call(method="cmf(inner=finetune(epochs=1))", forgotten_classes=())
    found = prepare(made, {"forget": X[:4]})
    assert found.model is made and find_head(made)[0] == "2"


def test_unseen_samples_reach_the_method_and_are_in_no_other_set() -> None:
    found: list[Any] = []

    def spy(task: Task) -> nn.Module:
        found.append(task.unseen)
        return task.model

    call(retain=(X[10:20], Y[10:20]), unseen=(X[20:], Y[20:]), method=spy)
    assert torch.equal(found[0].inputs, X[20:])
    for name in ("forget", "retain"):
        rows = {"forget": slice(5, 15), "retain": slice(15, 25)}[name]
        given = {"retain": (X[10:20], Y[10:20]), "unseen": (X[rows], Y[rows]), "method": spy}
        with pytest.raises(EigenforgetError, match=f"5 samples of the unseen set .*{name} set"):
            call(**given)
        call(**given, allow_overlap=True)
    with pytest.raises(EigenforgetError, match="labels 7, 8 are outside the model's head of 3"):
        call(unseen=(X[:2] + 9, Y[:2] + 7))


@eigenforget.core.spec.configured
class ShiftInPlace(eigenforget.methods.Method):
    """A method of another package that changes what it is given."""

    name: ClassVar[str] = "shift_in_place"
    source: ClassVar[str] = "this test"
    needs: ClassVar[tuple[str, ...]] = ()
    passes: ClassVar[str] = "none"
    narrow: bool = False

    def __call__(self, task: Task) -> nn.Module:
        shift(task)
        return nn.Linear(3, 2) if self.narrow else task.model


@pytest.mark.parametrize("method", [ShiftInPlace(), Masked(inner=ShiftInPlace())])
def test_a_method_class_of_another_package_cannot_change_the_original(method: Any) -> None:
    model = network()
    before = model_digest(model)
    made = call(model=model, method=method, allow_untrained=True)
    assert made is not model and model_digest(model) == before != model_digest(made)


def test_a_result_that_does_not_fit_the_labels_is_named_as_the_methods() -> None:
    with pytest.raises(EigenforgetError, match=r"the result of shift_in_place: .*2 outputs"):
        call(method=ShiftInPlace(narrow=True), allow_untrained=True)
