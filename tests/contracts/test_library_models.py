"""What modules of other libraries have that ours do not: fused attention, masks of −∞, heads that
are no nn.Linear, tied and frozen weights.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.data.sources import Source, TensorSource
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import (
    CMF,
    ESC,
    ESCT,
    SSD,
    UNSIR,
    BoundaryExpand,
    CFk,
    EUk,
    FisherForgetting,
    HeadDistill,
    HeadMask,
    Identity,
    Influence,
    LoTUS,
    Masked,
    NoT,
    RandomLabel,
    Retrain,
)
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import run_method, unlearn
from eigenforget.models import checkpoint
from eigenforget.models.initialisation import is_mask, reinitialise
from eigenforget.models.module import Module
from eigenforget.training.engine import Engine
from eigenforget.training.gradients import curvature_product, fisher_diagonal, mean_gradient
from eigenforget.training.phases import Optimizer, Phase
from eigenforget.training.recipe import supervised
from tests.library_toys import (
    CLASSES,
    INF,
    WIDTH,
    Asks,
    ConvHead,
    Encoder,
    Gated,
    Normed,
    Tied,
    made,
    task,
)


def moved(result: nn.Module, model: nn.Module) -> set[str]:
    return {k for k, v in result.state_dict().items() if not torch.equal(v, model.state_dict()[k])}


# ---- what is infinite from the start


def fit(model: nn.Module, given: Task, **more: Any) -> nn.Module:
    return given.engine.fit(
        model, [Phase("p", (given.forget,), supervised, Optimizer(), 5, **more)], epochs=1, seed=0
    )


@pytest.mark.parametrize("persistent", [True, False])
def test_an_infinite_mask_is_a_constant_but_one_that_moves_has_diverged(persistent: bool) -> None:
    model = made(Normed)
    model.register_buffer("mask", torch.tensor([[0.0, -INF], [INF, 0.0]]), persistent=persistent)
    given = task(model)
    result = unlearn(
        model, forget=given.forget, retain=given.retain, method=NoT(epochs=1), engine=given.engine
    )
    assert torch.equal(result.mask, model.mask)
    with pytest.raises(Diverged, match="mask holds NaN or infinite values"):
        fit(copy.deepcopy(model), given, after_step=lambda m: m.mask.abs_())
    with pytest.raises(
        EigenforgetError, match="the result of identity has NaN or infinite values in mask"
    ):
        run_method(Changed(), given)  # type: ignore[arg-type]
    model.mask[0, 0] = torch.nan
    with pytest.raises(
        EigenforgetError, match="the model to unlearn has NaN or infinite values in mask"
    ):
        run_method(Identity(), given)


class Changed:
    name = "identity"

    def __call__(self, given: Task) -> nn.Module:
        student = given.student()
        student.mask.neg_()  # type: ignore[operator, union-attr]
        return student


def test_statistics_and_parameters_that_are_infinite_are_no_constants() -> None:
    for name in ("1.running_mean", "0.weight"):
        model = made(Normed)
        model.state_dict()[name].view(-1)[0] = INF
        with pytest.raises(
            EigenforgetError, match=f"the model to unlearn has NaN or infinite values in {name}"
        ):
            run_method(Identity(), task(model))


def test_masks_are_saved_and_loaded_into_buffers_only(tmp_path: Path) -> None:
    model, path = made(Asks), tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(model, path, {})
    fresh = Asks()
    fresh.mask.zero_()
    checkpoint.load_into(fresh, checkpoint.load_checkpoint(path))
    assert checkpoint.model_digest(fresh) == checkpoint.model_digest(model)
    other = Asks()
    del other.mask
    other.mask = nn.Parameter(torch.zeros(4, 4))
    before = checkpoint.model_digest(other)
    with pytest.raises(EigenforgetError, match=r"does not fit the model: 1 infinite: mask$"):
        checkpoint.load_into(other, checkpoint.load_checkpoint(path))
    assert checkpoint.model_digest(other) == before
    with torch.no_grad():
        other.mask.copy_(model.mask)
    with pytest.raises(EigenforgetError, match="mask has weights that are not finite"):
        checkpoint.save_checkpoint(other, path, {}, overwrite=True)
    wrong = [
        torch.zeros(2, 2),
        torch.tensor([0.0, -INF]),
        torch.tensor([[0.0, torch.nan, INF]]),
        torch.tensor([[1.0, INF]]),
    ]
    assert is_mask(model.mask) and not any(is_mask(t) for t in wrong)


# ---- heads


@pytest.mark.parametrize(
    "method",
    [
        Retrain(epochs=1),
        UNSIR(noise_samples=4, noise_steps=2, batch_size=8, repair_epochs=1),
        LoTUS(epochs=1),
    ],
)
def test_methods_pass_the_layer_on_where_there_is_no_linear_head(method: Any) -> None:
    model = made(ConvHead)
    given = task(model, 2, 6, 6)
    before = checkpoint.model_digest(model)
    data = {"forget": given.forget, "retain": given.retain, "engine": given.engine}
    result = unlearn(model, **data, method=method, layer="2")
    assert (
        moved(result, model)
        and checkpoint.model_digest(model) == before
        and not hasattr(model, "eigenforget_head")
    )
    with pytest.raises(
        EigenforgetError, match=r"ConvHead has no nn\.Linear layer, so no classifier head was found"
    ):
        unlearn(model, **data, method=RandomLabel(epochs=1))


def test_fisher_forgetting_marks_no_head_where_there_is_none() -> None:
    model = made(ConvHead)
    assert moved(run_method(FisherForgetting(), task(model, 2, 6, 6, layer="2")), model)


def test_a_stored_model_without_a_linear_head_is_built_for_the_classes_of_the_data(
    digits: Any, tmp_path: Path
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Conv2d(1, 10, 8), nn.Flatten())\n"
    )
    job = replace(digits, model_spec=Module(path=f"{tmp_path}/net.py:make"))
    checkpoint.save_checkpoint(job.new_model(3), tmp_path / "m.safetensors", {})
    loaded = job.stored_model(checkpoint.load_checkpoint(tmp_path / "m.safetensors"))
    assert (
        checkpoint.model_digest(loaded)
        == checkpoint.model_digest(job.new_model(3))
        != checkpoint.model_digest(job.new_model(0))
    )


HEADS = [BoundaryExpand(epochs=1), ESC(), ESCT(epochs=1), CMF(), HeadMask(), HeadDistill(epochs=1)]
BY_NAME = pytest.mark.parametrize("method", HEADS, ids=lambda m: m.name)


@BY_NAME
def test_methods_of_the_head_refuse_none_a_frozen_and_a_shared_one(method: Any) -> None:
    with pytest.raises(
        Refused,
        match=f"^{method.name} needs a linear classifier head: ConvHead has no nn.Linear layer",
    ):
        run_method(method, task(made(ConvHead), 2, 6, 6, layer="2"))
    frozen = made(Normed)
    frozen[3].requires_grad_(False)
    with pytest.raises(
        Refused,
        match=rf"^{method.name} changes the classifier head 3, whose .* is frozen \(requires_grad is False\)$",
    ):
        run_method(method, task(frozen))
    if method.name != "head_mask":
        with pytest.raises(
            Refused,
            match=rf"^{method.name} changes the classifier head head alone, which shares its weight with embed$",
        ):
            run_method(method, task(made(Tied), CLASSES))


def test_a_head_that_is_not_the_last_linear_is_found_by_a_pass_and_the_model_stays_as_it_is() -> (
    None
):
    model = made(Gated)
    given = task(model)
    names = set(vars(model))
    data = {"forget": given.forget, "retain": given.retain}
    result = unlearn(model, **data, method=HeadMask(), engine=given.engine, forgotten_classes=(2,))
    assert (
        moved(result, model) == {"head.bias"}
        and set(vars(model)) == names
        and result.eigenforget_head == "head"
    )
    for given_model in (model, nn.DataParallel(model)):
        found = evaluate(
            {"m": given_model},
            **data,
            test=given.retain,
            allow_overlap=True,
            engine=given.engine,
            skip=("relearning",),
        )
        by_name = evaluate(
            {"m": result},
            **data,
            test=given.retain,
            allow_overlap=True,
            engine=given.engine,
            skip=("relearning",),
        )
        assert found["m"]["da"].value == by_name["m"]["da"].value and set(vars(model)) == names


def test_the_number_of_classes_is_that_of_the_logits() -> None:
    seen: list[int] = []

    class Spy(Identity):
        def __call__(self, given: Task) -> nn.Module:
            seen.append(given.num_classes)
            return given.student()

    model = nn.Sequential(nn.Linear(WIDTH, CLASSES), nn.LogSoftmax(1))
    given = task(model)
    unlearn(model, forget=given.forget, retain=given.retain, method=Spy(), engine=given.engine)
    unlearn(
        made(ConvHead),
        forget=task(model, 2, 6, 6).forget,
        method=Spy(),
        engine=given.engine,
        layer="2",
    )
    assert seen == [CLASSES, CLASSES]


# ---- derivatives


def slow(model: nn.Module, source: Source) -> list[dict[str, Tensor]]:
    batch, rows = next(source.batches(1000)), []
    for x, y in zip(batch.inputs, batch.labels, strict=True):
        value = nn.functional.cross_entropy(model.train(False)(x[None]), y[None])
        weights = dict(model.named_parameters())
        rows.append(
            dict(zip(weights, torch.autograd.grad(value, list(weights.values())), strict=True))
        )
    return rows


@pytest.mark.parametrize(("kind", "shape"), [(Asks, (WIDTH,)), (Encoder, (4, 8))])
def test_derivatives_of_attention_and_of_models_that_vmap_cannot_run_method(
    kind: type[nn.Module], shape: tuple[int, ...]
) -> None:
    model = made(kind).double()
    given = task(model, *shape)
    source = TensorSource(given.forget.inputs.double(), given.forget.targets)  # type: ignore[attr-defined]
    engine, fast = (
        Engine(device="cpu", precision="64-true"),
        torch.backends.mha.get_fastpath_enabled(),
    )
    singles = slow(model, source)
    gradient, fisher = (
        mean_gradient(engine, model, source),
        fisher_diagonal(engine, model, source, chunk=4),
    )
    for name in gradient:
        rows = torch.stack([s[name] for s in singles])
        torch.testing.assert_close(gradient[name], rows.mean(0), rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(fisher[name], rows.square().mean(0), rtol=1e-9, atol=1e-14)
    step = 1e-5
    product = curvature_product(engine, model, source, gradient, kind="hessian")
    sides = []
    for sign in (1, -1):
        shifted = copy.deepcopy(model)
        with torch.no_grad():
            for name, weight in shifted.named_parameters():
                weight.add_(sign * step * gradient[name])
        sides.append(mean_gradient(engine, shifted, source))
    for name, value in product.items():
        torch.testing.assert_close(
            value, (sides[0][name] - sides[1][name]) / (2 * step), rtol=1e-4, atol=1e-8
        )
    assert torch.backends.mha.get_fastpath_enabled() == fast


class Closed(torch.autograd.Function):
    """An operation in the old style, which torch.func does not differentiate."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


