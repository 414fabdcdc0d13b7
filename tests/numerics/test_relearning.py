"""Relearning against a hand-written loop of the same steps, its anchors, what it leaves alone, and
its refusals.
"""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import TensorDataset

from eigenforget.core import spec
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.seeds import derive
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.evaluation.audits.linear_probe import stratified_subset
from eigenforget.evaluation.audits.relearning import Relearning, area_interval, crossing
from eigenforget.evaluation.evidence import Evidence, PartOutputs
from eigenforget.evaluation.metrics.accuracy import wilson_interval
from eigenforget.methods.base import Task
from eigenforget.methods.head_mask import HeadMask
from eigenforget.models.features import find_head
from eigenforget.training.engine import Engine

CENTRES = torch.tensor(np.random.default_rng(1).normal(size=(4, 6)) * 1.5, dtype=torch.float32)
QUICK = Relearning(budgets=(10,), steps=8, lr=0.03)


def source(n, classes, seed):
    rng = torch.Generator().manual_seed(seed)
    labels = torch.tensor(classes).repeat(n)[:n]
    return TensorSource(CENTRES[labels] + torch.randn(n, 6, generator=rng), labels)


def network(seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 4))
    model(CENTRES.repeat(5, 1) + torch.randn(20, 6))  # statistics that are not the initial ones
    return model.eval()


def data(gone=(1,)):
    if not gone:
        return {
            "forget": source(60, [0, 1, 2, 3], 0),
            "retain": source(90, [0, 1, 2, 3], 1),
            "test_retain": source(40, [0, 1, 2, 3], 2),
        }
    kept = [0, 2, 3]
    return {
        "forget": source(30, [1], 0),
        "retain": source(30, kept, 1),
        "test_forget": source(150, [1], 2),
        "test_retain": source(60, kept, 3),
    }


def seen(engine, model, sources):
    found = {}
    for part, samples in sources.items():
        rows = [
            (o.logits, o.features, b.labels, b.positions)
            for b, o in engine.forward(copy.deepcopy(model), samples)
        ]
        found[part] = PartOutputs(
            *(torch.cat(column).numpy() for column in zip(*rows, strict=True))
        )
    return found


def evidence(model, sources, gone=(1,), original=None):
    engine = Engine(device="cpu")
    before = None if original is None else seen(engine, original, sources)
    return Evidence(
        model,
        seen(engine, model, sources),
        4,
        gone,
        original=before,
        sources=sources,
        engine=engine,
    )


@pytest.fixture(scope="module")
def knows():
    """A model trained on all four classes."""
    model, (x, y) = (
        network().train(),
        (lambda s: (s.inputs, s.targets))(source(400, [0, 1, 2, 3], 5)),
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(80):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model.eval()


def neutral(model, gone):
    model, rest = copy.deepcopy(model), [c for c in range(4) if c not in gone]
    with torch.no_grad():
        model[3].weight[list(gone)] = model[3].weight[rest].mean(0)
        model[3].bias[list(gone)] = model[3].bias[rest].mean(0)
    return model


class Unit(nn.Module):
    """Features less a mean, over a scale."""

    def __init__(self, mean, scale):
        super().__init__()
        self.mean, self.scale = mean, scale

    def forward(self, features):
        return (features - self.mean) / self.scale


def balanced(model, retain):
    """The same classifier, whose head sees features in the unit of the retain set."""
    *body, head = copy.deepcopy(model).eval()
    features = nn.Sequential(*body)(retain.inputs).detach()
    mean = features.mean(0)
    scale = (features - mean).square().mean().sqrt()
    with torch.no_grad():
        head.bias += head.weight @ mean
        head.weight *= scale
    return nn.Sequential(*body, Unit(mean, scale), head)


def by_hand(model, retain, batch, target, *, steps, lr, momentum=0.9):
    """Nesterov steps on one fixed batch, written out; accuracy after each step of 0, 1, 2, 4, 8."""
    return stepped(balanced(model, retain), batch, target, steps=steps, lr=lr, momentum=momentum)


def stepped(model, batch, target, *, steps, lr, momentum):
    weights = list(model.parameters())
    speed, curve = [torch.zeros_like(w) for w in weights], []
    for step in range(steps + 1):
        if step in (0, 1, 2, 4, 8):
            curve.append(float((model(target.inputs).argmax(1) == target.targets).double().mean()))
        if step == steps:
            return curve
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.targets)
        for w, v, g in zip(weights, speed, torch.autograd.grad(loss, weights), strict=True):
            v.mul_(momentum).add_(g)
            w.data -= lr * (g + momentum * v)


