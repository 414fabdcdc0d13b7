"""Any model: weights in half precision, bare parameters, no linear head; and what of a model's
weights is still the original's.
"""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.cli import main
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods import METHODS, MUDA, BadTeacher, Finetune
from eigenforget.methods.base import Task
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import checkpoint
from eigenforget.models.initialisation import reinitialise
from eigenforget.models.mlp import Mlp
from eigenforget.models.module import ready
from eigenforget.models.precision import is_widened, narrowed, types_of
from eigenforget.models.small_resnet import SmallResnet
from eigenforget.models.text import TextTransformer
from eigenforget.models.unchanged import Unchanged, unchanged
from eigenforget.models.vit_tiny import VitTiny
from eigenforget.record import read, read_folder
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
QUICK = [MUDA(alternations=1, batch_size=8, k=2), Finetune(epochs=1, batch_size=8)]


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


def assert_rounded(half: nn.Module, wide: nn.Module, given: nn.Module) -> None:
    """`half` has the types of `given`, and the values of `wide` rounded to them."""
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
        assert torch.equal(tensor, theirs[name].to(tensor.dtype)), name


def rounded(tensor: Tensor, dtype: torch.dtype) -> dict[str, Any]:
    return sides(tensor.to(dtype), samples()[1])


# ---- half precision


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
    assert_rounded(result, expected, half)
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
        result = evaluate({"m": model}, engine=ENGINE, skip=("prototypes",), **data)
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
        lambda: evaluate({"m": model}, test=samples(), engine=ENGINE, **data),
    )
    for call in calls:
        with pytest.raises(
            EigenforgetError,
            match=r"^the model does not run with its float16 or bfloat16 weights in float32: expected m",
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
        ready(model) is model
        and not is_widened(model)
        and narrowed(model, {"body": torch.float32}) is model
    )
    wide = ready(copy.deepcopy(model).half())
    assert (
        is_widened(wide)
        and is_widened(copy.deepcopy(wide))
        and next(wide.parameters()).dtype == torch.float32
    )


def quantised() -> nn.Module:
    with pytest.warns():
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
        lambda: ready(model),
        lambda: unlearn(model, method=QUICK[1], engine=ENGINE, **sides(*samples())),
    ):
        with pytest.raises(EigenforgetError, match=line):
            call()


def test_buffers_that_are_no_weights_may_have_any_type() -> None:
    for dtype in (torch.uint8, torch.bool, torch.complex64, torch.int64):
        model = Holding(torch.zeros(2, dtype=dtype), buffer=True)
        assert ready(model) is model


# ---- parameters that no reset_parameters() draws


