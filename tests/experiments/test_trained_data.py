"""Data that changed after training, other inputs, and originals that do not know their data."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.datasets import load_digits

from eigenforget.cli import main
from eigenforget.data.table import TableFile
from eigenforget.models.checkpoint import load_checkpoint, save_checkpoint
from eigenforget.models.mlp import Mlp

MODEL = "mlp(hidden=(16,))"
RECIPE = "recipe(epochs=3, batch_size=32)"
FORGET = ("--forget", "at_random(n=20)")


def table(path: Path, rows: list[int] | range) -> None:
    """A table of these rows of the digits."""
    x, y = load_digits(return_X_y=True)
    cells = [f"s{i}," + ",".join(map(str, x[i])) + f",{y[i]}" for i in rows]
    path.write_text("\n".join(["id," + ",".join(f"p{i}" for i in range(64)) + ",y", *cells]))


def data(path: Path) -> str:
    return f'table(path="{path}", label="y", id="id")'


def run(*argv: object) -> None:
    main([str(part) for part in argv])


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line of a refusal."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    error = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and len(error) == 1, error
    return error[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, an original and an oracle."""
    folder = tmp_path_factory.mktemp("trained")
    table(folder / "t.csv", range(400))
    base = ("train", "--data", data(folder / "t.csv"), "--model", MODEL, "--recipe", RECIPE)
    run(*base, "--out", folder / "o.safetensors")
    run(*base, "--seed", 1, "--without", FORGET[1], "--out", folder / "r.safetensors")
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path) -> Path:
    """A copy, whose table may be changed."""
    shutil.copytree(trained, tmp_path / "here")
    return tmp_path / "here"


def unlearning(here: Path, *more: object, forget: tuple[str, str] = FORGET) -> list[object]:
    return [
        "unlearn",
        here / "o.safetensors",
        "--data",
        data(here / "t.csv"),
        *forget,
        "--method",
        "finetune(epochs=1)",
        "--out",
        here / "u.safetensors",
        *more,
    ]


def evaluating(here: Path, *more: object) -> list[object]:
    skip = ("--skip", "relearning", "--skip", "linear_probe", "--skip", "zrf")
    models = ("--original", here / "o.safetensors", "--oracle", here / "r.safetensors")
    where = ("--data", data(here / "t.csv"), "--out", here / "results")
    return ["evaluate", *models, *FORGET, *where, *skip, *more]


def job(path: Path) -> dict:
    return json.loads(path.read_text())["job"]


def test_rows_deleted_after_training_are_an_error_that_counts_them(here, capsys) -> None:
    table(here / "t.csv", range(5, 400))
    for command in (unlearning(here), evaluating(here)):
        line = refused(capsys, *command)
        assert "o.safetensors" in line and "5 rows are gone" in line and "changed-data" in line
        assert "--data" in line and "other side" in line
    assert not (here / "u.safetensors").exists() and not (here / "results").exists()


def test_what_is_left_can_be_used_and_the_record_says_so(here, capsys) -> None:
    before = TableFile(path=str(here / "t.csv"), label="y", id="id").load()
    table(here / "t.csv", [*range(5, 400), 500])
    run(*unlearning(here, "--allow", "changed-data"))
    assert "warning: o.safetensors was trained on other data" in capsys.readouterr().err
    found = job(here / "u.json")
    changed = found["changed_data"]
    assert (
        changed["gone"] == 5 and changed["added"] == 1 and changed["trained_on"].startswith("sha")
    )
    assert found["allowed"] == ["changed-data"] and any("5 rows" in w for w in found["warnings"])
    assert found["normalisation"]["mean"] == list(before.normalisation.mean), "values as they were"
    split = json.loads((here / "u.split.json").read_text())
    left = {*split["forget"], *split["retain"]}
    assert left == set(before.train_index.ids) - {f"s{i}" for i in range(5)}
    assert not left & set(before.test_index.ids) and "s500" not in left


def test_rows_put_back_at_the_end_are_the_data_of_before(here, capsys) -> None:
    table(here / "t.csv", [*range(5, 400), *range(5)])
    assert "rows are now on the other side" in refused(capsys, *unlearning(here))
    run(*unlearning(here, "--allow", "changed-data"))
    changed = job(here / "u.json")["changed_data"]
    assert changed["gone"] == changed["added"] == changed["changed"] == 0 < changed["moved"]
    assert job(here / "u.json")["sizes"]["forget"] == 20


def test_without_the_file_of_rows_a_change_is_noticed_all_the_same(here, capsys) -> None:
    (here / "o.rows").unlink()
    table(here / "t.csv", range(399))
    assert "not known" in refused(capsys, *unlearning(here))
    shutil.copy(here / "r.rows", here / "o.rows")
    assert "o.rows is not the file" in refused(capsys, *unlearning(here))


def test_ids_that_are_hidden_stay_hidden(here, capsys, tmp_path) -> None:
    run("keygen", "--salt", tmp_path / "salt")
    run(*unlearning(here, "--hash-ids", tmp_path / "salt"))
    model = here / "u.safetensors"
    assert b"split_digest" not in model.read_bytes() and b"split_digest" in (
        (here / "r.safetensors").read_bytes()
    )
    table(here / "t.csv", range(5, 400))
    again = ["unlearn", model, *unlearning(here)[2:-1], here / "v.safetensors"]
    assert "not known" in refused(capsys, *again)
    known = refused(capsys, *again, "--hash-ids", tmp_path / "salt")
    assert "gone" in known and "renamed" not in known


def test_models_of_other_data_are_not_compared(here, capsys) -> None:
    table(here / "t2.csv", range(5, 400))
    base = ("train", "--data", data(here / "t2.csv"), "--model", MODEL, "--recipe", RECIPE)
    run(*base, "--without", FORGET[1], "--out", here / "r.safetensors", "--overwrite")
    line = refused(capsys, *evaluating(here))
    assert "r.safetensors was made from other data" in line


