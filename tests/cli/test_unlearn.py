"""`eigenforget unlearn`, and wrong input of commands: one line, exit code 2, nothing written."""

from __future__ import annotations

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from eigenforget.cli import main
from tests.bench_plans import SKIPPED
from tests.cli.round_toys import QUICKLY

MODEL = "small_resnet(width=8)"


CLASS3 = "by_class(label=3)"


def run(*argv: object) -> None:
    main([str(a) for a in argv])


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def test_unlearn_writes_a_checkpoint_that_forgot_and_a_record(made: Path) -> None:
    record = json.loads((made / "muda.json").read_text())
    assert record["kind"] == "unlearn" and record["outcome"]["status"] == "ok"
    assert record["job"]["method"]["spec"] == "muda(alternations=6, batch_size=32)"
    assert record["job"]["retain_fraction"] == 0.5 and record["inputs"]["split"].startswith(
        "sha256:"
    )
    cost = record["outcome"]["cost"]
    # Six alternations of ten joint steps, where the last of a pass are smaller, and a stand-in.
    full = 6 * 10 * 2 * 32 + 2 * 512
    assert 0.9 * full < cost["trained_samples"] <= full
    seen = record["job"]["sizes"]
    once = seen["forget"] + seen["retain"] // 2
    assert once <= cost["forwarded_samples"] < cost["trained_samples"], "the original's, once"
    old, new = load_file(made / "original.safetensors"), load_file(made / "muda.safetensors")
    assert old.keys() == new.keys() and any(not torch.equal(old[k], new[k]) for k in old)


def test_a_certified_removal_says_what_is_guaranteed_and_when(made: Path, tmp_path: Path) -> None:
    given = ("unlearn", made / "original.safetensors", "--forget", "at_random(n=5)")
    method = "certified_head(l2=0.05, noise=50.0, epsilon=100.0)"
    run(*given, "--method", method, "--out", tmp_path / "certified.safetensors")
    record = json.loads((tmp_path / "certified.json").read_text())
    certificate = record["job"]["certificate"]
    assert 0 < certificate["epsilon"] <= 100 and certificate["delta"] == 1e-5
    assert certificate["residual_bound"] > 0 and certificate["assumptions"]
    assert any("Beyond the certificate" in text for text in record["non_claims"])
    assert record["job"]["method"]["guarantee"].startswith("certified: ")


