"""The panel as a whole: parts, gaps, models that are not changed, degenerate features, wrong input."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler, TensorDataset

from eigenforget import record
from eigenforget.core import bands
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.core.types import Score, Split
from eigenforget.data.sources import Samples, TensorSource
from eigenforget.evaluation.audits import Prototypes
from eigenforget.evaluation.board import Board, Measurement
from eigenforget.evaluation.evaluate import Evaluation, evaluate
from eigenforget.evaluation.evidence import Evidence
from eigenforget.evaluation.records import Origin, evaluation_record
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import HeadMask
from eigenforget.models import checkpoint
from eigenforget.record.verify import verify
from eigenforget.report.pages.export import to_latex, to_markdown
from eigenforget.report.pages.page import render
from eigenforget.report.table import build
from eigenforget.report.verdict import verdicts
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from tests import toys
from tests.toys import ENGINE


def source(labels: list[int], seed: int = 0) -> TensorSource:
    g = torch.Generator().manual_seed(seed)
    y = torch.tensor(labels)
    return TensorSource(torch.eye(8)[y] * 2 + 0.5 * torch.randn(len(y), 8, generator=g), y)


FORGET, RETAIN, TEST = source([2] * 20), source([0, 1, 3] * 20, 1), source([0, 1, 2, 3] * 15, 2)
QUICK = tuple(
    name for name in measurement_names() if name not in ("accuracies", "dimensional_alignment")
)


def net(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 4))


def test_scores_do_not_depend_on_how_data_is_given_and_models_stay_as_they_are() -> None:
    model = net().train()
    before, modes = checkpoint.model_digest(model), [m.training for m in model.modules()]
    as_loader = [
        DataLoader(TensorDataset(s.inputs, s.targets), batch_size=7, shuffle=True)
        for s in (FORGET, RETAIN, TEST)
    ]
    one = evaluate({"m": model}, forget=FORGET, retain=RETAIN, test=TEST)
    two = evaluate({"m": model}, forget=as_loader[0], retain=as_loader[1], test=as_loader[2])
    for a, b in zip(one.measured["m"].scores, two.measured["m"].scores, strict=True):
        assert (a.name, a.reason) == (b.name, b.reason) and a.value == pytest.approx(
            b.value, abs=1e-9
        )
    assert (
        checkpoint.model_digest(model) == before and [m.training for m in model.modules()] == modes
    )


def test_scores_do_not_depend_on_class_numbers_with_gaps_or_unused_outputs() -> None:
    """zrf alone does: its random teacher spreads over every output that there is."""
    world, found = toys.world(), []
    for by in (1, 11):
        forget, retain, test = (
            (side.inputs, side.targets * by) for side in toys.sides(by_class=True)
        )
        models = [toys.spread(m, by) if by > 1 else m for m in world.originals[:1] + world.oracles]
        names = [f"oracle {i}" for i in range(len(models) - 1)]
        found.append(
            evaluate(
                {"original": models[0]},
                oracles=dict(zip(names, models[1:], strict=True)),
                forget=forget,
                retain=retain,
                test=test,
                skip=("zrf",),
                engine=ENGINE,
            )
        )
    plain, gaps = ({m: {s: e[m][s].value for s in e[m]} for m in e} for e in found)
    assert plain["original"]["da"] is not None
    for model, scores in plain.items():
        for name, value in scores.items():
            assert gaps[model][name] == (value if value is None else pytest.approx(value, abs=1e-5))


def test_models_of_other_classes_are_named_before_any_work() -> None:
    wider, narrower = net(), net()
    wider[-1], narrower[-1] = (
        nn.Linear(wider[-1].in_features, 9),
        nn.Linear(wider[-1].in_features, 2),
    )
    data = {"forget": FORGET, "retain": RETAIN, "test": TEST}
    with pytest.raises(
        EigenforgetError,
        match=r"^models are compared by their outputs: 'original' has \d and 'm' 9",
    ):
        evaluate({"original": net(), "m": wider}, **data)
    with pytest.raises(EigenforgetError, match=r"^model 'original': label.* of 2 outputs"):
        evaluate({"original": narrower}, **data)


BESIDE = ("tow", "tow_mia", "ain", "rmia_auc", "remembered_share", "margin_gap_top")
"""Scores that a lone retrained model has not, since they compare with one."""


def test_an_identical_model_has_gap_zero_wherever_the_oracle_has_a_value() -> None:
    same = evaluate({"m": net()}, oracles={"o": net()}, forget=FORGET, retain=RETAIN, test=TEST)
    gaps = {name: score.gap for name, score in same["m"].items() if score.value is not None}
    known = {name for name, score in same["o"].items() if score.value is not None}
    alone = {name for name, gap in gaps.items() if gap is None}
    assert alone == set(gaps) - known, "the one oracle has no other to be compared with"
    assert all(name.endswith("_oracle") or name in BESIDE for name in alone)
    assert len(set(gaps) & known) >= 20 and all(gaps[name] == 0 for name in known)
    assert all(same["m"][name].units is None for name in gaps), "one oracle makes no band"


def twin(number: int) -> nn.Module:
    """Models that compute the same; equal weights would be refused. Two zeros differ in sign."""
    model = net(0)
    with torch.no_grad():
        for place in range(2):
            model[0].weight[0, place] = -0.0 if number & 1 << place else 0.0
    return model


def test_among_identical_oracles_an_identical_model_is_in_every_band() -> None:
    models = {"original": net(3), "m": twin(0)}
    oracles = {f"o{i}": twin(i) for i in range(3)}
    same = evaluate(models, oracles=oracles, forget=FORGET, retain=RETAIN, test=TEST)
    values = {name: score.value for name, score in same["m"].items() if score.value is not None}
    assert len(values) >= 35
    for name, value in values.items():
        assert same["m"][name].verdict == "in" and same["m"][name].gap == 0, name
        assert same["o1"][name].value == value, name
    for name, expected in {
        "jsd_forget_oracle": 0,
        "jsd_test_oracle": 0,
        "l2_forget_oracle": 0,
        "ruler_m2_oracle": 0,
        "tow": 1,
    }.items():
        assert values[name] == expected
    for name in (
        "cka_forget_oracle",
        "cka_retain_oracle",
        "procrustes_forget_oracle",
        "procrustes_retain_oracle",
    ):
        assert values[name] == pytest.approx(1, abs=1e-12)
    assert values["cka_forget_original"] < 0.999 and same["original"]["jsd_forget_oracle"].gap != 0


@pytest.mark.parametrize(
    "oracles, named",
    [({"a": 0, "b": 1, "c": 0}, "c has exactly the weights of a"), ({"a": 3}, "of original")],
)
def test_one_model_is_not_several_oracles(oracles: dict[str, int], named: str) -> None:
    given = {name: net(seed) for name, seed in oracles.items()}
    with pytest.raises(EigenforgetError, match=named):
        evaluate({"original": net(3)}, oracles=given, forget=FORGET, retain=RETAIN, test=TEST)


def test_gaps_are_to_the_oracle_mean_and_there_is_none_without_one() -> None:
    found = evaluation(o1=0.5, o2=0.7, m=0.9)
    assert found["m"]["lp"].gap == pytest.approx(0.3) and found["o1"]["lp"].gap is None
    assert evaluation(m=0.9)["m"]["lp"].gap is None
    assert evaluation(o1=None, m=0.9)["m"]["lp"].gap is None
    with pytest.raises(EigenforgetError, match="no score 'x'; there are: lp"):
        found["m"]["x"]
    with pytest.raises(EigenforgetError, match="no model 'x'; there are: o1, o2, m"):
        found["x"]


def test_degenerate_features_are_not_applicable_never_a_number_and_still_make_a_page(
    digits: Experiment, trained: nn.Module
) -> None:
    panel = digits.panel(skip=("relearning",))
    flat = HeadMask()(_task(digits, trained))
    with torch.no_grad():
        for module in flat.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.zero_()
                module.bias.fill_(0.5)
    measured = panel.measure(flat, "control")
    by_name = {s.name: s for s in measured.scores}
    for name in ("da", "nmi", "cluster_f1"):
        assert by_name[name].value is None and by_name[name].reason
    rank_one = record.seal(
        digits.evaluation_record("flat", ModelAndCost(flat, 1.0, {}), measured, job={}), None
    )
    whole = panel.measure(trained, "original")
    original = record.seal(
        digits.evaluation_record("original", ModelAndCost(trained, 1.0, {}), whole, job={}),
        rank_one.digest,
    )
    assert "flat" in render([rank_one, original], "degenerate")


def test_every_model_of_one_panel_is_mapped_on_the_same_samples(
    digits: Experiment, trained: nn.Module
) -> None:
    panel = replace(digits.panel(skip=QUICK), map_points=50)
    one, two = (
        panel.measure(trained).series["pca"],
        panel.measure(HeadMask()(_task(digits, trained))).series["pca"],
    )
    assert one["id"] == two["id"] and len(set(one["id"])) == 50
    labels = dict(zip(digits.data.test_index.ids, digits.data.test_index.labels, strict=True))
    assert [labels[i] for i in one["id"]] == one["label"], "ids, labels and points belong together"
    assert one["forget"] == [label == 3 for label in one["label"]]


def test_the_map_is_principal_component_analysis(digits: Experiment, trained: nn.Module) -> None:
    from sklearn.decomposition import PCA

    panel = replace(digits.panel(skip=QUICK), map_points=10_000)
    series = panel.measure(trained).series["pca"]
    held = [
        o.features
        for p in ("test_forget", "test_retain")
        for _, o in digits.engine.forward(trained, panel.parts[p])
    ]  # type: ignore[index]
    pca = PCA(2, svd_solver="full").fit(torch.cat(held).double().numpy())
    np.testing.assert_allclose(series["explained"], pca.explained_variance_ratio_, rtol=1e-4)
    expected = np.abs(pca.transform(torch.cat(held).double().numpy()))
    np.testing.assert_allclose(
        np.abs(np.stack([series["x"], series["y"]], 1)), expected, rtol=1e-3, atol=1e-4
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {}}, "none given"),
        ({"models": {"a": net()}, "oracles": {"a": net()}}, "twice: a"),
        ({"models": {"a": net(), "A ": net()}}, "'A ' looks like 'a'"),
        ({"models": {"a\nb": net()}}, "one line without control"),
        (
            {"models": {"a": nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 3))}},
            "label 3 is outside the model's head of 3 outputs",
        ),
    ],
)
def test_wrong_input(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(EigenforgetError, match=message):
        evaluate(arguments.pop("models"), forget=FORGET, retain=RETAIN, test=TEST, **arguments)  # type: ignore[arg-type]


def _task(digits: Experiment, model: nn.Module):  # type: ignore[no-untyped-def]
    from eigenforget.methods.base import Task

    return Task(
        model=model,
        forget=digits.forget,
        retain=digits.retain,
        engine=digits.engine,
        seed=0,
        num_classes=10,
        forgotten_classes=(3,),
    )


def test_evaluate_observes_every_model_once() -> None:
    engine = Engine(device="cpu")
    forget, retain, test = source([2] * 12), source([0, 1, 3] * 10, 1), source([0, 1, 2, 3] * 5, 2)
    evaluate(
        {"original": net(0), "m": net(1)},
        oracles={"o": net(2), "p": net(3)},
        forget=forget,
        retain=retain,
        test=test,
        engine=engine,
        skip=(*QUICK,),
    )
    assert engine.meter.forwarded == 4 * (len(forget) + len(retain) + len(test))


@pytest.mark.parametrize(
    ("value", "verdict"), [(0.9, "residual"), (0.62, "in"), (0.1, "over-forgotten")]
)
def test_a_score_stands_in_the_band_of_the_oracles_by_hand(value: float, verdict: str) -> None:
    found = evaluation(m=value, o0=0.5, o1=0.6, o2=0.7)["m"]["lp"]
    half = 4.302652729911275 * 0.1 * (4 / 3) ** 0.5  # t(0.975, 2) · s · √(1 + 1/3)
    assert found.gap == pytest.approx(value - 0.6)
    assert found.units == pytest.approx((value - 0.6) / half)
    assert found.verdict == ("in" if abs(value - 0.6) <= half else verdict)


def test_a_band_needs_two_oracles_with_values_three_where_they_are_compared_with_each_other() -> (
    None
):
    assert evaluation(m=0.5, o1=0.4)["m"]["lp"].units is None
    assert evaluation(m=None, o1=0.4, o2=0.5)["m"]["lp"].units is None
    assert evaluation(m=0.5, o1=None, o2=0.5)["m"]["lp"].units is None
    assert evaluation(m=0.5, o1=0.4, o2=0.5)["m"]["lp"].units is not None
    two = evaluation("jsd_oracle", m=0.5, o1=0.4, o2=0.4)
    assert two["m"]["jsd_oracle"].units is None
    three = evaluation("jsd_oracle", m=0.5, o1=0.4, o2=0.45, o3=0.5)["m"]["jsd_oracle"]
    band = bands.band([0.4, 0.45, 0.5], span=(0.0, 1.0), pairs=True)
    assert band is not None and three.units == bands.units(0.5, band)


def test_the_mean_of_equal_oracles_is_their_value_to_the_bit() -> None:
    for value in np.random.default_rng(0).random(100):
        found = evaluation(m=float(value), o1=float(value), o2=float(value), o3=float(value))
        assert found["m"]["lp"].gap == 0


def evaluation(name: str = "lp", **values: float | None) -> Evaluation:
    """One score; models named o… are oracles."""

    def measured(model: str, value: float | None) -> Measurement:
        reason = "" if value is not None else "none"
        score = Score(name, value, "share", "reference", (0.0, 1.0), reason=reason, trace="above")
        return Measurement("oracle" if model.startswith("o") else "unlearned", (score,), {}, 0.0)

    found = {model: measured(model, value) for model, value in values.items()}
    origin, split = Origin({}, {}, ENGINE), Split(np.arange(2), np.arange(3), (), "")
    made = ModelAndCost(nn.Linear(1, 1), 0.0, {})
    unsealed = [
        evaluation_record(model, made, one, origin, split=split) for model, one in found.items()
    ]
    return Evaluation(found, tuple(record.chained(unsealed)))


OWN = '''
import torch
from eigenforget.core.types import Score
from eigenforget.evaluation.evidence import Evidence
from eigenforget.evaluation.metrics import MetricContext, PanelMetric


class LargestLogit(PanelMetric):
    """Mean of the largest logit on the forget set."""

    name = "largest_logit"
    reads = "logits"
    glossary = {"largest_logit": ("top logit", "outputs", "Mean of the largest logit.")}

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    @classmethod
    def create(cls, context: MetricContext):
        return cls()

    def update(self, part, batch, outputs):
        if part == "forget":
            top = outputs.logits.max(dim=1).values.double()
            self.total = self.total + torch.stack([top.sum(), torch.tensor(float(len(top)))])

    def measure(self):
        value = float(self.total[0] / self.total[1])
        return (Score("largest_logit", value, "1", "reference", (-1e9, 1e9), trace="above"),)


def forget_share(evidence: Evidence, seed: int, *, scale: float = 1.0) -> float:
    """Share of the forget set in the training data, times a scale."""
    forget, retain = (len(evidence.parts[part].labels) for part in ("forget", "retain"))
    return scale * forget / (forget + retain)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """A metric and an audit of one's own file, as they are spelled."""
    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    return {
        "metrics": ['python(path="mine.py:LargestLogit")'],
        "audits": ['python(path="mine.py:forget_share", scale=2.0)'],
    }


