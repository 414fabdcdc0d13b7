"""Requests one after the other: what each step forgets, and what its records hold."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget import record
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.data import Data
from eigenforget.data.digits import Digits
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.sequence import SequentialStudy, StepRecords
from eigenforget.methods import Finetune
from eigenforget.methods.base import Method, Task
from eigenforget.models import checkpoint
from eigenforget.models.mlp import Mlp
from eigenforget.requests import AtRandom, ByClass, Sequential, Union, split
from eigenforget.training.engine import Engine
from eigenforget.training.recipe import Recipe

QUICK = ("accuracies", "population_mia", "alignment")


REQUESTS = (ByClass(label=3), AtRandom(n=150, seed=4), ByClass(label=5))


SKIPPING = Sequential(requests=REQUESTS, again="skip")


class Call(NamedTuple):
    """What a method was given, and the digest of the model it made."""

    model: str
    labels: np.ndarray
    retained: int | None
    gone: tuple[int, ...]
    seed: int
    made: nn.Module
    digest: str


@dataclass(frozen=True)
class Spy:
    """Shrinks all weights by a tenth and notes its calls; fails at the call of this number."""

    fail_at: int = 0
    how: str = "refused"
    name: ClassVar[str] = "spy"
    source: ClassVar[str] = "test"
    needs: ClassVar[tuple[str, ...]] = ("forget",)
    guarantee: ClassVar[str] = "none"
    role: ClassVar[Literal["unlearned", "control"]] = "unlearned"
    passes: ClassVar[str] = "none"
    log_rows: ClassVar[int] = 0
    optimises: ClassVar[tuple[str, ...] | None] = None
    calls: ClassVar[list[Call]] = []
    asked: ClassVar[list[int]] = []

    def __call__(self, task: Task) -> nn.Module:
        self.asked.append(task.seed)
        if len(self.asked) == self.fail_at:
            raise (
                Refused("spy has seen enough")
                if self.how == "refused"
                else Diverged("spy's loss is infinite")
            )
        student = task.student()
        with torch.no_grad():
            for parameter in student.parameters():
                parameter.mul_(0.9)
        retained = None if task.retain is None else len(task.retain)
        here = (
            checkpoint.model_digest(task.model),
            task.forget.labels(),
            retained,
            task.forgotten_classes,
            task.seed,
        )
        self.calls.append(Call(*here, student, checkpoint.model_digest(student)))
        return student


@pytest.fixture(scope="module")
def experiment(engine: Engine) -> Experiment:
    return Experiment(Digits(), Mlp(hidden=(24,)), Recipe(epochs=4, batch_size=64), None, engine)


@pytest.fixture(autouse=True)
def _nothing_noted() -> None:
    Spy.calls.clear()
    Spy.asked.clear()


def study(
    experiment: Experiment, method: Method, sequence: Sequential = SKIPPING, **more: Any
) -> SequentialStudy:
    skip = tuple(name for name in measurement_names() if name not in QUICK)
    return SequentialStudy(
        experiment, sequence, method, **{"oracle_seeds": (1, 2), "skip": skip, **more}
    )


def right(model: nn.Module, data: Data, rows: np.ndarray) -> np.ndarray:
    assert isinstance(data.train.inputs, Tensor)  # type: ignore[union-attr]
    with torch.no_grad():
        found = model(data.train.inputs[torch.as_tensor(rows)]).argmax(dim=1).numpy()  # type: ignore[union-attr]
    return np.asarray(found == data.train_index.labels[rows])


def names(step: StepRecords) -> list[str]:
    return [r.name for r in step.records]


def test_splits_add_up_and_the_last_is_that_of_the_union(experiment: Experiment) -> None:
    found = study(experiment, Spy())
    index, gone = experiment.data.train_index, np.zeros(0, dtype=np.int64)
    for number, (step, request) in enumerate(zip(found.steps, REQUESTS, strict=True), start=1):
        wanted = request.select(index)
        assert set(step.new) == set(wanted) - set(gone) and len(step.new)
        gone = np.union1d(gone, wanted)
        here = found.at(number).split
        assert np.array_equal(here.forget, gone) and np.array_equal(
            here.retain, np.setdiff1d(np.arange(len(index)), gone)
        )
        assert step.split.digest == here.digest and np.array_equal(step.split.forget, gone)
    whole = split(Union(requests=REQUESTS), index)
    assert found.steps[-1].split.digest == whole.digest and whole.forgotten_classes == (3, 5)
    assert len(found.steps[1].new) < 150, (
        "the draw overlaps with class 3, and the overlap is passed over"
    )


def test_groups_are_the_rows_of_each_request(experiment: Experiment) -> None:
    found = study(experiment, Spy())
    for number in (1, 2, 3):
        groups, gone = found.groups(number), found.at(number).split.forget
        assert (
            list(groups)
            == ["1 by_class(label=3)", "2 at_random(n=150, seed=4)", "3 by_class(label=5)"][:number]
        )
        for rows, step in zip(groups.values(), found.steps, strict=False):
            assert rows.tolist() == [
                i for i, position in enumerate(gone) if position in set(step.new.tolist())
            ]
        assert sorted(np.concatenate(list(groups.values())).tolist()) == list(range(len(gone)))


def test_each_step_starts_from_the_model_before_and_forgets_what_is_new(
    experiment: Experiment,
) -> None:
    found = study(experiment, Spy())
    done = list(found.run())
    labels, calls = experiment.data.train_index.labels, Spy.calls
    original = done[0].records[0].inputs["checked_model"]
    assert len(calls) == 4 and [c.model for c in calls] == [
        original,
        calls[0].digest,
        calls[1].digest,
        original,
    ]
    for number, call in enumerate(calls[:3], start=1):
        assert np.array_equal(call.labels, labels[found.steps[number - 1].new])
        assert call.retained == len(found.at(number).split.retain)
        assert done[number - 1].records[3].inputs["checked_model"] == call.digest
    assert [c.gone for c in calls] == [(3,), (3,), (3, 5), (3, 5)], (
        "the classes that earlier requests took are gone too"
    )
    assert len({c.seed for c in calls[:3]}) == 3
    assert (
        np.array_equal(calls[3].labels, labels[found.at(3).split.forget])
        and calls[3].retained == calls[2].retained
    )
    assert done[2].records[4].inputs["checked_model"] == calls[3].digest


def test_a_sequence_may_go_without_retained_data(experiment: Experiment) -> None:
    list(study(replace(experiment, retain_fraction=0.0), Spy(), oracle_seeds=(1,)).run())
    assert [c.retained for c in Spy.calls] == [None] * 4


def test_records_are_sealed_chained_and_hold_the_accuracy_on_each_request(
    experiment: Experiment,
) -> None:
    found = study(experiment, Spy())
    done = list(found.run())
    assert [names(s) for s in done] == [
        ["original", "oracle 1", "oracle 2", f"step {n}", *(["at once"] if n == 3 else [])]
        for n in (1, 2, 3)
    ]
    for step in done:
        previous = None
        for item in step.records:
            assert item.previous == previous and record.seal(item, previous).digest == item.digest
            assert (
                item.job["step"] == step.number
                and item.job["sequence"]["resolved"]["fields"]["again"] == "skip"
            )
            assert item.inputs["split"] == found.steps[step.number - 1].split.digest
            previous = item.digest
        assert {r.role for r in step.records} == {"original", "oracle", "unlearned"}
        assert [r.job["seed"] for r in step.records[:3]] == [0, 1, 2]
    original, oracle = (
        experiment.train(seed=0).model,
        found.at(2).train(seed=2, without_forget=True).model,
    )
    models = {
        (1, 0): original,
        (2, 0): original,
        (2, 2): oracle,
        (3, 0): original,
        (3, 4): Spy.calls[3].made,
    }
    models |= {(n, 3): Spy.calls[n - 1].made for n in (1, 2, 3)}
    for (number, place), model in models.items():
        series = done[number - 1].records[place].series["forget_groups"]
        expected = {
            g: right(model, experiment.data, s.new).mean()
            for g, s in zip(found.groups(number), found.steps, strict=False)
        }
        assert series == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("how", "status"), [("refused", "refused"), ("diverged", "failed")])
def test_a_step_that_makes_no_model_is_on_record_and_ends_the_sequence(
    experiment: Experiment, how: str, status: str
) -> None:
    done = list(study(experiment, Spy(fail_at=2, how=how), oracle_seeds=(1,)).run())
    assert [names(s) for s in done] == [
        ["original", "oracle 1", "step 1"],
        ["original", "oracle 1", "step 2"],
    ]
    last = done[1].records[-1]
    assert last.outcome.status == status and "spy" in last.outcome.reason and not last.scores
    assert (
        last.job["step"] == 2
        and last.job["method"]["spec"].startswith("spy(fail_at=2")
        and last.previous == done[1].records[1].digest
    )
    assert len(Spy.asked) == 2, "neither step 3 nor all at once is tried"


@pytest.mark.parametrize(("fail_at", "statuses"), [(2, ["refused", "ok"]), (3, ["ok", "refused"])])
def test_the_last_step_and_all_at_once_do_not_depend_on_each_other(
    experiment: Experiment, fail_at: int, statuses: list[str]
) -> None:
    done = list(
        study(
            experiment, Spy(fail_at=fail_at), Sequential(requests=REQUESTS[::2]), oracle_seeds=(1,)
        ).run()
    )
    assert (
        names(done[1])[2:] == ["step 2", "at once"]
        and [r.outcome.status for r in done[1].records[2:]] == statuses
    )


@pytest.mark.parametrize(
    ("requests", "again", "message"),
    [
        (
            REQUESTS,
            "error",
            r"step 2 \(at_random\): \d+ samples were already forgotten by an earlier step: digits/",
        ),
        (
            (ByClass(label=3), ByClass(label=(3,))),
            "skip",
            r"step 2 \(by_class\) forgets nothing that earlier steps left",
        ),
        ((ByClass(label=3), ByClass(label=11)), "skip", r"step 2 \(by_class\): unknown class 11"),
        (
            (ByClass(label=(0, 1, 2, 3, 4)), ByClass(label=(5, 6, 7, 8, 9))),
            "error",
            r"step 2 \(by_class\) forgets all 14\d\d training samples",
        ),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_trained(
    experiment: Experiment, requests: Any, again: Literal["error", "skip"], message: str
) -> None:
    titles: list[str] = []

    def watch(title: str, total: int) -> Any:
        titles.append(title)

    with pytest.raises(EigenforgetError, match=message):
        next(study(experiment, Spy(), Sequential(requests=requests, again=again)).run(watch))
    assert not titles and not Spy.calls


def test_the_same_seed_gives_the_same_models_and_another_seed_others(
    experiment: Experiment,
) -> None:
    def models(seed: int) -> list[str]:
        finetune = Finetune(epochs=1, batch_size=64)
        found = study(
            experiment, finetune, Sequential(requests=REQUESTS[::2]), seed=seed, oracle_seeds=(5,)
        )
        return [r.inputs["checked_model"] for step in found.run() for r in step.records]

    first = models(0)
    assert models(0) == first and len(set(first)) == 6, (
        "one original; an oracle and a model for each step, and all at once"
    )
    assert not {first[0], first[2], first[5], first[6]} & set(models(1))


def test_the_data_are_read_once(engine: Engine) -> None:
    @dataclass(frozen=True)
    class Counted:
        inner: Digits
        name: ClassVar[str] = "counted"
        reads: ClassVar[list[int]] = []

        def load(self) -> Data:
            self.reads.append(1)
            return self.inner.load()

    counted = Experiment(Counted(Digits()), Mlp(hidden=(8,)), Recipe(epochs=1), None, engine)
    list(study(counted, Spy(), oracle_seeds=(1,)).run())
    assert len(Counted.reads) == 1
