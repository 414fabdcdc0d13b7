"""The search for the classifier head: by order, by width, by a traced pass, by a note on the model;
and that a search leaves no trace.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.features import capture, find_head, note_head, settle_head, trace_heads

CLASSES = 4


class Late(nn.Module):
    """The projection that runs first is registered last."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.head = nn.Linear(width, CLASSES)
        self.project = nn.Linear(3, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.project(x).relu_())


class Auxiliary(nn.Module):
    """Inception's kind: a second head that runs in training only and is registered after the first."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.main, self.aux = (
            nn.Linear(3, 6),
            nn.Linear(6, CLASSES),
            nn.Linear(6, CLASSES),
        )

    def forward(self, x: Tensor) -> Any:
        x = self.body(x)
        return (self.main(x), self.aux(x)) if self.training else self.main(x)


class Both(nn.Module):
    """A distilled transformer's kind: in eval mode the mean of two heads."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head, self.head_dist = (
            nn.Linear(3, 6),
            nn.Linear(6, CLASSES),
            nn.Linear(6, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return (self.head(x) + self.head_dist(x)) / 2


class Ignored(Both):
    """A second head that always runs last, and that the logits do not come from."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        logits = self.head(x)
        self.seen = self.head_dist(x)
        return logits.log_softmax(1)


class ConvHead(nn.Module):
    """Gates of nn.Linear in the body, a 1×1 convolution as the head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.out = (
            nn.Conv2d(3, CLASSES, 1),
            nn.Linear(CLASSES, CLASSES),
            nn.Conv2d(CLASSES, CLASSES, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return self.out(x * self.gate(x.mean((2, 3)))[:, :, None, None].sigmoid()).mean((2, 3))


class Tokens(nn.Module):
    """A decoder's kind: logits of every token, of which the last one's are given; a hidden layer as
    wide as the logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.score, self.mid = nn.Linear(CLASSES, CLASSES), nn.Linear(3, CLASSES)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.score(self.mid(x))[:, -1] / 2}


class Keyword(Late):
    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.project(x))


def sequential(*more: nn.Module) -> nn.Module:
    return nn.Sequential(
        nn.Linear(3, 6), nn.ReLU(), nn.Sequential(nn.Dropout(0.5), nn.Linear(6, CLASSES)), *more
    )


X = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))


def made(kind: Any, *args: Any) -> nn.Module:
    torch.manual_seed(0)
    return kind(*args)


def test_by_order() -> None:
    # The rule without more knowledge: the last one registered.
    assert find_head(Late())[0] == "project"
    line = r"^ReLU has no nn\.Linear layer, so no classifier head was found; name the feature layer: layer=… \(--layer\)$"
    with pytest.raises(EigenforgetError, match=line):
        find_head(nn.ReLU())


@pytest.mark.parametrize(
    ("model", "inputs", "name"),
    [
        (made(Late), X, "head"),
        (made(Late, CLASSES), X, "head"),  # widths do not tell them apart
        (made(Auxiliary), X, "main"),
        (made(Ignored), X, "head"),
        (made(Tokens), torch.randn(2, 5, 3), "score"),
        (made(sequential), X, "2.1"),
        (made(sequential, nn.LogSoftmax(1)), X, "2.1"),
        (made(lambda: nn.Linear(3, CLASSES)), X, ""),
        (made(lambda: nn.DataParallel(Late())), X, "module.head"),
    ],
    ids=lambda v: type(v).__name__,
)
def test_a_traced_pass_finds_the_head(model: nn.Module, inputs: Tensor, name: str) -> None:
    for frozen in (False, True):
        model.requires_grad_(not frozen)
        assert trace_heads(model, inputs) == (CLASSES, (name,))
    assert settle_head(model, inputs) == CLASSES
    assert find_head(model) == (name, model.get_submodule(name))
    with capture(model) as tap, torch.no_grad():
        model.eval()
        seen = tap(inputs)
    assert seen.features.shape[1] % model.get_submodule(name).in_features == 0


def test_the_built_in_models_need_no_note() -> None:
    for text in ("mlp(hidden=(8,))", "small_resnet(width=4)", "vit_tiny(dim=12, depth=1)"):
        model = parse(text, MODELS, "model").build(
            num_classes=CLASSES, input_shape=(3, 8, 8), seed=0
        )
        assert settle_head(model, torch.randn(2, 3, 8, 8)) == CLASSES and not hasattr(
            model, "eigenforget_head"
        ), text


def test_what_a_pass_leaves_open_is_an_error_that_lists_it_until_the_model_says_more() -> None:
    model = Both()
    line = r"^Both has several layers that may be the classifier head: head, head_dist; name the feature layer: layer=… \(--layer\), or the head by"
    assert trace_heads(model, X) == (CLASSES, ("head", "head_dist"))
    assert find_head(model)[0] == "head_dist"
    assert settle_head(model, X) == CLASSES
    for broken in (model, copy.deepcopy(model)):
        with pytest.raises(EigenforgetError, match=line), capture(broken):
            pass
        with capture(broken, "body") as tap:
            assert tap(X).features.shape == (5, 6)
    note_head(model, "head")
    assert settle_head(model, X) == CLASSES and find_head(model) == ("head", model.head)


def test_zero_heads_do_not_look_like_one() -> None:
    model = Both().eval()
    for head in (model.head, model.head_dist):
        nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    assert trace_heads(model, X).names == ("head", "head_dist")
    model.forward = lambda x: (model.head(x := model.body(x)), model.head_dist(x))  # type: ignore[method-assign]
    assert trace_heads(model, X).names == (
        "head",
    )  # equal numbers, but the logits come from one of them


def test_the_head_of_two_classes_may_have_one_output() -> None:
    class Gated(nn.Module):
        def __init__(self, gates: bool) -> None:
            super().__init__()
            self.body, self.single, self.gates = nn.Linear(3, 6), nn.Linear(6, 1), gates

        def forward(self, x: Tensor) -> Tensor:
            one = self.single(h := self.body(x))
            return torch.cat([h[:, :1] if self.gates else torch.zeros_like(one), one], 1)

    assert trace_heads(Gated(False), X) == (2, ("single",))
    assert trace_heads(Gated(True), X).names == ()  # the body reaches the logits beside it


def test_an_adapter_of_the_head_is_not_another_head() -> None:
    class Adapted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.base_layer, self.lora_A, self.lora_B = (
                nn.Linear(6, CLASSES),
                nn.Linear(6, 2, bias=False),
                nn.ModuleDict({"default": nn.Linear(2, CLASSES, bias=False)}),
            )

        def forward(self, x: Tensor) -> Tensor:
            return self.base_layer(x) + self.lora_B["default"](self.lora_A(x))

    model = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), Adapted())
    assert trace_heads(model, X) == (CLASSES, ("2.base_layer",))
    with capture(model, "1") as named, torch.no_grad():
        want = named(X).features
    settle_head(model, X)
    with capture(model) as tap, torch.no_grad():
        assert torch.equal(tap(X).features, want)


def test_a_convolution_as_head_is_not_mistaken_for_a_linear_layer_of_the_body() -> None:
    model, images = ConvHead(), torch.randn(2, 3, 5, 5)
    line = r"^no nn\.Linear of ConvHead gives its logits, so no classifier head was found; name the feature layer: layer=… \(--layer\)$"
    assert find_head(model)[0] == "gate"  # as wide as the logits, which do come through it
    assert trace_heads(model, images).names == ()
    assert settle_head(model, images) == CLASSES
    with pytest.raises(EigenforgetError, match=line):
        find_head(model)
    with capture(model, "conv") as tap:
        assert tap(images).features.shape == (2, CLASSES)


def test_the_note_may_stand_on_the_class_and_inside_wrappers() -> None:
    class Named(Late):
        eigenforget_head = "head"

    model = Named()
    assert find_head(model)[0] == "head" and find_head(nn.DataParallel(model))[0] == "module.head"
    assert find_head(nn.Sequential(model, nn.Linear(CLASSES, CLASSES)))[0] == "0.head"
    assert find_head(torch.compile(model, backend="eager"))[0] == "_orig_mod.head"
    for wrong, what in (("nope", "no layer"), ("act", "a ReLU and no nn.Linear")):
        model.act = nn.ReLU()
        note_head(model, wrong)
        with pytest.raises(
            EigenforgetError,
            match=f"^Named.eigenforget_head names '{wrong}' as the classifier head, which is {what}",
        ):
            find_head(model)


def test_a_search_leaves_the_model_as_it_is_and_its_note_is_no_weight() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), nn.Dropout(0.5), Late()).train()
    model[0].eval()
    modes, before, keys = (
        [m.training for m in model.modules()],
        checkpoint.model_digest(model),
        list(model.state_dict()),
    )
    torch.manual_seed(3)
    draw = torch.rand(2)
    torch.manual_seed(3)
    assert settle_head(model, X) == CLASSES and torch.equal(torch.rand(2), draw)
    assert [m.training for m in model.modules()] == modes and checkpoint.model_digest(
        model
    ) == before
    assert list(model.state_dict()) == keys and all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert find_head(copy.deepcopy(model))[0] == "2.head"


def test_hooks_are_gone_after_a_pass_that_fails() -> None:
    model = Late()
    with pytest.raises(RuntimeError):
        settle_head(model, torch.randn(2, 5))
    assert not any(m._forward_hooks for m in model.modules()) and model.training


def test_the_features_of_a_head_that_is_called_by_keyword() -> None:
    model = Keyword()
    note_head(model, "head")
    with capture(model) as tap:
        torch.testing.assert_close(tap(X).features, model.project(X))


def test_dict_inputs_are_passed_by_name() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.out, self.embed = nn.Linear(3, CLASSES), nn.Embedding(7, 3)

        def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
            return self.out(self.embed(ids).sum(1) * mask)

    inputs = {"ids": torch.ones(2, 3, dtype=torch.long), "mask": torch.ones(2, 1)}
    assert trace_heads(Named(), inputs).names == ("out",)


def test_capture_takes_the_head_input_or_a_named_layer() -> None:
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 3))
    x = torch.randn(23, 5)
    model.eval()
    with capture(model) as tap:
        torch.testing.assert_close(tap(x).features, model[2](model[1](model[0](x))))
    with capture(model, "0") as tap:
        torch.testing.assert_close(tap(x).features, model[0](x))
    assert not model[3]._forward_pre_hooks and not model[0]._forward_hooks
    assert find_head(model)[0] == "3"
    with (
        pytest.raises(EigenforgetError, match=r"'x'.*0, 1, 2, 3"),
        capture(model, "x"),
    ):
        pass
    with pytest.raises(EigenforgetError, match=r"no nn\.Linear"), capture(nn.Conv2d(1, 1, 1)):
        pass


def test_feature_maps_are_averaged_over_space() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    )
    x = torch.rand(2, 1, 6, 6)
    with capture(model, "0") as layer, capture(model) as head:
        model_out, pooled = layer(x), head(x)
    torch.testing.assert_close(model_out.features, pooled.features)
