"""The decision: closed cases of every rule, and its standard error against a direct computation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from scipy import stats

from eigenforget.report import decision
from eigenforget.report.decision import ComparisonScores, Decision, Estimate, decide

SPANS = dict.fromkeys(
    (*decision.FORGET_SCORES["class"], *decision.FORGET_SCORES["samples"], *decision.KEEP_SCORES),
    (0.0, 1.0),
)
ORIGINAL = {
    "test_forget_accuracy": 0.95,
    "mia_auc": 0.60,
    "lp_forget": 0.96,
    "ncm_forget": 0.93,
    "prototype_forget": 0.90,
    "da": 0.60,
    "relearn_all_auc": 0.97,
    "test_retain_accuracy": 0.96,
    "lp_retain": 0.96,
}
RETRAINED = ORIGINAL | {
    "test_forget_accuracy": 0.0,
    "mia_auc": 0.50,
    "lp_forget": 0.70,
    "ncm_forget": 0.60,
    "prototype_forget": 0.55,
    "da": 0.95,
    "relearn_all_auc": 0.50,
}


def scores(values: Mapping[str, float], half: float = 0.02, **own: float) -> dict[str, Estimate]:
    return {n: Estimate(v, v - half, v + half) for n, v in {**values, **own}.items()}


def oracles(count: int, half: float = 0.02) -> list[dict[str, Estimate]]:
    """Retrained models that differ by ± 0.005, each score in its own order."""
    steps = (0.005, -0.005, 0.0, 0.003, -0.003)
    return [
        scores({n: v + steps[(i + j) % 5] for j, (n, v) in enumerate(RETRAINED.items())}, half)
        for i in range(count)
    ]


def judged(
    values: Mapping[str, float], count: int = 3, *, original: bool = True, **own: float
) -> Decision:
    before = [scores(ORIGINAL)] if original else []
    return decide(scores(values, **own), ComparisonScores("class", oracles(count), before, SPANS))


def answers(found: Decision) -> tuple[str, str]:
    return found.forgot.answer, found.kept.answer


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_retrained_model_forgot_and_kept_and_the_original_did_not_forget(count: int) -> None:
    assert answers(judged(RETRAINED, count)) == ("yes", "yes")
    found = judged(ORIGINAL, count)
    assert answers(found) == ("no", "yes") and "da" in found.forgot.scores


@pytest.mark.parametrize("name", decision.FORGET_SCORES["class"])
def test_one_residual_score_is_enough_to_remember(name: str) -> None:
    found = judged(RETRAINED, **{name: ORIGINAL[name]})
    assert found.forgot == decision.Answer("no", (name,))


def test_damage_is_a_loss_of_utility_or_more_forgotten_than_retraining_forgets() -> None:
    lost = judged(RETRAINED, test_retain_accuracy=0.54)
    assert answers(lost) == ("yes", "no") and lost.kept.scores == ("test_retain_accuracy",)
    over = judged(RETRAINED, lp_forget=0.30, ncm_forget=0.2)
    assert answers(over) == ("yes", "no") and over.kept.scores == ("lp_forget", "ncm_forget")
    deeper = judged(RETRAINED, da=0.999)
    assert answers(deeper) == ("yes", "yes"), "nothing that should be kept is gone"
    assert answers(judged(RETRAINED, test_retain_accuracy=0.99)) == ("yes", "yes")


def test_what_lies_between_the_oracles_and_an_original_below_them_is_not_gone() -> None:
    """An original that memorised its samples may have the worse probe: its copy has lost nothing."""
    low = {"lp_forget": 0.30}
    beside = ComparisonScores("class", oracles(3), [scores(ORIGINAL, **low)], SPANS)
    copy = decide(scores(ORIGINAL, **low), beside)
    assert answers(copy) == ("no", "yes")
    assert {s.position for s in copy.scores if s.name == "lp_forget"} == {"like the original"}
    ruined = decide(scores(ORIGINAL, lp_forget=0.02), beside)
    assert ruined.kept == decision.Answer("no", ("lp_forget",))


def test_damage_alone_is_no_trace() -> None:
    """Where what should be kept is lost, forgotten samples look familiar to attacks beside it."""
    ruined = {"test_retain_accuracy": 0.2, "mia_auc": 0.9}
    assert answers(judged(RETRAINED, **ruined)) == ("cannot tell", "no")
    assert answers(judged(RETRAINED, **ruined, lp_forget=0.96)) == ("no", "no")


def test_what_no_retrained_model_or_one_can_say() -> None:
    none = decide(scores(RETRAINED), ComparisonScores("class", [], [scores(ORIGINAL)], SPANS))
    assert answers(none) == ("cannot tell", "cannot tell") and none.scores == ()
    assert answers(judged(RETRAINED, 1)) == ("cannot tell", "yes")
    assert answers(judged(ORIGINAL, 1)) == ("no", "yes")


def test_a_copy_of_an_original_that_is_like_the_oracles_cannot_be_told() -> None:
    beside = ComparisonScores("class", oracles(3), [scores(RETRAINED)], SPANS)
    found = decide(scores(RETRAINED), beside)
    assert answers(found) == ("cannot tell", "yes")
    assert all(s.way is None for s in found.scores)


def test_without_an_original_or_a_telling_score_of_features_it_cannot_be_told() -> None:
    assert answers(judged(RETRAINED, original=False))[0] == "cannot tell"
    masked = {n: RETRAINED[n] for n in ("lp_forget", "ncm_forget", "prototype_forget", "da")}
    beside = ComparisonScores("class", oracles(3), [scores(ORIGINAL, **masked)], SPANS)
    found = decide(scores(RETRAINED), beside)
    assert found.forgot.answer == "cannot tell"
    assert found.forgot.scores == ("test_forget_accuracy", "mia_auc", "relearn_all_auc")


def test_a_score_that_the_method_trains_on_is_no_evidence_for_it() -> None:
    alike = {n: RETRAINED[n] for n in ("lp_forget", "ncm_forget", "prototype_forget")}
    beside = ComparisonScores("class", oracles(3), [scores(ORIGINAL, **alike)], SPANS)
    assert decide(scores(RETRAINED), beside).forgot.answer == "yes"
    assert decide(scores(RETRAINED), beside, trained_on=("da",)).forgot.answer == "cannot tell"
    assert decide(scores(RETRAINED, da=0.6), beside, trained_on=("da",)).forgot.answer == "no"


def test_where_only_scores_that_the_method_trains_on_tell_the_original_it_is_said() -> None:
    alike = {n: v for n, v in RETRAINED.items() if n != "lp_forget"}
    beside = ComparisonScores("class", oracles(3), [scores(ORIGINAL, **alike)], SPANS)
    found = decide(scores(RETRAINED), beside, trained_on=("lp_forget",)).forgot
    assert found.answer == "cannot tell" and found.scores == ("lp_forget",)
    assert found.reason.startswith("only scores that the method trains on tell the original")


def test_nearer_the_original_on_a_telling_score_is_no_yes() -> None:
    """DA of 0.82 between 0.60 and 0.95, on the scale of log(1 − DA): the error is too large for
    "no", too much is left for "yes".
    """
    beside = ComparisonScores("class", oracles(3, half=0.17), [scores(ORIGINAL, 0.17)], SPANS)
    found = decide(scores(RETRAINED, 0.17, da=0.82), beside)
    da = next(s for s in found.scores if s.name == "da")
    way = math.log(0.4 / 0.18) / math.log(0.4 / 0.05)
    assert da.separates and da.position == "like oracles"
    assert da.way == pytest.approx(way, abs=0.03)
    assert found.forgot == decision.Answer(
        "cannot tell", ("da",), "nearer the original than the retrained models"
    )


def test_one_wrong_image_of_37_does_not_count() -> None:
    """Wilson's intervals of 0 and of 1 of 37; all oracles are exactly 0."""
    none, one = Estimate(0.0, 0.0, 0.094), Estimate(1 / 37, 0.0048, 0.138)
    beside = ComparisonScores(
        "class",
        [o | {"test_forget_accuracy": none} for o in oracles(3)],
        [scores(ORIGINAL)],
        SPANS,
    )
    found = decide(scores(RETRAINED) | {"test_forget_accuracy": one}, beside)
    assert answers(found) == ("yes", "yes")


