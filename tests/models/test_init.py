"""What holds for every model that has a name."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.building import initial_weights
from eigenforget.models.features import capture, find_head


def build(
    text: str, *, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "classes", "shape", "parameters"),
    [
        ("resnet18", 10, (3, 32, 32), 11_173_962),
        ('resnet18(stem="imagenet")', 1000, (3, 224, 224), 11_689_512),
        ("all_cnn", 10, (3, 32, 32), 1_620_010),
        ("vit_tiny(patch=16)", 1000, (3, 224, 224), 5_717_416),
        ("mlp", 10, (1, 8, 8), 64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10),
        ("mlp(hidden=())", 3, (5,), 5 * 3 + 3),
    ],
)
def test_published_parameter_counts(text, classes, shape, parameters):
    assert size(build(text, classes=classes, shape=shape)) == parameters


SMALL = [
    "mlp(hidden=(16,))",
    "small_resnet(width=4)",
    "small_resnet(width=4, stem_stride=2, blocks=2)",
    "all_cnn(width=4)",
    "vit_tiny(dim=12, depth=2)",
]


@pytest.mark.parametrize("text", [*SMALL, "resnet18", 'resnet18(stem="imagenet")'])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (5, 64, 64)])
def test_the_last_linear_is_the_one_head_and_sees_the_features(text, shape):
    model = build(text, classes=7, shape=shape).eval()
    _, head = find_head(model)
    with capture(model) as tap, torch.no_grad():
        logits, features, _ = tap(torch.zeros(2, *shape))
    assert logits.shape == (2, 7) and features.shape == (2, head.in_features)
    torch.testing.assert_close(logits, features @ head.weight.T + head.bias)


@pytest.mark.parametrize("text", SMALL)
def test_initial_weights_depend_on_the_seed_alone(text):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    one = checkpoint.model_digest(build(text))
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert (
        checkpoint.model_digest(build(text)) == one != checkpoint.model_digest(build(text, seed=1))
    )


def test_modules_are_made_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"), initial_weights(0):
        assert nn.Linear(2, 2).weight.device.type == "cpu"


@pytest.mark.parametrize(
    ("text", "shape", "line"),
    [
        ("vit_tiny(patch=5)", (3, 32, 32), "vit_tiny: 32×32 pixels are not a multiple of patch=5"),
        ("vit_tiny(patch=8)", (3, 32, 36), "vit_tiny: 32×36 pixels are not a multiple of patch=8"),
        (
            "small_resnet",
            (12,),
            r"small_resnet needs images \(C, H, W\), got inputs of shape \(12,\)",
        ),
        (
            "resnet18",
            (0, 8, 8),
            r"resnet18 needs images \(C, H, W\), got inputs of shape \(0, 8, 8\)",
        ),
        ("mlp", (), r"mlp needs inputs that are not empty, got shape \(\)"),
        ("vit_tiny(dim=10)", (3, 32, 32), "model vit_tiny: dim=10 must be a multiple of heads=3"),
        ('resnet18(stem="big")', (3, 32, 32), "model resnet18: stem: .*'cifar' or 'imagenet'"),
        ("small_resnet(width=0)", (3, 32, 32), "model small_resnet: width: .*, got 0"),
        ("mlp(hidden=(8, 0))", (3,), "model mlp: hidden.1: .*, got 0"),
    ],
)
def test_shapes_and_fields_that_do_not_fit_are_refused(text, shape, line):
    assert re.search(line, refusal(lambda: build(text, shape=shape)))


SHAPES = {"text_mlp": (5,), "text_transformer": (5,)}


@pytest.mark.parametrize("kind", MODELS, ids=lambda kind: kind.name)
def test_specs_are_described_and_survive_json_and_classes_are_checked(kind):
    assert all(description for *_, description in spec.describe(kind))
    assert (
        spec.from_json(spec.as_json(kind()), MODELS, "model")
        == kind()
        == spec.parse(spec.spell(kind()), MODELS, "model")
    )
    assert (
        refusal(
            lambda: kind().build(
                num_classes=1, input_shape=SHAPES.get(kind.name, (3, 8, 8)), seed=0
            )
        )
        == f"{kind.name} needs at least 2 classes, got 1"
    )


def test_the_spec_spelling_of_the_brief_parses():
    made = spec.parse("small_resnet(width=32, stem_stride=2)", MODELS, "model")
    assert (made.width, made.stem_stride, made.blocks) == (32, 2, 1)


def test_weights_without_room_in_memory_are_one_line():
    with pytest.raises(EigenforgetError, match="do not fit into memory; choose smaller"):
        with initial_weights(0):
            torch.empty(2**46)
    with pytest.raises(RuntimeError, match="another"):
        with initial_weights(0):
            raise RuntimeError("another")
