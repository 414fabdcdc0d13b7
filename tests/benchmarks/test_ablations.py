"""The page of ablations: which records answer which question, and that what is drawn and tabled is
what they say.
"""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any
from xml.etree import ElementTree

import pytest
from scipy import stats

from eigenforget.core.spec import as_json, spell
from eigenforget.experiments.bench.jobs import MethodJob
from eigenforget.experiments.bench.plan import Plan, read_plan
from eigenforget.methods import MUDA
from eigenforget.record import Outcome, RunRecord, ScoreRow, chained, to_json, write_text
from eigenforget.record.canonical import canonical
from eigenforget.report.figures.style import ABOVE, BELOW, INSIDE

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
ablations: Any = importlib.import_module("ablations")
figures: Any = importlib.import_module("ablation_figures")

ORACLES = {
    "da": (0.98, 0.99, 0.985),
    "lp_forget": (0.8, 0.82, 0.85),
    "nmi": (0.7, 0.9, 0.8),
    "test_forget_accuracy": (0.0, 0.0, 0.0),
    "test_retain_accuracy": (0.9, 0.91, 0.92),
}
ORIGINAL = {
    "da": 0.7,
    "lp_forget": 0.95,
    "nmi": 0.81,
    "test_forget_accuracy": 0.9,
    "test_retain_accuracy": 0.91,
}
Values = Callable[[MethodJob], dict[str, float]]


def paper(**fields: Any) -> str:
    """How a record spells a variant of MUDA."""
    return spell(MUDA(recipe="paper", **fields))


def record(
    name: str, role: Any, values: dict[str, float], job: dict[str, Any], seconds: float
) -> RunRecord:
    rows = tuple(
        ScoreRow(n, v, "1", "reference", (0.0, 1.0), trace="above") for n, v in values.items()
    )
    outcome = Outcome("ok", 1.0, cost={"cpu_seconds": seconds})
    return RunRecord(
        "evaluate", name, "2026-11-24T13:00:00Z", job, {}, {}, outcome, role=role, scores=rows
    )


def steady(method_job: MethodJob) -> dict[str, float]:
    """Values that depend on the variant and the training seed only."""
    size = sum(map(ord, spell(method_job.method))) % 97 / 1000 + method_job.retain_fraction / 100
    return {
        name: value + size + 0.001 * method_job.study.seed
        for name, value in {**ORIGINAL, "da": 0.85, "test_forget_accuracy": 0.0}.items()
    }


def records(
    jobs: Sequence[MethodJob], values: Values = steady, **changes: Any
) -> dict[str, list[list[RunRecord]]]:
    """By request, for each training seed what a bench would write. changes: of the resolved fields
    of every MUDA.
    """
    experiments: dict[str, dict[int, list[MethodJob]]] = {}
    for method_job in jobs:
        experiments.setdefault(spell(method_job.study.request), {}).setdefault(
            method_job.study.seed, []
        ).append(method_job)
    return {
        request: [_seed(of, values, changes) for of in seeds.values()]
        for request, seeds in experiments.items()
    }


def _seed(jobs: Sequence[MethodJob], values: Values, changes: dict[str, Any]) -> list[RunRecord]:
    study = jobs[0].study
    specs = {
        name: {"spec": spell(getattr(study, name))}
        for name in ("data", "model", "recipe", "request")
    }
    job: dict[str, Any] = {**specs, "seed": study.seed}
    found = [record("original", "original", ORIGINAL, job, 90.0)]
    found += [
        record(f"oracle {i}", "oracle", {n: v[i] for n, v in ORACLES.items()}, job, 100.0)
        for i in range(3)
    ]
    for i, method_job in enumerate(jobs):
        resolved = as_json(method_job.method)
        if method_job.method.name == "muda":
            resolved = {**resolved, "fields": {**changes, **resolved["fields"]}}
        method = {
            "spec": spell(method_job.method),
            "resolved": resolved,
            "optimises": list(getattr(method_job.method, "optimises", ())),
        }
        own = {
            **job,
            "method": method,
            "retain_fraction": method_job.retain_fraction,
            "digest": method_job.digest,
        }
        found.append(record(f"{method_job.name} {i}", "unlearned", values(method_job), own, 25.0))
    return found


@pytest.fixture(scope="module")
def plan() -> Plan:
    return read_plan(ROOT / "benchmarks" / "plans" / "ablations.toml")


def ask(key: str) -> Any:
    return next(q for q in ablations.QUESTIONS if q.key == key)


def band(name: str) -> tuple[float, float]:
    """By the formula of the band, written out: mean ± t · s · √(1 + 1/n), at least half a point."""
    known = ORACLES[name]
    half = max(float(stats.t.ppf(0.975, 2)) * stdev(known) * (4 / 3) ** 0.5, 0.005)
    return max(0.0, fmean(known) - half), min(1.0, fmean(known) + half)


