"""Half precision: the same numbers as in float32, rounded."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.cli import main
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import METHODS, MUDA, Finetune
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import checkpoint
from eigenforget.models.mlp import Mlp
from eigenforget.models.precision import is_widened, narrowed, types_of, widened
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.text import TextTransformer
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.models.wrappers import unwrapped
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe, fit_recipe

CLASSES, WIDTH = 4, 6


ENGINE = Engine(device="cpu")


HALF = pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])


KINDS = {
    "mlp": (Mlp(hidden=(8,)), (WIDTH,)),
    "conv": (SmallResnet(width=4), (1, 8, 8)),
    "vit": (VitTiny(dim=6, depth=1), (1, 8, 8)),
}


QUICK = [MUDA(alternations=1, batch_size=8), Finetune(epochs=1, batch_size=8)]


def samples(shape: tuple[int, ...] = (WIDTH,), n: int = 32) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return noise + labels.reshape(-1, *[1] * len(shape)), labels


def sides(inputs: Tensor, labels: Tensor) -> dict[str, Any]:
    """Class 2 is forgotten."""
    gone = labels == 2
    return {"forget": (inputs[gone], labels[gone]), "retain": (inputs[~gone], labels[~gone])}


def both(kind: str, dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A model in half precision and the same weights in float32."""
    spec, shape = KINDS[kind]
    half = spec.build(num_classes=CLASSES, input_shape=shape, seed=0).to(dtype).eval()
    return half, copy.deepcopy(half).float()


def hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def assert_rounded(
    half: nn.Module, wide: nn.Module, given: nn.Module, *, neighbours: bool = False
) -> None:
    """`half` has the types of `given`, and the values of `wide` rounded to them, or next to those."""
    mine, theirs, types = (
        half.state_dict(),
        wide.state_dict(),
        {k: v.dtype for k, v in given.state_dict().items()},
    )
    assert (
        mine.keys() == theirs.keys()
        and {k: v.dtype for k, v in mine.items() if k in types} == types
    )
    for name, tensor in mine.items():
        rounded = theirs[name].to(tensor.dtype)
        if neighbours and tensor.is_floating_point():
            info = torch.finfo(tensor.dtype)
            away = (tensor.double() - rounded.double()).abs()
            assert (away <= info.eps * rounded.double().abs().clamp_min(info.tiny)).all(), name
        else:
            assert torch.equal(tensor, rounded), name


@HALF
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)
def test_unlearning_in_half_precision_is_that_in_float32_rounded(
    kind: str, dtype: torch.dtype, method: Any
) -> None:
    half, wide = both(kind, dtype)
    inputs, labels = samples(KINDS[kind][1])
    inputs, before = inputs.to(dtype), checkpoint.model_digest(half)
    result = unlearn(half, method=method, engine=ENGINE, **sides(inputs, labels))
    expected = unlearn(wide, method=method, engine=ENGINE, **sides(inputs.float(), labels))
    # A hook makes a model in half precision compute in float32, and a model with hooks is not cut:
    # its layers see other batches, and the last bit of float32 differs on some processors.
    assert_rounded(result, expected, half, neighbours=isinstance(method, MUDA))
    assert (
        checkpoint.model_digest(result) != before == checkpoint.model_digest(half)
        and hooks(half) == hooks(result) == 0
    )
    assert result(inputs[:2]).dtype == dtype, "the result runs as the model did"


@pytest.mark.parametrize("kind", METHODS, ids=lambda m: m.name)
def test_every_method_takes_half_precision(kind: Any) -> None:
    fields = {field.name for field in dataclasses.fields(kind)}
    method = kind(
        **{
            k: v
            for k, v in {
                "epochs": 1,
                "msteps": 1,
                "alternations": 1,
                "batch_size": 8,
                "k": 2,
            }.items()
            if k in fields
        }
    )
    half, wide = both("mlp", torch.float16)
    inputs, labels = samples()
    answers = []
    for model, given in ((half, inputs.half()), (wide, inputs.half().float())):
        try:
            answers.append(unlearn(model, method=method, engine=ENGINE, **sides(given, labels)))
        except Refused as refusal:
            answers.append(str(refusal))
    if isinstance(answers[0], str):
        assert answers[0] == answers[1]
    else:
        assert_rounded(*answers, half)
        assert answers[0](inputs[:2].half()).dtype == torch.float16