def test_a_metric_and_an_audit_of_ones_own_file_stand_in_table_and_record(
    own: dict[str, list[str]], tmp_path: Path
) -> None:
    skip = measurement_names()
    found = quick({"m": net()}, oracles={"o": net(1)}, skip=skip, **own)
    seen = [float(net(i)(FORGET.inputs).max(dim=1).values.detach().mean()) for i in (0, 1)]
    assert found["m"]["largest_logit"].value == pytest.approx(seen[0], rel=1e-6)
    assert found["m"]["largest_logit"].gap == pytest.approx(seen[0] - seen[1], rel=1e-5)
    assert found["m"]["forget_share"].value == 2.0 * 20 / 80
    written = found.records[0]
    assert {row.name for row in written.scores} >= {"largest_logit", "forget_share"}
    assert written.inputs["file:mine.py"] == record.file_digest(tmp_path / "mine.py")
    assert written.job["measurement"]["metrics"] == ["mine.py:LargestLogit"]
    assert written.job["measurement"]["audits"] == [
        "python(path='mine.py:forget_share', scale=2.0)"
    ]
    assert "forget_share" in repr(found) and "top logit" in repr(found)
    assert "Mean of the largest logit." in found.report("page.html").read_text()


def test_own_files_of_one_name_are_one_line(own: dict[str, list[str]], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.py").write_text(OWN)
    both = {**own, "audits": ['python(path="other/mine.py:forget_share")']}
    with pytest.raises(EigenforgetError, match=r"mine.py, .*mine.py have the same name.*rename"):
        quick({"m": net()}, **both)


def test_own_audits_are_functions_instances_or_classes_and_replace_those_of_their_name() -> None:
    def constant(evidence: Evidence, seed: int) -> float:
        return 0.25

    skip = [name for name in measurement_names() if name != "prototypes"]
    found = quick({"m": net()}, skip=skip, audits=[constant, Prototypes(shots=3)])
    assert found["m"]["constant"].value == 0.25
    other = quick({"m": net()}, skip=skip, audits=["prototypes(shots=3)"])
    plain = quick({"m": net()}, skip=skip)
    name = "prototype_forget"
    assert found["m"][name].value == other["m"][name].value != plain["m"][name].value
    assert "measurement" in found.records[0].job and "constant" not in plain["m"]


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ({"metrics": [int]}, "int"),
        ({"metrics": ["nothing_like_it"]}, "nothing_like_it"),
        ({"audits": ["linear_probe(nothing=1)"]}, "nothing"),
        ({"audits": [3]}, "3"),
        ({"audits": "linear_probe"}, "linear_probe"),
        ({"audits": [lambda evidence, seed: "words"]}, "words"),
        ({"skip": "relearning"}, "relearning"),
        ({"skip": ["nothing_like_it"]}, "nothing_like_it"),
        ({"layers": ["0", "0"]}, "0, 0"),
        ({"maps": ["nothing"]}, "nothing"),
        ({"oracles": [net(1)]}, "list"),
        ({"oracles": {"o": 3}}, "int"),
        ({"oracles": {"": net(1)}}, "''"),
        ({"oracles": {"a\nb": net(1)}}, r"'a\nb'"),
        ({"forgotten_classes": (7,)}, "7"),
        ({"engine": "cpu"}, "'cpu'"),
        ({"k": -1}, "-1"),
        ({"seed": "a"}, "'a'"),
    ],
)
def test_wrong_arguments_are_one_line(given: dict[str, Any], value: str) -> None:
    with pytest.raises(EigenforgetError) as error:
        quick({"m": net()}, **{"skip": QUICK, **given})
    assert value in str(error.value) and "\n" not in str(error.value)


