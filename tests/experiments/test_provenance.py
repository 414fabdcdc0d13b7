"""Models that are not what they are said to be: an original as a retrained model, one model twice,
another request, damaged weights.
"""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import pytest
from safetensors.torch import save_file

from eigenforget import record
from eigenforget.core import notices
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.provenance import CheckpointFile, warn_of_doubts
from eigenforget.experiments.specs import Specs
from eigenforget.models import checkpoint
from eigenforget.record import RecordError, read, read_folder
from eigenforget.training.engine import Engine
from tests.cli.round_toys import exit_code as run


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


def test_retrained_models_of_another_recipe_are_doubted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--data", "digits()", "--model", "mlp(hidden=(8,))", "--device", "cpu")
    words += ("--without", "by_class(label=3)", "--recipe", "recipe(epochs=2)")
    assert run("train", *words, "--out", str(models / "longer.safetensors")) == 0
    assert compare(models, tmp_path / "out", "gone", "original", "oracle", "longer") == 0
    said = " ".join(capsys.readouterr().err.split())
    told = "original.safetensors by recipe(epochs=1) and longer.safetensors by recipe(epochs=2)"
    assert f"trained in different ways ({told})" in said


@pytest.mark.parametrize(
    ("original", "oracles", "message"),
    [
        ("original", ("oracle", "original"), "has exactly the weights of"),
        ("original", ("oracle", "second", "oracle"), "has exactly the weights of"),
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
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "warning:" in said
        and "was made to forget by_class(label=4), which is not what is asked for now" in said
    )


def beside(models: Path, folder: Path, weights: str, made: str) -> Path:
    """A folder in which the weights of one model lie beside the record of another."""
    for name in ("original", "oracle"):
        for kind in ("safetensors", "json"):
            shutil.copy(models / f"{name}.{kind}", folder)
    shutil.copy(models / f"{weights}.safetensors", folder / "given.safetensors")
    if made:
        shutil.copy(models / f"{made}.json", folder / "given.json")
    return folder


@pytest.mark.parametrize(
    ("weights", "made"), [("original", "gone"), ("gone", "gone4"), ("gone4", "oracle")]
)
def test_a_model_beside_the_record_of_another_is_refused(
    weights: str, made: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The control of another request, the original, and a retrained one."""
    assert (
        compare(beside(models, tmp_path, weights, made), tmp_path / "out", "given", "original") == 2
    )
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "given.json" in said and not (tmp_path / "out").exists()
    told, file = read(tmp_path / "given.json"), record.file_digest(tmp_path / "given.safetensors")
    assert file in said and told.outcome.outputs["model"] in said


def test_names_that_look_alike_or_break_the_line_are_refused_before_any_work(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    original = str(models / "original.safetensors")
    for name in ("oracle 1", "ORIGINAL", "gone\n", "gone\u202e"):
        shutil.copy(models / "gone.safetensors", tmp_path / f"{name}.safetensors")
        given = ["evaluate", str(tmp_path / f"{name}.safetensors"), "--original", original]
        given += ["--oracle", str(models / "oracle.safetensors"), "--forget", "by_class(label=3)"]
        assert run(*given, "--out", str(tmp_path / "out")) == 2
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and "name" in said and not (tmp_path / "out").exists()
        assert "\u202e" not in said
    gone = str(tmp_path / "a\x1b.safetensors")
    assert run("unlearn", original, "--forget", "by_class(label=3)", "--out", gone) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "\\x1b" in said and "\x1b" not in said


def test_a_file_that_was_renamed_with_its_record_is_known_by_its_content(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = beside(models, tmp_path, "gone", "gone")
    assert compare(folder, tmp_path / "out", "given", "original", "oracle") == 0
    assert "warning" not in capsys.readouterr().err
    measured = {r.name: r for r in read_folder(tmp_path / "out" / "records")}["given"]
    assert (measured.role, measured.job["method"]["spec"]) == ("control", "head_mask()")


def test_a_control_without_its_record_stays_a_control_and_is_doubted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = beside(models, tmp_path, "gone", "")
    assert compare(folder, tmp_path / "out", "given", "original", "oracle") == 0
    assert "given.safetensors has no record beside it" in capsys.readouterr().err
    measured = {r.name: r for r in read_folder(tmp_path / "out" / "records")}["given"]
    assert measured.role == "control" and "given.json" in measured.job["warnings"][0]


def test_metadata_and_record_that_disagree_are_refused(models: Path, tmp_path: Path) -> None:
    """The weights are those of the record; the file says that another method made them."""
    stored = checkpoint.load_checkpoint(models / "gone.safetensors")
    path = tmp_path / "given.safetensors"
    # As older versions saved it, with a digest of the weights and none of the metadata.
    digest = checkpoint.tensors_digest(stored.tensors)
    told = {**stored.metadata, "method": "finetune()", "tensors": digest}
    save_file(stored.tensors, path, told)
    shutil.copy(models / "gone.json", tmp_path / "given.json")
    with pytest.raises(EigenforgetError, match=r"disagree on method: 'finetune\(\)'.*head_mask"):
        CheckpointFile.read(path)
    save_file(stored.tensors, path)  # another format, as of a user's own: the record alone says it
    assert CheckpointFile.read(path).entry("method") == "head_mask()"


def test_a_file_beside_that_is_no_record_is_not_used_and_a_damaged_one_is_an_error(
    models: Path, tmp_path: Path
) -> None:
    path = Path(shutil.copy(models / "gone.safetensors", tmp_path))
    (tmp_path / "gone.json").write_text('{"hidden_size": 8}')
    with pytest.warns(EigenforgetWarning) as said:
        assert CheckpointFile.read(path).made is None
    assert "gone.json beside gone.safetensors is not a record of a run" in str(said[0].message)
    whole = (models / "gone.json").read_bytes()
    (tmp_path / "gone.json").write_bytes(whole.replace(b"head_mask()", b"finetune( )"))
    with pytest.raises(RecordError, match=r"gone\.json"):
        CheckpointFile.read(path)


def test_a_trained_model_that_is_given_as_an_unlearned_one_is_doubted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(models, tmp_path / "out", "second", "original", "oracle") == 0
    assert "second.safetensors was made by training" in capsys.readouterr().err


def test_a_model_that_was_made_from_another_original_is_doubted(models: Path) -> None:
    files = {n: CheckpointFile.read(models / f"{n}.safetensors") for n in ("original", "gone")}
    specs = Specs(request="by_class(label=3)").completed(files["original"].stored.metadata)
    asked = Experiment.parse(specs, Engine(device="cpu"))
    with notices.collected() as lines, warnings.catch_warnings(action="ignore"):
        warn_of_doubts(files["original"], [files["gone"]], asked)
        assert lines == []
        warn_of_doubts(CheckpointFile.read(models / "second.safetensors"), [files["gone"]], asked)
    [line] = lines
    assert "gone.safetensors was made from another model than second.safetensors" in line


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
