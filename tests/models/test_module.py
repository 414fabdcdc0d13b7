"""Models that are not ours: a factory by path, and what happens to every kind of weight that other
people's modules have.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.methods import MUDA, Finetune, NegGradPlus
from eigenforget.methods.l1_sparse import L1Sparse
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.features import find_head
from eigenforget.models.module import Module, load_pretrained
from eigenforget.training.engine import Engine

CLASSES, WIDTH = 3, 5
FACTORY = """
import torch
from torch import nn
from own_width import WIDTH

class Net(nn.Module):
    def __init__(self, num_classes, hidden=4):
        super().__init__()
        self.head = nn.Linear(hidden, num_classes)
        self.body = nn.Linear(WIDTH, hidden)
    def forward(self, x):
        return self.head(self.body(x))

class Outer:
    @staticmethod
    def make(*, input_shape, num_classes, seed, **more):
        made = Net(num_classes, **more)
        made.got = (input_shape, seed)
        return made

def any_width(**more):
    return Net(**more)

def wrong(): return 3
def breaks(num_classes): raise ZeroDivisionError("mine")
number, instance = 3, nn.Linear(2, 2)
"""


def refusal(call: Any) -> str:
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def build(text: str, seed: int = 0, classes: int = CLASSES) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=(WIDTH,), seed=seed
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "nets.py").write_text(FACTORY)
    (tmp_path / "own_width.py").write_text(f"WIDTH = {WIDTH}")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [n for n in sys.modules if n == "own_width" or n.startswith("_eigenforget_nets")]:
        del sys.modules[name]


# ---- a factory by path


def test_a_factory_gets_what_its_signature_names(folder: Path) -> None:
    net = build('module(path="nets.py:Net", arguments={"hidden": 7})')
    assert net.head.weight.shape == (CLASSES, 7) and find_head(net)[0] == "head"  # type: ignore[union-attr]
    made = build('module(path="nets.py:Outer.make", arguments={"hidden": 6})', seed=4)
    assert made.got == ((WIDTH,), 4) and made.body.out_features == 6  # type: ignore[union-attr]
    assert build('module(path="nets.py:any_width")').head.out_features == CLASSES  # type: ignore[union-attr]
    linear = build(
        'module(path="torch.nn:Linear", arguments={"in_features": 2, "out_features": 3})'
    )
    assert type(linear) is nn.Linear


def test_weights_depend_on_the_seed_alone(folder: Path) -> None:
    text, before = 'module(path="nets.py:Net")', torch.random.get_rng_state()
    one, two, other = (
        checkpoint.model_digest(build(text, 1)),
        checkpoint.model_digest(build(text, 1)),
        checkpoint.model_digest(build(text, 2)),
    )
    assert one == two != other and torch.equal(torch.random.get_rng_state(), before)


def test_a_changed_file_is_run_again_and_an_unchanged_one_is_not(folder: Path) -> None:
    first = build('module(path="nets.py:Net")')
    assert type(build('module(path="nets.py:Net")')) is type(first) and str(folder) not in sys.path
    assert type(copy.deepcopy(first)) is type(first) and type(first).__module__ in sys.modules
    (folder / "nets.py").write_text(FACTORY.replace("hidden=4", "hidden=9"))
    assert build('module(path="nets.py:Net")').body.out_features == 9  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "module()",
            "^module needs path=.*, got ''$",
        ),
        ('module(path="nets.py")', r"needs path=.*, got 'nets.py'"),
        (
            'module(path="none.py:Net")',
            r"^module 'none.py:Net' cannot be imported: none.py: No such file or directory$",
        ),
        (
            'module(path="no_such_pkg.x:Net")',
            r"cannot be imported: No module named 'no_such_pkg' .*file.py:",
        ),
        (
            'module(path="nets.py:Nets")',
            r"^module 'nets.py:Nets': nets.py has no 'Nets' \(did you mean 'Net'\?\)$",
        ),
        (
            'module(path="nets.py:number")',
            r"must be a function or class that makes the module, got int$",
        ),
        (
            'module(path="nets.py:instance")',
            r"must be a function or class that makes the module, got Linear$",
        ),
        (
            'module(path="nets.py:wrong")',
            r"^module 'nets.py:wrong' must make an nn.Module, got int$",
        ),
        (
            'module(path="nets.py:Net", arguments={"width": 2})',
            r"called as Net\(num_classes, hidden=4\): got an unexpected .*'width'$",
        ),
        (
            'module(path="torch.nn:Linear")',
            r"called as Linear\(in_features.*: missing a required argument: 'in_features'$",
        ),
        (
            'module(path="nets.py:Net", arguments={"num_classes": 2})',
            r"num_classes cannot stand in arguments; the package gives it$",
        ),
        (
            'module(path="broken.py:Net")',
            r"^module 'broken.py:Net' cannot be imported: invalid syntax",
        ),
        (
            'module(path="needy.py:Net")',
            r"^module 'needy.py:Net' cannot be imported: needy.py, line 1: No module named 'not_there'$",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, text: str, line: str) -> None:
    (folder / "broken.py").write_text("def Net(:")
    (folder / "needy.py").write_text("import not_there")
    with pytest.raises(EigenforgetError, match=line):
        refusal(lambda: build(text))
        build(text)


def test_errors_of_the_factory_itself_are_not_hidden(folder: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="mine"):
        build('module(path="nets.py:breaks")')


def test_arguments_have_one_spelling_and_survive_json() -> None:
    made = spec.parse(
        'module(path="a:b", arguments={"w": 8, "sizes": [1, (2, 3)], "on": True})', MODELS, "model"
    )
    assert made == Module(
        path="a:b", arguments=(("w", 8), ("sizes", (1, (2, 3))), ("on", True))
    ) and hash(made)
    assert (
        spec.parse(spec.spell(made), MODELS, "model")
        == made
        == spec.from_json(spec.as_json(made), MODELS, "model")
    )
    for wrong, line in (
        (
            '{"a": {"b": 1}}',
            "a value is a number, a string, True, False, None or a tuple of these, got dict",
        ),
        (
            '(("a", 1), ("a", 2))',
            "names of arguments are identifiers, each given once, got 'a', 'a'",
        ),
        ('{"a b": 1}', "names of arguments are identifiers"),
        ("3", "arguments are a dict, or a tuple of .name, value. pairs"),
    ):
        with pytest.raises(EigenforgetError, match=f"model module: arguments: {line}"):
            spec.parse(f'module(path="a:b", arguments={wrong})', MODELS, "model")


class Body(nn.Module):
    """Batch and group normalisation, dropout and a head; options add what tests are about."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm, self.group = (
            nn.Linear(WIDTH, 8),
            nn.BatchNorm1d(8),
            nn.GroupNorm(2, 8),
        )
        self.drop, self.head = nn.Dropout(0.1), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.drop(self.group(self.norm(self.inner(x))).relu()))


