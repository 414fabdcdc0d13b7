"""Every cheat, and what catches it; what it claims to be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.data.digits import Digits
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.cheats import CHEATS, Cheat, CheatParts, LookupTable
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.metric_audit import MetricAudit
from eigenforget.models.mlp import Mlp
from eigenforget.report.pages.metric_audit import (
    CheatJudgement,
    audit_page,
    judge_cheats,
    judge_metrics,
)
from eigenforget.requests import ByClass
from eigenforget.requests.at_random import AtRandom
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe
from tests.toys import ENGINE, GONE, world

KEPT = (
    "accuracies",
    "population_mia",
    "dimensional_alignment",
    "nearest_class_mean",
    "linear_probe",
    "ruler_m4",
)
SKIP = tuple(name for name in measurement_names() if name not in KEPT)
PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
EVERY = pytest.mark.parametrize("cheat", CHEATS, ids=lambda cheat: cheat.name)


@pytest.fixture(scope="module", params=["class", "samples"])
def judged(request: pytest.FixtureRequest) -> tuple[str, dict[str, CheatJudgement], str]:
    """The cheats of a small audit on digits, by name."""
    by_class = request.param == "class"
    experiment = Experiment(
        Digits(),
        Mlp(hidden=(32,)),
        Recipe(epochs=6, batch_size=64),
        ByClass(label=3) if by_class else AtRandom(fraction=0.1),
        Engine(device="cpu"),
    )
    audit = MetricAudit(experiment, (0,), 3, controls=(), skip=SKIP, cheats=CHEATS)
    records = list(audit.records())
    assert not any(j.cheats for j in judge_metrics(records)), "metrics are not judged by cheats"
    found = {c.name: c for c in judge_cheats(records)}
    return request.param, found, audit_page({"here": records})


def test_each_cheat_is_caught_by_what_is_said_to_catch_it(
    judged: tuple[str, dict[str, CheatJudgement], str],
) -> None:
    kind, found, page = judged
    gone = (3,) if kind == "class" else ()
    for cheat in CHEATS:
        if cheat.name == "router" and not gone:
            assert cheat.name not in found
            continue
        caught = found[cheat.name].caught_by
        expected = set(cheat.catchers(gone))
        assert expected <= set(caught), (cheat.name, found[cheat.name])
        assert not expected or not found[cheat.name].passes
        assert f"`{cheat.name}`" in page
    same = [found[name] for name in ("turned_features", "noisy_copy", "renamed_copy")]
    assert len({(c.forgot, c.kept) for c in same}) == 1, "the same function, the same answers"


def parts_of_world(*, by_class: bool = True) -> CheatParts:
    w = world(by_class=by_class)
    forget, retain = w.parts["forget"], w.parts["retain"]
    gone = GONE if by_class else ()
    return CheatParts(w.originals[0], w.oracles[0], forget, retain, gone, ENGINE, 0)


def answers(model: nn.Module, by: str = "test_retain") -> torch.Tensor:
    source = world().parts[by]  # type: ignore[index]
    return torch.cat([o.logits for _, o in ENGINE.forward(model, source)])


@EVERY
def test_a_cheat_is_a_new_model_and_is_what_it_says(cheat: Cheat) -> None:
    parts = parts_of_world()
    before = [m.state_dict() for m in (parts.original, parts.oracle)]
    kept = [{k: v.clone() for k, v in state.items()} for state in before]
    model = cheat.make(parts).eval()
    assert [sorted(s) for s in before] == [sorted(s) for s in kept]
    assert all(torch.equal(s[k], t[k]) for s, t in zip(before, kept, strict=True) for k in t)
    original, oracle, mine = (answers(m) for m in (parts.original, parts.oracle, model))
    if cheat.name in ("turned_features", "noisy_copy", "renamed_copy"):
        torch.testing.assert_close(mine, original, rtol=1e-3, atol=1e-3)
    if cheat.name == "hidden_copy":
        assert torch.equal(mine, oracle)
    if cheat.name == "lookup":
        assert torch.equal(mine, original), "it knows nothing of other samples"
        torch.testing.assert_close(answers(model, "forget"), answers(parts.oracle, "forget"))
    if cheat.name == "router":
        theirs = answers(model, "test_forget").argmax(1) != GONE[0]
        assert theirs.float().mean() > 0.9
    again = answers(cheat.make(parts).eval())
    assert torch.equal(mine, again), "the same seed, the same bits"


def test_cheats_refuse_what_they_are_not_for() -> None:
    router = next(c for c in CHEATS if c.name == "router")
    with pytest.raises(Refused, match="class"):
        router.make(parts_of_world(by_class=False))


def test_a_lookup_takes_only_the_samples_that_it_knows() -> None:
    inputs = torch.randn(5, 3)
    table = torch.arange(10.0).reshape(5, 2)
    model = LookupTable(nn.Linear(3, 2), inputs, table, torch.Generator().manual_seed(0))
    both = torch.cat([inputs[[3]], inputs[[3]] + 1e-3])
    found = model(both)
    assert torch.equal(found[0], table[3]) and torch.equal(found[1], model.live(both)[1])


@EVERY
def test_the_page_of_metrics_says_what_catches_each_cheat(cheat: Cheat) -> None:
    (row,) = re.findall(rf"^\| `{cheat.name}` \|.*$", PAGE, re.M)
    of_class, of_samples = (cell.strip() for cell in row.split("|")[3:5])
    words = {"forgot": "did it forget?", "kept": "did it keep?", "file": "the file"}
    for cell, expected in ((of_class, cheat.class_catchers), (of_samples, cheat.sample_catchers)):
        assert {name for name, word in words.items() if word in cell} == set(expected)
