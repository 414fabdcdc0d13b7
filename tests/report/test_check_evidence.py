"""Checks of the evidence: retrained models, sizes, near duplicates; thresholds at their edges."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from eigenforget.record import RunRecord
from tests.report.check_toys import SIZES, among, check, model, oracles, original, row, twins_of


@pytest.mark.parametrize(("count", "severity"), [(0, "error"), (1, "warning"), (2, "warning")])
def test_fewer_retrained_models_are_worse(count: int, severity: str) -> None:
    assert check("EF001", [original(), *oracles(count), model()]).severity == severity


@pytest.mark.parametrize(("m", "n"), [(20, 30), (146, 37), (1000, 700)])
def test_without_an_interval_the_width_is_that_of_the_mann_whitney_statistic(
    m: int, n: int
) -> None:
    rng = np.random.default_rng(m)
    # Exact moments of U under the null hypothesis, by scipy's own standardisation of a sample
    # without ties.
    a, b = rng.normal(size=m), rng.normal(size=n)
    told = stats.mannwhitneyu(a, b, method="asymptotic", use_continuity=False)
    z = abs(stats.norm.ppf(told.pvalue / 2))
    width = 2 * stats.norm.ppf(0.975) * abs(told.statistic / (m * n) - 0.5) / z
    record = model(job={"sizes": {"forget": m, "retain": 10, "test": n, "test_forget": n}})
    words = check("EF003", among(record)).explanation
    if width > 0.1:
        assert (
            f"The 95 % interval of MIA AUC is up to {width:.2f} wide (one)." in words
            and f"{m} forget-set and {n} held-out" in words
        )
    else:
        assert check("EF003", among(record)).status == "passed"


@pytest.mark.parametrize(("others", "status"), [(499, "found"), (500, "passed")])
def test_a_rate_needs_five_false_alarms(others: int, status: str) -> None:
    with_interval = model(
        job={"sizes": SIZES | {"test_forget": others}},
        values={"mia_auc": (0.5, (0.48, 0.52)), "mia_tpr_1": 0.1},
    )
    found = check("EF003", among(with_interval))
    assert found.status == status and (
        f"rests on {others / 100:.3g} false alarms" in found.explanation
    ) == (status == "found")


def test_rmia_has_half_of_the_held_out_samples_where_no_class_is_gone() -> None:
    sizes = {"forget": 900, "retain": 10, "test": 800, "test_forget": 0}
    values = {"mia_auc": (0.5, (0.48, 0.52)), "rmia_tpr_1": 0.1, "mia_tpr_1": 0.1}
    words = check("EF003", among(model(job={"sizes": sizes}, values=values))).explanation
    assert (
        "RMIA TPR at 1 % rests on 4 false alarms" in words
        and "MIA TPR at 1 % rests on 8" not in words.replace("RMIA", "")
    )
    gone = {**sizes, "test_forget": 800}
    assert check("EF003", among(model(job={"sizes": gone}, values=values))).status == "passed"


def test_records_from_before_there_were_sizes_are_judged_by_their_intervals() -> None:
    def old(values: dict[str, Any]) -> list[RunRecord]:
        return among(
            replace(m := model(values=values), job={k: v for k, v in m.job.items() if k != "sizes"})
        )

    assert check("EF003", old({"mia_auc": (0.5, (0.3, 0.7))})).status == "found"
    assert check("EF003", old({"mia_auc": (0.5, (0.49, 0.51))})).status == "passed"
    assert check("EF003", old({})).explanation.startswith("the records say neither")


def test_no_signal_at_all_is_a_warning() -> None:
    same = [replace(r, scores=tuple(row(s.name, 0.5) for s in r.scores)) for r in among(model())]
    told = check("EF014", same)
    assert told.severity == "warning" and told.explanation.endswith(
        "None of the headline feature metrics can say anything here."
    )
    assert check("EF006", same).status == "passed"


def test_twins_are_counted_and_the_first_are_named() -> None:
    words = check("EF005", among(model(job=twins_of(300)))).explanation
    assert (
        words.startswith("300 retained samples are nearly")
        and "f9 ~ r9." in words
        and "f10" not in words
    )


def test_layers_and_data_that_differ_are_named_by_the_smaller_group() -> None:
    deep = model("deep", values={"da@first": 0.5})
    assert check(
        "EF011", among(model(), deep)
    ).explanation == "Deep was measured with other layers than " + (
        "original, oracle 1, oracle 2, oracle 3 and one."
    )
    bare = [replace(r, inputs={}) for r in among(model())]
    assert check("EF011", bare).status == "not_applicable"


def test_records_that_are_not_sealed_correct_nothing() -> None:
    assert {r.digest for r in among(model())} == {None} and check(
        "EF015", among(model())
    ).status == "passed"
