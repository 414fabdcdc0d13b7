"""A named layer takes the place of a linear head, from training to the report."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from eigenforget.cli import main
from eigenforget.models import checkpoint
from eigenforget.record import read, read_folder

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
    assert "no classifier head was found; name the feature layer: layer=… (--layer)" in line(
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
    assert "--layer body" in capsys.readouterr().out
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
