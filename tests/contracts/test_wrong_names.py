"""Wrong names and settings end every command before its data are loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import pytest

from eigenforget.experiments.experiment import Experiment
from tests.cli.conftest import made as made  # original.safetensors and oracle.safetensors
from tests.cli.round_toys import refused_in_one_line

CLASS = ("--forget", "by_class(label=3)")
OUT = ("--out", "new.safetensors")
FOLDER = ("--out", "new")
DATA = ("--data", "digits()", "--model", "mlp()")
TRAIN = ("train", *DATA, *OUT)
UNLEARN = ("unlearn", "ORIGINAL", *OUT)
EVALUATE = ("evaluate", "ORACLE", "--original", "ORIGINAL", *FOLDER)
ANALYZE = ("analyze", "--original", "ORIGINAL", "--oracle", "ORACLE", "--out", "new.html")
SEQUENCE = ("sequence", *DATA, *FOLDER)
AUDIT = ("audit-metrics", *FOLDER)
SCORES = ("scores", "ORIGINAL", "--out", "new.csv", "--score")
WORST = (*SCORES, "worst_case")
TWO = (*CLASS, "--forget", "at_random(n=5)")

CASES = {
    "train data": (
        ("train", "--data", "digts()", "--model", "mlp()", *OUT),
        "did you mean digits?",
    ),
    "train model": (
        ("train", "--data", "digits()", "--model", "resnet19()", *OUT),
        "did you mean resnet9?",
    ),
    "train recipe": ((*TRAIN, "--recipe", "recipe(epoch=1)"), "did you mean epochs?"),
    "train without": ((*TRAIN, "--without", "by_clas(label=3)"), "did you mean by_class?"),
    "train track": ((*TRAIN, "--track", "foo"), "tensorboard"),
    "unlearn forget": ((*UNLEARN, "--forget", "by_clas(label=3)"), "did you mean by_class?"),
    "unlearn method": ((*UNLEARN, *CLASS, "--method", "mda()"), "did you mean muda?"),
    "unlearn allow": ((*UNLEARN, *CLASS, "--allow", "foo"), "--allow 'foo'"),
    "unlearn unseen": ((*UNLEARN, *CLASS, "--unseen", "foo"), "--unseen 'foo'"),
    "evaluate forget": ((*EVALUATE, "--forget", "by_clas(label=3)"), "did you mean by_class?"),
    "evaluate skip": ((*EVALUATE, *CLASS, "--skip", "foo"), "cannot skip foo"),
    "evaluate metric": ((*EVALUATE, *CLASS, "--metric", "foo"), "unknown metric 'foo'"),
    "evaluate audit": ((*EVALUATE, *CLASS, "--audit", "foo"), "unknown audit 'foo'"),
    "evaluate map": ((*EVALUATE, *CLASS, "--map", "foo"), "tsne, umap"),
    "evaluate map umap": ((*EVALUATE, *CLASS, "--map", "umap"), "eigenforget[umap]"),
    "evaluate require": ((*EVALUATE, *CLASS, "--require", "foo>1"), "unknown score 'foo'"),
    "analyze forget": ((*ANALYZE, "--forget", "by_clas(label=3)"), "did you mean by_class?"),
    "sequence method": ((*SEQUENCE, *TWO, "--method", "mda()"), "did you mean muda?"),
    "sequence forget": ((*SEQUENCE, *CLASS, "--forget", "at_randm(n=5)"), "did you mean at_random"),
    "sequence again": ((*SEQUENCE, *TWO, "--again", "foo"), "again: "),
    "sequence skip": ((*SEQUENCE, *TWO, "--skip", "foo"), "cannot skip foo"),
    "sequence device": ((*SEQUENCE, *TWO, "--device", "foo"), "device 'foo'"),
    "audit forget": ((*AUDIT, "--forget", "by_clas(label=3)"), "did you mean by_class?"),
    "audit skip": ((*AUDIT, "--skip", "foo"), "cannot skip foo"),
    "audit metric": ((*AUDIT, "--metric", "foo"), "unknown metric 'foo'"),
    "duplicates threshold": (
        ("duplicates", "--data", "digits()", *CLASS, "--threshold", "2"),
        "threshold 2.0",
    ),
    "duplicates forget": (
        ("duplicates", "--data", "digits()", "--forget", "by_clas(label=3)"),
        "did you mean by_class?",
    ),
    "scores method": ((*WORST, "--method", "mda()"), "did you mean muda?"),
    "scores sets": ((*WORST, "--sets", "0"), "sets must be"),
    "scores n": ((*WORST, "--n", "0"), "n=0"),
    "scores models": (("scores", *DATA, "--out", "new.csv", "--models", "1"), "models=1"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_name_fails_before_data_are_loaded(
    case: str,
    made: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(_: Experiment) -> NoReturn:
        raise AssertionError("the data were loaded")

    argv, words = CASES[case]
    files = {
        f"{name.upper()}": str(made / f"{name}.safetensors") for name in ("original", "oracle")
    }
    monkeypatch.setattr(Experiment, "data", property(load))
    monkeypatch.setitem(sys.modules, "umap", None)  # not installed
    given = [files.get(word, word) for word in argv]
    refused_in_one_line(given, words, tmp_path, capsys, monkeypatch)