def body() -> Body:
    torch.manual_seed(0)
    return Body().eval()


def sides() -> dict[str, Any]:
    labels = torch.arange(30) % CLASSES
    inputs = torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    return {
        "forget": (inputs[labels == 2], labels[labels == 2]),
        "retain": (inputs[labels != 2], labels[labels != 2]),
        "engine": Engine(device="cpu"),
    }


QUICK = [
    MUDA(alternations=1, batch_size=8),
    Finetune(epochs=1, batch_size=8),
    NegGradPlus(epochs=1, batch_size=8),
]
EVERY = pytest.mark.parametrize("method", QUICK, ids=lambda m: m.name)


@EVERY
def test_frozen_weights_stay_frozen_and_untouched(method: Any) -> None:
    model = body()
    model.inner.requires_grad_(False)
    result = unlearn(model, method=method, **sides())
    for name, weight in model.named_parameters():
        mine = result.get_parameter(name)
        assert mine.requires_grad == weight.requires_grad == (not name.startswith("inner"))
        assert torch.equal(mine, weight) == name.startswith("inner"), name
    frozen = body().requires_grad_(False)
    with pytest.raises(Refused, match="has no trainable parameter"):
        unlearn(frozen, method=method, **sides())
    model = body()
    model.head.requires_grad_(False)
    with pytest.raises(Refused, match="no trainable parameter: requires_grad is False"):
        unlearn(model, method="cf_k(k=1)", **sides())