def test_a_single_model_in_place_of_named_ones_is_told() -> None:
    with pytest.raises(EigenforgetError, match="Sequential"):
        evaluate(net(), forget=FORGET, retain=RETAIN, test=TEST)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def found() -> Evaluation:
    models = {"original": net(0), "muda": ModelAndCost(net(1), 2.0, {"cpu_seconds": 2.0})}
    oracles = {f"oracle {i}": ModelAndCost(net(i), 4.0, {"cpu_seconds": 4.0}) for i in (2, 3, 4)}
    return evaluate(
        models, oracles=oracles, forget=FORGET, retain=RETAIN, test=TEST, skip=["relearning", "zrf"]
    )


def test_an_evaluation_prints_as_a_short_table(found: Evaluation) -> None:
    lines = repr(found).splitlines()
    assert 10 < len(lines) < 60 and all(len(line) <= 100 for line in lines)
    assert all(word in repr(found) for word in ("muda", "original", "DA"))
    html = found._repr_html_()
    assert html.startswith("<pre") and "muda" in html and "<script" not in html
    assert list(found) == ["original", "muda", "oracle 2", "oracle 3", "oracle 4"]
    assert len(found["muda"]) > 50 and len(repr(found["muda"])) < 400


def test_its_tables_verdict_and_page_are_those_of_its_records(
    found: Evaluation, tmp_path: Path
) -> None:
    assert found.verdict("muda") == next(
        v for v in verdicts(build(found.records)) if v.model == "muda"
    )
    assert found.verdict("oracle 2").role == "oracle"
    with pytest.raises(EigenforgetError, match="oracle 9"):
        found.verdict("oracle 9")
    told = next(r for r in found.records if r.name == "muda").job["verdict"]
    assert told["outcome"] == found.verdict("muda").slug
    assert told["forgot"]["answer"] == found.verdict("muda").forgot.answer
    assert found["muda"]["da"].value == found.measured["muda"].value("da")
    assert found.to_markdown(["da"]) == to_markdown(found.records, ["da"])
    assert found.to_latex(["da"]) == to_latex(found.records, ["da"])
    page = found.report(tmp_path / "report.html", title="Mine")
    assert "muda" in page.read_text() and "Mine" in page.read_text()