def test_every_job_of_the_plan_answers_a_question_and_every_variant_is_in_the_plan(
    plan: Plan,
) -> None:
    seeds = records(plan.jobs)
    used, shown = set(), {}
    for question in ablations.QUESTIONS:
        of = seeds[question.request]
        shown[question.key] = ablations.answer(question, of).seeds
        for rows in of:
            for variant in question.variants:
                fitting = [r for r in rows if ablations.fits(variant, r, rows)]
                assert len({canonical(r.job["method"]["resolved"]) for r in fitting}) <= 1, (
                    f"{question.key}, {variant}: two variants fit"
                )
                used |= {r.job["digest"] for r in fitting}
    assert {c.digest for c in plan.jobs} == used
    assert shown["weight"] == (0,) and shown["parts"] == shown["rates"] == (0, 1)
    assert shown["stability"] == (0, 1, 2, 3, 4) and shown["stability_second_class"] == (0, 1, 2)


def test_a_variant_is_told_from_others_by_all_its_fields(plan: Plan) -> None:
    rows = records(plan.jobs)["by_class(label=3)"][0]

    def found(variant: Any, among: Sequence[RunRecord] = rows) -> list[str]:
        return [
            f"{r.job['method']['spec']} {r.job['retain_fraction']:g}"
            for r in among
            if ablations.fits(variant, r, among)
        ]

    assert found(ablations._muda("", w_da=0)) == [f"{paper(w_da=0.0)} 1"]
    assert found(ablations._muda("", w_da=0, recover_ratio=0)) == [
        f"{paper(w_da=0.0, recover_ratio=0.0)} 1"
    ]
    assert found(ablations._muda("", steps=1, alternations=160)) == [
        f"{paper(alternations=160, steps=1)} 1"
    ]
    assert found(ablations.Variant("", {}, fraction=0.05)) == [f"{paper()} 0.05"]
    assert found(ablations.Variant("", {"lr": 0.001}, "gradient_ascent")) == [
        "gradient_ascent(lr=0.001) 1"
    ]
    assert found(ablations._muda("", w_da=0.7)) == []
    # Records of a time when MUDA had other defaults, and a field that is gone: the base is the one
    # in the records.
    older = records(plan.jobs, gone=7)["by_class(label=3)"][0]
    older = [
        _with(r, momentum=0.5)
        if (r.job.get("method") or {}).get("spec", "").startswith("muda")
        else r
        for r in older
    ]
    assert found(ablations._muda("", w_da=0), older) == [f"{paper(w_da=0.0)} 1"]


def _with(r: RunRecord, **fields: Any) -> RunRecord:
    method = r.job["method"]
    resolved = {**method["resolved"], "fields": {**method["resolved"]["fields"], **fields}}
    return replace(r, job={**r.job, "method": {**method, "resolved": resolved}})


def two(plan: Plan, first: dict[str, float], second: dict[str, float], key: str = "refresh") -> Any:
    """The answer where "every alternation" has these values on the two seeds, and every other variant the
    original's.
    """

    def values(job: MethodJob) -> dict[str, float]:
        return (
            ({**ORIGINAL, **(first, second)[job.study.seed]})
            if spell(job.method) == paper() and job.study.seed < 2
            else ORIGINAL
        )

    return ablations.answer(ask(key), records(plan.jobs, values)["by_class(label=3)"])


def test_tables_say_mean_spread_and_what_is_in_band(plan: Plan) -> None:
    lines = ablations.table(
        two(
            plan,
            {"da": 0.98, "lp_forget": 0.8, "test_forget_accuracy": 0.001},
            {"da": 0.99, "lp_forget": 0.99, "test_forget_accuracy": 0.003},
        )
    ).splitlines()
    cells = {
        line.split(" | ")[0].strip("| "): [c.strip(" |") for c in line.split(" | ")[1:]]
        for line in lines
        if line.startswith("| ")
    }
    head = cells["variant"]
    row = dict(zip(head, cells["every alternation"], strict=True))
    assert row["DA"] == f"0.985 ± {stdev((0.98, 0.99)):.3f} ✓†", (
        "in band on both seeds, and trained on"
    )
    assert row["LP"] == f"0.895 ± {stdev((0.8, 0.99)):.3f}", "in band on one seed only"
    assert row["forget test acc."] == "0.002 ± 0.001 ✓" and row["cost"] == "25.0 %"
    assert "NMI†" in head, "the original is in the band of NMI, so it tells nothing"
    # Of LP, forget and retain test accuracy: three on the first seed, two on the second.
    low, high = band("lp_forget")
    assert low <= 0.8 <= high < 0.99 and row["in band"] == "2.5/3"
    assert cells["retrained (band)"][head.index("LP")] == f"{low:.3f} to {high:.3f}"
    assert cells["original"][head.index("DA")] == "0.700" and "Training seeds 0, 1." in lines


