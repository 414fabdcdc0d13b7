"""What all four doors do with a user's model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.evaluation.analysis import analyze
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import Finetune
from eigenforget.methods.unlearn import unlearn
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.prepare import prepare
from eigenforget.training.recipe import train
from tests.models.module_toys import (
    INPUTS,
    LABELS,
    Answering,
    Embedded,
    Locked,
    OnlyTraining,
    Remembering,
    WithoutGradients,
    in_fabric,
    net,
    of_inference_mode,
    pruned,
    sides,
    spectral_normed,
    weight_normed,
)

PIXELS = (INPUTS * 40).abs()


def compiled_in_place() -> nn.Module:
    model = net()
    model.compile(backend="eager")
    return model


DOORS = {
    "unlearn": lambda model, data: unlearn(model, method=Finetune(epochs=1, batch_size=8), **data),
    "train": lambda model, data: train(
        model,
        tuple(torch.cat([data[side][i] for side in ("forget", "retain")]) for i in (0, 1)),
        "recipe(epochs=1, batch_size=8)",
        engine=data["engine"],
    ),
    "evaluate": lambda model, data: evaluate(
        {"m": model},
        **data,
        test=(data["forget"][0] + 1, data["forget"][1] * 0),
        skip=("rmia", "u_lira", "klom"),
    ),
    "analyze": lambda model, data: analyze(model, oracles=[model], **data),
}
EVERY_DOOR = pytest.mark.parametrize("door", DOORS)


@EVERY_DOOR
@pytest.mark.parametrize(
    "make",
    [
        pruned,
        weight_normed,
        spectral_normed,
        Remembering,
        in_fabric,
        of_inference_mode,
        compiled_in_place,
        lambda: Embedded(sparse=True),
        lambda: Embedded(max_norm=0.1),
        lambda: pruned().half(),
        lambda: nn.DataParallel(net()),
    ],
)
def test_models_that_people_have_work_and_stay_as_they_are(make: Any, door: str) -> None:
    model = make()
    before, modes = model_digest(model), [m.training for m in model.modules()]
    held = [set(vars(m)) for m in model.modules()]
    with torch.inference_mode():  # in which users may call a door
        found = DOORS[door](model, sides())
    assert model_digest(model) == before and [m.training for m in model.modules()] == modes
    assert [set(vars(m)) for m in model.modules()] == held
    if isinstance(found, nn.Module):
        assert model_digest(found) != before
        assert not any(m._forward_hooks for m in found.modules())


def test_a_result_has_the_sparse_gradients_of_the_model() -> None:
    found = unlearn(Embedded(sparse=True), method=Finetune(epochs=1, batch_size=8), **sides())
    assert found.signs.sparse is True


@EVERY_DOOR
@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: OnlyTraining(*net()), "only for training"),
        (lambda: Answering(lambda z: None), "NoneType.*Logits"),
        (lambda: Answering(lambda z: z.softmax(1)), "probabilities.*Logits"),
        (lambda: Answering(lambda z: (z, z)), "2 outputs.*Logits"),
        (lambda: net().to("meta"), "no storage"),
        (lambda: net().double(), r"inputs are torch.float32.*torch.float64.*model in the type"),
        (lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Linear(2, 3)), "does not run on"),
        (lambda: nn.ModuleDict({"inner": net()}), r"forward.*model\.inner"),
        (lambda: torch.export.export(net(), (INPUTS[:4],)).module(), "plain nn.Module that it was"),
    ],
)
def test_models_on_which_nothing_can_work_are_one_line(make: Any, line: str, door: str) -> None:
    with pytest.raises(EigenforgetError, match=line) as caught:
        DOORS[door](make(), sides())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("door", ["unlearn", "train", "evaluate"])
@pytest.mark.parametrize(
    ("make", "line"),
    [
        (Locked, "cannot be copied: .*lock"),
        (lambda: WithoutGradients(*net()), "no gradients.*no_grad"),
        (
            lambda: Answering(training=lambda z: {"loss": z.sum()}),
            "in training mode: .*'loss'.*Logits",
        ),
    ],
)
def test_models_that_cannot_be_trained_are_one_line(make: Any, line: str, door: str) -> None:
    with pytest.raises(EigenforgetError, match=line) as caught:
        DOORS[door](make(), sides())
    assert ("relearning" in str(caught.value)) == (door == "evaluate")


@pytest.mark.parametrize(
    ("inputs", "line"),
    [
        (
            INPUTS.double(),
            r"inputs are torch.float64 .*torch.float32; give inputs.to\(torch.float32",
        ),
        (INPUTS.half(), r"inputs are torch.float16 .*give inputs.to\(torch.float32"),
        (PIXELS.byte(), r"inputs are torch.uint8 .*/ 255"),
        (PIXELS.long(), r"inputs are torch.int64 .*give inputs.to\(torch.float32"),
    ],
)
@EVERY_DOOR
def test_inputs_of_another_type_are_one_line(inputs: Any, line: str, door: str) -> None:
    with pytest.raises(EigenforgetError, match=line):
        DOORS[door](net(), sides(inputs))


def test_every_set_is_tried_before_any_work() -> None:
    data = sides() | {"retain": (INPUTS[LABELS != 2].double(), LABELS[LABELS != 2])}
    with pytest.raises(EigenforgetError, match=r"on the retain data.*float64"):
        DOORS["unlearn"](net(), data)


def test_a_model_that_takes_other_types_by_itself_gets_them_as_they_are() -> None:
    class Own(nn.Sequential):
        def forward(self, x: Any) -> Any:
            assert x.dtype is torch.uint8
            return super().forward(x.float() / 255)

    assert isinstance(DOORS["unlearn"](Own(*net()), sides(PIXELS.byte())), nn.Module)
    assert isinstance(DOORS["unlearn"](net().double(), sides(INPUTS.double())), nn.Module)


def test_an_input_that_the_model_does_not_take_is_named() -> None:
    class ByName(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def forward(self, x: Any) -> Any:
            return self.net(x)

    samples = {"x": INPUTS[:4], "number": torch.arange(4)}
    with pytest.raises(
        EigenforgetError, match=r"'number'; Samples\(data, inputs=\(….*inputs='x'\)"
    ):
        prepare(ByName(), {"forget": samples})
    with pytest.raises(EigenforgetError, match=r"'image'; Samples\(data, inputs='image'\)"):
        prepare(ByName(), {"forget": {"image": INPUTS[:4]}})
    with pytest.raises(EigenforgetError, match=r"not list; give tensors .*with_format"):
        prepare(ByName(), {"forget": list(INPUTS[:4])})


def test_what_needs_no_copy_is_the_model_itself() -> None:
    model = net()
    prepared = prepare(model, {"forget": INPUTS[:4]}, trains=True)
    assert prepared.model is model and prepared.num_classes == 3
    assert prepared.restored(copy.deepcopy(model))[0].weight.equal(model[0].weight)