def test_models_of_other_inputs_are_not_compared(here, capsys) -> None:
    raw = data(here / "t.csv")[:-1] + ", normalize='none')"
    base = ("train", "--data", raw, "--model", MODEL, "--recipe", RECIPE)
    run(*base, "--without", FORGET[1], "--out", here / "r.safetensors", "--overwrite")
    line = refused(capsys, *evaluating(here))
    assert "r.safetensors: was trained on numbers as they are" in line and "same inputs" in line


def test_other_inputs_than_the_model_was_trained_on_are_an_error_that_names_both(
    here, capsys
) -> None:
    command = unlearning(here)
    command[command.index("--data") + 1] = data(here / "t.csv")[:-1] + ", normalize='none')"
    line = refused(capsys, *command)
    assert "numbers as they are" in line and "64 numbers" in line and "normalize" in line
    run(*unlearning(here))  # a copy of the file is the same data
    assert job(here / "u.json")["normalisation"]["normalize"] == "train"


def foreign(here: Path, change=lambda state: state) -> Path:
    """The weights as another tool keeps them."""
    state = load_file(here / "o.safetensors")
    torch.save(change(state), here / "foreign.pt")
    return here / "foreign.pt"


def test_an_original_that_does_not_know_its_data_stops_the_job(here, capsys) -> None:
    def turned(state: dict) -> dict:
        head = sorted(name for name in state if name.endswith("weight"))[-1]
        order = torch.tensor([*range(1, 10), 0])
        names = (head, head.replace("weight", "bias"))
        return {k: v[order] if k in names else v for k, v in state.items()}

    path = foreign(here, turned)
    command = unlearning(here, "--model", MODEL)
    command[1] = path
    line = refused(capsys, *command)
    assert "foreign.pt" in line and "accuracy 0.0" in line and "guessing" in line
    assert "normalis" in line and "order" in line and "--allow poor-original" in line
    judged = [*evaluating(here, "--model", MODEL)]
    judged[2] = path
    assert "accuracy 0.0" in refused(capsys, *judged)
    analysed = ["analyze", "--original", path, *judged[3:9], "--model", MODEL]
    assert "accuracy 0.0" in refused(capsys, *analysed, "--out", here / "a.html")
    run(*command, "--allow", "poor-original")
    assert "warning" in capsys.readouterr().err
    found = job(here / "u.json")
    assert found["allowed"] == ["poor-original"] and found["original_recall"]["samples"] > 200
    assert found["original_recall"]["correct"] < 60


def test_a_model_with_another_transform_is_stopped_and_the_right_one_is_not(here, capsys) -> None:
    command = unlearning(here, "--model", MODEL)
    command[1] = foreign(here)
    place = command.index("--data") + 1
    command[place] = data(here / "t.csv")[:-1] + ", normalize='mean=-50 std=1')"
    assert "guessing" in refused(capsys, *command)
    command[place] = data(here / "t.csv")
    run(*command)
    assert job(here / "u.json")["original_recall"]["correct"] > 200


def test_far_below_what_it_was_when_saved_stops_too(here, capsys) -> None:
    stored = load_checkpoint(here / "o.safetensors")
    model = Mlp(hidden=(16,)).build(num_classes=10, input_shape=(64,), seed=0)
    model.load_state_dict(stored.tensors)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.25 * torch.randn(
                parameter.shape, generator=torch.Generator().manual_seed(0)
            )
    save_checkpoint(model, here / "o.safetensors", stored.metadata, overwrite=True)
    (here / "o.json").unlink()  # else the record beside says that these are other weights
    line = refused(capsys, *unlearning(here))
    assert "when saved" in line or "guessing" in line


def test_words_and_classes_must_mean_what_they_did(tmp_path, capsys) -> None:
    rng = np.random.default_rng(0)
    rows = [f"{rng.normal():.3f},{rng.normal():.3f},{'abc'[i % 3]}" for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x,z,y", *rows]))
    spec = f'table(path="{tmp_path}/t.csv", label="y")'
    out = tmp_path / "o.safetensors"
    run("train", "--data", spec, "--model", MODEL, "--recipe", "recipe(epochs=1)", "--out", out)
    renamed = [row.replace("a", "d") for row in rows]  # the class that was 0 is 2 now
    (tmp_path / "t.csv").write_text("\n".join(["x,z,y", *renamed]))
    allow = ("--allow", "changed-data", "--allow", "poor-original")
    line = refused(
        capsys,
        "unlearn",
        out,
        "--forget",
        "at_random(n=5)",
        *allow,
        "--out",
        tmp_path / "u.safetensors",
    )
    assert "classes" in line or "none of the rows" in line


def test_allow_takes_known_names_only(here, capsys) -> None:
    line = refused(capsys, *unlearning(here, "--allow", "everything"))
    assert "'everything'" in line and "changed-data" in line


def test_a_file_of_ids_that_changed_is_another_request(here, capsys) -> None:
    forget = f'by_ids(path="{here}/ids.txt")'
    base = ("train", "--data", data(here / "t.csv"), "--model", MODEL, "--recipe", RECIPE)
    left = TableFile(path=str(here / "t.csv"), label="y", id="id").load().train_index.ids
    (here / "ids.txt").write_text("\n".join(left[:3]))
    run(*base, "--without", forget, "--out", here / "r.safetensors", "--overwrite")
    (here / "ids.txt").write_text("\n".join(left[3:6]))
    command = evaluating(here)
    command[command.index("--forget") + 1] = forget
    assert "not what is asked for" in " ".join(refused(capsys, *command).split())