def test_extremes_of_the_seeds_are_told_where_a_question_asks_for_them(plan: Plan) -> None:
    text = ablations.table(two(plan, {"da": 0.5}, {"lp_forget": 0.8}, key="stability"))
    row = next(line for line in text.splitlines() if line.startswith("| muda |"))
    assert "0.660 (0.500 to 0.700)†" in row and "1.2/3 (1 to 2)" in row


def test_a_variant_without_a_result_is_named_with_its_reason(plan: Plan) -> None:
    seeds = records(plan.jobs)["by_class(label=3)"]
    found = ablations.answer(
        ask("refresh"), [[_without_result(r, paper(refresh=5)) for r in of] for of in seeds]
    )
    assert found.seeds == (0, 1) and "- every 5 alternations: it said no\n" in ablations.table(
        found
    )
    assert ablations.draw(found).count("no result") == len(ORACLES) + 1


def _without_result(r: RunRecord, spec: str) -> RunRecord:
    if (r.job.get("method") or {}).get("spec") != spec:
        return r
    return replace(r, outcome=replace(r.outcome, status="diverged", reason="it said no"), scores=())


def shapes(svg: str, kind: str) -> list[dict[str, str]]:
    return [
        dict(e.attrib)
        for e in ElementTree.fromstring(svg).iter(f"{{http://www.w3.org/2000/svg}}{kind}")
    ]


