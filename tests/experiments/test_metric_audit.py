"""The audit of the metrics, run for real at a small size: known answers, its files, and wrong input
on the command line.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eigenforget import record
from eigenforget.cli import main
from eigenforget.data.digits import Digits
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.metric_audit import MetricAudit
from eigenforget.models.mlp import Mlp
from eigenforget.record import RunRecord
from eigenforget.report.pages.metric_audit import Judgement, judge_metrics
from eigenforget.requests import ByClass
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

CLASS3, RANDOM = "by_class(label=3)", "at_random(fraction=0.1)"
KEPT = (
    "accuracies",
    "population_mia",
    "dimensional_alignment",
    "clustering",
    "nearest_class_mean",
    "linear_probe",
    "jensen_shannon",
    "svc_mia",
)
SKIP = tuple(name for name in measurement_names() if name not in KEPT)


def command(
    folder: Path,
    *,
    skip: Sequence[str] = SKIP,
    requests: Sequence[str] = (CLASS3, RANDOM),
    **settings: object,
) -> None:
    """The small audit that the tests below share: 2 training seeds with 2 oracles each."""
    options = {
        "model": "small_resnet(width=8, stem_stride=2)",
        "recipe": "recipe(epochs=6, batch_size=128)",
        "seeds": 2,
        "oracles": 2,
        "audit": "svc_mia(most=100)",
        "store": folder / "store",
        "out": folder / "out",
        **settings,
    }
    given = [
        *options.items(),
        *(("forget", request) for request in requests),
        *(("skip", name) for name in skip),
    ]
    main(["audit-metrics", *(str(word) for name, value in given for word in (f"--{name}", value))])


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("audit")
    command(folder)
    return folder


def records_of(run: Path, request: str) -> dict[str, RunRecord]:
    return {r.name: r for r in record.read_folder(run / "out" / request / "records")}


def judged_in(run: Path, request: str) -> dict[str, Judgement]:
    return {j.metric.name: j for j in judge_metrics(list(records_of(run, request).values()))}


def test_in_class_forgetting_accuracy_is_fooled_by_a_mask_and_alignment_is_not(run: Path) -> None:
    found = judged_in(run, "by_class-label-3")
    for name in ("forget_accuracy", "test_forget_accuracy", "mia_forget_rate"):
        assert (
            found[name].original.caught
            and not found[name].cheats["head_mask"].outside
            and "fooled by head_mask" in found[name].conclusion
        )
    da = found["da"]
    assert (
        da.passes_oracles
        and da.original.caught
        and da.original.verdicts == ("residual", "residual")
    )
    assert da.cheats["head_mask"].caught and da.cheats["head_distill"].caught
    assert da.cheats["head_mask"].units == da.original.units, "every feature is the original's"


def test_what_reads_features_says_of_a_mask_what_it_says_of_the_original(run: Path) -> None:
    records = records_of(run, "by_class-label-3")
    for seed in (0, 1):
        original, mask = (
            {s.name: s.value for s in records[f"{kind} seed {seed}"].scores}
            for kind in ("original", "head_mask")
        )
        for name in (
            "da",
            "da_energy",
            "lp_forget",
            "lp_retain",
            "ncm_forget",
            "ncm_retain",
            "nmi",
            "cluster_f1",
            "best_cluster_f1",
        ):
            assert mask[name] is not None and mask[name] == original[name], name
        assert mask["forget_accuracy"] == 0 < original["forget_accuracy"]  # type: ignore[operator]


def test_in_random_forgetting_alignment_has_no_signal_and_refusals_are_on_record(run: Path) -> None:
    found, records = (
        judged_in(run, "at_random-fraction-0.1"),
        records_of(run, "at_random-fraction-0.1"),
    )
    assert (
        found["da"].original.verdicts == ("in", "in") and found["da"].conclusion == "no signal here"
    )
    for seed in (0, 1):
        refused = records[f"head_mask seed {seed}"]
        assert (
            refused.outcome.status == "refused"
            and "needs a class" in refused.outcome.reason
            and not refused.scores
        )
    assert all("head_mask" not in j.cheats and "collapse" in j.cheats for j in found.values())
    text = (run / "out" / "audit.html").read_text(encoding="utf-8")
    assert (
        "<li>head_mask refused: head_mask needs a class" in text
        and "2 originals, 4 retrained models, 2 controls" in text
    )


def test_records_are_chained_and_say_what_each_model_is(run: Path) -> None:
    records = records_of(run, "by_class-label-3")
    ordered = list(records.values())
    assert [r.previous for r in ordered] == [None, *(r.digest for r in ordered[:-1])]
    pairs = [(r.job["seed"], r.job["training_seed"]) for r in ordered if r.role == "oracle"]
    assert pairs == [(0, 0), (10, 0), (1, 1), (11, 1)]
    assert (
        len({r.inputs["checked_model"] for r in ordered if r.role in ("oracle", "original")}) == 6
    )
    names = {path.name for path in (run / "out" / "by_class-label-3").iterdir()}
    assert names == {"records", "audit.csv"}


def test_an_audit_on_request_is_judged_and_its_settings_are_on_record(run: Path) -> None:
    assert "svc_mia" in judged_in(run, "by_class-label-3")
    for item in records_of(run, "by_class-label-3").values():
        assert item.job["measurement"]["audits"] == ["svc_mia(most=100)"]


def test_a_finished_audit_is_not_run_again_and_gives_the_same_files(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)

    def nothing(*args: object, **named: object) -> None:
        raise AssertionError("nothing may be trained, unlearned or measured again")

    for what in ("train", "unlearn", "panel"):
        monkeypatch.setattr(Experiment, what, nothing)
    command(run)
    assert files(run) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"seeds": 1}, "takes 3; 1 training seeds × 2 oracles are 2"),
        ({"seeds": 0}, "needs from 1 to"),
        ({"requests": [CLASS3, "by_class(label = 3)"]}, "requests must differ"),
        ({"skip": ["klom", "nonsense"]}, "cannot skip nonsense; there are: accuracies"),
        ({"requests": [CLASS3, "by_class(label=12)"]}, "unknown class 12"),
        ({"requests": ["by_clas(label=3)"]}, "unknown request 'by_clas'"),
    ],
)
def test_wrong_input_ends_in_one_line_before_anything_is_written(
    wrong: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        command(tmp_path, **wrong)
    error = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and message in error
        and error.startswith("eigenforget: ")
        and error.count("\n") == 1
    )
    assert files(tmp_path) == {} and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": "mlp()"}, "with model small_resnet"),
        ({"oracles": 3}, "with 4 retrained models, not 6"),
    ],
)
def test_records_of_another_design_are_not_taken_for_this_one(
    other: dict[str, Any], message: str, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(run)
    with pytest.raises(SystemExit) as stop:
        command(run, **other)
    error = capsys.readouterr().err
    assert (
        stop.value.code == 2
        and message in error
        and "--overwrite" in error
        and files(run) == before
    )


def test_attacks_on_the_confidence_are_fooled_by_a_mask() -> None:
    """On a perceptron, since a residual network this small leaves the attack no signal to be fooled
    of.
    """
    small = Experiment(
        Digits(),
        Mlp(hidden=(64,)),
        Recipe(epochs=6, batch_size=64),
        ByClass(label=3),
        Engine(device="cpu"),
    )
    skip = tuple(name for name in measurement_names() if name != "population_mia")
    found = {
        j.metric.name: j
        for j in judge_metrics(list(MetricAudit(small, (0, 1), 2, skip=skip).records()))
    }
    attack = found["mia_confidence_auc"]
    assert (
        attack.original.caught
        and attack.cheats["head_mask"].outside == 0
        and "fooled by head_mask" in attack.conclusion
    )