class Shared(nn.Module):
    """One weight as token embedding and head, one layer that runs twice, and an alias of a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mid, self.head = (
            nn.Embedding(CLASSES, 6),
            nn.Linear(6, 6),
            nn.Linear(6, CLASSES, bias=False),
        )
        self.head.weight, self.again = self.embed.weight, self.mid

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.again(self.mid(self.embed(tokens)).relu()).mean(1))


@EVERY
def test_shared_weights_are_still_shared_after_unlearning_saving_and_loading(
    method: Any, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model, labels = Shared().eval(), torch.arange(30) % CLASSES
    tokens = labels[:, None].repeat(1, 4)
    gone = labels == 2
    data = {
        "forget": (tokens[gone], labels[gone]),
        "retain": (tokens[~gone], labels[~gone]),
        "engine": Engine(device="cpu"),
    }
    result = unlearn(model, method=method, **data)
    assert not torch.equal(result.head.weight, model.head.weight)
    checkpoint.save_checkpoint(result, tmp_path / "m.safetensors", {})
    fresh = Shared()
    checkpoint.load_into(fresh, checkpoint.load_checkpoint(tmp_path / "m.safetensors"))
    for made in (result, copy.deepcopy(result), fresh):
        assert made.head.weight is made.embed.weight and made.again is made.mid
        assert checkpoint.model_digest(made) == checkpoint.model_digest(result)


class Averaged(Body):
    """A moving average of the head's weight as a buffer, which nothing but its owner's training
    loop updates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("ema", self.head.weight.detach().clone())


@EVERY
def test_a_moving_average_in_a_buffer_keeps_the_originals_weights(method: Any) -> None:
    """Not a wish but a fact to know: what a model keeps of its past in buffers is not unlearned."""
    model = Averaged().eval()
    result = unlearn(model, method=method, **sides())
    assert torch.equal(result.ema, model.ema) and not torch.equal(
        result.head.weight, model.head.weight
    )


def test_an_averaged_model_of_torch_is_a_model_like_any_other() -> None:
    model = torch.optim.swa_utils.AveragedModel(body()).eval()
    result = unlearn(model, method=QUICK[0], **sides())
    assert find_head(result)[0] == "module.head" and result.n_averaged == model.n_averaged


@pytest.mark.parametrize(
    "answer", [lambda y: {"logits": y}, lambda y: (y, 1), lambda y: type("O", (), {"logits": y})()]
)
def test_every_kind_of_output_gives_the_same_weights(answer: Any) -> None:
    class Wrapped(Body):
        def forward(self, x: Tensor) -> Any:
            return answer(super().forward(x))

    torch.manual_seed(0)
    wrapped = Wrapped().eval()
    results = [unlearn(m, method=QUICK[0], **sides()) for m in (body(), wrapped)]
    assert checkpoint.model_digest(results[0]) == checkpoint.model_digest(results[1])


def test_an_infinite_mask_that_is_not_saved_is_no_divergence() -> None:
    model = body()
    model.register_buffer("mask", torch.full((3, 3), float("-inf")).triu(1), persistent=False)
    result = unlearn(model, method=L1Sparse(epochs=1), **sides())
    assert torch.equal(result.mask, model.mask)


def test_pretrained_weights_keep_the_new_head_whatever_prefix_they_are_under(
    tmp_path: Path,
) -> None:
    def net(classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, classes))

    theirs, own = net(9), net(5)
    head = own[2].weight.detach().clone()  # type: ignore[index, operator, union-attr]
    state = {f"backbone.{name}": value for name, value in theirs.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "pretrained.pth")
    load_pretrained(own, str(tmp_path / "pretrained.pth"))
    assert torch.equal(own[0].weight, theirs[0].weight)  # type: ignore[index, arg-type]
    assert torch.equal(own[2].weight, head)  # type: ignore[index, arg-type]