def test_dots_bands_and_the_original_stand_where_their_values_are() -> None:
    panel = figures.Panel("LP", (0.6, 0.7), 1.0, "{:.3f}".format)
    svg = figures.strips(
        "title", [panel], [("one", [[0.5, 0.9]]), ("two", [[0.8]]), ("none", [[]])]
    )
    assert figures.axis(panel, [[0.5, 0.9], [0.8]]) == (0.5, 1.0)
    left, wide = figures.BESIDE + figures.INNER, figures.WIDE - 2 * figures.INNER

    def at(value: float) -> float:
        return left + wide * (value - 0.5) / 0.5

    rings = [float(c["cx"]) for c in shapes(svg, "circle") if c["fill"] == "none"][
        1:
    ]  # the first is the legend's
    dots = [(float(c["cx"]), float(c["cy"])) for c in shapes(svg, "circle") if c["fill"] != "none"][
        1:
    ]
    assert rings == pytest.approx([at(0.5), at(0.9)], abs=0.06) and [
        x for x, _ in dots
    ] == pytest.approx([at(0.7), at(0.8)], abs=0.06)
    assert dots[1][1] - dots[0][1] == pytest.approx(figures.LINE)
    bands = [r for r in shapes(svg, "rect") if r["fill"] == figures.BAND][1:]
    assert [(float(r["x"]), float(r["width"])) for r in bands] == [
        pytest.approx((at(0.6), at(0.7) - at(0.6)), abs=0.06)
    ]
    dashes = [r for r in shapes(svg, "line") if r["stroke"] == figures.ORIGINAL][1:]
    assert [float(r["x1"]) for r in dashes] == pytest.approx([at(1.0)], abs=0.06)
    texts = [e.text for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("no result") == 1 and {"0.500", "1.000"} <= set(texts)
    assert min(float(e["font-size"]) for e in shapes(svg, "text")) >= 11


def test_maps_say_the_mean_and_take_the_colour_of_the_gap(plan: Plan) -> None:
    low, high = band("lp_forget")
    wanted = {
        0.0125: (low + high) / 2,
        0.05: high + 0.6 * (high - low),
        0.2: low - 0.1 * (high - low),
    }
    values = {
        spell(c.method): wanted[c.method.recover_lr] for c in plan.jobs if c.method.name == "muda"
    }  # type: ignore[attr-defined]
    values |= {paper(forget_lr=0.2, recover_lr=0.2): 0.123}
    seeds = records(
        plan.jobs, lambda c: {**ORIGINAL, "lp_forget": values.get(spell(c.method), 0.9)}
    )["by_class(label=3)"]
    found = ablations.answer(ask("rates"), seeds)
    svg = ablations.draw(found)
    texts = [e.text for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert [texts.count(f"{wanted[rate]:.3f}") for rate in (0.0125, 0.05, 0.2)] == [
        3,
        3,
        2,
    ] and texts.count("0.123") == 1
    gaps = {
        rate: 2 * (value - fmean(ORACLES["lp_forget"])) / (2 * _half())
        for rate, value in wanted.items()
    }
    assert abs(gaps[0.0125]) < 1 < 2 < gaps[0.05] < 4 and -2 < gaps[0.2] < -1
    fills = [r["fill"] for r in shapes(svg, "rect")]
    assert fills.count(ABOVE[1]) == 3 and fills.count(BELOW[0]) == 2
    framed = [r for r in shapes(svg, "rect") if r["fill"] == INSIDE]
    assert len(framed) >= 3 and all(r["stroke"] == figures.INK for r in framed)


def test_a_map_has_each_value_at_its_row_and_column_and_the_mean_gap_of_the_seeds(
    plan: Plan,
) -> None:
    panel = figures.Panel("LP", (0.6, 0.7), 1.0, "{:.3f}".format)
    places = {
        (r, c): [figures.Spot(float(f"0.{i}{j}1"), None)]
        for i, r in enumerate("abc")
        for j, c in enumerate("xy")
    }
    svg = figures.maps("title", [panel], places, across="letters")
    found = {
        e.text: (float(e.attrib["x"]), float(e.attrib["y"]))
        for e in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}text")
    }
    for (row, column), (spot,) in places.items():
        assert found[f"{spot.value:.3f}"] == pytest.approx(
            (found[column][0], found[row][1]), abs=0.1
        )
    assert found["a"][1] < found["b"][1] < found["c"][1] and found["x"][0] < found["y"][0]
    result = next(
        r
        for r in two(plan, {"lp_forget": 0.8}, {"lp_forget": 0.9}).results
        if r.variant.label == "every alternation"
    )
    gaps = [(v - fmean(ORACLES["lp_forget"])) / _half() for v in (0.8, 0.9)]
    assert ablations._spot(result, "lp_forget") == pytest.approx((0.85, fmean(gaps)))


def _half() -> float:
    return float(stats.t.ppf(0.975, 2)) * stdev(ORACLES["lp_forget"]) * (4 / 3) ** 0.5


def write_folder(folder: Path, seeds: dict[str, list[list[RunRecord]]]) -> Path:
    for i, of in enumerate(seeds.values()):
        for rows in of:
            target = folder / f"experiment{i}" / f"seed{rows[0].job['seed']}" / "records"
            target.mkdir(parents=True)
            for j, sealed in enumerate(chained(rows)):
                write_text(target / f"{j:03d}.json", canonical(to_json(sealed)) + "\n")
    return folder


def blank(path: Path, keys: Sequence[str]) -> Path:
    path.write_text(
        "".join(f"## {k}\n\nBy hand: {k}.\n\n<!-- table: {k} -->\n<!-- end -->\n" for k in keys),
        encoding="utf-8",
    )
    return path


def test_the_command_fills_its_blocks_and_keeps_the_rest(plan: Plan, tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "results", records(plan.jobs))
    keys = [q.key for q in ablations.QUESTIONS]
    page = blank(tmp_path / "page.md", keys)
    ablations.main(folder, page=page, figures=tmp_path / "figures")
    text = page.read_text(encoding="utf-8")
    assert all(f"By hand: {k}." in text and f"](ablations/{k}.svg)" in text for k in keys)
    assert {p.stem for p in (tmp_path / "figures").glob("*.svg")} == set(keys)
    ablations.main(folder, page=page, figures=tmp_path / "figures")
    assert page.read_text(encoding="utf-8") == text


def test_what_cannot_be_told_is_refused(plan: Plan, tmp_path: Path) -> None:
    page = blank(tmp_path / "page.md", ["parts"])
    with pytest.raises(SystemExit, match="has no records of methods"):
        ablations.main(tmp_path, page=page, figures=tmp_path / "figures")
    some = [c for c in plan.jobs if not spell(c.method).startswith("finetune")]
    with pytest.raises(SystemExit, match="no training seed has all 7 variants of 'parts'"):
        ablations.main(
            write_folder(tmp_path / "some", records(some)), page=page, figures=tmp_path / "figures"
        )
    with pytest.raises(SystemExit, match="no block <!-- table: parts_second_class -->"):
        ablations.main(
            write_folder(tmp_path / "all", records(plan.jobs)),
            page=page,
            figures=tmp_path / "figures",
        )


def test_the_committed_page_is_what_the_committed_records_say(tmp_path: Path) -> None:
    docs = ROOT / "docs"
    page = Path(shutil.copy(docs / "ablations.md", tmp_path))
    ablations.main(page=page, figures=tmp_path / "figures")
    assert page.read_text(encoding="utf-8") == (docs / "ablations.md").read_text(encoding="utf-8")
    for made in (tmp_path / "figures").glob("*.svg"):
        assert made.read_bytes() == (docs / "ablations" / made.name).read_bytes(), (
            f"{made.name}: run benchmarks/ablations.py"
        )
