"""Models that are not what they are said to be: an original as a retrained model, one model twice,
another request, damaged weights.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from eigenforget.cli import main
from eigenforget.core.errors import EigenforgetError
from eigenforget.models import checkpoint


def run(*words: str) -> int:
    try:
        main(list(words))
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    base = (
        "--data",
        "digits()",
        "--model",
        "mlp(hidden=(8,))",
        "--recipe",
        "recipe(epochs=1)",
        "--device",
        "cpu",
    )
    assert run("train", *base, "--out", str(folder / "original.safetensors")) == 0
    for name, label, seed in (("oracle", 3, 1), ("second", 3, 2), ("other", 4, 1)):
        words = ("--without", f"by_class(label={label})", "--seed", str(seed))
        assert run("train", *base, *words, "--out", str(folder / f"{name}.safetensors")) == 0
    for name, label in (("gone", 3), ("gone4", 4)):
        words = (
            "--forget",
            f"by_class(label={label})",
            "--method",
            "head_mask()",
            "--device",
            "cpu",
        )
        assert (
            run(
                "unlearn",
                str(folder / "original.safetensors"),
                *words,
                "--out",
                str(folder / f"{name}.safetensors"),
            )
            == 0
        )
    return folder


SKIP = [part for name in ("relearning", "linear_probe", "rmia", "zrf") for part in ("--skip", name)]


def compare(
    models: Path,
    out: Path,
    model: str,
    original: str,
    *oracles: str,
    forget: str = "by_class(label=3)",
) -> int:
    named = [part for name in oracles for part in ("--oracle", str(models / f"{name}.safetensors"))]
    return run(
        "evaluate",
        str(models / f"{model}.safetensors"),
        "--original",
        str(models / f"{original}.safetensors"),
        *named,
        "--forget",
        forget,
        "--out",
        str(out),
        "--device",
        "cpu",
        *SKIP,
    )


def test_models_that_are_what_they_are_said_to_be_are_compared(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # The same samples in other words are the same request.
    assert (
        compare(
            models,
            tmp_path / "out",
            "gone",
            "original",
            "oracle",
            "second",
            forget="where(column='label', op='==', value=3)",
        )
        == 0
    )
    assert "warning" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("original", "oracles", "message"),
    [
        ("original", ("oracle", "original"), "has the very weights of"),
        ("original", ("oracle", "second", "oracle"), "has the very weights of"),
        (
            "original",
            ("oracle", "other"),
            "was trained without by_class(label=4), which is not what is asked for",
        ),
        ("original", ("gone",), "was not retrained but made by head_mask()"),
        (
            "gone",
            ("oracle",),
            "was made by unlearning, with head_mask(); give the model before that",
        ),
        (
            "oracle",
            ("original",),
            "was trained on all of the data; a retrained model is trained --without the request",
        ),
    ],
)
def test_what_is_no_retrained_model_is_refused_before_any_work(
    original: str,
    oracles: tuple[str, ...],
    message: str,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert compare(models, tmp_path / "out", "gone4", original, *oracles) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "out").exists()
    words = [part for name in oracles for part in ("--oracle", str(models / f"{name}.safetensors"))]
    first = (
        "--original",
        str(models / f"{original}.safetensors"),
        "--forget",
        "by_class(label=3)",
        "--device",
        "cpu",
    )
    assert (
        run("analyze", *first, *words, "--out", str(tmp_path / "a.html")) == 2
        and message in capsys.readouterr().err
    )


def test_a_model_that_forgot_something_else_is_doubted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(models, tmp_path / "out", "gone4", "original", "oracle") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert (
        "warning:" in said
        and "was made to forget by_class(label=4), which is not what is asked for now" in said
    )


def test_weights_that_are_not_those_that_were_saved_are_refused(
    models: Path, tmp_path: Path
) -> None:
    path = shutil.copy(models / "original.safetensors", tmp_path / "flipped.safetensors")
    content = bytearray(path.read_bytes())
    content[-9] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        EigenforgetError,
        match=r"flipped\.safetensors: the checkpoint is damaged",
    ):
        checkpoint.load_checkpoint(path)
    assert (
        run(
            "unlearn",
            str(path),
            "--forget",
            "by_class(label=3)",
            "--out",
            str(tmp_path / "x.safetensors"),
            "--device",
            "cpu",
        )
        == 2
    )


def test_what_cannot_be_written_or_run_is_said_before_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ("train", "--data", "digits()", "--model", "mlp(hidden=(8,))", "--device", "cpu")
    for more, message in (
        (("--out", str(tmp_path / "y.pt")), "a checkpoint is saved as .safetensors, got"),
        (
            ("--out", str(tmp_path / "y.safetensors"), "--precision", "16-mixed"),
            "precision '16-mixed' needs a GPU; on a CPU there are 32-true",
        ),
    ):
        assert run(*base, *more) == 2
        said = capsys.readouterr()
        assert message in said.err and "train" not in said.out and not list(tmp_path.iterdir())
