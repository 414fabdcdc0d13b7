"""`eigenforget duplicates`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eigenforget.cli import main
from eigenforget.core.spec import parse
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment
from eigenforget.record import read
from eigenforget.requests import REQUESTS
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe


def planted(folder: Path, side: int) -> Experiment:
    """60 noise images of side × side; the last 5 retained ones are the first 5 forgotten ones with
    one pixel changed a little.
    """
    rng = np.random.default_rng(side)
    images = rng.integers(0, 256, (60, side, side), dtype=np.uint8)
    images[55:] = images[:5]
    images[55:, 0, 0] ^= 8
    labels = np.array([0] * 20 + [1] * 40)
    np.savez(
        folder / "d.npz",
        x_train=images,
        y_train=labels,
        x_test=images[::3] // 2,
        y_test=labels[::3],
    )
    data = parse(f'npz(path="{folder / "d.npz"}")', DATASETS, "data set")
    return Experiment(
        data, None, Recipe(), parse("by_class(label=0)", REQUESTS, "request"), Engine(device="cpu")
    )


def test_the_command_says_so_with_ids_and_its_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(tmp_path, 8)
    for threshold, code in (("0.98", 1), ("0.999999", 0)):
        with pytest.raises(SystemExit) as ended:
            main(
                [
                    "duplicates",
                    "--data",
                    f'npz(path="{tmp_path / "d.npz"}")',
                    "--forget",
                    "by_class(label=0)",
                    "--threshold",
                    threshold,
                ]
            )
        assert ended.value.code == code
    shown = capsys.readouterr().out.split("\n")[0]  # each finding is one line
    assert "5 samples of the forget set have near duplicates" in shown
    assert "train/0 ~ train/55" in shown


@pytest.mark.parametrize(("more", "code"), [((), 0), (("--threshold", "0.5"), 1)])
def test_of_narrow_inputs_only_copies_count_by_default(
    tmp_path: Path, more: tuple[str, ...], code: int
) -> None:
    planted(tmp_path, 2)
    data = f'npz(path="{tmp_path / "d.npz"}")'
    with pytest.raises(SystemExit) as ended:
        main(["duplicates", "--data", data, "--forget", "by_class(label=0)", *more])
    assert ended.value.code == code


def test_unlearning_warns_and_records_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planted(tmp_path, 8)
    original, out = tmp_path / "o.safetensors", tmp_path / "u.safetensors"
    main(
        [
            "train",
            "--data",
            f'npz(path="{tmp_path / "d.npz"}")',
            "--model",
            "mlp(hidden=(8,))",
            "--recipe",
            "recipe(epochs=1)",
            "--device",
            "cpu",
            "--out",
            str(original),
        ]
    )
    main(
        [
            "unlearn",
            str(original),
            "--forget",
            "by_class(label=0)",
            "--method",
            "finetune(epochs=1)",
            "--device",
            "cpu",
            "--out",
            str(out),
        ]
    )
    (line,) = (text for text in capsys.readouterr().err.split("\n") if "near duplicates" in text)
    assert line.startswith("warning: 5 samples of the forget set") and "train/" not in line
    job = read(out.with_suffix(".json")).job
    assert line.removeprefix("warning: ") in job["warnings"]
    noted = job["near_duplicates"]
    assert noted["total"] == 5 and ["train/0", "train/55"] in [pair[:2] for pair in noted["pairs"]]
