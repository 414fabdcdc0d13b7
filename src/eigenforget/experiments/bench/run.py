"""Runs a plan: what is missing is trained, measured and kept; what is there is never done again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import spell
from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.experiments.bench.plan import Plan
from eigenforget.experiments.bench.store import Anchors, Status, Store
from eigenforget.experiments.bench.work import (
    Answer,
    Home,
    Task,
    experiment_of,
    failed,
    failed_record,
)
from eigenforget.experiments.bench.workers import Pool, answers
from eigenforget.experiments.model_cache import ModelKind
from eigenforget.models.features import capture

Done = Callable[[Task, Answer], None]
Observer = Callable[[str, int], Done]
"""observer(stage, number of tasks) -> a function that is called with each answer."""

_SAMPLED = 100


def unobserved(stage: str, total: int) -> Done:
    """Shows nothing."""
    return lambda task, answer: None


class Outline(NamedTuple):
    """What a plan comes to. models: to train. settings: of which original and oracles are to be
    measured. cells: to run.

    done: finished cells by status. seconds: of one worker for all that is to do, None before
    anything alike is finished.
    """

    models: tuple[Task, ...]
    settings: tuple[Task, ...]
    cells: tuple[Task, ...]
    done: dict[Status, int]
    seconds: float | None

    @property
    def total(self) -> int:
        return len(self.cells) + sum(self.done.values())


@dataclass(frozen=True)
class Bench:
    """A plan, where its results are kept, and who does the work. device: as for an Engine, by kind
    ("cpu", "cuda").
    """

    plan: Plan
    store: Store
    pool: Pool
    device: str = "cpu"

    def cells(self) -> tuple[Cell, ...]:
        """The plan's cells on this device: a result of another device is another result."""
        settings = {setting: replace(setting, device=self.device) for setting in self.plan.settings}
        return tuple(replace(cell, setting=settings[cell.setting]) for cell in self.plan.cells)

    def by_setting(self) -> dict[Setting, list[Cell]]:
        """The cells of each setting, both in the order of the plan."""
        found: dict[Setting, list[Cell]] = {}
        for cell in self.cells():
            found.setdefault(cell.setting, []).append(cell)
        return found

    def outline(self, *, again: bool = False) -> Outline:
        """What is to do; again: cells that were refused or failed as well. Loads each data set once
        and splits it.

        Errors: data, request, model or layer do not fit each other; data or split are not those of
        results in the store.
        """
        cells, statuses = self.cells(), self.store.statuses()
        todo = [
            cell
            for cell in cells
            if statuses.get(cell.digest) != "ok" and (again or cell.digest not in statuses)
        ]
        left = {cell.digest for cell in todo}
        done = Counter(statuses[cell.digest] for cell in cells if cell.digest not in left)
        by_setting = self.by_setting()
        models: dict[str, Task] = {}
        unmeasured = []
        for setting in sorted(
            by_setting, key=lambda s: spell(s.data)
        ):  # one data set after the other: only one is held
            own = by_setting[setting]
            work = any(cell.digest in left for cell in own)
            measure = self._checked(setting) is None and (
                work or any(statuses[cell.digest] == "ok" for cell in own)
            )
            if measure:
                unmeasured.append(Task("anchors", setting))
            if work or measure:
                models |= self._missing(setting)
        seconds = self._estimate(cells, statuses, models.values(), unmeasured, todo)
        tasks = tuple(Task("cell", cell.setting, cell=cell, again=again) for cell in todo)
        return Outline(tuple(models.values()), tuple(unmeasured), tasks, dict(done), seconds)

    def run(self, outline: Outline, observer: Observer = unobserved) -> dict[str, int]:
        """Does what the outline says; returns the number of answers by status. What fails costs its
        cells only.

        Errors: NotWritten or RecordError when the store cannot be written. All that was finished is
        kept then.
        """
        try:
            return self._run(outline, observer)
        finally:
            self.store.tidy()

    def _run(self, outline: Outline, observer: Observer) -> dict[str, int]:
        counts: dict[str, int] = {}
        broken: dict[Setting, str] = {}
        for stage, tasks in (
            ("train models", outline.models),
            ("measure retrained models", outline.settings),
            ("cells", outline.cells),
        ):
            ready = [task for task in tasks if task.setting not in broken]
            if stage == "cells":
                self._fail([task for task in tasks if task.setting in broken], broken)
                counts["failed"] = len(tasks) - len(ready)
            done = observer(stage, len(ready))
            for task, answer in self._answers(ready):
                done(task, answer)
                if stage == "cells":
                    counts[answer.status] = counts.get(answer.status, 0) + 1
                    self._keep_death(task, answer)
                elif answer.status != "ok":
                    broken |= dict.fromkeys(self._users(task, outline), answer.reason)
        return {status: number for status, number in counts.items() if number}

    def _answers(self, tasks: Sequence[Task]) -> Iterator[tuple[Task, Answer]]:
        home = Home(Store(self.store.folder, self.store.bench), self.device, self.pool.threads)
        busy: list[Task] = []
        for task, answer in answers(tasks, home, self.pool):
            if answer.status == "busy":
                busy.append(task._replace(wait=True))
            else:
                yield task, answer
        if busy:
            yield from answers(busy, home, self.pool)

    def _checked(self, setting: Setting) -> Anchors | None:
        """The setting's anchors. Errors: it cannot be run, or results of it in the store are of
        other data.
        """
        experiment, anchors = experiment_of(setting, self.device), self.store.anchors(setting)
        now = experiment.data.digest, experiment.split.digest
        if anchors is not None and anchors.inputs != now:
            what = "content" if anchors.inputs[0] != now[0] else "split by the request"
            raise EigenforgetError(
                f"{spell(setting.data)}: its {what} is not what it was when results in {self.store.folder} were made; take another --store"
            )
        if anchors is None:
            experiment.panel(layer=setting.layer or None, layers=setting.layers)
            with capture(experiment.new_model(0), setting.layer or None, setting.layers):
                pass  # the layers are there
        return anchors

    def _missing(self, setting: Setting) -> dict[str, Task]:
        """Tasks for the models that the setting needs and the cache lacks, by their files."""
        experiment, cache = experiment_of(setting, self.device), self.store.cache()
        wanted: list[tuple[ModelKind, int]] = [
            ("original", setting.seed),
            *(("oracle", seed) for seed in setting.oracles),
        ]
        tasks = {
            str(cache.path_for(experiment, kind, seed)): Task(kind, setting, seed)
            for kind, seed in wanted
        }
        return {
            path: task
            for path, task in tasks.items()
            if not cache.has(experiment, task.kind, task.seed)
        }  # type: ignore[arg-type]

    def _users(self, task: Task, outline: Outline) -> list[Setting]:
        """Settings that cannot go on without the answer to this task."""
        if task.kind == "anchors":
            return [task.setting]
        cache, own = self.store.cache(), task.setting
        path = cache.path_for(experiment_of(own, self.device), task.kind, task.seed)  # type: ignore[arg-type]
        users = []
        for setting in dict.fromkeys(t.setting for t in outline.cells):
            seeds = (setting.seed,) if task.kind == "original" else setting.oracles
            same = (setting.data, setting.model, setting.recipe) == (
                own.data,
                own.model,
                own.recipe,
            )
            if (
                same
                and task.seed in seeds
                and cache.path_for(experiment_of(setting, self.device), task.kind, task.seed)
                == path
            ):  # type: ignore[arg-type]
                users.append(setting)
        return users

    def _fail(self, tasks: Sequence[Task], reasons: dict[Setting, str]) -> None:
        """Puts on record that the cells failed, but for those that another bench has finished
        meanwhile.
        """
        for task in tasks:
            if task.cell is not None:
                with self.store.locked(f"cell-{task.cell.digest[7:]}", wait=True):
                    if self.store.result(task.cell) is None or task.again:
                        why = failed(reasons[task.setting])
                        self.store.keep(
                            task.cell,
                            failed_record(task.cell, experiment_of(task.setting, self.device), why),
                        )

    def _keep_death(self, task: Task, answer: Answer) -> None:
        """A worker that died could not write down that the cell failed."""
        if (
            answer.status == "failed"
            and task.cell is not None
            and task.cell.digest not in self.store.statuses()
        ):
            self._fail([task], {task.setting: answer.reason})

    def _estimate(
        self,
        cells: Sequence[Cell],
        statuses: dict[str, Status],
        models: Collection[Task],
        settings: Sequence[Task],
        todo: Sequence[Cell],
    ) -> float | None:
        if not todo:
            return 0.0
        finished = [cell for cell in cells if statuses.get(cell.digest) == "ok"]
        seconds: dict[str, list[float]] = {}
        for cell in finished[:: max(1, len(finished) // _SAMPLED)]:
            seconds.setdefault(cell.method.name, []).append(self._seconds(cell))
        trained = self._training_seconds(models)
        if not seconds or trained is None:
            return None
        everyone = [value for values in seconds.values() for value in values]
        measured = fmean(everyone)
        own = sum(fmean(seconds.get(cell.method.name, everyone)) for cell in todo)
        return trained + own + sum(measured * (1 + len(task.setting.oracles)) for task in settings)

    def _seconds(self, cell: Cell) -> float:
        found = self.store.result(cell)
        return (
            found.outcome.seconds + float(found.outcome.cost.get("measure_seconds", 0.0))
            if found
            else 0.0
        )

    def _training_seconds(self, tasks: Collection[Task]) -> float | None:
        """Of one worker, by what kept models of the same spec, recipe and data took; None where one
        has no such model.
        """
        entries = self.store.cache().entries() if tasks else ()
        total = 0.0
        for task in tasks:
            own = {
                "model": spell(task.setting.model),
                "recipe": spell(task.setting.recipe),
                "data": spell(task.setting.data),
            }
            known = [
                float(e.about["seconds"])
                for e in entries
                if all(e.about.get(key) == value for key, value in own.items())
            ]
            if not known:
                return None
            total += fmean(known)
        return total