@HALF
def test_evaluation_in_half_precision_is_that_in_float32(dtype: torch.dtype) -> None:
    half, wide = both("conv", dtype)
    inputs, labels = samples(KINDS["conv"][1])
    found = []
    for model, given in ((half, inputs.to(dtype)), (wide, inputs.to(dtype).float())):
        data = {**sides(given, labels), "test": (given, labels)}
        result = evaluate(
            {"m": model}, engine=ENGINE, skip=("prototypes",), allow_overlap=True, **data
        )
        found.append({score.name: score.value for score in result.measured["m"].scores})
    assert found[0] == found[1] and found[0]["retain_accuracy"] is not None
    assert next(half.parameters()).dtype == dtype and hooks(half) == 0


class Tangled(nn.Module):
    """Tokens in, a dict out; one weight in two places, and one buffer; a float32 norm between half
    layers, and casts of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.mid = (
            nn.Embedding(CLASSES, 6),
            nn.BatchNorm1d(6),
            nn.Linear(6, 6),
        )
        self.head = nn.Linear(6, CLASSES, bias=False)
        self.half()
        self.norm.float()
        self.head.weight = self.embed.weight
        self.register_buffer("mean", self.mid.weight.detach().clone())
        self.mid.register_buffer("mean", self.mean)

    def forward(self, tokens: Tensor) -> dict[str, Tensor]:
        x = self.norm(self.embed(tokens).mean(1).float())
        return {"logits": self.head(self.mid(x.half()).relu().half())}


@pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)
def test_ties_types_and_casts_survive(method: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model, labels = Tangled().eval(), torch.arange(32) % CLASSES
    tokens = labels[:, None].repeat(1, 3)
    result = unlearn(model, method=method, engine=ENGINE, **sides(tokens, labels))
    assert (
        types_of(result.state_dict()) == types_of(model.state_dict())
        and result.norm.weight.dtype == torch.float32
    )
    assert result.head.weight is result.embed.weight and not torch.equal(
        result.head.weight, model.head.weight
    )
    assert torch.equal(result.mean, model.mean) and result.mid.mean is result.mean, (
        "a copy keeps the past"
    )
    assert result(tokens)["logits"].dtype == torch.float16 and hooks(result) == 0
    checkpoint.save_checkpoint(result, tmp_path / "m.safetensors", {})
    fresh = Tangled()
    checkpoint.load_into(fresh, checkpoint.load_checkpoint(tmp_path / "m.safetensors"))
    assert checkpoint.model_digest(fresh) == checkpoint.model_digest(result)


@HALF
def test_a_tuple_of_outputs_and_a_text_model_in_half_precision(dtype: torch.dtype) -> None:
    spec = TextTransformer(dim=8, depth=1)
    model = (
        dataclasses.replace(spec, vocabulary=12)
        .build(num_classes=CLASSES, input_shape=(5,), seed=0)
        .to(dtype)
        .eval()
    )
    labels = torch.arange(32) % CLASSES
    tokens = labels[:, None].repeat(1, 5) + 2
    given = {
        side: (
            {"input_ids": tokens[rows], "attention_mask": torch.ones_like(tokens[rows])},
            labels[rows],
        )
        for side, rows in (("forget", labels == 2), ("retain", labels != 2))
    }
    result = unlearn(model, method=QUICK[1], engine=ENGINE, **given)
    assert_rounded(
        result,
        unlearn(copy.deepcopy(model).float(), method=QUICK[1], engine=ENGINE, **given),
        model,
    )

    class Pair(nn.Sequential):
        def forward(self, input: Tensor) -> Any:
            return super().forward(input), None

    pair = Pair(nn.Linear(WIDTH, CLASSES)).to(dtype)
    assert (
        unlearn(pair, method=QUICK[1], engine=ENGINE, **sides(*samples()))[0].weight.dtype == dtype
    ), "float32 data will do, too"


class Scales:
    """A method that multiplies every weight by a number."""

    name, role, needs, passes, guarantee, source = "scales", "unlearned", (), "", "empirical", ""

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def __call__(self, task: Task) -> nn.Module:
        student = task.student()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(self.factor)
        return student


def test_what_is_too_large_for_the_type_has_diverged() -> None:
    model = nn.Linear(WIDTH, CLASSES)
    nn.init.constant_(model.weight, 2.0)
    inputs, labels = samples()
    for dtype, fits, too_large in ((torch.float16, 3e4, 4e4), (torch.bfloat16, 1.69e38, 1.6999e38)):
        half = copy.deepcopy(model).to(dtype)
        assert (
            unlearn(half, method=Scales(fits), engine=ENGINE, **sides(inputs, labels))
            .weight.isfinite()
            .all()
        )  # type: ignore[arg-type]
        with pytest.raises(Diverged, match=f"^weight holds values that are too large for {dtype}$"):
            unlearn(half, method=Scales(too_large), engine=ENGINE, **sides(inputs, labels))  # type: ignore[arg-type]


class Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(nn.functional.linear(x.half(), self.fc.weight) @ self.fc.weight)


def test_a_cast_that_float32_weights_cannot_follow_is_said_in_one_line() -> None:
    model, data = Functional().half(), sides(*samples())
    calls = (
        lambda: unlearn(model, method=QUICK[1], engine=ENGINE, **data),
        lambda: evaluate({"m": model}, test=samples(), engine=ENGINE, allow_overlap=True, **data),
    )
    for call in calls:
        with pytest.raises(
            EigenforgetError,
            match=r"the model does not run with its float16 or bfloat16 weights in float32: expected m",
        ):
            call()


@HALF
def test_training_in_half_precision_is_that_in_float32_rounded(dtype: torch.dtype) -> None:
    half, wide = both("conv", dtype)
    inputs, labels = samples(KINDS["conv"][1])
    recipe, before = Recipe(epochs=2, batch_size=8, lr=0.01), copy.deepcopy(half)
    assert (
        fit_recipe(half, TensorSource(inputs, labels), recipe, engine=ENGINE, seed=1) is half
        and not half.training
    )
    fit_recipe(wide, TensorSource(inputs, labels), recipe, engine=ENGINE, seed=1)
    assert_rounded(half, wide, before)
    moved = [
        k
        for k, v in half.state_dict().items()
        if "running" in k and not torch.equal(v, before.state_dict()[k])
    ]
    assert moved and hooks(half) == 0, "statistics of normalisation layers, too"
    weights = checkpoint.model_digest(half)
    with pytest.raises(Diverged):
        fit_recipe(half, TensorSource(inputs * 1e30, labels), recipe, engine=ENGINE, seed=1)
    assert checkpoint.model_digest(half) == weights, (
        "a training that diverges leaves the model as it was"
    )


def test_what_is_not_half_is_no_copy() -> None:
    model = Mlp(hidden=(8,)).build(num_classes=CLASSES, input_shape=(WIDTH,), seed=0)
    assert (
        widened(model) is model
        and not is_widened(model)
        and narrowed(model, {"body": torch.float32}) is model
    )
    wide = widened(copy.deepcopy(model).half())
    assert (
        is_widened(wide)
        and is_widened(copy.deepcopy(wide))
        and next(wide.parameters()).dtype == torch.float32
    )


def quantised() -> nn.Module:
    with warnings.catch_warnings(action="ignore"):  # not every version of torch warns of it
        return torch.ao.quantization.quantize_dynamic(
            nn.Sequential(nn.Linear(4, 4)), {nn.Linear}, torch.qint8
        )


class Holding(nn.Module):
    def __init__(self, tensor: Tensor, *, buffer: bool = False) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        if buffer:
            self.register_buffer("held", tensor)
        else:
            self.held = nn.Parameter(tensor, requires_grad=tensor.is_complex())


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (
            quantised,
            r"^0._packed_params._packed_params is torch.qint8, and weights must be float16, .*; of a quantised model give the one",
        ),
        (
            lambda: Holding(torch.zeros(2, dtype=torch.complex64)),
            "^held is torch.complex64, and weights must be .* or float64$",
        ),
        (
            lambda: Holding(torch.zeros(2, dtype=torch.int8)),
            "^held is torch.int8, and weights must be .*; of a quantised model",
        ),
        (lambda: Holding(torch.zeros(2, dtype=torch.uint8)), "^held is torch.uint8"),
        (lambda: Holding(torch.zeros(2).to(torch.float8_e4m3fn)), "^held is torch.float8_e4m3fn"),
        (
            lambda: Holding(torch.zeros(2).to(torch.float8_e5m2), buffer=True),
            "^held is torch.float8_e5m2",
        ),
    ],
)
def test_weights_of_other_types_are_refused_by_name(make: Any, line: str) -> None:
    model = make()
    for call in (
        lambda: unwrapped(model),
        lambda: unlearn(model, method=QUICK[1], engine=ENGINE, **sides(*samples())),
    ):
        with pytest.raises(EigenforgetError, match=line):
            call()


def test_buffers_that_are_no_weights_may_have_any_type() -> None:
    for dtype in (torch.uint8, torch.bool, torch.complex64, torch.int64):
        model = Holding(torch.zeros(2, dtype=dtype), buffer=True)
        assert widened(unwrapped(model)) is model


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def line(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line of a command that fails."""
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2
    return capsys.readouterr().err