def joined(*sources):
    return TensorSource(
        torch.cat([s.inputs for s in sources]), torch.cat([s.targets for s in sources])
    )


def curves(findings):
    return findings.series["relearning"]["curves"]


def close(curve, expected):
    return curve == pytest.approx(expected, abs=5e-6)


def test_class_forgetting_takes_the_steps_of_a_hand_written_loop():
    sources, model, seed = data(), network(), derive(3, "relearning")
    target = sources["test_forget"]
    few = [
        sources[p].subset(stratified_subset(sources[p].labels(), 10, seed=derive(seed, p)))
        for p in ("forget", "retain")
    ]
    batches = {"10": joined(*few), "all": joined(sources["forget"], sources["retain"])}
    expected = {}
    for head in ("kept", "neutral"):
        start = model if head == "kept" else neutral(model, (1,))
        found = curves(
            Relearning(budgets=(10,), steps=8, lr=0.03, head=head)(evidence(model, sources), 3)
        )
        expected[head] = {
            name: by_hand(start, sources["retain"], batch, target, steps=8, lr=0.03)
            for name, batch in batches.items()
        }
        assert all(close(found[name], expected[head][name]) for name in batches)
        assert close(
            found["0"],
            by_hand(model, sources["retain"], sources["retain"], target, steps=8, lr=0.03),
        )  # the benign row keeps its head
        assert len(set(found["all"])) > 2
    best = curves(QUICK(evidence(model, sources), 3))
    for name in batches:
        assert close(best[name], max((expected[h][name] for h in expected), key=np.mean))


class Keeping(Engine):
    """Keeps the models that it has trained."""

    def fit(self, model, phases, **settings):
        self.meter.kept = [*getattr(self.meter, "kept", []), super().fit(model, phases, **settings)]
        return model


def test_the_weights_are_those_of_the_loop():
    sources, model, engine = data(), network(), Keeping(device="cpu")
    given = evidence(model, sources)
    Relearning(budgets=(), steps=8, lr=0.03, head="kept")(replace(given, engine=engine), 0)
    for trained, batch in zip(
        engine.meter.kept,
        (sources["retain"], joined(sources["forget"], sources["retain"])),
        strict=True,
    ):
        expected = balanced(model, sources["retain"])
        stepped(expected, batch, sources["test_forget"], steps=8, lr=0.03, momentum=0.9)
        values = zip(trained.state_dict().values(), expected.state_dict().values(), strict=True)
        for value, wanted in values:
            torch.testing.assert_close(value, wanted, rtol=2e-5, atol=2e-6)


def test_where_no_class_is_gone_one_half_of_the_forget_samples_is_trained_on_and_the_other_tested():
    sources, model, seed = data(()), network(), derive(0, "relearning")
    half = stratified_subset(sources["forget"].labels(), 30, seed=derive(seed, "half"))
    rest = np.setdiff1d(np.arange(60), half)
    retain = sources["retain"].subset(
        stratified_subset(sources["retain"].labels(), 30, seed=derive(seed, "retain"))
    )
    findings = QUICK(evidence(model, sources, ()), 0)
    expected = by_hand(
        model,
        sources["retain"],
        joined(sources["forget"].subset(half), retain),
        sources["forget"].subset(rest),
        steps=8,
        lr=0.03,
    )
    assert (
        close(curves(findings)["all"], expected)
        and findings.series["relearning"]["part"] == "forget"
    )