def test_saved_records_are_verified(found: Evaluation, tmp_path: Path) -> None:
    out = found.save(tmp_path / "results")
    assert {path.name for path in out.iterdir()} == {"records", "table.csv", "report.html"}
    result = verify([out / "records"])
    assert result.status == 0 and len(result.tips) == 1
    assert record.read_folder(out / "records") == list(found.records)
    with pytest.raises(EigenforgetError):
        found.save(tmp_path / "results")
    found.save(tmp_path / "results", overwrite=True)
    one = found.records[1]
    assert one.inputs["checked_model"] == checkpoint.model_digest(net(1))
    assert one.outcome.seconds == 2.0 and one.job["sizes"]["forget"] == len(FORGET)


def test_the_frame_is_pandas_where_it_is_installed(
    found: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(EigenforgetError, match="pandas"):
            found.to_frame()
    pytest.importorskip("pandas")
    assert found.to_frame().loc["muda", "da"] == found["muda"]["da"].value


def quick(models: dict[str, Any], **given: Any) -> Evaluation:
    return evaluate(models, **{"forget": FORGET, "retain": RETAIN, "test": TEST, **given})


def test_records_say_what_of_the_originals_weights_is_left() -> None:
    models = {"original": net(), "copy": net(), "other": net(1)}
    found = evaluate(models, forget=FORGET, retain=RETAIN, test=TEST, skip=QUICK)
    left = {r.name: r.job.get("unchanged_weights") for r in found.records}
    assert left["original"] is None
    assert left["copy"]["share"] == left["copy"]["by_content"] == 1.0
    assert left["other"]["share"] == left["other"]["by_content"] == 0.0


def test_records_say_which_classes_are_gone_and_who_said_so() -> None:
    given = {"forget": FORGET, "retain": RETAIN, "test": TEST, "skip": QUICK, "engine": ENGINE}
    inferred = evaluate({"original": net()}, **given)
    said = evaluate({"original": net()}, **given, forgotten_classes=(2,))
    jobs = [found.records[0].job["classes"] for found in (inferred, said)]
    assert jobs == [{"gone": [2], "said_by": "labels"}, {"gone": [2], "said_by": "caller"}]
    assert repr(inferred).endswith(": 2") and not repr(said).endswith(": 2")


@pytest.mark.parametrize(
    ("wrong", "count"),
    [("retain", "20 samples of the retain set"), ("test", "60 samples of the test set")],
)
def test_a_sample_in_two_sets_is_an_error_or_on_record(wrong: str, count: str) -> None:
    both = TensorSource(
        torch.cat([FORGET.inputs, RETAIN.inputs]), torch.cat([FORGET.targets, RETAIN.targets])
    )
    given = {"forget": FORGET, "retain": RETAIN, "test": TEST, "skip": QUICK, "engine": ENGINE}
    given[wrong] = both if wrong == "retain" else RETAIN
    with pytest.raises(EigenforgetError, match=count):
        evaluate({"original": net()}, **given)
    found = evaluate({"original": net()}, **given, allow_overlap=True).records[0].job["overlap"]
    assert found == {f"{wrong} of {'forget' if wrong == 'retain' else 'retain'}": int(count[:2])}


class Augmented(Dataset[Any]):
    """Samples that a transform changes at random."""

    def __init__(self, samples: TensorSource) -> None:
        self.samples, self.transform = samples, lambda x: x + torch.rand(x.shape)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, i: int) -> tuple[Any, int]:
        assert isinstance(self.samples.inputs, torch.Tensor)
        return self.transform(self.samples.inputs[i]), int(self.samples.targets[i])