class Bare(nn.Module):
    """A class token and position embeddings, which belong to the model itself; a scale of one
    element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token, self.positions = (
            nn.Parameter(torch.randn(1, 1, 8) + 3),
            nn.Parameter(torch.randn(1, 500, 8) * 0.2 + 1),
        )
        self.scale, self.inner, self.head = (
            nn.Parameter(torch.tensor(1.5)),
            nn.Linear(1, 8),
            nn.Linear(8, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = self.inner(x[..., None]) + self.positions[:, : x.shape[1]]
        return self.head(
            (torch.cat([self.token.expand(len(x), -1, -1), rows], 1) * self.scale).relu().mean(1)
        )


def bare() -> Bare:
    torch.manual_seed(0)
    return Bare().eval()


def redrawn(seed: int, model: nn.Module | None = None) -> Any:
    drawn = copy.deepcopy(model or bare())
    reinitialise(dict(drawn.named_modules()), seed=seed, method="test", without_reset="own scale")
    return drawn


def test_bare_parameters_keep_nothing_but_their_scale() -> None:
    model, one, again, other = bare(), redrawn(1), redrawn(1), redrawn(2)
    old, new = (m.positions.detach().flatten() for m in (model, one))
    assert float(new.std()) == pytest.approx(float(old.std()), rel=0.05) and abs(
        float(new.mean())
    ) < 0.02 < 0.9 < float(old.mean())
    assert abs(float(torch.corrcoef(torch.stack([old, new]))[0, 1])) < 4 / math.sqrt(4000)
    assert (
        checkpoint.model_digest(one)
        == checkpoint.model_digest(again)
        != checkpoint.model_digest(other)
    )
    across = torch.stack([new, other.positions.detach().flatten()])
    assert abs(float(torch.corrcoef(across)[0, 1])) < 4 / math.sqrt(4000), "seeds differ"
    assert torch.equal(one.scale, model.scale) and not torch.equal(one.token, model.token)
    # What is drawn depends on the old values through their scale alone.
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        shuffled.positions.copy_(model.positions.flip(1) + 7)
    assert torch.allclose(redrawn(1, shuffled).positions, one.positions, rtol=1e-5)


def test_bad_teacher_takes_bare_parameters_and_others_still_refuse() -> None:
    model, data = bare(), sides(*samples())
    result = unlearn(model, method=BadTeacher(epochs=1), engine=ENGINE, **data)
    assert not torch.equal(result.token, model.token)  # type: ignore[arg-type]
    with pytest.raises(
        Refused,
        match="retrain cannot draw every weight anew: Bare owns token, positions, scale and has no",
    ):
        reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    model.register_buffer("variance", torch.ones(3))
    with pytest.raises(
        Refused,
        match="bad_teacher cannot draw every weight anew: Bare owns variance and has no reset_parameters",
    ):
        unlearn(model, method=BadTeacher(epochs=1), engine=ENGINE, **data)


# ---- what is still the original's


def linear(**buffers: Tensor) -> nn.Module:
    """10 weights: 8 and a bias of 2."""
    model = nn.Linear(4, 2)
    with torch.no_grad():
        model.weight.copy_(torch.arange(8.0).reshape(2, 4))
        model.bias.zero_()
    for name, tensor in buffers.items():
        model.register_buffer(name, tensor)
    return model


def changed(model: nn.Module, name: str, index: Any, value: float) -> nn.Module:
    other = copy.deepcopy(model)
    with torch.no_grad():
        dict(other.state_dict())[name][index] = value
    return other


def test_the_share_counts_elements_bit_for_bit() -> None:
    model = linear()
    assert unchanged(model, copy.deepcopy(model)) == Unchanged(1.0, None, ("weight", "bias"))
    assert unchanged(model, changed(model, "weight", (1, 2), 99)) == Unchanged(0.9, None, ("bias",))
    assert unchanged(model, changed(model, "weight", (0, 0), -0.0)).share == 0.9, (
        "0.0 and −0.0 are other bits"
    )
    assert unchanged(model, changed(model, "weight", (1, 2), 6.0)).share == 1.0, (
        "6 for 6 is no change"
    )
    broken = changed(model, "weight", (0, 1), math.nan)
    assert (
        unchanged(broken, copy.deepcopy(broken)).share == 1.0
        and unchanged(model, broken).share == 0.9
    ), "NaN is itself"
    assert unchanged(model, copy.deepcopy(model).half()).share == 0.0, "another type"
    assert unchanged(model, nn.Linear(5, 2)) == Unchanged(pytest.approx(0.0), None, ()), (
        "another shape, and new biases"
    )


def test_what_is_gone_or_has_another_name_has_changed() -> None:
    one = nn.Sequential()
    one.add_module("a", linear())
    two = nn.Sequential()
    two.add_module("b", linear())
    assert unchanged(one, two) == Unchanged(0.0, None, ())


def test_frozen_parameters_do_not_count_and_tied_ones_count_once() -> None:
    model = nn.Sequential(linear(), linear())
    model[0].requires_grad_(False)
    assert unchanged(model, changed(model, "0.weight", (0, 0), 5)) == Unchanged(
        1.0, None, ("1.weight", "1.bias")
    )
    assert unchanged(model, changed(model, "1.weight", (0, 0), 5)).share == 0.9
    with pytest.raises(
        EigenforgetError, match=r"^Linear has no trainable floating-point parameter to compare$"
    ):
        unchanged(linear().requires_grad_(False), linear())
    tied = nn.Sequential(linear(), linear())
    tied[1].weight = tied[0].weight
    assert unchanged(tied, changed(tied, "1.bias", 0, 5)) == Unchanged(
        11 / 12, None, ("0.weight", "0.bias")
    )
    empty = nn.Sequential(linear())
    empty.none = nn.Parameter(torch.zeros(0, 3))  # type: ignore[assignment]
    assert unchanged(empty, copy.deepcopy(empty)) == Unchanged(1.0, None, ("0.weight", "0.bias"))


def test_moving_averages_are_found_and_constants_are_left_out() -> None:
    mask = torch.full((3, 3), -math.inf).triu(1)
    model = linear(ema=torch.ones(2, 4), mask=mask, steps=torch.zeros(5, dtype=torch.int64))
    model.register_buffer("unsaved", torch.ones(7), persistent=False)
    result = copy.deepcopy(model)
    nn.init.constant_(result.weight, 9.0)
    nn.init.constant_(result.bias, 9.0)
    assert unchanged(model, result) == Unchanged(0.0, 1.0, ("ema",))
    result.ema[0, 0] = 2.0  # type: ignore[index]
    assert unchanged(model, result) == Unchanged(0.0, 7 / 8, ())
    model.requires_grad_(False)
    both_kinds = nn.Sequential(model, linear())
    assert unchanged(both_kinds, copy.deepcopy(both_kinds)).buffers is None, (
        "what belongs to frozen weights stays by intent"
    )

    class WithCopy(nn.Module):
        """A second module that takes no part."""

        def __init__(self) -> None:
            super().__init__()
            self.live = Mlp(hidden=(8,)).build(num_classes=CLASSES, input_shape=(WIDTH,), seed=0)
            self.average = copy.deepcopy(self.live)

        def forward(self, x: Tensor) -> Any:
            return self.live(x)

    model = WithCopy()
    model.eigenforget_head = (
        f"live.{[n for n, m in model.live.named_modules() if isinstance(m, nn.Linear)][-1]}"
    )
    found = unchanged(
        model,
        unlearn(model, method=Finetune(epochs=3, batch_size=8), engine=ENGINE, **sides(*samples())),
    )
    assert set(found.names) == {
        f"average.{name}" for name, _ in model.average.named_parameters()
    } and found.share == pytest.approx(0.5)


# ---- on the command line: half precision and no linear head

NET = """
import torch
from torch import nn