def test_scores_are_what_the_series_shows(knows):
    findings = QUICK(evidence(network(), data(), original=knows), 0)
    shown = json.loads(json.dumps(findings.series))["relearning"]
    assert (
        shown["steps"] == [0, 1, 2, 4, 8]
        and list(shown["curves"]) == ["0", "10", "all"]
        and shown["part"] == "test_forget"
    )
    *areas, steps = findings.scores
    assert [s.name for s in areas] == [
        "relearn_0_auc",
        "relearn_10_auc",
        "relearn_all_auc",
    ] and steps.name == "relearn_steps"
    assert [s.value for s in areas] == pytest.approx(
        [np.mean(c) for c in shown["curves"].values()], abs=1e-5
    )
    assert all(
        (s.unit, s.better, s.range, s.trace) == ("share", "reference", (0.0, 1.0), "above")
        for s in areas
    )
    assert (steps.unit, steps.better, steps.range, steps.trace) == (
        "steps",
        "reference",
        (1.0, 8.0),
        "below",
    )


def test_what_knows_the_class_relearns_it_faster_than_what_never_saw_it(knows):
    sources = data()
    audit = Relearning(budgets=(10,))
    original = audit(evidence(knows, sources, original=knows), 0).scores
    fresh = audit(evidence(network(7), sources, original=knows), 0).scores
    assert original[-1].value == 1.0  # it is there from the start
    for mine, other in zip(original[:-1], fresh[:-1], strict=True):
        assert mine.value > other.value + 0.1
    assert fresh[-1].value is None or fresh[-1].value > 2


def test_an_edit_of_the_head_does_not_hide_what_the_features_hold(knows):
    sources, engine = data(), Engine(device="cpu")
    masked = HeadMask()(Task(knows, sources["forget"], sources["retain"], engine, 0, 4, (1,)))
    heads = ("kept", "neutral", "best")
    found = {
        head: curves(Relearning(steps=8, lr=0.03, head=head)(evidence(masked, sources), 0))
        for head in heads
    }
    assert set(found["kept"]["all"]) == set(found["kept"]["0"]) == {0.0}
    honest = curves(Relearning(steps=8, lr=0.03, head="neutral")(evidence(knows, sources), 0))
    assert found["best"] == found["neutral"] == {**honest, "0": found["kept"]["0"]}
    assert honest["all"][0] == 0 and honest["all"][-1] > 0.8


