"""Scores of one model: what is skipped, further layers, the mean over oracles, and the outputs that
all of it is fed from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Score
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.board import Board, Panel
from eigenforget.evaluation.evidence import Evidence, Observation
from eigenforget.evaluation.metrics import METRICS, PairedMetric, PanelMetric
from eigenforget.evaluation.scoring import check_skip, chosen_metrics, measurement_names
from eigenforget.models.features import capture
from tests.toys import ENGINE, WIDTH, net, without, world

SLOW = ("relearning",)
LAYER = "2"
OPT_IN = [kind.name for kind in AUDITS if getattr(kind, "opt_in", False)]


def scores(panel: Panel, evidence: Evidence) -> dict[str, Score]:
    return {
        s.name: s
        for s in panel.scoring(evidence.model, evidence.parts).findings(evidence, evidence).scores
    }


def beside(panel: Panel) -> Evidence:
    """The first original of the world, its own original, with three oracles."""
    w = world()
    seen = panel.observe(w.originals[0])
    return replace(
        panel.evidence(w.originals[0], seen),
        original=seen,
        oracles=tuple(panel.observe(m) for m in w.oracles[:3]),
    )


def test_every_measurement_has_a_name_of_its_own() -> None:
    names = measurement_names()
    assert len(set(names)) == len(names) == len(METRICS) + len(AUDITS)


def test_an_audit_on_request_runs_where_it_is_named_and_moves_no_other() -> None:
    plain, panel = world().panel(skip=SLOW), world().panel(skip=SLOW, audits=["svc_mia(most=50)"])
    whole, further = scores(plain, beside(plain)), scores(panel, beside(panel))
    assert "svc_mia" in OPT_IN and further == {**whole, "svc_mia": further["svc_mia"]}
    assert "svc_mia" not in whole and [type(a).name for a in panel.own_audits] == ["svc_mia"]


def test_skip_leaves_out_the_named_scores_and_moves_no_other() -> None:
    panel = world().panel(skip=SLOW)
    evidence = beside(panel)
    whole = scores(panel, evidence)
    gone: list[set[str]] = []
    for name in measurement_names():
        # No trigger is planted in this world, so there is no such score.
        if name in (*SLOW, *OPT_IN, "attack_success"):
            continue
        left = scores(replace(panel, skip=(*SLOW, name)), evidence)
        gone.append(set(whole) - set(left))
        assert gone[-1], f"skipping {name} leaves out nothing"
        assert left == {key: score for key, score in whole.items() if key in left}
    assert sum(map(len, gone)) == len(whole) == len(set().union(*gone)), (
        "each score is of one measurement"
    )


def test_skipping_everything_leaves_what_is_derived() -> None:
    panel = world().panel(skip=tuple(measurement_names()))
    assert scores(panel, beside(panel)) == {}
    found = panel.measure(world().originals[0])
    assert {s.name for s in found.scores} == {"tow", "tow_mia", "ain"} and all(
        s.value is None and s.reason for s in found.scores
    )
    assert found.series["pca"] and found.series["per_class"]


def test_unknown_names_to_skip_are_refused_with_the_list() -> None:
    check_skip(measurement_names())
    with pytest.raises(
        EigenforgetError,
        match=r"cannot skip nonsense, relearnin; there are: accuracies, .*relearning",
    ) as error:
        check_skip(["relearnin", "klom", "nonsense"])
    assert "\n" not in str(error.value) and all(
        name in str(error.value) for name in measurement_names()
    )
    with pytest.raises(EigenforgetError, match="cannot skip nonsense"):
        world().panel(skip=("nonsense",)).measure(world().originals[0])


def test_a_further_layer_is_measured_as_if_it_were_the_headline_layer() -> None:
    further, direct = (
        world().panel(skip=SLOW, layers=(LAYER,)),
        world().panel(skip=SLOW, layer=LAYER),
    )
    evidence = beside(further)
    at = {
        s.name: s
        for s in further.scoring(evidence.model, evidence.parts).at_layer(evidence, LAYER).scores
    }
    expected = scores(direct, beside(direct))
    reads_features = {
        name
        for kind in (*METRICS, *AUDITS)
        if kind.reads == "features"
        for name in _names(kind, expected)
    }
    assert set(at) == {f"{name}@{LAYER}" for name in reads_features} and len(at) >= 15
    for name in reads_features:
        assert replace(at[f"{name}@{LAYER}"], name=name) == expected[name], name
    headline = scores(further, evidence)
    moved = [name for name in reads_features if at[f"{name}@{LAYER}"].value != headline[name].value]
    assert len(moved) >= 8, "another layer has other features"


def _names(kind: type, whole: dict[str, Score]) -> set[str]:
    """The scores that go when this measurement is skipped."""
    direct = world().panel(skip=(*SLOW, kind.name), layer=LAYER)
    return set(whole) - set(scores(direct, beside(direct)))


def test_a_board_measures_every_layer_and_the_layers_do_not_move_the_headline() -> None:
    w, skip = world(), (*SLOW, "zrf", "rmia", "few_label_probe", "prototypes")
    plain = Board(w.panel(skip=skip), w.originals[:1], w.oracles[:3]).measure(
        w.originals[1], "unlearned"
    )
    both = Board(w.panel(skip=skip, layers=("0", LAYER)), w.originals[:1], w.oracles[:3]).measure(
        w.originals[1], "unlearned"
    )
    assert [s for s in both.scores if "@" not in s.name] == list(plain.scores)
    assert {s.name.partition("@")[2] for s in both.scores} == {"", "0", LAYER}
    assert both.series == plain.series


@pytest.mark.parametrize("settings", [{"layers": ("0", "body")}, {"layer": "body"}])
def test_unknown_layers_are_refused_with_the_list(settings: dict[str, object]) -> None:
    with pytest.raises(EigenforgetError, match="no layer 'body'; the model has: 0, 1, 2, 3, 4"):
        world().panel(**settings).measure(world().originals[0])


def test_a_comparison_is_the_mean_over_the_oracles_and_one_with_the_original() -> None:
    panel = world().panel(skip=SLOW)
    evidence = beside(panel)
    whole = scores(panel, evidence)
    for kind in (kind for kind in METRICS if issubclass(kind, PairedMetric)):
        for against in kind.against:
            others = evidence.oracles if against == "oracle" else (evidence.original,)
            for stem, declared in kind.kinds.items():
                by_hand = [
                    _compared(panel, kind, evidence, other, stem)
                    for other in others
                    if other is not None
                ]
                score = whole[f"{stem}_{against}"]
                assert score.value == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-12)
                assert (score.unit, score.range, score.better) == (
                    declared.unit,
                    declared.range,
                    declared.better,
                )
                special = against == "original" and declared.to_original is not None
                assert score.trace == (declared.to_original if special else declared.trace)


def _compared(panel: Panel, kind: type, evidence: Evidence, other: Observation, stem: str) -> float:
    metric = kind.create(panel.scoring(evidence.model, evidence.parts).context)
    for part, mine in evidence.parts.items():
        ours, theirs = (torch.from_numpy(getattr(rows, kind.reads)) for rows in (mine, other[part]))
        metric.update(part, torch.from_numpy(mine.labels), ours, theirs)
    return float(metric.values()[stem])


def test_without_models_to_compare_with_there_is_a_reason_and_a_missing_part_is_an_error() -> None:
    panel = world().panel(skip=SLOW)
    evidence = beside(panel)
    alone = scores(panel, replace(evidence, original=None, oracles=()))
    assert alone["cka_forget_original"].reason == "there is no original model to compare with"
    assert alone["cka_forget_oracle"].reason == "there is no retrained model to compare with"
    with pytest.raises(EigenforgetError, match="was not measured on part retain"):
        scores(panel, replace(evidence, oracles=(without(evidence.oracles[0], "retain"),)))


def test_one_oracle_without_a_value_leaves_the_mean_without_one() -> None:
    panel = world().panel(skip=SLOW)
    evidence = beside(panel)
    flat = {
        part: rows._replace(features=np.ones_like(rows.features))
        for part, rows in evidence.oracles[0].items()
    }
    found = scores(
        panel, replace(evidence, oracles=(evidence.oracles[0], flat, evidence.oracles[1]))
    )
    assert (
        found["cka_forget_oracle"].value is None
        and "do not vary" in found["cka_forget_oracle"].reason
    )
    assert found["jsd_forget_oracle"].value is not None


def hooks(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_capture_of_several_layers_is_several_captures_and_leaves_no_hook() -> None:
    model, inputs = net(1), torch.randn(7, WIDTH)
    with torch.no_grad(), capture(model, "0", ["2", "0", "4"]) as tap:
        found = tap(inputs)
        assert hooks(model) == 4
    for name, features in (("0", found.features), *found.layers.items()):
        with torch.no_grad(), capture(model, name) as alone:
            assert torch.equal(alone(inputs).features, features)
        with torch.no_grad():
            assert torch.equal(model[: int(name) + 1](inputs), features)
    assert list(found.layers) == ["2", "0", "4"] and hooks(model) == 0
    by_part = ENGINE.forward(model, world().parts["retain"], layers=["2"], batch_size=50)
    with torch.no_grad():
        assert all(
            torch.allclose(o.layers["2"], model[:3](b.inputs))
            and torch.equal(model[:4](b.inputs), o.features)
            for b, o in by_part
        )


def test_capture_takes_a_layer_before_a_later_one_changes_it_in_place() -> None:
    model = nn.Sequential(nn.Linear(WIDTH, 5), nn.ReLU(inplace=True), nn.Linear(5, 4))
    inputs = torch.randn(6, WIDTH)
    with torch.no_grad(), capture(model, "0", ["1"]) as tap:
        found = tap(inputs)
        assert torch.equal(found.features, model[0](inputs)) and bool((found.features < 0).any())
        assert torch.equal(found.layers["1"], model[0](inputs).relu())


@pytest.mark.parametrize("fails", ["unknown layer", "in the model", "outside", "abandoned"])
def test_hooks_are_gone_after_an_error(fails: str) -> None:
    model = net(1)
    if fails == "abandoned":
        passes = ENGINE.forward(model, world().parts["retain"], layers=["0"], batch_size=10)
        next(passes)
        assert hooks(model) > 0
        passes.close()  # type: ignore[attr-defined]
    else:
        layers = ["0", "x" if fails == "unknown layer" else "2"]
        with (
            pytest.raises((EigenforgetError, RuntimeError, ZeroDivisionError)),
            capture(model, None, layers) as tap,
        ):
            tap(torch.randn(3, WIDTH + 1)) if fails == "in the model" else 1 / 0
    assert hooks(model) == 0


class Lacking(PanelMetric):
    name = "lacking"
    reads = "logits"


class Colours(Lacking):
    """Reads what there is not."""

    name = "colours"
    reads = "colours"  # type: ignore[assignment]

    def update(self, part: Any, batch: Any, outputs: Any) -> None:
        """Sees nothing."""

    def measure(self) -> Any:
        """A bare number, which has no range."""
        return 0.5


class Bare(Colours):
    name = "bare"
    reads = "logits"


class Weird(Bare):
    name = "weird"

    def __init__(self, seed: int, colour: str) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Lacking, "metric lacking lacks measure, update"),
        (Colours, "metric colours reads 'colours'; it can read logits, features"),
        (Weird, "metric weird is made with colour, .* may name num_features, .*seed"),
    ],
)
def test_a_metric_of_ones_own_that_cannot_be_fed_is_named_before_the_work(
    kind: Any, message: str
) -> None:
    with pytest.raises(EigenforgetError, match=message):
        chosen_metrics([kind])


def test_what_a_metric_of_ones_own_measures_are_scores() -> None:
    panel = world().panel(metrics=(Bare,), skip=tuple(measurement_names()))
    with pytest.raises(EigenforgetError, match=r"metric bare must measure Scores, got 0\.5"):
        panel.measure(world().originals[0])


@pytest.mark.parametrize("number", [0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5)])
def test_a_number_of_any_library_is_an_answer_of_an_audit(number: Any) -> None:
    def half(evidence: Evidence, seed: int) -> Any:
        return number

    panel = world().panel(audits=[half], skip=tuple(measurement_names()))
    scores = panel.measure(world().originals[0]).scores
    assert [s.value for s in scores if s.name == "half"] == [0.5]