class Conv(nn.Module):
    def __init__(self, num_classes, input_shape, half=False):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(input_shape[0], 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2))
        self.head = nn.Conv2d(12, num_classes, 1)
        self.register_buffer("average", self.head.weight.detach().clone())
        if half:
            self.half()
    def forward(self, x):
        return self.head(self.body(x)).mean((2, 3))
"""


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def line(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line of a command that fails."""
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("half", [False, True])
def test_a_layer_takes_the_place_of_a_linear_head(
    half: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets.py").write_text(NET)
    model = f'module(path="nets.py:Conv", arguments={{"half": {half}}})'
    base = (
        "train",
        "--data",
        "digits()",
        "--model",
        model,
        "--recipe",
        "recipe(epochs=1, batch_size=128)",
        "--out",
    )
    forget = ("--forget", "by_class(label=3)")
    assert "no classifier head was found; name the feature layer (--layer)" in line(
        capsys, *base, "o.safetensors"
    )
    assert "no layer 'heads'; the model has: body, body.0" in line(
        capsys, *base, "o.safetensors", "--layer", "heads"
    )
    assert not list(tmp_path.glob("o.*"))
    run(*base, "o.safetensors", "--layer", "body")
    method = ("--method", "muda(alternations=1, k=3)")
    assert "no nn.Linear" in line(
        capsys, "unlearn", "o.safetensors", *forget, *method, "--out", "n.safetensors"
    )
    wrong = (
        "unlearn",
        "o.safetensors",
        *forget,
        "--method",
        "identity()",
        "--layer",
        "tail",
        "--out",
        "w.safetensors",
    )
    assert "no layer 'tail'" in line(capsys, *wrong) and not list(tmp_path.glob("w.*"))
    run("unlearn", "o.safetensors", *forget, *method, "--layer", "body", "--out", "u.safetensors")
    assert "--layer 'body'" in capsys.readouterr().out
    skip = [word for name in ("relearning", "zrf", "prototypes") for word in ("--skip", name)]
    run(
        "evaluate",
        "u.safetensors",
        "--original",
        "o.safetensors",
        *forget,
        "--layer",
        "body",
        "--out",
        "r",
        *skip,
    )
    trained, unlearned = (read(tmp_path / f"{name}.json") for name in ("o", "u"))
    assert trained.job["layer"] == unlearned.job["layer"] == "body" and not trained.non_claims
    assert unlearned.series["trace"] and "moving average" in unlearned.non_claims[-1]
    for found in read_folder(tmp_path / "r" / "records"):
        assert found.job["layer"] == "body" and "moving average" not in "".join(found.non_claims)
        assert next(s for s in found.scores if s.name == "da").value is not None
    stored = [
        checkpoint.load_checkpoint(tmp_path / f"{name}.safetensors").tensors for name in ("o", "u")
    ]
    assert {t.dtype for t in stored[1].values() if t.is_floating_point()} == {
        torch.float16 if half else torch.float32
    }
    assert torch.equal(stored[0]["average"], stored[1]["average"]) and not torch.equal(
        stored[0]["head.weight"], stored[1]["head.weight"]
    )