def test_random_augmentation_is_an_error_a_clean_view_or_on_record() -> None:
    given = {"retain": RETAIN, "test": TEST, "skip": QUICK, "engine": ENGINE}
    data = Augmented(FORGET)
    state = torch.get_rng_state()
    for loader in (data, DataLoader(data, batch_size=4, shuffle=True)):
        with pytest.raises(EigenforgetError, match=r"^forget: .*eval_transform=.*allow_random="):
            evaluate({"original": net()}, forget=loader, **given)
    assert torch.equal(torch.get_rng_state(), state)
    clean = Samples(data, eval_transform=lambda x: x)
    one, two = (evaluate({"m": net()}, forget=f, **given) for f in (clean, FORGET))
    scores = [found.measured["m"].scores for found in (one, two)]
    assert scores[0] == scores[1] and one.records[0].inputs == two.records[0].inputs
    allowed = evaluate({"m": net()}, forget=Samples(data, allow_random=True), **given)
    assert allowed.records[0].job["random_inputs"] == ["forget"]
    assert "random_inputs" not in one.records[0].job


def test_warnings_about_the_data_stand_in_the_record() -> None:
    data = TensorDataset(FORGET.inputs, FORGET.targets)
    loader = DataLoader(data, batch_size=4, sampler=RandomSampler(data, replacement=True))
    with pytest.warns(EigenforgetWarning, match="draws with replacement"):
        found = evaluate({"m": net()}, forget=loader, retain=RETAIN, test=TEST, skip=QUICK)
    (line,) = found.records[0].job["warnings"]
    assert "20 of 20" in line


