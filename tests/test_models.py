"""Models against re-derivations in float64, and checkpoints: what they keep and what they refuse."""

from __future__ import annotations

import copy
import pickle
import re
from math import erf, sqrt

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.building import initial_weights
from eigenforget.models.features import capture, find_head
from eigenforget.models.heads import check_label_range
from eigenforget.models.residual import BasicBlock
from eigenforget.models.vit_tiny import Attention, Width


def build(
    text: str, *, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


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


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- architectures


@pytest.mark.parametrize(
    ("text", "classes", "shape", "parameters"),
    [
        ("resnet18", 10, (3, 32, 32), 11_173_962),
        ('resnet18(stem="imagenet")', 1000, (3, 224, 224), 11_689_512),
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


def numpy_conv(inputs: np.ndarray, weight: np.ndarray, stride: int) -> np.ndarray:
    """Cross-correlation with zero padding of half the kernel, [C, H, W] -> [K, H', W'], one output
    value at a time.
    """
    edge = weight.shape[2] // 2
    padded = np.pad(inputs, ((0, 0), (edge, edge), (edge, edge)))
    height, width = (-(-side // stride) for side in inputs.shape[1:])
    out = np.empty((len(weight), height, width))
    for k in range(len(weight)):
        for i in range(height):
            for j in range(width):
                window = padded[
                    :,
                    i * stride : i * stride + weight.shape[2],
                    j * stride : j * stride + weight.shape[3],
                ]
                out[k, i, j] = (window * weight[k]).sum()
    return out


def numpy_norm(inputs: np.ndarray, state: dict[str, np.ndarray], name: str) -> np.ndarray:
    scale = state[f"{name}.weight"] / np.sqrt(state[f"{name}.running_var"] + 1e-5)
    shift = state[f"{name}.bias"] - scale * state[f"{name}.running_mean"]
    return inputs * scale[:, None, None] + shift[:, None, None]


@pytest.mark.parametrize(
    ("before", "after", "stride"), [(3, 3, 1), (3, 5, 1), (3, 6, 2), (4, 4, 2)]
)
def test_basic_block_is_the_numpy_formula(before, after, stride):
    block = randomise(BasicBlock(before=before, after=after, stride=stride)).eval()
    inputs = noise(2, before, 5, 6)
    state = {name: tensor.numpy() for name, tensor in block.state_dict().items()}
    assert (block.downsample is None) == (before == after and stride == 1)
    for sample, found in zip(inputs.numpy(), block(inputs).detach().numpy(), strict=True):
        hidden = np.maximum(
            numpy_norm(numpy_conv(sample, state["conv1.weight"], stride), state, "bn1"), 0
        )
        hidden = numpy_norm(numpy_conv(hidden, state["conv2.weight"], 1), state, "bn2")
        shortcut = sample
        if block.downsample is not None:
            shortcut = numpy_norm(
                numpy_conv(sample, state["downsample.0.weight"], stride), state, "downsample.1"
            )
        np.testing.assert_allclose(found, np.maximum(hidden + shortcut, 0), rtol=1e-10, atol=1e-10)


def resnet_by_hand(
    state: dict[str, torch.Tensor],
    inputs: torch.Tensor,
    *,
    stem: tuple[int, bool],
    stages: int,
    blocks: int,
):
    """The published network from its weights alone, with torchvision's names."""

    def norm(x, name):
        return functional.batch_norm(
            x,
            state[f"{name}.running_mean"],
            state[f"{name}.running_var"],
            state[f"{name}.weight"],
            state[f"{name}.bias"],
        )

    stride, pool = stem
    kernel = state["conv1.weight"]
    x = norm(
        functional.conv2d(inputs, kernel, stride=stride, padding=kernel.shape[2] // 2), "bn1"
    ).relu()
    x = functional.max_pool2d(x, 3, 2, 1) if pool else x
    for stage in range(1, stages + 1):
        for block in range(blocks):
            name, step = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = norm(
                functional.conv2d(x, state[f"{name}.conv1.weight"], stride=step, padding=1),
                f"{name}.bn1",
            ).relu()
            y = norm(functional.conv2d(y, state[f"{name}.conv2.weight"], padding=1), f"{name}.bn2")
            if step == 2:
                x = norm(
                    functional.conv2d(x, state[f"{name}.downsample.0.weight"], stride=2),
                    f"{name}.downsample.1",
                )
            x = (x + y).relu()
    return functional.linear(x.mean((2, 3)), state["fc.weight"], state["fc.bias"])


@pytest.mark.parametrize(
    ("text", "stem", "stages", "blocks"),
    [
        ("resnet18", (1, False), 4, 2),
        ('resnet18(stem="imagenet")', (2, True), 4, 2),
        ("small_resnet(width=6, stem_stride=2)", (2, False), 3, 1),
        ("small_resnet(width=6, blocks=2)", (1, False), 3, 2),
    ],
)
def test_residual_networks_are_the_published_ones(text, stem, stages, blocks):
    model = randomise(build(text)).eval()
    inputs = noise(2, 3, 32, 32)
    with torch.no_grad():
        expected = resnet_by_hand(
            model.state_dict(), inputs, stem=stem, stages=stages, blocks=blocks
        )
        torch.testing.assert_close(model(inputs), expected, rtol=1e-9, atol=1e-9)


def test_convolutions_start_from_hes_distribution():
    weight = build("resnet18").get_parameter("layer3.0.conv1.weight")
    assert weight.std().item() == pytest.approx(sqrt(2 / (256 * 9)), rel=0.01)


def test_mlp_is_the_numpy_formula():
    model = randomise(build("mlp(hidden=(6, 5))", classes=3, shape=(2, 2, 2)))
    inputs = noise(4, 2, 2, 2)
    (a, b), (c, d), (e, f) = [
        (m.weight.detach().numpy(), m.bias.detach().numpy())
        for m in model
        if isinstance(m, nn.Linear)
    ]
    hidden = np.maximum(np.maximum(inputs.numpy().reshape(4, 8) @ a.T + b, 0) @ c.T + d, 0)
    np.testing.assert_allclose(model(inputs).detach().numpy(), hidden @ e.T + f, rtol=1e-12)


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


@pytest.mark.parametrize(
    ("text", "shape", "line"),
    [
        ("vit_tiny(patch=5)", (3, 32, 32), "vit_tiny: 32×32 pixels are no multiple of patch=5"),
        ("vit_tiny(patch=8)", (3, 32, 36), "vit_tiny: 32×36 pixels are no multiple of patch=8"),
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
        refusal(lambda: kind().build(1, SHAPES.get(kind.name, (3, 8, 8)), 0))
        == f"{kind.name} needs at least 2 classes, got 1"
    )


def test_the_spec_spelling_of_the_brief_parses():
    made = spec.parse("small_resnet(width=32, stem_stride=2)", MODELS, "model")
    assert (made.width, made.stem_stride, made.blocks) == (32, 2, 1)


# ---- checkpoints


class Tied(nn.Module):
    """Two names for one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight


def small(seed: int = 0) -> nn.Module:
    return build("small_resnet(width=2)", shape=(1, 8, 8), seed=seed)


def test_save_and_load_give_the_same_bits_and_metadata(tmp_path):
    model, path = small(), tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(
        model.to(memory_format=torch.channels_last), path, {"model": "small_resnet(width=2)"}
    )
    loaded = checkpoint.load_checkpoint(path)
    assert loaded.metadata == {"model": "small_resnet(width=2)"}
    assert loaded.tensors.keys() == model.state_dict().keys()
    assert all(
        torch.equal(loaded.tensors[name], tensor) for name, tensor in model.state_dict().items()
    )
    other = small(seed=1)
    assert checkpoint.model_digest(other) != checkpoint.model_digest(model)
    checkpoint.load_into(other, loaded)
    assert checkpoint.model_digest(other) == checkpoint.model_digest(model)
    assert [p.name for p in tmp_path.iterdir()] == ["m.safetensors"]


def test_loaded_tensors_do_not_follow_the_file_or_the_model(tmp_path):
    model, path = small(), tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(model, path, {})
    loaded = checkpoint.load_checkpoint(path)
    before = loaded.tensors["fc.weight"].clone()
    other = small(seed=1)
    checkpoint.load_into(other, loaded)
    with torch.no_grad():
        other.get_parameter("fc.weight").zero_()
    path.write_bytes(b"\0" * path.stat().st_size)
    assert torch.equal(loaded.tensors["fc.weight"], before)


def test_an_existing_file_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(small(), path, {})
    content = path.read_bytes()
    assert (
        refusal(lambda: checkpoint.save_checkpoint(small(1), path, {}))
        == f"{path}: exists already; say overwrite to replace it"
    )
    assert path.read_bytes() == content
    checkpoint.save_checkpoint(small(1), path, {}, overwrite=True)
    assert torch.equal(load_file(path)["conv1.weight"], small(1).state_dict()["conv1.weight"])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", ["layer2.0.conv1.weight", "bn1.running_mean"])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(tmp_path, value, name):
    model, path = small(), tmp_path / "m.safetensors"
    model.state_dict()[name].view(-1)[1] = value
    line = f"{name} has weights that are not finite (NaN or infinite)"
    assert refusal(lambda: checkpoint.save_checkpoint(model, path, {})) == f"{path}: {line}"
    assert not list(tmp_path.iterdir())
    save_file(model.state_dict(), path)
    torch.save(model.state_dict(), tmp_path / "m.pt")
    for file in (path, tmp_path / "m.pt"):
        assert refusal(lambda file=file: checkpoint.load_checkpoint(file)) == f"{file}: {line}"


@pytest.mark.parametrize("moment", ["while writing", "before the rename"])
@pytest.mark.parametrize("error", [OSError("No space left on device"), KeyboardInterrupt()])
def test_a_failing_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, moment, error):
    path = tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(small(), path, {})
    content = path.read_bytes()

    def fail(*args):
        if moment == "while writing":
            args[1].write_bytes(b"half a file")
        raise error

    monkeypatch.setattr(
        checkpoint, "save_file", fail
    ) if moment == "while writing" else monkeypatch.setattr("os.replace", fail)
    if isinstance(error, OSError):
        line = refusal(lambda: checkpoint.save_checkpoint(small(1), path, {}, overwrite=True))
        assert line == f"{path}: cannot be written: No space left on device"
    else:
        with pytest.raises(KeyboardInterrupt):
            checkpoint.save_checkpoint(small(1), path, {}, overwrite=True)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == [
        "m.safetensors"
    ]


def test_saves_that_cannot_be_are_refused(tmp_path):
    path = tmp_path / "m.safetensors"
    assert "saved as .safetensors, got" in refusal(
        lambda: checkpoint.save_checkpoint(small(), tmp_path / "m.pt", {})
    )
    assert (
        refusal(lambda: checkpoint.save_checkpoint(small(), path, {"seed": 1}))
        == "metadata 'seed' must be a string, got int"
    )
    assert (
        refusal(lambda: checkpoint.save_checkpoint(nn.ReLU(), path, {}))
        == f"{path}: the model has no weights to save"
    )
    missing = tmp_path / "no" / "m.safetensors"
    assert refusal(lambda: checkpoint.save_checkpoint(small(), missing, {})).startswith(
        f"{missing}: cannot be written: "
    )
    with torch.device("meta"):
        ghost = nn.Linear(2, 2)
    assert f"{path}: weight is no plain tensor of weights" in refusal(
        lambda: checkpoint.save_checkpoint(ghost, path, {})
    )
    assert not list(tmp_path.iterdir())


def test_tied_weights_are_kept_under_each_name(tmp_path):
    path, model = tmp_path / "m.safetensors", Tied()
    checkpoint.save_checkpoint(model, path, {})
    loaded = checkpoint.load_checkpoint(path)
    assert torch.equal(loaded.tensors["first.weight"], loaded.tensors["second.weight"])
    other = Tied()
    checkpoint.load_into(other, loaded)
    assert (
        torch.equal(other.first.weight, model.first.weight)
        and other.first.weight is other.second.weight
    )
    loaded.tensors["second.weight"][0, 0] += 1
    before = checkpoint.model_digest(other)
    assert "1 tied in the model but different: first.weight and second.weight" in refusal(
        lambda: checkpoint.load_into(other, loaded)
    )
    assert checkpoint.model_digest(other) == before


@pytest.mark.parametrize(
    "wrap", [dict, lambda s: {"state_dict": s, "epoch": 3}, lambda s: {"model": s, "optimizer": {}}]
)
@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_state_dicts_of_pytorch_are_read(tmp_path, wrap, prefix, suffix):
    model, path = small(), tmp_path / f"m{suffix}"
    torch.save(wrap({prefix + name: tensor for name, tensor in model.state_dict().items()}), path)
    other = small(1)
    checkpoint.load_into(other, checkpoint.load_checkpoint(path))
    assert checkpoint.model_digest(other) == checkpoint.model_digest(model)


def test_module_prefix_is_kept_unless_every_name_has_it(tmp_path):
    torch.save({"module.a": torch.ones(1), "b": torch.ones(1)}, tmp_path / "m.pt")
    assert set(checkpoint.load_checkpoint(tmp_path / "m.pt").tensors) == {"module.a", "b"}
    inner = nn.ModuleDict({"module": nn.Linear(2, 2)})
    checkpoint.save_checkpoint(inner, tmp_path / "m.safetensors", {})
    checkpoint.load_into(inner, checkpoint.load_checkpoint(tmp_path / "m.safetensors"))


class Evil:
    """Would write a file when unpickled."""

    def __reduce__(self):
        return (open, ("pwned", "w"))


def test_pickles_with_code_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.pt"
    for held in (Evil(), nn.Linear(2, 2), {"state_dict": small().state_dict(), "args": Evil()}):
        torch.save(held, path)
        line = refusal(lambda: checkpoint.load_checkpoint(path))
        assert (
            line.startswith(f"{path}: holds Python objects")
            and "torch.save(model.state_dict(), 'weights.pt')" in line
        )
    path.write_bytes(pickle.dumps(Evil()))
    assert refusal(lambda: checkpoint.load_checkpoint(path)).startswith(f"{path}: ")
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m.pth"])
def test_damaged_files_are_refused(tmp_path, name):
    path = tmp_path / name
    assert refusal(lambda: checkpoint.load_checkpoint(path)) == f"{path}: there is no such file"
    save_file(small().state_dict(), path) if name == "m.safetensors" else torch.save(
        small().state_dict(), path
    )
    whole = path.read_bytes()
    for content in (b"", b"text of no kind", whole[:5], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        line = refusal(lambda: checkpoint.load_checkpoint(path))
        assert re.match(
            f"{path}: (not a readable safetensors file: |damaged, or not written by torch.save)",
            line,
        )


@pytest.mark.parametrize(
    ("held", "line"),
    [
        ({}, "the checkpoint is empty"),
        ({"state_dict": {}}, "the checkpoint is empty"),
        ([1, 2], "holds a list, not a state dict; where it was made"),
        (torch.ones(2), "holds a Tensor, not a state dict"),
        ({"a": torch.ones(1), "b": 3}, "b is no plain tensor of weights, got int"),
        (
            {"a": torch.ones(2).to_sparse()},
            "a is no plain tensor of weights, got torch.float32 torch.sparse_coo",
        ),
        (
            {"state_dict": {"a": torch.ones(1)}, "model": {"a": torch.ones(1)}},
            "has weights under both state_dict and model",
        ),
    ],
)
def test_files_that_hold_no_state_dict_are_refused(tmp_path, held, line):
    path = tmp_path / "m.pt"
    torch.save(held, path)
    assert refusal(lambda: checkpoint.load_checkpoint(path)).startswith(f"{path}: {line}")


def test_other_file_names_are_refused(tmp_path):
    path = tmp_path / "m.ckpt"
    assert (
        refusal(lambda: checkpoint.load_checkpoint(path))
        == f"{path}: a checkpoint ends in .safetensors, .pt or .pth"
    )


def test_a_checkpoint_that_does_not_fit_is_listed_in_one_line_and_not_loaded():
    model = small()
    before = checkpoint.model_digest(model)
    tensors = {name: tensor.clone() + 1 for name, tensor in model.state_dict().items()}
    tensors["fc.weight"] = torch.ones(7, 8)
    tensors["fc.bias"] = torch.ones(10, dtype=torch.float64)
    tensors["bn1.num_batches_tracked"] = torch.tensor(1.0)
    del tensors["conv1.weight"]
    tensors |= {f"extra{n}": torch.ones(1) for n in range(12)}
    line = refusal(lambda: checkpoint.load_into(model, checkpoint.Checkpoint(tensors, {})))
    assert (
        "1 missing: conv1.weight; 12 unexpected: extra0, extra1" in line
        and "extra9, … (12 in all)" in line
    )
    assert "extra10" not in line
    assert "1 of another shape: fc.weight (checkpoint [7, 8], model [10, 8])" in line
    assert "fc.bias (checkpoint torch.float64, model torch.float32)" in line
    assert "bn1.num_batches_tracked (checkpoint torch.float32, model torch.int64)" in line
    assert checkpoint.model_digest(model) == before


def test_a_narrower_float_type_is_widened():
    model = nn.Linear(2, 2)
    half = {name: tensor.half() for name, tensor in model.state_dict().items()}
    checkpoint.load_into(model, checkpoint.Checkpoint(half, {}))
    assert model.weight.dtype == torch.float32 and torch.equal(model.weight, half["weight"].float())


@pytest.mark.parametrize(
    ("given", "own"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float16, torch.bfloat16),
        (torch.float8_e4m3fn, torch.float32),
        (torch.float32, torch.int64),
        (torch.int64, torch.float32),
        (torch.int64, torch.int32),
    ],
)
def test_a_type_that_cannot_hold_the_values_is_refused(given, own):
    module = nn.Module()
    module.register_buffer("a", torch.zeros(2, dtype=own))
    line = refusal(
        lambda: checkpoint.load_into(
            module, checkpoint.Checkpoint({"a": torch.ones(2).to(given)}, {})
        )
    )
    assert line.endswith(f"1 of another type: a (checkpoint {given}, model {own})")


def test_digest_does_not_see_layout_order_or_gradients():
    model = small()
    digest = checkpoint.model_digest(model)
    assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
    assert (
        checkpoint.model_digest(
            copy.deepcopy(model).to(memory_format=torch.channels_last).requires_grad_(False)
        )
        == digest
    )
    strided, dense = nn.Module(), nn.Module()
    strided.register_buffer("a", torch.arange(6.0)[::2])
    dense.register_buffer("a", torch.tensor([0.0, 2.0, 4.0]))
    assert checkpoint.model_digest(strided) == checkpoint.model_digest(dense)
    one, two = nn.Module(), nn.Module()
    for module, names in ((one, "ab"), (two, "ba")):
        for name in names:
            module.register_buffer(name, torch.full((2,), float(ord(name))))
    assert checkpoint.model_digest(one) == checkpoint.model_digest(two)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_digest_does_not_see_the_device():
    model = small()
    assert checkpoint.model_digest(copy.deepcopy(model).cuda()) == checkpoint.model_digest(model)


@pytest.mark.parametrize(
    "name", ["layer1.0.conv2.weight", "fc.bias", "bn1.running_var", "bn1.num_batches_tracked"]
)
def test_digest_sees_every_bit_of_parameters_and_buffers(name):
    model = small()
    before = checkpoint.model_digest(model)
    # The lowest bit: for a float weight a change in the 24th binary digit.
    model.state_dict()[name].view(-1)[:1].view(torch.uint8)[0] ^= 1
    assert checkpoint.model_digest(model) != before


def test_digest_sees_names_shapes_types_and_unsaved_buffers():
    def digest(tensor: torch.Tensor, name: str = "a", persistent: bool = True) -> str:
        module = nn.Module()
        module.register_buffer(name, tensor, persistent=persistent)
        return checkpoint.model_digest(module)

    zeros = torch.zeros(2, 3)
    variants = [zeros, zeros.view(3, 2), zeros.int(), zeros.view(6), torch.zeros(3, 3)]
    assert len({digest(v) for v in variants} | {digest(zeros, "b")}) == 6
    assert digest(zeros, persistent=False) == digest(zeros) != digest(zeros + 1, persistent=False)


@pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.bool, torch.complex64, torch.float8_e4m3fn]
)
def test_other_number_types_are_saved_and_digested(tmp_path, dtype):
    module = nn.Module()
    module.register_buffer("a", torch.tensor([0.0, 1.0]).to(dtype))
    checkpoint.save_checkpoint(module, tmp_path / "m.safetensors", {})
    again = copy.deepcopy(module)
    again.a.zero_()
    assert checkpoint.model_digest(again) != checkpoint.model_digest(module)
    checkpoint.load_into(again, checkpoint.load_checkpoint(tmp_path / "m.safetensors"))
    assert checkpoint.model_digest(again) == checkpoint.model_digest(module)


def test_labels_outside_the_head_are_refused():
    check_label_range(np.array([0, 9]), 10)
    for labels, line in (
        ([3, 12], "label 12 is outside the model's head of 10 outputs"),
        ([10, -1, 10], "labels -1, 10 are outside the model's head of 10 outputs"),
    ):
        assert refusal(lambda labels=labels: check_label_range(np.array(labels), 10)) == line