def test_equal_oracles_without_intervals_have_no_gap_but_a_real_one() -> None:
    """A gap below half a percent of the range never counts."""
    bare = {n: Estimate(v) for n, v in RETRAINED.items()}
    beside = ComparisonScores(
        "class", [bare] * 3, [{n: Estimate(v) for n, v in ORIGINAL.items()}], SPANS
    )
    assert answers(decide(bare, beside)) == ("yes", "yes")
    moved = bare | {"lp_forget": Estimate(0.704), "relearn_all_auc": Estimate(0.55)}
    found = decide(moved, beside)
    assert found.forgot == decision.Answer("no", ("relearn_all_auc",))
    assert math.isinf(next(s.gap for s in found.scores if s.name == "relearn_all_auc"))


def test_too_few_scores_and_none_of_features_cannot_tell() -> None:
    outputs = ("test_forget_accuracy", "mia_auc", "relearn_all_auc", "test_retain_accuracy")
    some = {n: m for n, m in scores(RETRAINED).items() if n in outputs}
    found = decide(some, ComparisonScores("class", oracles(3), [scores(ORIGINAL)], SPANS))
    assert answers(found) == ("cannot tell", "yes")
    assert found.missing == ("lp_forget", "ncm_forget", "prototype_forget", "da", "lp_retain")


def test_without_held_out_samples_of_the_class_its_training_samples_decide() -> None:
    def moved(of: Mapping[str, Estimate]) -> dict[str, Estimate]:
        return {n.removeprefix("test_") if "test_f" in n else n: m for n, m in of.items()}

    beside = ComparisonScores(
        "class",
        [moved(o) for o in oracles(3)],
        [moved(scores(ORIGINAL))],
        SPANS | {"forget_accuracy": (0.0, 1.0)},
    )
    assert decide(moved(scores(ORIGINAL)), beside).forgot.scores[0] == "forget_accuracy"


