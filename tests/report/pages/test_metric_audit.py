"""The audit of the metrics: what follows from records whose numbers are made up, and designs that
are refused.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from xml.etree import ElementTree

import pytest
from scipy.stats import binom, t

from eigenforget.core.errors import EigenforgetError
from eigenforget.data.digits import Digits
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.metric_audit import MetricAudit
from eigenforget.models.mlp import Mlp
from eigenforget.record import Outcome, RecordError, RunRecord, ScoreRow
from eigenforget.report.glossary import GROUPS, group
from eigenforget.report.pages import metric_audit as judged
from eigenforget.report.pages.metric_audit import Judgement, judge_metrics
from eigenforget.requests import ByClass
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

ORACLES = [0.50, 0.51, 0.49, 0.505, 0.495, 0.50]
"""Held out of the band of the others, each lies in it."""
HOSTILE = "<b>\"'&amp;]]></svg>"


def score(name: str, value: float | None) -> ScoreRow:
    utility = name.startswith("utility")
    reason = "" if value is not None else "there is nothing to measure"
    return ScoreRow(
        name,
        value,
        "share",
        "higher" if utility else "reference",
        (0.0, 1.0),
        reason=reason,
        trace="" if utility else "above",
    )


def made(name: str, role: str, values: dict[str, float | None], refused: str = "") -> RunRecord:
    outcome = Outcome("refused", 0.0, refused) if refused else Outcome("ok", 1.0)
    return RunRecord(
        kind="evaluate",
        name=name,
        role=role,
        created="2026-11-24T13:00:00Z",
        job={},
        inputs={},
        environment={},
        outcome=outcome,  # type: ignore[arg-type]
        scores=tuple(score(n, v) for n, v in values.items()),
    )


def audit(
    metrics: dict[str, dict[str, Sequence[float | None]]], oracles: Sequence[float] = ORACLES
) -> list[RunRecord]:
    """Records of metrics by name, each with the values of kinds of models by training seed;
    "oracle" replaces ORACLES.
    """
    records = []
    for kind in dict.fromkeys(
        ["oracle", *(kind for values in metrics.values() for kind in values)]
    ):
        columns = {
            name: values.get(kind, oracles if kind == "oracle" else ())
            for name, values in metrics.items()
        }
        for seed in range(max(map(len, columns.values()))):
            role = kind if kind in ("oracle", "original") else "control"
            name = f"oracle {seed}" if kind == "oracle" else f"{kind} seed {seed}"
            records.append(
                made(name, role, {n: c[seed] for n, c in columns.items() if seed < len(c)})
            )
    return records


def only(metric: str, **values: Sequence[float | None]) -> Judgement:
    (found,) = judge_metrics(audit({metric: values}))
    return found


@pytest.mark.parametrize(
    ("metric", "values", "conclusion"),
    [
        ("m", {"original": [0.9, 0.8], "mask": [0.9, 0.7], "distil": [0.1, 0.2]}, "trusted here"),
        ("m", {"original": [0.9, 0.8], "mask": [0.5, 0.5], "distil": [0.9, 0.9]}, "fooled by mask"),
        (
            "m",
            {"original": [0.9, 0.8], "mask": [0.9, 0.5], "distil": [0.5, 0.5]},
            "fooled by mask, distil",
        ),
        ("m", {"original": [0.5, 0.51], "mask": [0.9, 0.9]}, "no signal here"),
        ("m", {"original": [0.9, 0.5], "mask": [0.9, 0.9]}, "weak signal"),
        ("m", {"original": [0.1, 0.2], "mask": [0.9, 0.9]}, "wrong way here"),
        ("m", {"original": [0.1, 0.9], "mask": [0.9, 0.9]}, "trusted here"),
        ("m", {"original": [0.9, 0.9]}, "trusted here"),
        ("m", {"original": [0.9, 0.9], "mask": [None, None]}, "trusted here"),
        ("utility", {"original": [0.9, 0.9], "mask": [0.1, 0.1]}, "utility"),
        (
            "m",
            {"original": [0.9, 0.9], "oracle": [0.3, 0.7, *[0.5] * 16, 0.3, 0.7]},
            "rejects retrained models",
        ),
    ],
)
def test_each_conclusion_arises_where_it_should(
    metric: str, values: dict[str, Sequence[float | None]], conclusion: str
) -> None:
    assert only(metric, **values).conclusion == conclusion


def test_gaps_are_in_halves_of_the_band_and_oracles_stand_in_the_band_of_the_others() -> None:
    found = only("m", original=[0.9, 0.3], mask=[0.5])

    def half(values: Sequence[float]) -> float:
        mean = sum(values) / len(values)
        s = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        return max(t.ppf(0.975, len(values) - 1) * s * math.sqrt(1 + 1 / len(values)), 0.005)

    assert found.original.units == pytest.approx([(v - 0.5) / half(ORACLES) for v in (0.9, 0.3)])
    assert found.original.verdicts == ("residual", "over-forgotten") and found.original.outside == 2
    others = [[v for j, v in enumerate(ORACLES) if j != i] for i in range(6)]
    expected = [(v - sum(o) / 5) / half(o) for v, o in zip(ORACLES, others, strict=True)]
    assert found.oracles.units == pytest.approx(expected) and found.oracles.outside == 0
    assert (
        found.cheats["mask"].units == pytest.approx([0], abs=1e-9)
        and not found.cheats["mask"].caught
    )


@pytest.mark.parametrize("count", [3, 6, 9, 20, 60])
def test_the_rule_for_held_out_oracles_is_a_binomial_test(count: int) -> None:
    template = only("m", original=[0.9])
    for outside in range(count + 1):
        verdicts = ("residual",) * outside + ("in",) * (count - outside)
        found = template._replace(oracles=judged.GapsOverSeeds((0.0,) * count, verdicts))  # type: ignore[arg-type]
        chance = sum(binom.pmf(k, count, 0.95) for k in range(count - outside + 1))
        assert found.passes_oracles == (chance >= 0.1)
        assert (found.conclusion == "rejects retrained models") == (chance < 0.1)


def test_metrics_stand_in_the_order_of_groups_and_incomplete_ones_are_left_out_with_the_reason() -> (
    None
):
    metrics = {
        "da": {"original": [0.1]},
        "zzz": {"original": [0.1]},
        "forget_accuracy": {"original": [0.9]},
        "mia_auc": {"original": [0.9]},
        "nmi": {"original": [0.9], "oracle": [*ORACLES[:5], None]},
        "ncm_forget": {"original": [None]},
        "jsd_forget_oracle": {"original": [0.9]},
    }
    records = audit(metrics)  # type: ignore[arg-type]
    names = [j.metric.name for j in judge_metrics(records)]
    assert set(names) == {"da", "zzz", "forget_accuracy", "mia_auc", "jsd_forget_oracle"}
    assert [GROUPS.index(group(n)) for n in names] == sorted(GROUPS.index(group(n)) for n in names)
    assert judged.unmeasured(records) == ["ncm_forget, nmi: there is nothing to measure"]
    few = judge_metrics(
        audit({"jsd_forget_oracle": {"original": [0.9]}, "m": {"original": [0.9]}}, ORACLES[:3])
    )
    assert [j.metric.name for j in few] == ["m"], (
        "of three values that compare pairs none can be held out of the band of two"
    )


def test_controls_that_refused_are_listed_and_judged_nowhere() -> None:
    refused = [made(f"mask seed {s}", "control", {}, refused="mask needs a class") for s in (0, 1)]
    records = [*audit({"m": {"original": [0.9, 0.9]}}), *refused]
    assert judged.unmeasured(records) == ["mask refused: mask needs a class"]
    (found,) = judge_metrics(records)
    assert found.cheats == {} and found.conclusion == "trusted here"


@pytest.mark.parametrize("oracles", [[], ORACLES[:1], ORACLES[:2]])
def test_fewer_than_three_oracles_or_no_original_are_no_audit(oracles: list[float]) -> None:
    with pytest.raises(RecordError, match="an original and of at least 3 retrained models"):
        judge_metrics(audit({"m": {"original": [0.9]}}, oracles))
    with pytest.raises(RecordError, match="an original"):
        judge_metrics(audit({"m": {}}))


def test_the_figure_is_well_formed_whatever_names_hold() -> None:
    found = judge_metrics(
        audit(
            {HOSTILE: {"original": [0.9], HOSTILE: [0.5]}, "m": {"original": [0.9], "mask": [0.1]}}
        )
    )
    root = ElementTree.fromstring(judged.audit_figure(found, f"title {HOSTILE}"))
    assert root.tag.endswith("}svg") and {
        child.tag.rpartition("}")[2] for child in root.iter()
    } == {"svg", "title", "rect", "text"}
    texts = [node.text for node in root.iter() if node.tag.endswith("}text")]
    for expected in (
        f"title {HOSTILE}",
        HOSTILE,
        f"fooled by {HOSTILE}",
        "6/6",
        "held out",
        "original",
        "conclusion",
        "–",
    ):
        assert expected in texts
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    for node in root.iter():
        assert (
            0 <= float(node.attrib.get("x", 0)) <= width
            and 0 <= float(node.attrib.get("y", 0)) <= height
        )
    ElementTree.fromstring(judged.audit_figure([], "nothing"))


def test_the_table_comes_back_from_csv() -> None:
    odd = 'name, with "quotes"'
    found = judge_metrics(
        audit({odd: {"original": [0.9, 0.8], "mask": [0.5, 0.52]}, "m": {"original": [1 / 3]}})
    )
    rows = list(csv.DictReader(io.StringIO(judged.table_csv(found))))
    assert [row["metric"] for row in rows] == [j.metric.name for j in found]
    for row, j in zip(rows, found, strict=True):
        band = float(row["oracle_mean"]), float(row["band_half"])
        assert band == pytest.approx((j.band.mean, j.band.half), rel=1e-11)
        assert (row["oracles"], row["oracles_in_band"], row["conclusion"]) == (
            "6",
            "6",
            j.conclusion,
        )
        for name, standing in (("original", j.original), ("mask", j.cheats.get("mask"))):
            units = [float(u) for u in row[f"{name} units"].split()]
            assert units == pytest.approx(standing.units if standing else [], rel=1e-5)
            assert tuple(row[f"{name} verdicts"].split()) == (standing.verdicts if standing else ())


def test_the_markdown_has_a_line_for_each_metric_and_as_many_cells() -> None:
    found = judge_metrics(
        audit({"m": {"original": [0.9, 0.8], "mask": [0.5]}, "n": {"original": [0.1]}})
    )
    lines = judged.audit_table(found).splitlines()
    assert len(lines) == 4 and len({line.count("|") for line in lines}) == 1
    assert (
        "`m`" in lines[2]
        and "(2/2 out)" in lines[2]
        and "(0/1 out)" in lines[2]
        and lines[3].endswith("| wrong way here |")
    )


def experiment(recipe: Recipe, model: object) -> Experiment:
    return Experiment(Digits(), model, recipe, ByClass(label=3), Engine(device="cpu"))


@pytest.mark.parametrize(
    ("seeds", "each"),
    [((0, 1, 2), 3), ((7,), 3), ((3, 40, 12), 5), ((0, 1, 2, 3, 4), 1), (tuple(range(14)), 2)],
)
def test_the_first_oracle_of_a_seed_shares_it_and_all_are_distinct(
    seeds: tuple[int, ...], each: int
) -> None:
    found = MetricAudit(experiment(Recipe(), Mlp()), seeds, each).oracle_seeds()
    assert [number for _, number in found] == [n for n in range(len(seeds)) for _ in range(each)]
    assert len({seed for seed, _ in found}) == len(found)
    assert [seed for i, (seed, _) in enumerate(found) if i % each == 0] == list(seeds)
    assert not {seed for i, (seed, _) in enumerate(found) if i % each} & {*seeds, *range(10)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": (0,), "oracles_per_seed": 2}, "takes 3; 1 training seeds × 2 oracles are 2"),
        ({"seeds": (0, 1), "oracles_per_seed": 1}, "are 2"),
        ({"seeds": (0, 1, 0)}, "training seeds must differ, got 0, 1, 0"),
        ({"skip": ("lp",)}, "cannot skip lp; there are: accuracies"),
    ],
)
def test_wrong_designs_are_refused_before_anything_is_trained(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message):
        MetricAudit(experiment(Recipe(), Mlp()), **settings)  # type: ignore[arg-type]
