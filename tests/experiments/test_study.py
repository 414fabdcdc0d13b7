"""A study goes on when a method refuses or diverges, keeps what it trained, and never mixes up
stored models.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from eigenforget import record
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning, collected
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.sequence import SequentialStudy
from eigenforget.experiments.study import Study, display_names
from eigenforget.methods import Finetune, HeadMask, Identity
from eigenforget.models import checkpoint
from eigenforget.models.mlp import Mlp
from eigenforget.report.pages.page import render
from eigenforget.requests import AtRandom, ByClass, Sequential
from eigenforget.training.recipe import Recipe


@pytest.fixture(scope="module")
def quick(digits: Experiment) -> Experiment:
    recipe, request = Recipe(epochs=1, batch_size=128), AtRandom(fraction=0.1)
    return replace(digits, model_spec=Mlp(hidden=(16,)), recipe=recipe, request=request)


def test_refused_and_failed_methods_are_on_record_and_the_study_goes_on(quick: Experiment) -> None:
    study = Study(
        quick, [HeadMask(), Finetune(lr=1e30), Finetune(epochs=1)], seed=0, oracle_seeds=(1,)
    )
    records = {r.name: r for r in study.records()}
    assert list(records) == ["original", "oracle 1", "head_mask", "finetune 1", "finetune 2"]
    statuses = [r.outcome.status for r in records.values()]
    assert statuses == ["ok", "ok", "refused", "failed", "ok"]
    assert (
        "needs a class" in records["head_mask"].outcome.reason
        and "diverged" in records["finetune 1"].outcome.reason
    )
    assert not records["finetune 1"].scores and records["finetune 2"].scores
    ordered = list(records.values())
    assert [r.previous for r in ordered] == [None, *(r.digest for r in ordered[:-1])]
    page = render(ordered, "study")
    assert "needs a class" in page and "diverged" in page


def test_audits_of_a_study_take_the_place_of_those_of_their_names(quick: Experiment) -> None:
    spelled = "relearning(budgets=(5,), steps=2)"
    study = Study(quick, [Identity()], oracle_seeds=(1,), audits=[spelled])
    for found in study.records():
        assert found.job["measurement"]["audits"] == [spelled]
        assert found.series["relearning"]["steps"] == [0, 1, 2]
        names = {score.name for score in found.scores}
        assert "relearn_5_auc" in names and "relearn_10_auc" not in names


def test_stored_models_are_found_again_and_checked(quick: Experiment, tmp_path: Path) -> None:
    study = Study(quick, [Identity()], seed=0, oracle_seeds=(1,), store=tmp_path)
    first = [r.inputs["checked_model"] for r in study.records()]
    files = {p: p.read_bytes() for p in tmp_path.glob("*.safetensors")}
    assert len(files) == 2 and first[0] == first[2] != first[1]
    titles: list[str] = []

    def watch(title: str, total: int):  # type: ignore[no-untyped-def]
        titles.append(title)
        return lambda row: None

    assert [r.inputs["checked_model"] for r in study.records(watch)] == first
    assert (
        not any(t.startswith("train") for t in titles)
        and {p: p.read_bytes() for p in tmp_path.glob("*.safetensors")} == files
    )
    path = min(files)
    path.write_bytes(files[path][:-5] + bytes(5))
    with pytest.warns(EigenforgetWarning, match="trained anew"), collected() as said:
        assert [r.inputs["checked_model"] for r in study.records()] == first
    assert [line for line in said if "trained anew" in line and path.name in line]
    other = Study(
        replace(quick, recipe=Recipe(epochs=2)), [], seed=0, oracle_seeds=(1,), store=tmp_path
    )
    assert checkpoint.model_digest(other.original().model) != first[0], (
        "a model of another recipe is another file"
    )
    other_request = Study(
        replace(quick, request=AtRandom(fraction=0.2)),
        [],
        seed=0,
        oracle_seeds=(1,),
        store=tmp_path,
    )
    assert checkpoint.model_digest(other_request.oracle(1).model) != first[1], (
        "an oracle of another request is another file"
    )


def test_records_of_a_study_can_be_written_and_verified(quick: Experiment, tmp_path: Path) -> None:
    for number, item in enumerate(Study(quick, [Identity()], oracle_seeds=(1,)).records()):
        record.write(item, tmp_path / f"{number}.json")
    assert [r.name for r in record.read_folder(tmp_path)] == ["original", "oracle 1", "identity"]


def test_methods_of_one_name_are_numbered() -> None:
    assert display_names([Finetune(), HeadMask(), Finetune(lr=0.1)]) == [
        "finetune 1",
        "head_mask",
        "finetune 2",
    ]


def test_no_seed_makes_two_oracles(quick: Experiment) -> None:
    with pytest.raises(EigenforgetError, match="oracle seed 1 is given twice"):
        Study(quick, [Identity()], oracle_seeds=(1, 2, 1))
    with pytest.raises(EigenforgetError, match="oracle seed 4 is given twice"):
        SequentialStudy(quick, Sequential(requests=(ByClass(label=3),)), Identity(), 0, (4, 4))