def test_operations_without_such_derivatives_are_a_refusal_and_errors_of_the_model_are_not() -> (
    None
):
    class Old(Normed):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(Closed.apply(x @ self[0].weight.T @ self[0].weight))

    for method in (Influence(), SSD()):
        with pytest.raises(
            Refused,
            match=r"^this method needs derivatives that an operation of the model does not have: [^\n]+$",
        ):
            run_method(method, task(made(Old)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        mean_gradient(Engine(device="cpu"), made(Normed), task(made(Normed), 5).forget)


# ---- drawn anew


def test_attention_is_drawn_anew_and_constants_stay() -> None:
    one, two = made(Encoder), Encoder()
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.fill_(7.0)
    for model in (one, two):
        reinitialise(dict(model.named_modules()), seed=3, method="retrain")
    assert (
        checkpoint.model_digest(one) == checkpoint.model_digest(two)
        and one.body.layers[0].self_attn.in_proj_weight.std() > 0
    )
    model = made(Asks)
    result = run_method(Retrain(epochs=1), task(model))
    assert moved(result, model) == {k for k, _ in model.named_parameters()} and torch.equal(
        result.scale, model.scale
    )  # type: ignore[arg-type]
    model.positions = torch.tensor([[0, 1, 2, 4]])
    with pytest.raises(
        Refused,
        match=r"Asks owns positions and has no reset_parameters\(\); .* eigenforget train --without$",
    ):
        run_method(Retrain(epochs=1), task(model))


# ---- shared and frozen weights


@pytest.mark.parametrize("method", [CFk(k=1, epochs=1), EUk(k=1, epochs=1)], ids=lambda m: m.name)
def test_the_last_layer_trains_although_its_weight_has_another_name(method: Any) -> None:
    model = made(Tied)
    result = run_method(method, task(model, CLASSES))
    assert (
        moved(result, model) == {"embed.weight", "head.weight", "head.bias"}
        and result.head.weight is result.embed.weight
    )


def test_frozen_layers_are_neither_negated_nor_drawn_anew_and_keep_their_statistics() -> None:
    model = made(Normed)
    model[0].requires_grad_(False)
    negated = NoT().negated(task(model))
    assert moved(negated, model) == {"3.weight", "3.bias"}
    with pytest.raises(Refused, match=r"those of layer '0' are frozen"):
        run_method(NoT(layers=("0",)), task(model))
    model[1].requires_grad_(False)
    for method in (EUk(k=2, epochs=1), CFk(k=2, epochs=1), RandomLabel(epochs=1)):
        assert moved(run_method(method, task(model)), model) == {"3.weight", "3.bias"}, method.name
    model[1].bias.requires_grad_(True)
    assert {"1.bias", "1.running_mean"} <= moved(
        run_method(RandomLabel(epochs=1), task(model)), model
    )
    assert "1.weight" not in moved(run_method(EUk(k=2, epochs=1), task(model)), model)


EVERY_KIND = [
    Masked(),
    Influence(),
    SSD(),
    FisherForgetting(),
    NoT(),
    CFk(),
    Retrain(),
    ESC(),
    CMF(),
]


@pytest.mark.parametrize("method", EVERY_KIND, ids=lambda m: m.name)
def test_nothing_to_train_is_a_refusal(method: Any) -> None:
    given = task(made(Normed).requires_grad_(False))
    with pytest.raises(Refused, match=rf"^{method.name}: the model has no trainable parameter"):
        run_method(method, given)
    with pytest.raises(EigenforgetError):  # inside another method, where nothing has looked before
        method(given)