class Tagger(nn.Module):
    """Takes dict inputs; with dropout, batch norm and frozen weights."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(8, 4)
        self.body.requires_grad_(False)

    def forward(self, values):
        return self.head(self.body(values))


@pytest.mark.parametrize("bias", [0.0, -1.0, -1e4])
def test_the_better_start_counts_and_the_other_one_ends_when_it_cannot_win(knows, bias):
    model = copy.deepcopy(knows)
    with torch.no_grad():
        model[-1].bias[1] += bias
    given = evidence(model, data())
    trained, curves = {}, {}
    for head in ("kept", "neutral", "best"):
        before = given.engine.meter.trained
        found = Relearning(budgets=(10, 20), steps=8, lr=0.03, head=head)(given, 0)
        trained[head] = given.engine.meter.trained - before
        curves[head] = found.series["relearning"]["curves"]
    benign = curves["kept"]["0"]
    assert curves["best"].pop("0") == benign
    for budget, curve in curves["best"].items():
        kept, neutral = (curves[head][budget] for head in ("kept", "neutral"))
        assert curve == (kept if sum(kept) >= sum(neutral) else neutral)
    # Both heads train without forget samples once each. The loser trains less than the winner.
    once = 8 * 30 if given.count("retain") >= 30 else 0
    assert once and trained["best"] < trained["kept"] + trained["neutral"] - once


def test_the_model_and_the_random_state_are_left_as_they_were():
    torch.manual_seed(0)
    model = Tagger()
    model.body[3].eval()
    rows = {
        p: [({"values": x, "labels": y}) for x, y in zip(s.inputs, s.targets, strict=True)]
        for p, s in data().items()
    }
    given = evidence(model, {p: DatasetSource(r) for p, r in rows.items()})
    before, flags = copy.deepcopy(model.state_dict()), [m.training for m in model.modules()]
    torch.manual_seed(11)
    np.random.seed(11)
    random = torch.get_rng_state(), np.random.get_state()[1].copy()
    findings = QUICK(given, 0)
    assert (
        torch.equal(torch.get_rng_state(), random[0])
        and (np.random.get_state()[1] == random[1]).all()
    )
    assert all(s.value is not None for s in findings.scores[:3])
    assert (
        all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        and before.keys() == model.state_dict().keys()
    )
    assert [m.training for m in model.modules()] == flags
    assert [p.requires_grad for p in model.parameters()] == [False] * 4 + [True] * 2 and all(
        p.grad is None for p in model.parameters()
    )
    torch.manual_seed(99)
    assert QUICK(given, 0) == findings != QUICK(given, 1)


class Counted(TensorDataset):
    """Counts how often each sample is read."""

    def __init__(self, samples):
        super().__init__(samples.inputs, samples.targets)
        self.reads = np.zeros(len(samples), dtype=int)

    def __getitem__(self, row):
        self.reads[row] += 1
        return super().__getitem__(row)


def test_files_of_the_target_are_read_once(knows):
    sources = data()
    expected = QUICK(evidence(knows, sources), 0)
    counted = {part: Counted(samples) for part, samples in sources.items()}
    given = evidence(knows, {part: DatasetSource(rows) for part, rows in counted.items()})
    for rows in counted.values():
        rows.reads[:] = 0
    assert QUICK(given, 0) == expected
    target = counted["test_forget"].reads
    assert target.max() == 1 and target.sum() >= 10


def test_an_attacker_is_not_bound_by_frozen_weights_or_a_head_kept_as_buffers(knows):
    sources = data()
    expected = QUICK(evidence(knows, sources), 0)
    frozen = copy.deepcopy(knows).requires_grad_(False)
    assert QUICK(evidence(frozen, sources), 0) == expected
    kept = copy.deepcopy(knows)
    for name, tensor in list(kept[3].named_parameters()):
        delattr(kept[3], name)
        kept[3].register_buffer(name, tensor.detach())
    assert QUICK(evidence(kept, sources), 0) == expected and not list(
        find_head(kept)[1].parameters()
    )


def test_targets_are_limited_the_same_for_all_models_and_nothing_is_augmented():
    def augment(inputs, generator):
        raise AssertionError("no augmentation")

    sources = {p: TensorSource(s.inputs, s.targets, augment) for p, s in data().items()}
    given = evidence(network(), sources)
    given.engine.meter.forwarded = given.engine.meter.trained = 0
    Relearning(budgets=(10,), steps=8, max_target=40, head="kept")(given, 0)
    assert (
        given.engine.meter.forwarded == (1 + 3 * 4) * 40
    )  # one look before all three runs, and four in each
    assert given.engine.meter.trained == 8 * (30 + 20 + 60)


def test_the_interval_of_an_area_is_wilsons_of_what_its_samples_are_worth():
    rng, n = np.random.default_rng(0), 40
    always = np.repeat(rng.random((1, n)) < 0.4, 7, axis=0)  # each sample right always or never
    share = float(always.mean())
    wilson = wilson_interval(successes=share * n, trials=n)
    assert area_interval(share, always) == pytest.approx(wilson, abs=1e-12)
    alike = np.repeat([[False], [True], [True]], n, axis=1)  # all samples alike: 3 trials each
    wilson = wilson_interval(successes=2 * n, trials=3 * n)
    assert area_interval(2 / 3, alike) == pytest.approx(wilson, abs=1e-12)
    low, high = area_interval(1.0, np.ones((7, n), dtype=bool))
    assert high == 1 and 0.85 < low < 0.95  # no spread is no certainty
    mixed, covered = rng.random((500, 7, n)) < np.linspace(0.1, 0.9, 7)[:, None], 0
    for one in mixed:
        low, high = area_interval(float(one.mean()), one)
        covered += low <= 0.5 <= high
    assert 0.9 * 500 < covered < 0.99 * 500


def test_steps_are_read_off_the_line_between_grid_points():
    grid, curve = [0, 1, 2, 4, 8], [0.1, 0.3, 0.2, 0.6, 0.9]
    fine = np.linspace(0, 8, 80_001)
    for goal in (0.2, 0.25, 0.3, 0.45, 0.6, 0.75, 0.9):
        assert crossing(grid, curve, goal) == pytest.approx(
            fine[np.argmax(np.interp(fine, grid, curve) >= goal - 1e-12)], abs=2e-4
        )
    assert crossing(grid, curve, 0.1) == 0.0 and crossing(grid, curve, 0.91) is None
    assert [Relearning(steps=s).grid() for s in (1, 2, 3, 8)] == [
        [0, 1],
        [0, 1, 2],
        [0, 1, 2, 3],
        [0, 1, 2, 4, 8],
    ]


def test_relearn_steps_are_where_the_curve_is_at_95_percent_of_the_original(knows):
    findings = Relearning(budgets=())(evidence(network(7), data(), original=knows), 0)
    before = np.mean(evidence(knows, data()).parts["test_forget"].logits.argmax(1) == 1)
    shown = findings.series["relearning"]
    expected = crossing(shown["steps"], shown["curves"]["all"], 0.95 * before)
    assert before < 1 and findings.scores[-1].value == pytest.approx(expected, abs=1e-3)


def test_what_cannot_be_measured_says_why(knows):
    sources = data()

    def reasons(audit=QUICK, **changes):
        given = evidence(knows, sources)
        findings = audit(replace(given, **changes), 0)
        return [s.reason for s in findings.scores], findings.series

    for changes in ({"engine": None}, {"sources": {}}):
        assert reasons(**changes) == (["needs an engine and the data"] * 4, {})
    parts = evidence(knows, sources).parts
    assert (
        reasons(parts={k: v for k, v in parts.items() if k != "retain"})[0]
        == ["there are no samples of the retain set"] * 4
    )
    short = {**parts, "test_forget": PartOutputs(*(c[:9] for c in parts["test_forget"][:4]))}
    assert "needs 10 test samples of forgotten classes to test on" in reasons(parts=short)[0][0]
    found, series = reasons(Relearning(budgets=(31,), steps=2))
    alone = "needs the original model, whose accuracy is the goal"
    assert found == ["", "needs 31 forget samples to train on, got 30", "", alone]
    assert list(series["relearning"]["curves"]) == ["0", "all"]
    never = {
        **parts,
        "test_forget": parts["test_forget"]._replace(logits=np.eye(4)[np.zeros(150, dtype=int)]),
    }
    assert "accuracy 0" in reasons(original=never)[0][-1]
    assert (
        reasons(Relearning(steps=1, lr=1e-6), model=network(7), original=parts)[0][-1]
        == "not reached in 1 steps"
    )
    found, series = reasons(Relearning(budgets=(10,), lr=1e30))
    assert all("training diverged" in r for r in found) and series == {}
    assert "head='kept' leaves it" in reasons(model=nn.Sequential(*knows, nn.Linear(4, 7)))[0][0]
    assert "has no nn.Linear layer" in reasons(model=nn.Sequential(nn.Flatten()))[0][0]


def test_the_spec_spells_it():
    audit = spec.parse("relearning(budgets=(5, 50), head='kept')", [Relearning], "audit")
    assert audit == Relearning(budgets=(5, 50), head="kept") and all(
        row[3] for row in spec.describe(Relearning)
    )
    assert spec.from_json(spec.as_json(audit), [Relearning], "audit") == audit
    with pytest.raises(EigenforgetError, match="greater than 0"):
        spec.parse("relearning(lr=0.0)", [Relearning], "audit")