def test_a_rerun_gives_the_same_weights(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.safetensors"
    run(
        "unlearn",
        made / "original.safetensors",
        "--forget",
        CLASS3,
        "--method",
        "muda(alternations=6, batch_size=32)",
        "--retain-fraction",
        0.5,
        "--out",
        out,
    )
    old, new = load_file(made / "muda.safetensors"), load_file(out)
    assert all(torch.equal(old[k], new[k]) for k in old)


def test_ids_and_random_requests(made: Path, tmp_path: Path) -> None:
    record = tmp_path / "ids.txt"
    from eigenforget.data.digits import Digits

    data = Digits().load()
    record.write_text("\n".join(data.train_index.ids[:40]))
    for request, name in (
        (f'by_ids(path="{record}")', "ids"),
        ("at_random(fraction=0.1, seed=0)", "random"),
    ):
        out = tmp_path / f"{name}.safetensors"
        run(
            "unlearn",
            made / "original.safetensors",
            "--forget",
            request,
            "--method",
            "muda(alternations=1)",
            "--out",
            out,
        )
        run(
            "evaluate",
            out,
            "--original",
            made / "original.safetensors",
            "--forget",
            request,
            "--out",
            tmp_path / name,
            *(f"--skip={name}" for name in SKIPPED if name != "population_mia"),
        )
        with open(tmp_path / name / "table.csv", newline="") as file:
            row = list(csv.DictReader(file))[1]
        assert row["test_forget_accuracy"] == "" and 0 <= float(row["mia_auc"]) <= 1
    record.unlink()


def test_a_result_with_another_head_is_loaded_again(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "cmf.safetensors"
    run(
        "unlearn",
        made / "original.safetensors",
        "--forget",
        CLASS3,
        "--method",
        "cmf(inner=finetune(epochs=1))",
        "--out",
        out,
    )
    assert "fc.mean" in load_file(out)
    run(
        "evaluate",
        out,
        "--original",
        made / "original.safetensors",
        "--forget",
        CLASS3,
        "--out",
        tmp_path / "r",
        *QUICKLY,
    )
    with open(tmp_path / "r" / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert float(rows[1]["retain_accuracy"]) > 0.9 and rows[1]["da"] != rows[0]["da"]


def test_npz_from_end_to_end(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = np.arange(240) % 3
    x = (rng.normal(size=(240, 6)) + 3 * np.eye(6)[y]).astype(np.float32)
    np.savez(tmp_path / "points.npz", x=x, y=y, ids=np.array([f"person-{i}" for i in range(240)]))
    data = f'npz(path="{tmp_path}/points.npz")'
    run(
        "train",
        "--data",
        data,
        "--model",
        "mlp(hidden=(16, 8))",
        "--recipe",
        "recipe(epochs=5, lr=0.05)",
        "--out",
        tmp_path / "m.safetensors",
    )
    run(
        "unlearn",
        tmp_path / "m.safetensors",
        "--forget",
        "by_class(label=1)",
        "--out",
        tmp_path / "u.safetensors",
    )
    run(
        "evaluate",
        tmp_path / "u.safetensors",
        "--original",
        tmp_path / "m.safetensors",
        "--forget",
        "by_class(label=1)",
        "--out",
        tmp_path / "r",
    )
    assert (tmp_path / "r" / "report.html").exists()


def bad(tmp_path: Path, made: Path) -> dict[str, tuple[list[object], str]]:
    original, out = made / "original.safetensors", tmp_path / "out.safetensors"
    unlearn = ["unlearn", original, "--out", out, "--forget"]
    damaged = {
        name: tmp_path / f"{name}.safetensors"
        for name in ("truncated", "empty", "nan", "shape", "text")
    }
    whole = original.read_bytes()
    damaged["truncated"].write_bytes(whole[: len(whole) // 2])
    damaged["empty"].write_bytes(b"")
    damaged["text"].write_text("not a checkpoint")
    weights = load_file(original)
    first = next(k for k in weights if weights[k].is_floating_point())
    save_file({**weights, first: torch.full_like(weights[first], float("nan"))}, damaged["nan"])
    save_file({**weights, first: torch.zeros(3)}, damaged["shape"])
    given = ["--data", "digits()", "--model", MODEL, "--out", out, "--forget", CLASS3]
    ids = tmp_path / "ids.txt"
    ids.write_text("nobody\n")
    np.savez(
        tmp_path / "big.npz",
        x=np.random.default_rng(0).integers(0, 255, (120, 8, 8), dtype=np.uint8),
        y=np.arange(120) % 12,
    )
    plain = tmp_path / "plain.safetensors"
    save_file(load_file(original), plain)
    taken = tmp_path / "taken.safetensors"
    taken.write_text("mine")
    busy = tmp_path / "busy"
    (busy / "records").mkdir(parents=True)
    return {
        "unknown command": (["unlern"], "unlern"),
        "unknown option": ([*unlearn, CLASS3, "--colour", "red"], "--colour"),
        "missing option": (["train", "--data", "digits()"], "--model"),
        "unknown method": ([*unlearn, CLASS3, "--method", "mudda()"], "choose from"),
        "unknown field": ([*unlearn, CLASS3, "--method", "muda(kk=3)"], "its fields: alternations"),
        "bad value": ([*unlearn, CLASS3, "--method", "muda(forget_lr=-1.0)"], "got -1.0"),
        "k too large": (
            [*unlearn, CLASS3, "--method", "muda(k=32)"],
            "k = 32 must be from 1 to 31",
        ),
        "unknown data": (
            ["train", "--data", "digit()", "--model", MODEL, "--out", out],
            "did you mean digits",
        ),
        "unknown request": ([*unlearn, "by_klass(label=3)"], "did you mean by_class"),
        "unknown class": ([*unlearn, "by_class(label=77)"], "unknown class 77"),
        "unknown ids": ([*unlearn, f'by_ids(path="{ids}")'], "nobody"),
        "no id file": ([*unlearn, 'by_ids(path="nowhere.txt")'], "nowhere.txt"),
        "empty request": ([*unlearn, "by_ids()"], "selects nothing"),
        "everything": ([*unlearn, "by_class(label=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9))"], "forgets all"),
        "labels outside the head": (
            [
                "unlearn",
                plain,
                "--data",
                f'npz(path="{tmp_path}/big.npz")',
                "--model",
                MODEL,
                "--forget",
                "by_class(label=11)",
                "--out",
                out,
            ],
            "label 10 is outside the model's head of 10 outputs",
        ),
        "retain fraction": ([*unlearn, CLASS3, "--retain-fraction", 1.5], "from 0 .none. to 1"),
        "missing checkpoint": (["unlearn", tmp_path / "no.safetensors", *given], "no such file"),
        "truncated": (["unlearn", damaged["truncated"], *given], "truncated.safetensors"),
        "empty file": (["unlearn", damaged["empty"], *given], "empty.safetensors"),
        "text": (["unlearn", damaged["text"], *given], "text.safetensors"),
        "nan weights": (["unlearn", damaged["nan"], *given], "nan.safetensors.*(NaN|finite)"),
        "wrong shape": (
            ["unlearn", damaged["shape"], *given],
            "does not fit the model.*checkpoint \\[3\\]",
        ),
        "wrong model": ([*unlearn, CLASS3, "--model", "mlp()"], "does not fit the model"),
        "existing output": (
            ["unlearn", original, "--forget", CLASS3, "--out", taken],
            "taken.safetensors: exists",
        ),
        "existing folder": (
            ["evaluate", original, "--original", original, "--forget", CLASS3, "--out", busy],
            "holds records already",
        ),
        "output is input": (
            ["unlearn", original, "--forget", CLASS3, "--out", original, "--overwrite"],
            "never overwritten",
        ),
        "refused": (
            [*unlearn, "at_random(fraction=0.1)", "--method", "head_mask()"],
            "needs a class",
        ),
        "diverged": ([*unlearn, CLASS3, "--method", "finetune(lr=1e30)"], "diverged"),
        "device": ([*unlearn, CLASS3, "--device", "abacus"], "abacus"),
        "no records": (["report", tmp_path / "nothing"], "nothing"),
        "layer": (
            [
                "evaluate",
                made / "muda.safetensors",
                "--original",
                original,
                "--forget",
                CLASS3,
                "--layer",
                "x",
                "--out",
                tmp_path / "l",
            ],
            "no layer 'x'; the model has: ",
        ),
    }


CASES = [
    "unknown command",
    "unknown option",
    "missing option",
    "unknown method",
    "unknown field",
    "bad value",
    "k too large",
    "unknown data",
    "unknown request",
    "unknown class",
    "unknown ids",
    "no id file",
    "empty request",
    "everything",
    "labels outside the head",
    "retain fraction",
    "missing checkpoint",
    "truncated",
    "empty file",
    "text",
    "nan weights",
    "wrong shape",
    "wrong model",
    "existing output",
    "existing folder",
    "output is input",
    "refused",
    "diverged",
    "device",
    "no records",
    "layer",
]


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_line_exit_2_and_nothing_written(
    case: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = bad(tmp_path, made)
    assert sorted(cases) == sorted(CASES)
    argv, message = cases[case]
    before, source = files(tmp_path), files(made)
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        run(*argv)
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert re.search(message, error), error
    lines = [line for line in error.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and "Traceback" not in error
    after = files(tmp_path)
    if case in (
        "refused",
        "diverged",
    ):  # the refusal itself goes on record, a checkpoint is never written
        status = {"refused": "refused", "diverged": "failed"}[case]
        assert json.loads(after.pop("out.json"))["outcome"]["status"] == status
        assert json.loads(after.pop("out.split.json"))["schema"] == "eigenforget.split/1"
        with pytest.raises(SystemExit):
            run(*argv)
        assert f"the record of a run that was {status}" in capsys.readouterr().err
    assert after == before and files(made) == source


def test_overwrite_replaces(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "o.safetensors"
    for _ in range(2):
        run(
            "unlearn",
            made / "original.safetensors",
            "--forget",
            CLASS3,
            "--method",
            "head_mask()",
            "--out",
            out,
            "--overwrite",
        )
    for _ in range(2):
        run(
            "evaluate",
            out,
            "--original",
            made / "original.safetensors",
            "--forget",
            CLASS3,
            "--out",
            tmp_path / "r",
            "--overwrite",
            *QUICKLY,
        )
    assert sorted(p.name for p in (tmp_path / "r" / "records").iterdir()) == [
        "00-original.json",
        "01-o.json",
        "split.json",
    ]


def test_a_lightning_file_is_unlearned_and_saved_back_in_its_form(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = load_file(made / "original.safetensors")
    held = {
        "state_dict": {f"model.{name}": value for name, value in weights.items()},
        "state_dict_ema": {f"model.{name}": value * 2 for name, value in weights.items()},
        "optimizer_states": [{"state": {}}],
        "hyper_parameters": {"width": 8},
    }
    given, out = tmp_path / "hers.ckpt", tmp_path / "for gotten.ckpt"
    torch.save(held, given)
    words = (
        "unlearn",
        given,
        "--forget",
        CLASS3,
        "--method",
        "head_mask()",
        "--like",
        given,
        "--data",
        "digits()",
        "--model",
        MODEL,
        "--out",
        out,
    )
    with pytest.raises(SystemExit) as ended:
        run(*words)
    assert ended.value.code == 2 and not out.exists()
    assert "--weights state_dict" in capsys.readouterr().err
    run(*words, "--weights", "state_dict")
    said = capsys.readouterr()
    assert "weights under state_dict, names without 'model.'" in " ".join(said.err.split())
    assert "state_dict_ema, optimizer_states of hers.ckpt are not in the new file" in said.err
    saved = torch.load(out, weights_only=True)
    assert saved.keys() == {"state_dict", "hyper_parameters", "eigenforget"}
    assert list(saved["state_dict"]) == list(held["state_dict"])
    job = json.loads(out.with_suffix(".json").read_text())["job"]
    assert "state_dict_ema" in job["warnings"][0] and job["form"].startswith("weights under")
    assert (
        "recipe" not in job and "recipe" not in saved["eigenforget"]
    )  # nobody said how it trained
    # What is printed as the next command can be pasted.
    (line,) = [line for line in said.out.splitlines() if line.startswith("Next: ")]
    pasted = shlex.split(line.removeprefix("Next: "))
    assert str(out) in pasted and CLASS3 in pasted and "state_dict" in pasted
    original = made / "original.safetensors"
    compared = ("--original", original, "--forget", CLASS3)
    run("evaluate", out, *compared, "--out", tmp_path / "results", *QUICKLY)
    scores = json.loads((tmp_path / "results" / "records" / "01-for-gotten.json").read_text())
    assert scores["job"]["method"]["spec"] == "head_mask()"
