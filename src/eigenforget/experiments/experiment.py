"""The main job: specs → data and split → training, unlearning, evaluation → sealed records. Used by
the CLI and the benchmarks.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.spec import as_json, parse, spell
from eigenforget.core.types import Split
from eigenforget.data import AUGMENTS
from eigenforget.data.bundle import Data
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.evaluation.board import Measurement, Panel
from eigenforget.evaluation.observe import Glance, parts_of
from eigenforget.evaluation.records import Origin, evaluation_record, run_record
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import checkpoint
from eigenforget.models.heads import head_if_any
from eigenforget.models.text import with_vocabulary
from eigenforget.record import Outcome, RunRecord
from eigenforget.record.schema import Kind
from eigenforget.requests import ForgetRequest, retain_sample, split
from eigenforget.requests.splitting import sides_of
from eigenforget.training.cost import CostClock, ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log
from eigenforget.training.recipe import Recipe, fit_recipe


@dataclass(frozen=True)
class Experiment:
    """Data, model, recipe and request as parsed specs, and where to compute. Loading and splitting
    happen once, on first use.

    layer: whose output are the features; None takes the input of the linear head, and a model
    without one needs a layer.
    """

    data_spec: Any
    model_spec: Any
    recipe: Recipe
    request: ForgetRequest | None
    engine: Engine
    retain_fraction: float = 1.0
    layer: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.retain_fraction <= 1:
            raise EigenforgetError(
                f"retain fraction {self.retain_fraction} must be from 0 (none) to 1 (all of the retained data)"
            )

    @cached_property
    def data(self) -> Data:
        loaded = self.data_spec.load()
        if self.recipe.augment != "none":
            augment = parse(self.recipe.augment, AUGMENTS, "augmentation")
            loaded = replace(loaded, train=replace(loaded.train, augment=augment))
        return loaded

    @cached_property
    def split(self) -> Split:
        if self.request is None:
            raise EigenforgetError("no forget request was given")
        return split(self.request, self.data.train_index)

    @cached_property
    def forget(self) -> TensorSource | DatasetSource:
        return self.data.train.subset(self.split.forget)

    @cached_property
    def retain(self) -> TensorSource | DatasetSource:
        return self.data.train.subset(self.split.retain)

    def new_model(self, seed: int, num_classes: int | None = None) -> nn.Module:
        """A freshly initialised model with one output for each class of the data, or with
        `num_classes` outputs.
        """
        outputs = num_classes or self.data.num_classes
        return with_vocabulary(self.model_spec, self.data.vocabulary).build(
            num_classes=outputs, input_shape=self.data.input_shape, seed=seed
        )

    def stored_model(self, stored: checkpoint.Checkpoint) -> nn.Module:
        """The model of a checkpoint, with as many outputs as its head has, and changed as the
        method that made it changes models.

        A model without one linear head is built for the classes of the data. Errors: the checkpoint
        is of another model.
        """
        model = self.new_model(0)
        found = head_if_any(model)
        head = None if found is None else stored.tensors.get(f"{found[0]}.weight")
        if head is not None and head.ndim == 2 and len(head) != self.data.num_classes:
            model = self.new_model(0, num_classes=len(head))
        if stored.metadata.get("method"):
            method = parse(stored.metadata["method"], METHODS, "method")
            model = method.adapt(model) if hasattr(method, "adapt") else model
        checkpoint.load_into(model, stored)
        return model.eval()

    def train(
        self, *, seed: int, without_forget: bool = False, log: Log | None = None
    ) -> ModelAndCost:
        """The original model, or with `without_forget` a retrained oracle."""
        source = self.retain if without_forget else self.data.train
        model = self.new_model(seed)
        with CostClock(self.engine) as clock:
            fit_recipe(
                model, source, self.recipe, engine=self.engine, seed=seed, layer=self.layer, log=log
            )
        return clock.result(model)

    def unlearn(
        self,
        model: nn.Module,
        method: Method,
        *,
        seed: int,
        log: Log | None = None,
        only: np.ndarray | None = None,
    ) -> ModelAndCost:
        """The unlearned model. The method may use `retain_fraction` of the retained data, 0 for
        none.

        only: positions of the samples to forget now, where earlier requests took the others
        already. The method is told of every class that is gone by then: a target that may name an
        earlier one would bring it back.
        """
        kept = None
        if self.retain_fraction > 0:
            rows = retain_sample(
                self.split.retain, self.data.train_index.labels, self.retain_fraction, seed
            )
            kept = self.data.train.subset(rows)
        with CostClock(self.engine) as clock:
            result = unlearn(
                model,
                forget=self.forget if only is None else self.data.train.subset(only),
                retain=kept,
                method=method,
                forgotten_classes=self.split.forgotten_classes,
                engine=self.engine,
                seed=seed,
                layer=self.layer,
                log=log,
                look=clock.leaving_out(self._glance(model, seed)) if log else None,
            )
        return clock.result(result)

    def _glance(self, model: nn.Module, seed: int) -> Glance:
        """What a training trace shows of the model after each epoch."""
        k = self.data.num_classes - len(self.split.forgotten_classes)
        return Glance(
            self.engine, model, (self.forget, self.retain), k=k, layer=self.layer, seed=seed
        )

    def panel(self, *, seed: int = 0, layer: str | None = None, **more: Any) -> Panel:
        """Everything that is measured on each model, at the experiment's layer unless another is
        named; `more` are further fields of Panel.
        """
        gone, rest = sides_of(self.data.test_index.labels, self.split.forgotten_classes)
        held_out = [str(name) for name in self.data.test_index.ids[np.concatenate([gone, rest])]]
        parts = parts_of(
            self.forget, self.retain, self.data.test, forgotten_classes=self.split.forgotten_classes
        )
        if self.data.triggered is not None:
            parts["test_trigger"] = self.data.triggered
        return Panel(
            parts=parts,
            num_classes=self.data.num_classes,
            forgotten_classes=self.split.forgotten_classes,
            engine=self.engine,
            seed=seed,
            layer=layer or self.layer,
            test_ids=held_out,
            **more,
        )

    def job(self, **more: Any) -> dict[str, Any]:
        """The specs as they go into a record."""
        named = {
            "data": self.data_spec,
            "model": self.model_spec,
            "recipe": self.recipe,
            "request": self.request,
        }
        return {key: described(value) for key, value in named.items() if value is not None} | more

    def sizes(self) -> dict[str, int]:
        """How many samples are to forget, retained, held out, and held out of the classes that are
        gone as a whole.
        """
        gone, rest = sides_of(self.data.test_index.labels, self.split.forgotten_classes)
        forget, retain = len(self.split.forget), len(self.split.retain)
        return {
            "forget": forget,
            "retain": retain,
            "test": len(gone) + len(rest),
            "test_forget": len(gone),
        }

    def inputs(self) -> dict[str, str]:
        """Digests of what the run acted on."""
        digests = {"data": self.data.digest}
        return digests if self.request is None else digests | {"split": self.split.digest}

    def record(self, kind: Kind, name: str, outcome: Outcome, **fields: Any) -> RunRecord:
        """An unsealed record of one run of this experiment; `job` and `inputs` are added to the
        experiment's own.
        """
        return run_record(kind, name, outcome, self.origin, **fields)

    def evaluation_record(
        self, name: str, made: ModelAndCost, measured: Measurement, **fields: Any
    ) -> RunRecord:
        """The record of one measured model. made.seconds is what it took to train or unlearn it."""
        fields["job"] = {"sizes": self.sizes(), **fields.get("job", {})}
        return evaluation_record(name, made, measured, self.origin, split=self.split, **fields)

    @property
    def origin(self) -> Origin:
        """What all records of this experiment have in common."""
        layer = {"layer": self.layer} if self.layer else {}
        return Origin(self.job(**layer), self.inputs(), self.engine)


def problem(error: Refused | Diverged) -> Outcome:
    """The outcome of a run that made no model."""
    return Outcome("failed" if isinstance(error, Diverged) else "refused", 0.0, reason=str(error))


def described(value: Any) -> dict[str, Any]:
    """{"spec": "muda(k=9)", "resolved": {…every field…}}; of a method also its guarantee and, where
    it says so, the scores it optimises.
    """
    entry = {"spec": spell(value), "resolved": as_json(value)}
    if hasattr(value, "guarantee"):
        entry["guarantee"] = value.guarantee
    scores = optimised(value)
    return entry if scores is None else entry | {"optimises": sorted(scores)}


def optimised(value: Any) -> set[str] | None:
    """The scores that a method trains on, with those of the methods it wraps; None where none of
    them says so.
    """
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return None
    own = getattr(value, "optimises", None)
    found = [
        None if own is None else set(own),
        *(optimised(getattr(value, f.name)) for f in dataclasses.fields(value)),
    ]
    said = [scores for scores in found if scores is not None]
    return set().union(*said) if said else None
