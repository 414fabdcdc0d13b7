"""The vision transformer against re-derivations in float64."""

from __future__ import annotations

from math import erf, sqrt

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from eigenforget.core import spec
from eigenforget.models import MODELS
from eigenforget.models.vit_tiny import Attention, Width


def build(
    text: str, *, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def randomise(model: nn.Module) -> nn.Module:
    """float64, every parameter and running statistic away from its initial 0 or 1."""
    generator = torch.Generator().manual_seed(5)
    model = model.double()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(noise.abs() + 0.5 if "running_var" in name else tensor + 0.1 * noise)
    return model


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def attention_by_hand(
    tokens: np.ndarray, state: dict[str, np.ndarray], heads: int, prefix: str = ""
) -> np.ndarray:
    """One query at a time, [T, D] -> [T, D]."""
    length, dim = tokens.shape
    packed = tokens @ state[f"{prefix}qkv.weight"].T + state[f"{prefix}qkv.bias"]
    query, key, value = np.split(packed, 3, axis=1)
    mixed = np.empty((length, dim))
    for head in range(heads):
        part = slice(head * dim // heads, (head + 1) * dim // heads)
        for t in range(length):
            scores = np.array([query[t, part] @ key[s, part] for s in range(length)]) / sqrt(
                dim / heads
            )
            weights = np.exp(scores) / np.exp(scores).sum()
            mixed[t, part] = sum(weights[s] * value[s, part] for s in range(length))
    return mixed @ state[f"{prefix}proj.weight"].T + state[f"{prefix}proj.bias"]


def test_attention_is_the_explicit_loop_and_pytorchs():
    attention = randomise(Attention(Width(dim=12, heads=3, dropout=0.0)))
    tokens = noise(2, 5, 12)
    found = attention(tokens)
    state = {name: tensor.numpy() for name, tensor in attention.state_dict().items()}
    for n in range(2):
        np.testing.assert_allclose(
            found[n].detach(), attention_by_hand(tokens[n].numpy(), state, 3), rtol=1e-10
        )
    weights = (
        attention.qkv.weight,
        attention.qkv.bias,
        None,
        None,
        False,
        0.0,
        attention.proj.weight,
        attention.proj.bias,
    )
    by_torch, _ = functional.multi_head_attention_forward(
        *[tokens.transpose(0, 1)] * 3, 12, 3, *weights
    )
    torch.testing.assert_close(found, by_torch.transpose(0, 1))


def test_attention_has_second_derivatives():
    attention = randomise(Attention(Width(dim=4, heads=2, dropout=0.0)))
    assert torch.autograd.gradgradcheck(attention, noise(1, 3, 4).requires_grad_())


def vit_by_hand(
    state: dict[str, np.ndarray], image: np.ndarray, *, patch: int, heads: int, depth: int
) -> np.ndarray:
    """Logits of one image [C, H, W], patch by patch."""

    def norm(x, name):
        centred = x - x.mean(axis=1, keepdims=True)
        return (
            centred
            / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
            * state[f"{name}.weight"]
            + state[f"{name}.bias"]
        )

    def linear(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    kernel = state["patch_embed.proj.weight"]
    tokens = [state["cls_token"][0, 0]]
    for top in range(0, image.shape[1], patch):
        for left in range(0, image.shape[2], patch):
            piece = image[:, top : top + patch, left : left + patch]
            tokens.append((kernel * piece).sum((1, 2, 3)) + state["patch_embed.proj.bias"])
    x = np.stack(tokens) + state["pos_embed"][0]
    for n in range(depth):
        x = x + attention_by_hand(norm(x, f"blocks.{n}.norm1"), state, heads, f"blocks.{n}.attn.")
        hidden = linear(norm(x, f"blocks.{n}.norm2"), f"blocks.{n}.mlp.fc1")
        gelu = hidden * (1 + np.vectorize(erf)(hidden / sqrt(2))) / 2
        x = x + linear(gelu, f"blocks.{n}.mlp.fc2")
    return linear(norm(x, "norm")[:1], "head")[0]


def test_vision_transformer_is_the_numpy_formula():
    model = randomise(
        build("vit_tiny(patch=2, dim=8, depth=2, heads=2)", classes=4, shape=(3, 4, 6))
    ).eval()
    inputs = noise(2, 3, 4, 6)
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    for image, logits in zip(inputs.numpy(), model(inputs).detach().numpy(), strict=True):
        np.testing.assert_allclose(
            logits, vit_by_hand(state, image, patch=2, heads=2, depth=2), rtol=1e-9
        )


def test_vision_transformer_dropout_acts_in_training_only():
    model = build("vit_tiny(dim=12, depth=1, dropout=0.5)", shape=(1, 8, 8))
    inputs = noise(3, 1, 8, 8).float()
    torch.manual_seed(0)
    assert not torch.equal(model(inputs), model(inputs))
    model.eval()
    assert torch.equal(model(inputs), model(inputs))
    assert [m.p for m in model.modules() if isinstance(m, nn.Dropout)] == [0.5, 0.5]


def test_vision_transformer_starts_small():
    model = build("vit_tiny(depth=2)")
    for name in ("blocks.0.attn.qkv.weight", "pos_embed", "blocks.1.mlp.fc1.weight"):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.05)
    assert not model.get_parameter("blocks.0.attn.qkv.bias").any()
