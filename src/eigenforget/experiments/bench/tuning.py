"""Tunes methods fairly: the same search and number of trials for each."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import nn

from eigenforget.core import seeds
from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.extras import needed
from eigenforget.core.spec import spell
from eigenforget.evaluation.board import Panel
from eigenforget.evaluation.metrics import Accuracies, tug_of_war
from eigenforget.experiments.study import Study
from eigenforget.methods.base import Method, Range
from eigenforget.training.log import Watch, unwatched


class TuningResult(NamedTuple):
    """What the search found for one method.

    Attributes:
        best: The method with the best fields.
        trials: Of each its spec, its value (None where it diverged) and the reason.
        space: What was searched.
    """

    best: Method
    trials: tuple[dict[str, Any], ...]
    space: Mapping[str, Range] = {}


Accuracy = Mapping[str, float]
"""Accuracies of one model by the name of their score."""


def closeness(found: Accuracy, original: Accuracy, oracle: Accuracy) -> float:
    """Tug-of-war in [0, 1] (Zhao et al., arXiv 2406.01257).

    It is Π over forget, retain and held-out retained data of 1 − |accuracy − oracle's accuracy|.
    """
    del original
    return tug_of_war(found, oracle)


@dataclass(frozen=True)
class Tuning:
    """The same search and budget for every method, on one original and its first oracle.

    The objective is made of output accuracies, so that feature metrics stay unseen by every
    method's tuning. The first trial of each method is the method as it is given.

    Args:
        study: Its seed must not be one of those that are reported.
        trials: For each method that has a search space.
        objective: What is maximised, from the accuracies of the unlearned model, the original and
            the oracle.
        spaces: Search spaces by the name of the method, where they are not those of its class.
    """

    study: Study
    trials: int = 6
    objective: Callable[[Accuracy, Accuracy, Accuracy], float] = closeness
    spaces: Mapping[str, Mapping[str, Range]] = field(default_factory=dict)

    def tune(
        self, methods: Sequence[Method], watch: Watch = unwatched
    ) -> Iterator[tuple[Method, TuningResult]]:
        """Each method with its result; one that refuses keeps its defaults and has no trials."""
        experiment, seed = self.study.experiment, self.study.seed
        panel = experiment.panel(seed=seed)
        original = self.study.original(watch).model
        oracle = self.study.oracle(self.study.oracle_seeds[0], watch).model
        before, target = accuracies(panel, original), accuracies(panel, oracle)
        for method in methods:
            space = self.spaces.get(method.name, method.search_space)
            log = watch(f"tune: {method.name}", self.trials if space else 1)

            def value(candidate: Method, log: Callable[[dict[str, Any]], None] = log) -> float:
                log({})
                made = experiment.unlearn(original, candidate, seed=seed)
                return self.objective(accuracies(panel, made.model), before, target)

            yield method, search(method, value, trials=self.trials, seed=seed, space=space)


def search(
    method: Method,
    value: Callable[[Method], float],
    *,
    trials: int,
    seed: int,
    space: Mapping[str, Range] | None = None,
) -> TuningResult:
    """The best fields of a method, found by optuna's TPE sampler; the first trial is `method`.

    Args:
        method: Where the search starts.
        value: What is maximised. It may raise Diverged, which is a trial without a value, or
            Refused, which ends the search.
        trials: How many.
        seed: Of the sampler.
        space: Possibly dotted fields with their ranges; those of its class unless given.
    """
    space = method.search_space if space is None else space
    if not space:
        return TuningResult(method, ())
    optuna = needed("optuna", extra="tune", what="tuning")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(
        seed=seeds.derive(seed, "tune", method.name) % 2**32, n_startup_trials=max(3, trials // 2)
    )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial(
        {name: field_of(method, name) for name in space if field_of(method, name) is not None}
    )
    done: list[dict[str, Any]] = []
    found: list[tuple[float, Method]] = []
    for _ in range(trials):
        trial = study.ask()
        chosen = {
            name: float(f"{trial.suggest_float(name, low, high, log=True):.4g}")
            for name, (low, high) in space.items()
        }
        candidate = with_fields(method, chosen)
        try:
            reached = value(candidate)
        except Diverged as error:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            done.append({"spec": spell(candidate), "value": None, "reason": str(error)})
        except Refused as error:
            refusal = {"spec": spell(candidate), "value": None, "reason": str(error)}
            return TuningResult(method, (refusal,), space)
        else:
            study.tell(trial, reached)
            found.append((round(reached, 6), candidate))
            done.append({"spec": spell(candidate), "value": round(reached, 6)})
    best = max(found, key=lambda item: item[0])[1] if found else method
    return TuningResult(best, tuple(done), space)


def accuracies(panel: Panel, model: nn.Module) -> dict[str, float]:
    """Accuracies of each part of the data by score name; nothing else of the panel is measured."""
    metric = Accuracies().to(panel.engine.fabric.device)
    for part, source in panel.parts.items():
        for batch, outputs in panel.engine.forward(model, source, layer=panel.layer):
            metric.update(part, batch, outputs)
    return {score.name: score.value for score in metric.scores() if score.value is not None}


def field_of(method: Any, name: str) -> Any:
    """The value of a possibly dotted field."""
    for step in name.split("."):
        method = getattr(method, step)
    return method


def with_fields(method: Method, fields: dict[str, Any]) -> Method:
    """A copy of the method with these possibly dotted fields changed.

    Raises:
        EigenforgetError: The method does not have such a field.
    """
    for name, value in fields.items():
        first, _, rest = name.partition(".")
        if first not in {f.name for f in dataclasses.fields(method)}:  # type: ignore[arg-type]
            raise EigenforgetError(f"{method.name} has no field {first!r} to search over")
        if rest:
            value = with_fields(getattr(method, first), {rest: value})
        method = dataclasses.replace(method, **{first: value})  # type: ignore[type-var]
    return method