def test_a_loss_that_the_noise_could_hide_cannot_be_told() -> None:
    beside = ComparisonScores("class", oracles(3, half=0.2), [scores(ORIGINAL, 0.2)], SPANS)
    found = decide(scores(RETRAINED, 0.2), beside)
    assert found.kept.answer == "cannot tell"


def _direct(values: Sequence[float], e: float, prior: float) -> tuple[float, float]:
    """Standard error and limit of a forget score, by the formula of the docstring."""
    n = len(values)
    ratio = max((4 * prior + (n - 1) * np.var(values, ddof=1) / e**2) / (4 + n - 1), 0.25)
    limit = stats.t.ppf(1 - 0.01 / len(decision.FORGET_SCORES["class"]), 4 + n - 1)
    return math.sqrt(ratio * e**2 * (1 + 1 / n)), limit


def test_error_and_limit_are_those_of_the_formula() -> None:
    half = 0.02
    beside = oracles(3, half)
    found = judged(RETRAINED)
    e = half / stats.norm.ppf(0.975)
    ratios = [np.var([o[n].value for o in beside], ddof=1) / e**2 for n in RETRAINED if n != "da"]
    prior = float(np.clip(np.mean(ratios), 0.5, 4.0))
    assert found.pooled == pytest.approx(prior, rel=1e-12)
    for score in found.scores:
        values = [o[score.name].value for o in beside]
        error, limit = _direct(values, e, max(prior, decision.LEAST_PRIORS.get(score.name, 0)))
        if score.name == "da":
            error, limit = _direct(
                [math.log(1 - v) for v in values], decision.ALIGNMENT_SPREAD, 1.0
            )
        assert score.error == pytest.approx(error, rel=1e-12)
        assert score.name in decision.KEEP_SCORES or score.limit == pytest.approx(limit, rel=1e-12)


def test_models_between_are_ordered_as_they_lie() -> None:
    """From the original to the retrained models: no, then perhaps cannot tell, then yes."""
    order = {"no": 0, "cannot tell": 1, "yes": 2}
    for half in (0.02, 0.05, 0.1):
        beside = ComparisonScores("class", oracles(5, half), [scores(ORIGINAL, half)], SPANS)
        seen = []
        for share in np.linspace(0, 1, 41):
            between = {n: (1 - share) * ORIGINAL[n] + share * RETRAINED[n] for n in ORIGINAL}
            seen.append(order[decide(scores(between, half), beside).forgot.answer])
        assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 2


def test_retrained_models_are_told_from_one_another_as_rarely_as_promised() -> None:
    """Correlated normal scores: at most 5 % are told, at most 1 % are said to remember."""
    rng = np.random.default_rng(0)
    names = list(RETRAINED)
    told = remembers = 0
    trials = 400
    for _ in range(trials):
        spread = rng.uniform(0.3, 1.5, len(names)) * 0.01
        common = rng.normal(size=(4, 1))
        draws = (0.6 * common + 0.8 * rng.normal(size=(4, len(names)))) * spread
        models = [
            scores({n: RETRAINED[n] + d for n, d in zip(names, row, strict=True)}) for row in draws
        ]
        found = decide(models[0], ComparisonScores("class", models[1:], [scores(ORIGINAL)], SPANS))
        remembers += found.forgot.answer == "no"
        told += "no" in answers(found)
    assert told <= 0.05 * trials and remembers <= 0.01 * trials + 3


@pytest.mark.parametrize(("known", "fit"), [(0.86, True), (0.84, False)])
def test_retrained_models_that_know_too_little_are_no_yardstick(known: float, fit: bool) -> None:
    others = [m | {"retain_accuracy": Estimate(0.99)} for m in oracles(2)]
    weak = oracles(3)[2] | {"retain_accuracy": Estimate(known)}
    before = scores(ORIGINAL) | {"retain_accuracy": Estimate(1.0)}
    for originals in ([before], []):
        found = decide(
            scores(ORIGINAL), ComparisonScores("class", [*others, weak], originals, SPANS)
        )
        bar = known + decision.MOST_BEHIND > (1.0 if originals else 0.99)
        assert (found.unfit == "") == bar and (bar == fit or not originals)
        assert found.forgot.answer == ("no" if bar else "cannot tell")
        assert found.forgot.reason == found.unfit and (bar or found.kept.answer == "cannot tell")


def test_what_tells_but_was_not_measured_is_said() -> None:
    flat = {n: v for n, v in RETRAINED.items() if n != "da"}
    before = scores({**RETRAINED, "da": ORIGINAL["da"]})
    beside = ComparisonScores("class", oracles(5), [before], SPANS)
    found = decide(scores(flat), beside)
    assert found.forgot == decision.Answer("cannot tell", ("da",), decision.UNMEASURED)
    like = decide(scores(flat), beside._replace(originals=[scores(RETRAINED)]))
    assert like.forgot.reason == decision.NONE_TELLS
