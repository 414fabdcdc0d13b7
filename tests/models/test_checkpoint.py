"""Checkpoints: what they keep and what they refuse."""

from __future__ import annotations

import copy
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.models import MODELS, checkpoint


def build(
    text: str, *, classes: int = 10, shape: tuple[int, ...] = (3, 32, 32), seed: int = 0
) -> nn.Module:
    return spec.parse(text, MODELS, "model").build(
        num_classes=classes, input_shape=shape, seed=seed
    )


def refusal(call) -> str:
    """The one line of the refusal."""
    with pytest.raises(EigenforgetError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_a_checkpoint_is_shown_without_its_weights(tmp_path):
    path = checkpoint.save_checkpoint(small(), tmp_path / "m.safetensors", {"method": "muda()"})
    shown = repr(checkpoint.load_checkpoint(path))
    assert f"{len(small().state_dict())} tensors" in shown and "muda()" in shown
    assert len(shown) < 400


def test_an_existing_file_is_replaced_only_when_told(tmp_path):
    path = tmp_path / "m.safetensors"
    checkpoint.save_checkpoint(small(), path, {})
    content = path.read_bytes()
    assert (
        refusal(lambda: checkpoint.save_checkpoint(small(1), path, {}))
        == f"{path}: exists already; use --overwrite (overwrite=True) to replace it"
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
    (tmp_path / "file").touch()
    below = tmp_path / "file" / "m.safetensors"
    assert "cannot be written: " in refusal(lambda: checkpoint.save_checkpoint(small(), below, {}))
    (tmp_path / "file").unlink()
    with torch.device("meta"):
        ghost = nn.Linear(2, 2)
    assert f"{path}: weight is not a plain tensor of weights" in refusal(
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
        ({"a": torch.ones(1), "b": 3}, "b is not a plain tensor of weights, got int"),
        (
            {"a": torch.ones(2).to_sparse()},
            "a is not a plain tensor of weights, got torch.float32 torch.sparse_coo",
        ),
        (
            {"state_dict": {"a": torch.ones(1)}, "model": {"a": torch.zeros(1)}},
            "has weights under state_dict and model; choose one: weights='state_dict'",
        ),
    ],
)
def test_files_that_hold_no_state_dict_are_refused(tmp_path, held, line):
    path = tmp_path / "m.pt"
    torch.save(held, path)
    assert refusal(lambda: checkpoint.load_checkpoint(path)).startswith(f"{path}: {line}")


def test_other_file_names_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    assert refusal(lambda: checkpoint.load_checkpoint(path)).startswith(
        f"{path}: a checkpoint ends in .safetensors, .pt, .pth, .ckpt, .bin, .tar"
    )


def test_a_checkpoint_that_does_not_fit_is_listed_in_one_line_and_not_loaded():
    model = small()
    before = checkpoint.model_digest(model)
    tensors = {name: tensor.clone() + 1 for name, tensor in model.state_dict().items()}
    tensors["fc.weight"] = torch.ones(7, 8)
    tensors["fc.bias"] = torch.ones(10, dtype=torch.int64)
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
    assert "fc.bias (checkpoint torch.int64, model torch.float32)" in line
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


def test_a_checkpoint_is_loaded_into_a_model_or_given_as_tensors(tmp_path):
    path = checkpoint.save_checkpoint(small(1), tmp_path / "m.safetensors", {"a": "b"})
    fresh = small(2)
    assert checkpoint.load_checkpoint(path, fresh) is fresh
    assert checkpoint.model_digest(fresh) == checkpoint.model_digest(small(1))
    stored = checkpoint.load_checkpoint(path)
    assert checkpoint.tensors_digest(stored.tensors) == checkpoint.model_digest(fresh)
    assert stored.metadata == {"a": "b"}


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda path: checkpoint.save_checkpoint(3, path), "int"),
        (lambda path: checkpoint.save_checkpoint(small(), 3), "int"),
        (lambda path: checkpoint.save_checkpoint(small(), path, {"a": 1}), "'a'"),
        (lambda path: checkpoint.load_checkpoint(3), "int"),
        (lambda path: checkpoint.load_checkpoint(path), "m.safetensors"),
        (lambda path: checkpoint.load_checkpoint(path, "model"), "str"),
    ],
)
def test_wrong_arguments_of_the_door_are_one_line(tmp_path, call, named):
    assert named in refusal(lambda: call(tmp_path / "m.safetensors"))


@pytest.mark.parametrize("text", [b"finetune()", b"method", b"eigenforget", b"eigenforget_digest"])
def test_metadata_are_those_that_were_saved(text: bytes, tmp_path: Path) -> None:
    """A changed value, or the name of any entry: that of the digest too."""
    path, about = tmp_path / "m.safetensors", {"eigenforget": "unlearn", "method": "finetune()"}
    checkpoint.save_checkpoint(nn.Linear(2, 2), path, about)
    stored = checkpoint.load_checkpoint(path)
    assert (stored.metadata, stored.sealed) == (about, True)
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'"' + text + b'"', b'"' + text[:-1] + b'X"', 1))
    assert path.read_bytes() != whole
    with pytest.raises(EigenforgetError, match="the checkpoint is damaged"):
        checkpoint.load_checkpoint(path)
