"""Classifiers of torchvision, timm and transformers: what their adapters share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.features import find_head

CLASSES = 3


VIT = '{"model_type": "vit", "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16, "patch_size": 8}'


BERT = '{"model_type": "bert", "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}'


TIMM, HF, VISION = ("timm",), ("transformers",), ("torchvision",)


def needs(*libraries: str) -> None:
    for name in libraries:
        pytest.importorskip(name)


def build(
    text: str, *, shape: tuple[int, ...] = (3, 32, 32), classes: int = CLASSES, seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def refusal(text: str, **more: Any) -> str:
    with pytest.raises(EigenforgetError) as caught:
        build(text, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "extra"),
    [
        ("torchvision", "torchvision()", "vision"),
        ("timm", "timm()", "vision"),
        ("transformers", f"hf(config={BERT})", "hf"),
    ],
)
def test_a_missing_library_is_one_line_with_the_extra(
    name: str, text: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    line = refusal(text)
    assert f"needs {name}, " in line and f"pip install 'eigenforget[{extra}]'" in line


@pytest.mark.parametrize(
    ("libraries", "text", "shape", "head"),
    [
        (VISION, 'torchvision(arch="resnet18")', (3, 32, 32), "fc"),
        (
            VISION,
            'torchvision(arch="mobilenet_v3_small", arguments={"dropout": 0.5})',
            (3, 32, 32),
            "classifier.3",
        ),
        (VISION, 'torchvision(arch="googlenet")', (3, 32, 32), "fc"),
        (TIMM, 'timm(arch="test_resnet")', (1, 32, 32), "fc"),
        (TIMM, 'timm(arch="test_vit")', (5, 32, 32), "head"),
        (TIMM, 'timm(arch="test_efficientnet")', (3, 32, 32), "classifier"),
        (HF, f"hf(config={VIT})", (1, 16, 16), "classifier"),
        (HF, f"hf(config={BERT})", (6,), "classifier"),
    ],
)
def test_models_are_built_for_the_data_and_from_the_seed(
    libraries: tuple[str, ...], text: str, shape: tuple[int, ...], head: str
) -> None:
    needs(*libraries)
    model, before = build(text, shape=shape), torch.random.get_rng_state()
    assert find_head(model)[0] == head and find_head(model)[1].out_features == CLASSES
    assert model.training and all(
        p.dtype == torch.float32 and p.device.type == "cpu" for p in model.parameters()
    )
    assert not any(getattr(module, "fused_attn", False) for module in model.modules())
    same, other = build(text, shape=shape), build(text, shape=shape, seed=1)
    assert (
        checkpoint.model_digest(model)
        == checkpoint.model_digest(same)
        != checkpoint.model_digest(other)
    )
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("libraries", "text", "line"),
    [
        (
            VISION,
            'torchvision(arch="resnet19")',
            "torchvision has no classifier 'resnet19'; did you mean resnet18, ",
        ),
        (
            VISION,
            'torchvision(arch="vit_b_16")',
            "torchvision model vit_b_16 cannot take inputs [1, 3, 32, 32]: Wrong image height!",
        ),
        (
            VISION,
            'torchvision(arguments={"foo": 1})',
            "torchvision model resnet18 cannot be made with {'weights': None, 'num_classes': 3, 'f",
        ),
        (
            VISION,
            'torchvision(arguments={"num_classes": 1})',
            "torchvision model resnet18: num_classes cannot stand in arguments;",
        ),
        (VISION, 'torchvision(weights="no.pth")', "no.pth: there is no such file"),
        (TIMM, 'timm(arch="reznet18")', "timm has no classifier 'reznet18'; did you mean "),
        (
            TIMM,
            'timm(arguments={"pretrained": True})',
            "timm model resnet18: pretrained cannot stand in arguments;",
        ),
        (HF, "hf()", 'hf needs path="folder or name", or config with a model_type'),
        (
            HF,
            'hf(config={"model_type": "vitt"})',
            "transformers has no classifier 'vitt'; did you mean vit, ",
        ),
        (
            HF,
            'hf(config={"model_type": "vit", "hidden_size": "x"})',
            "hf vit: no usable config: Validation error for field 'hidden_size'",
        ),
        (
            HF,
            'hf(config={"model_type": "vit"}, kind="text")',
            "hf vit is a ViTConfig, of which transformers has image classifiers; kind=",
        ),
        (
            HF,
            'hf(path="no/such")',
            "hf no/such: no usable config (no such folder, and not in the local cache; hub=True may download it)",
        ),
        (HF, 'hf(path=".")', "hf .: the folder has no config.json"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(
    libraries: tuple[str, ...],
    text: str,
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs(*libraries)
    monkeypatch.chdir(tmp_path)
    assert refusal(text).startswith(line)


def test_one_channel_needs_timm() -> None:
    needs("torchvision")
    assert refusal("torchvision()", shape=(1, 32, 32)).startswith(
        "torchvision model resnet18 takes images of 3 channels, got 1"
    )


def test_averaged_heads_are_an_error_and_not_a_guess() -> None:
    needs("timm")
    model = build(
        'timm(arch="deit_tiny_distilled_patch16_224", arguments={"depth": 1, "embed_dim": 24, "num_heads": 2})'
    )
    with pytest.raises(
        EigenforgetError, match="several layers that may be the classifier head: head, head_dist"
    ):
        find_head(model)


@pytest.mark.parametrize(
    ("libraries", "text"), [(VISION, "torchvision({})"), (TIMM, 'timm(arch="test_resnet"{})')]
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_pretrained_weights_come_from_a_file_but_for_the_head(
    libraries: tuple[str, ...], text: str, suffix: str, tmp_path: Path
) -> None:
    needs(*libraries)
    file, before = tmp_path / f"w{suffix}", build(text.format(""), classes=7, seed=1)
    torch.save(before.state_dict(), file) if suffix == ".pth" else checkpoint.save_checkpoint(
        before, file, {}
    )
    with_weights = text.format(f', weights="{file}"' if "arch" in text else f'weights="{file}"')
    other, same = build(with_weights), build(with_weights, classes=7)
    assert checkpoint.model_digest(same) == checkpoint.model_digest(before)
    fresh = build(text.format(""))
    for name, value in other.state_dict().items():
        source = fresh if name.startswith("fc.") else before
        assert torch.equal(value, source.state_dict()[name]), name
