"""The panel as a whole: parts, gaps, models that are not changed, degenerate features, wrong input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from eigenforget import record
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Score
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.board import Evaluation, Measurement, evaluate
from eigenforget.evaluation.observe import parts_of
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.methods import HeadMask
from eigenforget.models import checkpoint
from eigenforget.report.pages.page import render
from eigenforget.requests.splitting import gone_classes
from eigenforget.training.cost import ModelAndCost


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


def test_parts_divide_the_test_set_by_the_classes_that_are_gone() -> None:
    assert gone_classes(FORGET, RETAIN) == (2,)
    parts = parts_of(FORGET, RETAIN, TEST, forgotten_classes=(2,))
    assert set(parts["test_forget"].labels()) == {2} and set(parts["test_retain"].labels()) == {
        0,
        1,
        3,
    }
    assert len(parts["test_forget"]) + len(parts["test_retain"]) == len(TEST)
    assert list(parts_of(FORGET, RETAIN, TEST, forgotten_classes=())) == [
        "forget",
        "retain",
        "test_retain",
    ]
    with pytest.raises(EigenforgetError, match="no sample of a retained class"):
        parts_of(FORGET, RETAIN, source([2, 2]), forgotten_classes=(2,))


def test_scores_do_not_depend_on_how_data_is_given_and_models_stay_as_they_are() -> None:
    model = net().train()
    before, modes = checkpoint.digest(model), [m.training for m in model.modules()]
    as_loader = [
        DataLoader(TensorDataset(s.inputs, s.targets), batch_size=7, shuffle=True)
        for s in (FORGET, RETAIN, TEST)
    ]
    one = evaluate({"m": model}, forget=FORGET, retain=RETAIN, test=TEST)
    two = evaluate({"m": model}, forget=as_loader[0], retain=as_loader[1], test=as_loader[2])
    for a, b in zip(one.models["m"].scores, two.models["m"].scores, strict=True):
        assert (a.name, a.reason) == (b.name, b.reason) and a.value == pytest.approx(
            b.value, abs=1e-9
        )
    assert checkpoint.digest(model) == before and [m.training for m in model.modules()] == modes


def test_an_identical_model_has_gap_zero_wherever_the_oracle_has_a_value() -> None:
    same = evaluate({"m": net()}, oracles={"o": net()}, forget=FORGET, retain=RETAIN, test=TEST)
    gaps = {s.name: same.gap("m", s.name) for s in same.models["m"].scores if s.value is not None}
    known = {s.name for s in same.models["o"].scores if s.value is not None}
    alone = {name for name, gap in gaps.items() if gap is None}
    assert alone == set(gaps) - known, "the one oracle has no other to be compared with"
    assert all(
        name.endswith("_oracle") or name in ("tow", "tow_mia", "ain", "rmia_auc") for name in alone
    )
    assert len(set(gaps) & known) >= 20 and all(gaps[name] == 0 for name in known)
    assert all(same.standing("m", name) is None for name in gaps), "one oracle makes no band"


def test_among_identical_oracles_an_identical_model_is_in_every_band() -> None:
    models = {"original": net(3), "m": net(0)}
    same = evaluate(
        models, oracles={f"o{i}": net(0) for i in range(3)}, forget=FORGET, retain=RETAIN, test=TEST
    )
    values = {s.name: s.value for s in same.models["m"].scores if s.value is not None}
    assert len(values) >= 35
    for name, value in values.items():
        standing = same.standing("m", name)
        assert standing is not None and standing.verdict == "in" and standing.value == value, name
        assert same.gap("m", name) == 0, name
        assert same.models["o1"].value(name) == value, name
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
    assert values["cka_forget_original"] < 0.999 and same.gap("original", "jsd_forget_oracle") != 0


def test_gaps_are_to_the_oracle_mean_and_there_is_none_without_one() -> None:
    def measured(role: str, value: float | None) -> Measurement:
        score = Score(
            "da", value, "1", "reference", (0.0, 1.0), reason="" if value is not None else "none"
        )
        return Measurement(role, (score,), {}, 0.0)  # type: ignore[arg-type]

    found = Evaluation(
        {
            "a": measured("oracle", 0.5),
            "b": measured("oracle", 0.7),
            "m": measured("unlearned", 0.9),
        }
    )
    assert found.gap("m", "da") == pytest.approx(0.3) and found.oracle_mean("da") == pytest.approx(
        0.6
    )
    assert Evaluation({"m": measured("unlearned", 0.9)}).gap("m", "da") is None
    assert (
        Evaluation({"a": measured("oracle", None), "m": measured("unlearned", 0.9)}).gap("m", "da")
        is None
    )
    with pytest.raises(EigenforgetError, match="no score 'x'; there are: da"):
        found.gap("m", "x")


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


def test_records_hold_plain_json_and_claims_that_follow_from_the_scores(
    digits: Experiment, trained: nn.Module
) -> None:
    made = digits.panel().measure(trained, "original")
    sealed = record.seal(
        digits.evaluation_record(
            "original", ModelAndCost(trained, 2.5, {"cpu_seconds": 1.0}), made, job={"seed": 0}
        ),
        None,
    )
    text = json.dumps(record.to_json(sealed), allow_nan=False)
    assert record.record_from_json(json.loads(text)) == sealed
    assert (
        sealed.inputs["checked_model"] == checkpoint.digest(trained)
        and sealed.inputs["split"] == digits.split.digest
    )
    assert any(f"{made.value('da'):.4f}" in claim for claim in sealed.claims) and sealed.non_claims


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": {}}, "none given"),
        ({"models": {"a": net()}, "oracles": {"a": net()}}, "twice: a"),
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