def test_peers_let_attacks_with_shadow_models_run() -> None:
    """As with the board, whose models saw the same samples."""
    w, names = toys.world(), ("u_lira_auc", "klom_forget")
    forget, retain, test = toys.sides(by_class=True)
    skip = tuple(name for name in measurement_names() if name not in ("u_lira", "klom"))
    given = {"forget": forget, "retain": retain, "test": test, "skip": skip, "engine": ENGINE}
    given["oracles"] = {f"oracle {i}": model for i, model in enumerate(w.oracles[:3])}
    model, *peers = w.originals
    found = evaluate({"m": model}, peers=peers, **given)["m"]
    panel = w.panel(skip=skip)
    board = Board(panel, [], w.oracles[:3], peers=2)
    expected = board.measure(model, "unlearned", peers=[panel.observe(peer) for peer in peers])
    known = {score.name: score.value for score in expected.scores}
    assert [found[name].value for name in names] == [known[name] for name in names]
    assert known["u_lira_auc"] is not None
    assert evaluate({"m": model}, **given)["m"]["u_lira_auc"].value is None
    for models in ({"original": model}, {"a": model, "b": model}):
        with pytest.raises(EigenforgetError, match="the one unlearned model"):
            evaluate(models, peers=peers, **given)
    with pytest.raises(EigenforgetError, match=r"peer 2.*got str"):
        evaluate({"m": model}, peers=[peers[0], "m"], **given)


@pytest.mark.parametrize(
    ("outputs", "more", "words"),
    [
        (4, {}, ["'original' has 3", "'u' 4"]),
        (3, {"num_classes": 5}, ["num_classes=5", "3 outputs of model 'original'"]),
    ],
)
def test_models_of_other_outputs_are_named(outputs: int, more: Any, words: list[str]) -> None:
    generator = torch.Generator().manual_seed(0)
    sets = {
        name: (torch.randn(12, 4, generator=generator), torch.arange(12) % 3)
        for name in ("forget", "retain", "test")
    }
    models = {"original": nn.Linear(4, 3), "u": nn.Linear(4, outputs)}
    with pytest.raises(EigenforgetError) as error:
        evaluate(models, **sets, **more)
    assert all(word in str(error.value) for word in words)
