"""`eigenforget sequence`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from eigenforget import record
from eigenforget.cli import main
from eigenforget.cli.sequence import UNFINISHED
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.sequence import SequentialStudy
from eigenforget.record.verify import verify

QUICK = ("accuracies", "population_mia", "alignment")


def arguments(out: Path, *requests: str, **more: str) -> list[str]:
    fields = {
        "method": "finetune(epochs=1)",
        "recipe": "recipe(epochs=2)",
        "model": "mlp(hidden=(16,))",
        "oracle-seed": "1",
        **more,
    }
    left_out = [
        part for name in measurement_names() if name not in QUICK for part in ("--skip", name)
    ]
    asked = [part for request in requests for part in ("--forget", request)]
    return [
        "sequence",
        "--data",
        "digits()",
        "--out",
        str(out),
        *asked,
        *left_out,
        *(p for k, v in fields.items() for p in (f"--{k}", v)),
        "--oracle-seed",
        "2",
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def fails(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("eigenforget: ")
    return said


def test_the_command_leaves_a_folder_for_each_step_and_a_summary(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, three = tmp_path / "run", ("by_class(label=3)", "at_random(n=20)", "by_class(label=5)")
    main(arguments(out, *three, again="skip"))
    assert {p.name for p in out.iterdir()} == {
        "step01",
        "step02",
        "step03",
        "sequence.html",
    }
    for number in (1, 2, 3):
        folder = out / f"step{number:02d}"
        assert {p.name for p in folder.iterdir()} == {"records", "table.csv", "report.html"}
        kept = [r.name for r in record.read_folder(folder / "records")]
        assert kept == [
            "original",
            "oracle 1",
            "oracle 2",
            f"step {number}",
            *(["at once"] if number == 3 else []),
        ]
        checked = verify([folder / "records"])
        assert checked.status == 0 and any(
            "split sha256:" in f.what and f.status == "ok" for f in checked.findings
        )
    html = (out / "sequence.html").read_text()
    rows = re.findall(r'<th scope="row">(\w[\w ]*) <span class="outcome">', html)
    assert rows == ["step 1", "step 2", "step 3", "at once"]
    assert "finetune(epochs=1)" in html and "3 by_class(label=5)" in html
    before = files(out)
    assert (
        "holds a sequence already; use --overwrite" in fails(arguments(out, *three), capsys)
        and files(out) == before
    )
    main(
        [
            *arguments(
                out, "by_class(label=1)", "at_random(n=20)", again="skip", method="head_mask()"
            ),
            "--overwrite",
        ]
    )
    assert {p.name for p in out.glob("step*")} == {"step01", "step02"}, (
        "the longer sequence that was here is gone"
    )
    html = (out / "sequence.html").read_text()
    assert "by_class(label=1)" in html and "by_class(label=5)" not in html


@pytest.mark.parametrize(
    ("requests", "more", "message"),
    [
        (
            ("by_class(label=3)",),
            {},
            "needs at least 2 requests, got 1; `eigenforget unlearn` handles one",
        ),
        (
            ("by_class(label=3)", "by_clas(label=5)"),
            {},
            "unknown request 'by_clas' (did you mean by_class?)",
        ),
        (("by_class(label=3)", "by_class(label=5)"), {"layer": "nope"}, "nope"),
        (("by_class(label=3)", "by_class(label=5)"), {"method": "muda(k=0)"}, "method muda: k:"),
        (
            ("by_class(label=3)", "by_class(label=5)"),
            {"again": "maybe"},
            "request sequence: again: Input should be 'error' or 'skip'",
        ),
        (
            ("by_class(label=3)", "by_class(label=5)"),
            {"skip": "relerning"},
            "cannot skip relerning",
        ),
        (
            ("by_class(label=3)", "by_class(label=3)"),
            {"again": "skip"},
            "step 2 (by_class) forgets nothing",
        ),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(
    requests: tuple[str, ...],
    more: dict[str, str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "taken").write_text("mine")
    assert message in fails(arguments(tmp_path / "run", *requests, **more), capsys)
    assert "is a file" in fails(
        arguments(tmp_path / "taken", "by_class(label=3)", "by_class(label=5)"), capsys
    )
    assert files(tmp_path) == {"taken": b"mine"}


def test_unseen_samples_reach_the_method_and_are_measured_in_no_step(tmp_path: Path) -> None:
    """SCRUB+R refuses a class without them."""
    asked = ("by_class(label=3)", "at_random(n=20)")
    more = {"again": "skip", "method": "scrub(epochs=1, msteps=1, rewind=True)"}
    main(arguments(tmp_path / "run", *asked, **more))
    original, *_, refused = read_step(tmp_path / "run", 1)
    assert refused.outcome.status == "refused" and "unseen" in refused.outcome.reason
    main([*arguments(tmp_path / "run", *asked, **more, unseen="0.1"), "--overwrite"])
    for number in (1, 2):
        for found in read_step(tmp_path / "run", number):
            told = found.job["unseen"]
            assert found.outcome.status == "ok" and told["spec"] == "0.1"
            assert found.job["sizes"]["test"] == original.job["sizes"]["test"] - told["count"]


def read_step(folder: Path, number: int) -> list[record.RunRecord]:
    return record.read_folder(folder / f"step{number:02d}" / "records")


def test_a_killed_sequence_goes_on_after_its_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And ends as one that nobody killed."""
    asked = ("by_class(label=3)", "at_random(n=20)")
    more = {"again": "skip", "recipe": "recipe(epochs=1)"}
    main(arguments(tmp_path / "whole", *asked, **more))
    true = SequentialStudy._records
    steps: list[int] = []

    def killed_at_2(self: SequentialStudy, number: int, *rest: Any) -> Any:
        steps.append(number)
        if steps == [1, 2]:
            raise KeyboardInterrupt
        return true(self, number, *rest)

    monkeypatch.setattr(SequentialStudy, "_records", killed_at_2)
    with pytest.raises(SystemExit):
        main(arguments(tmp_path / "run", *asked, **more))
    assert {p.name for p in (tmp_path / "run").iterdir()} == {UNFINISHED}
    main(arguments(tmp_path / "run", *asked, **more))
    assert steps == [1, 2, 2], "step 1 is not measured again"
    names = set(files(tmp_path / "whole"))
    assert set(files(tmp_path / "run")) == names
    for name in (n for n in names if n.endswith("split.json")):
        assert files(tmp_path / "run")[name] == files(tmp_path / "whole")[name]
    for number in (1, 2):
        runs = (
            record.read_folder(tmp_path / name / f"step{number:02d}" / "records")
            for name in ("whole", "run")
        )
        for one, other in zip(*runs, strict=True):
            assert one.inputs == other.inputs and one.scores == other.scores
