"""Who is measured beside whom: oracles beside the others, ensembles of one size, the right
original, each model seen once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.types import Score
from eigenforget.evaluation.audits.klom import KLoM
from eigenforget.evaluation.audits.u_lira import ULiRA
from eigenforget.evaluation.board import Board, Panel
from eigenforget.evaluation.evidence import Evidence, Findings, Observation
from eigenforget.evaluation.metrics import derived
from eigenforget.evaluation.scoring import Scoring, measurement_names, values_of
from eigenforget.methods import MUDA
from eigenforget.methods.unlearn import unlearn
from eigenforget.training.engine import Engine
from tests.toys import ENGINE, GONE, net, world

RUN_MODELS = ("relearning", "zrf")
"""Audits that run a model themselves."""
OF_ENSEMBLES = ("u_lira", "klom")
PAIRED = ("jensen_shannon", "linear_cka", "rf_jsd", "accuracies", "population_mia", *OF_ENSEMBLES)
QUICK = tuple(name for name in measurement_names() if name not in PAIRED)

Beside = tuple[Evidence, Evidence]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Beside]:
    """What each measurement was given: the evidence, and that of audits of ensembles. Nothing is
    measured.
    """
    calls: list[Beside] = []

    def findings(
        self: Scoring, evidence: Evidence, ensemble: Evidence, whole: Evidence | None
    ) -> Findings:
        assert whole is None or len(whole.oracles) == 5
        calls.append((evidence, ensemble))
        return Findings(
            (Score("x", float(len(calls)), "1", "reference", (0.0, 99.0), trace="both"),), {}
        )

    monkeypatch.setattr(Scoring, "findings", findings)
    return calls


def whose(seen: Observation | None, models: Sequence[nn.Module], panel: Panel) -> int:
    """The number of the model that these are the outputs of."""
    assert seen is not None
    logits = [panel.observe(model)["forget"].logits for model in models]
    return next(i for i, rows in enumerate(logits) if np.array_equal(rows, seen["forget"].logits))


def everyone(beside: Evidence, oracles: Sequence[nn.Module], panel: Panel) -> list[int]:
    return [whose(seen, oracles, panel) for seen in beside.oracles]


def test_an_oracle_is_measured_beside_the_others_only() -> None:
    w, panel = world(), world().panel(skip=("relearning", *OF_ENSEMBLES))
    board = Board(panel, w.originals[:1], w.oracles[:4])
    found = board.measure_oracle(1)
    original, *seen = (panel.observe(m) for m in (w.originals[0], *w.oracles[:4]))

    def by_hand(i: int) -> Evidence:
        others = tuple(other for j, other in enumerate(seen) if j != i)
        return replace(panel.evidence(w.oracles[i], seen[i]), original=original, oracles=others)

    of_each = [
        panel.scoring(w.oracles[i], seen[i]).findings(by_hand(i), by_hand(i)).scores
        for i in range(4)
    ]
    expected = (
        *of_each[1],
        *derived(values_of(of_each[1]), [values_of(of_each[i]) for i in (0, 2, 3)]),
    )
    assert [s.name for s in found.scores] == [s.name for s in expected] and found.role == "oracle"
    for score, other in zip(found.scores, expected, strict=True):
        assert score.reason == other.reason
        assert score.value == (
            None if other.value is None else pytest.approx(other.value, rel=1e-12, abs=1e-12)
        ), score.name


def test_another_model_is_measured_beside_all_oracles(asked: list[Beside]) -> None:
    w, panel = world(), world().panel()
    board = Board(panel, w.originals[:2], w.oracles)
    board.measure(net(77), "control", number=1)
    evidence, _ = asked[0]  # those after it are of the oracles, for what is derived
    assert (
        everyone(evidence, w.oracles, panel) == [0, 1, 2, 3, 4]
        and whose(evidence.original, w.originals, panel) == 1
    )
    assert (
        np.array_equal(evidence.parts["forget"].logits, panel.observe(net(77))["forget"].logits)
        and evidence.peers == ()
    )


@pytest.mark.parametrize("peers", [None, 0, 1, 2])
def test_ensembles_are_of_one_size_for_oracles_and_others_and_never_hold_the_model_itself(
    asked: list[Beside], peers: int | None
) -> None:
    w, panel = world(), world().panel()
    board = Board(panel, w.originals, w.oracles, peers=peers)
    count = 2 if peers is None else peers
    board.measure_oracle(0)
    assert len(asked) == 5, "each oracle once, since scores are derived from those of the others"
    for number, (evidence, ensemble) in enumerate(asked):
        ours, theirs = (
            [whose(seen, w.oracles, panel) for seen in side]
            for side in (ensemble.peers, ensemble.oracles)
        )
        assert (len(ours), len(theirs)) == (count, 4 - count)
        assert sorted([*ours, *theirs, number]) == [0, 1, 2, 3, 4], (
            "each of the others once, the oracle itself never"
        )
        assert (
            sorted(everyone(evidence, w.oracles, panel)) == [i for i in range(5) if i != number]
            and evidence.peers == ()
        )
    made_alike = [panel.observe(net(s)) for s in (7, 8, 9)]
    board.measure(net(6), "unlearned", peers=made_alike)
    board.measure_original(1)
    for (evidence, ensemble), alike in zip(
        asked[-2:], (made_alike, [panel.observe(w.originals[i]) for i in (0, 2)]), strict=True
    ):
        assert (len(ensemble.peers), len(ensemble.oracles)) == (count, 4 - count)
        assert all(
            np.array_equal(a["forget"].logits, b["forget"].logits)
            for a, b in zip(ensemble.peers, alike[:count], strict=True)
        )
        assert (
            everyone(ensemble, w.oracles, panel) == list(range(4 - count)) and evidence.peers == ()
        )


def test_of_many_oracles_each_model_is_compared_with_a_bounded_number(
    asked: list[Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eigenforget.evaluation.board.MOST_PARTNERS", 2)
    w, panel = world(), world().panel()
    board = Board(panel, w.originals[:1], w.oracles)
    board.measure(net(77), "control")
    board.measure(net(78), "unlearned")
    beside = [everyone(evidence, w.oracles, panel) for evidence, _ in asked]
    oracles = [beside[i] for i in range(1, 6)]  # made for what is derived for the first model
    assert beside[0] == beside[6] and len(set(beside[0])) == 2
    assert all(len(set(partners)) == 2 for partners in oracles)
    assert all(number not in partners for number, partners in enumerate(oracles))
    assert sorted(i for partners in oracles for i in partners) == sorted([*range(5)] * 2)
    asked.clear()
    Board(panel, w.originals[:1], w.oracles).measure_oracle(0)
    assert [everyone(evidence, w.oracles, panel) for evidence, _ in asked] == oracles
    asked.clear()
    Board(replace(panel, seed=panel.seed + 1), w.originals[:1], w.oracles).measure_oracle(0)
    assert [everyone(evidence, w.oracles, panel) for evidence, _ in asked] != oracles


def test_three_oracles_and_two_peers_are_enough_for_audits_of_ensembles() -> None:
    w, panel = world(), world().panel(skip=(*QUICK, "linear_cka", "rf_jsd"))
    board = Board(panel, w.originals[:1], w.oracles[:3], peers=2)
    peers = [panel.observe(m) for m in w.originals[1:]]
    found = board.measure(w.originals[0], "unlearned", peers=peers)
    seen, oracles = panel.observe(w.originals[0]), tuple(panel.observe(m) for m in w.oracles[:3])
    evidence = replace(panel.evidence(w.originals[0], seen), peers=tuple(peers), oracles=oracles)
    for audit in (KLoM(), ULiRA()):
        for score in audit(evidence, 0):
            assert found.value(score.name) == score.value
    assert found.value("u_lira_auc") is not None and found.value("klom_forget") is not None
    oracle = board.measure_oracle(0)
    assert oracle.value("u_lira_auc") is None and oracle.value("klom_forget") is None


def test_too_few_peers_are_none_since_ensembles_of_other_sizes_do_not_compare() -> None:
    w, panel = world(), world().panel(skip=QUICK)
    board = Board(panel, w.originals, w.oracles, peers=2)
    peers = [panel.observe(m) for m in w.originals[1:]]
    enough = board.measure(w.originals[0], "unlearned", peers=peers)
    seen, oracles = panel.observe(w.originals[0]), tuple(panel.observe(m) for m in w.oracles[:2])
    by_hand = KLoM()(
        replace(panel.evidence(w.originals[0], seen), peers=tuple(peers), oracles=oracles), 0
    )
    assert [enough.value(s.name) for s in by_hand] == [s.value for s in by_hand] and by_hand[
        0
    ].value is not None
    few = board.measure(w.originals[0], "unlearned", peers=peers[:1])
    assert few.value("klom_forget") is None and few.score("klom_forget").reason
    assert [s for s in few.scores if not s.name.startswith(OF_ENSEMBLES)] == [
        s for s in enough.scores if not s.name.startswith(OF_ENSEMBLES)
    ]


def test_an_oracle_goes_with_the_original_that_pairs_names(asked: list[Beside]) -> None:
    w, panel = world(), world().panel()
    Board(panel, w.originals, w.oracles[:4], pairs=[2, 0, 1, 1]).measure_oracle(0)
    assert [whose(evidence.original, w.originals, panel) for evidence, _ in asked] == [2, 0, 1, 1]
    assert [whose(ensemble.original, w.originals, panel) for _, ensemble in asked] == [2, 0, 1, 1]
    asked.clear()
    Board(panel, w.originals, w.oracles[:2]).measure_oracle(0)
    assert [whose(evidence.original, w.originals, panel) for evidence, _ in asked] == [0, 0], (
        "by default the first"
    )
    asked.clear()
    Board(panel, (), w.oracles[:2]).measure_oracle(0)
    assert [evidence.original for evidence, _ in asked] == [None, None]


def test_an_original_stands_beside_itself_and_the_oracles() -> None:
    w, panel = world(), world().panel(skip=QUICK)
    found = Board(panel, w.originals[:2], w.oracles[:3]).measure_original(1)
    assert found.role == "original" and found.value("cka_forget_original") == pytest.approx(
        1, abs=1e-12
    )
    alone = Board(panel, [w.originals[1]], w.oracles[:3]).measure_original()
    one, two = (
        [s for s in m.scores if not s.name.startswith(OF_ENSEMBLES)] for m in (alone, found)
    )
    assert one == two and len(one) >= 15


def test_numbers_that_are_not_there_are_refused_in_one_line() -> None:
    w, panel = world(), world().panel(skip=QUICK)
    board = Board(panel, w.originals[:2], w.oracles[:2])
    for number in (2, -1):
        with pytest.raises(EigenforgetError, match=f"has 2 originals, there is no number {number}"):
            board.measure_original(number)
        with pytest.raises(EigenforgetError, match=f"has 2 originals, there is no number {number}"):
            board.measure(net(), "unlearned", number=number)
        with pytest.raises(EigenforgetError, match=f"has 2 oracles, there is no number {number}"):
            board.measure_oracle(number)
    with pytest.raises(EigenforgetError, match="has 2 originals, there is no number 5"):
        Board(panel, w.originals[:2], w.oracles[:2], pairs=[0, 5])
    with pytest.raises(EigenforgetError, match="got 1 for 2"):
        Board(panel, w.originals[:2], w.oracles[:2], pairs=[0])
    with pytest.raises(EigenforgetError, match="no original"):
        Board(panel, (), w.oracles[:2]).measure_original()


def test_every_model_is_observed_once() -> None:
    w, engine = world(), Engine(device="cpu")
    panel = w.panel(engine=engine, skip=(*QUICK, *RUN_MODELS), layers=("0",))
    samples = sum(len(part) for part in w.parts.values())
    board = Board(panel, w.originals[:2], w.oracles[:3])
    assert engine.meter.forwarded == 5 * samples and engine.meter.trained == 0
    for i in range(3):
        board.measure_oracle(i)
    board.measure_original(0)
    board.measure_original(1)
    assert engine.meter.forwarded == 5 * samples
    seen = panel.observe(net(5))
    board.measure(net(5), "unlearned", seen=seen)
    board.measure(net(6), "unlearned", peers=[seen])
    assert engine.meter.forwarded == 7 * samples


def test_boards_do_not_draw_from_the_global_random_state() -> None:
    w = world()
    state = torch.get_rng_state()
    Board(w.panel(), w.originals[:1], w.oracles[:2]).measure_original()
    assert torch.equal(torch.get_rng_state(), state)


def test_with_more_classes_than_dimensions_muda_runs_and_alignment_is_measured() -> None:
    """Twenty classes, six dimensions: k is three, for the method as for the metric."""
    parts = world().parts
    model = net(3, outputs=20)
    made = unlearn(
        model,
        forget=parts["forget"],
        retain=parts["retain"],
        method=MUDA(alternations=1, batch_size=16),
    )
    panel = Panel(parts=parts, num_classes=20, forgotten_classes=GONE, engine=ENGINE)
    found = panel.measure(made)
    seen = panel.observe(made)
    f, r = (seen[part].features.astype(np.float64) for part in ("forget", "retain"))
    vectors = np.linalg.eigh(r.T @ r)[1][:, ::-1][:, :3]
    g = f.T @ f
    assert found.value("da") == pytest.approx(
        np.linalg.norm(g @ vectors @ vectors.T) / np.linalg.norm(g), rel=1e-6
    )
