"""An experiment: data, model, recipe and request together, to train, unlearn, measure and save."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from eigenforget.core.errors import Diverged, EigenforgetError, Refused
from eigenforget.core.spec import as_json, changed_from_recipe, recipe_of, spell
from eigenforget.core.types import Split
from eigenforget.data import AUGMENTS, DATASETS
from eigenforget.data.bundle import Data
from eigenforget.data.known_rows import KnownRows
from eigenforget.data.sources import DatasetSource, TensorSource
from eigenforget.evaluation.board import Board, Measurement, Panel
from eigenforget.evaluation.observe import Glance, parts_of
from eigenforget.evaluation.records import (
    SPLIT,
    Origin,
    evaluation_record,
    own_measurement,
    run_record,
)
from eigenforget.experiments import results
from eigenforget.experiments.data_facts import DataFacts, row_key
from eigenforget.experiments.results import PLAIN, Output, Recording, SealedRecords
from eigenforget.experiments.specs import Specs
from eigenforget.experiments.unseen import UnseenSamples, described_unseen, positions_of_unseen
from eigenforget.methods import METHODS
from eigenforget.methods.base import Method
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import MODELS, checkpoint
from eigenforget.models.features import HEAD_NOTE, find_layer, note_head
from eigenforget.models.heads import head_if_any
from eigenforget.models.precision import retyped, types_of
from eigenforget.models.prepare import looks, prepare
from eigenforget.models.text import with_vocabulary
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.record import Manifest, Outcome, RunRecord, manifest_of, write_text
from eigenforget.record.schema import Kind, Role
from eigenforget.requests import REQUESTS, ForgetRequest, retain_sample, split
from eigenforget.requests.splitting import classes_in, sides_of
from eigenforget.training.cost import CostClock, ModelAndCost
from eigenforget.training.engine import Engine
from eigenforget.training.log import Log, Watch, unwatched
from eigenforget.training.recall import Recall, recall
from eigenforget.training.recipe import RECIPES, Recipe, fit_recipe


class Run(NamedTuple):
    """One training or unlearning, as it is saved.

    Attributes:
        kind: "train" or "unlearn".
        result: The model and its cost, or why there is none.
        job: What its record says of it beside the specs of the experiment.
        inputs: Further digests of what it acted on.
        trace: Rows of the training log, where it goes into the record.
    """

    kind: Kind
    result: ModelAndCost | Refused | Diverged
    job: Mapping[str, Any]
    inputs: Mapping[str, str] = {}
    trace: Sequence[Mapping[str, Any]] | None = None


class Candidate(NamedTuple):
    """A model to be measured.

    Attributes:
        name: Its name in tables.
        role: "original", "oracle", "unlearned" or "control".
        made: The model and what it took to make it, as far as that is known.
        job: What its record says of how it was made.
        inputs: Digests of its files.
        trace: Rows of the training log, where they are known.
    """

    name: str
    role: Role
    made: ModelAndCost
    job: Mapping[str, Any] = {}
    inputs: Mapping[str, str] = {}
    trace: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Experiment:
    """Data, model, recipe and request as parsed specs, and where to compute.

    Data is loaded and split once, on first use.

    Attributes:
        data_spec: The data set.
        model_spec: The model.
        recipe: How originals and oracles are trained.
        request: What is to be forgotten; None where nothing is.
        engine: Where, and in which precision, everything is computed.
        retain_fraction: Share of the retain set that a method may use; 0 for none.
        layer: Whose output are the features. None: the input of the linear head; a model without
            one needs a layer.
        remarks: Further entries of the job of every record.
        loaded: The data, where it is loaded already.
        known_split: The split, where it is known already.
        unseen: Samples of the test side that methods may see, and that are not measured.
        trained_here: Whether originals are trained by `recipe`. One that was trained elsewhere has
            no recipe in its records.
    """

    data_spec: Any
    model_spec: Any
    recipe: Recipe
    request: ForgetRequest | None
    engine: Engine
    retain_fraction: float = 1.0
    layer: str | None = None
    remarks: Mapping[str, Any] = field(default_factory=dict, compare=False)
    loaded: Data | None = field(default=None, repr=False, compare=False)
    known_split: Split | None = field(default=None, repr=False, compare=False)
    unseen: tuple[UnseenSamples, ...] = ()
    trained_here: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.retain_fraction <= 1:
            raise EigenforgetError(
                f"retain fraction {self.retain_fraction} must be from 0 (none) to 1 (all of the "
                "retained data)"
            )

    @classmethod
    def parse(cls, specs: Specs, engine: Engine) -> Experiment:
        """The experiment that spec strings spell.

        Raises:
            EigenforgetError: One of them is wrong.
        """
        return cls(
            data_spec=DATASETS.parse(specs.data),
            model_spec=MODELS.parse(specs.model),
            recipe=RECIPES.parse(specs.recipe) if specs.recipe else Recipe(),
            request=REQUESTS.parse(specs.request) if specs.request else None,
            engine=engine,
            retain_fraction=specs.retain_fraction,
            layer=specs.layer or None,
            unseen=(UnseenSamples.parse(specs.unseen),) if specs.unseen else (),
        )

    @cached_property
    def data(self) -> Data:
        """The data, with the recipe's augmentation on the training samples."""
        if self.loaded is not None:
            return self.loaded
        loaded: Data = self.data_spec.load()
        if self.recipe.augment != "none":
            augment = AUGMENTS.parse(self.recipe.augment)
            loaded = replace(loaded, train=replace(loaded.train, augment=augment))
        return loaded

    @cached_property
    def split(self) -> Split:
        """The two sides of the training data."""
        if self.known_split is not None:
            return self.known_split
        if self.request is None:
            raise EigenforgetError("no forget request was given")
        return split(self.request, self.data.train_index)

    @cached_property
    def forget(self) -> TensorSource | DatasetSource:
        """The forget set."""
        return self.data.train.subset(self.split.forget)

    @cached_property
    def retain(self) -> TensorSource | DatasetSource:
        """The retain set."""
        return self.data.train.subset(self.split.retain)

    @cached_property
    def unseen_rows(self) -> np.ndarray:
        """Positions of the test samples that methods may see."""
        return positions_of_unseen(self.unseen, self.data.test_index)

    @cached_property
    def test_rows(self) -> np.ndarray:
        """Positions of the test samples that are measured: those that no method may see."""
        return np.setdiff1d(np.arange(len(self.data.test_index)), self.unseen_rows)

    def check(self, seed: int = 0) -> None:
        """Checks, before hours of work, that data, model, layer and request fit each other.

        Raises:
            EigenforgetError: They do not.
        """
        self.check_layer(self.looked_at(self.new_model(seed), trains=True))
        if self.request is not None:
            _ = self.split

    def check_layer(self, model: nn.Module) -> None:
        """Checks that the model has the feature layer that was named."""
        if self.layer is not None:
            find_layer(model, self.layer)

    def new_model(self, seed: int, num_classes: int | None = None) -> nn.Module:
        """A freshly initialised model, with one output for each class unless told otherwise."""
        outputs = num_classes or self.data.num_classes
        spec = with_vocabulary(self.model_spec, self.data.vocabulary)
        model: nn.Module = spec.build(
            num_classes=outputs, input_shape=self.data.input_shape, seed=seed
        )
        return model

    def looked_at(self, model: nn.Module, *, trains: bool = False) -> nn.Module:
        """The model, of which a pass of some training samples has shown what it gives.

        Where the head is not the last nn.Linear, the model bears its name from now on.

        Raises:
            EigenforgetError: It does not run on them, or gives no logits; see `prepare`.
        """
        found = prepare(model, looks(training=self.data.train), trains=trains).model
        note = getattr(found, HEAD_NOTE, None)
        if found is not model and isinstance(note, str):
            note_head(model, note)
        return model

    def stored_model(self, stored: checkpoint.Checkpoint) -> nn.Module:
        """The model of a checkpoint, in eval mode.

        It has as many outputs as the stored head, and is changed as the method that made it changes
        models. A model without one linear head is built for the classes of the data.

        Raises:
            EigenforgetError: The checkpoint is of another model.
        """
        model = self.new_model(0)
        found = head_if_any(model)
        tensors = checkpoint.fitted(model, stored).tensors
        head = None if found is None else tensors.get(f"{found[0]}.weight")
        outputs = None if head is None or head.ndim != 2 else len(head)
        # A head with one output is that of two classes, and stays.
        if outputs not in (None, 1, self.data.num_classes):
            model = self.new_model(0, num_classes=outputs)
        if stored.metadata.get("method"):
            method = METHODS.parse(stored.metadata["method"])
            model = method.adapt(model) if hasattr(method, "adapt") else model
        checkpoint.load_into(model, stored)
        return self.looked_at(model.eval())

    def train(
        self, *, seed: int, without_forget: bool = False, log: Log | None = None
    ) -> ModelAndCost:
        """The original model, or with `without_forget` an oracle, in the types as it is built."""
        source = self.retain if without_forget else self.data.train
        model = self.new_model(seed)
        types = types_of(dict(checkpoint.named_tensors(model)))
        with CostClock(self.engine) as clock:
            fit_recipe(
                model, source, self.recipe, engine=self.engine, seed=seed, layer=self.layer, log=log
            )
        return clock.result(self._retyped(model, types))

    def recall(self, model: nn.Module) -> Recall:
        """What a model knows of the training data that it may know."""
        source = self.data.train if self.request is None else self.retain
        return recall(model, source, self.engine, self.layer)

    def unlearn(
        self,
        model: nn.Module,
        method: Method,
        *,
        seed: int,
        log: Log | None = None,
        only: np.ndarray | None = None,
    ) -> ModelAndCost:
        """The unlearned model, in the types of the given one, and what it took.

        Args:
            model: The model before unlearning; it stays as it is.
            method: The unlearning method.
            seed: Of all that the method draws, and of the sample of the retain set.
            log: Called with a row after each epoch.
            only: Positions of the samples to forget now, where earlier requests took the others
                already. The method is told of every class that is gone by then: a target that may
                name an earlier one would bring it back.

        Raises:
            Refused: The method is not for this task.
            Diverged: The loss or a weight became NaN or infinite.
        """
        kept = None
        if self.retain_fraction > 0:
            rows = retain_sample(
                self.split.retain,
                labels=self.data.train_index.labels,
                fraction=self.retain_fraction,
                seed=seed,
            )
            kept = self.data.train.subset(rows)
        unseen = self.data.test.subset(self.unseen_rows) if self.unseen else None
        with CostClock(self.engine) as clock:
            result = unlearn(
                model,
                forget=self.forget if only is None else self.data.train.subset(only),
                retain=kept,
                unseen=unseen,
                method=method,
                forgotten_classes=self.split.forgotten_classes,
                allow_overlap=True,  # the split has checked
                allow_untrained=True,  # the command has checked
                engine=self.engine,
                seed=seed,
                layer=self.layer,
                log=log,
                look=clock.leaving_out(self._glance(model, seed)) if log else None,
            )
        types = types_of(dict(checkpoint.named_tensors(model)))
        return clock.result(self._retyped(result, types))

    def _retyped(self, result: nn.Module, types: Mapping[str, torch.dtype]) -> nn.Module:
        """A result in the types of its model, of which a training in 64-true or 16-true made one.

        So a checkpoint, what is measured and a model from the store have the same weights.
        """
        one_type = self.engine.precision in ("64-true", "bf16-true", "16-true")
        return retyped(result, types) if one_type else result

    def try_unlearn(
        self,
        model: nn.Module,
        method: Method,
        *,
        seed: int,
        log: Log | None = None,
        only: np.ndarray | None = None,
    ) -> ModelAndCost | Refused | Diverged:
        """As `unlearn`, but a refusal or a divergence is an answer, for the record."""
        try:
            return self.unlearn(model, method, seed=seed, log=log, only=only)
        except (Refused, Diverged) as error:
            return error

    def _glance(self, model: nn.Module, seed: int) -> Glance:
        """What a training trace shows of the model after each epoch."""
        k = len(classes_in(self.data.train_index.labels[self.split.retain]))
        return Glance(
            self.engine, model, (self.forget, self.retain), k=k, layer=self.layer, seed=seed
        )

    def evaluate(
        self,
        candidates: Sequence[Candidate],
        panel: Panel,
        *,
        peers: Sequence[nn.Module] = (),
        watch: Watch = unwatched,
    ) -> Iterator[RunRecord]:
        """The record of each candidate, not sealed yet, in the order in which they are given.

        Args:
            candidates: Models by role; the first is the original. All are compared with the oracles
                among them.
            panel: What is measured, see `panel`.
            peers: Models made like the one unlearned candidate, from other training seeds.
            watch: Shows progress.
        """
        original = candidates[0].made.model
        oracles = [c.made.model for c in candidates if c.role == "oracle"]
        done = watch("observe: original and retrained models", 1)
        board = Board(panel, [original], oracles, peers=len(peers) or None)
        observed = [panel.observe(model) for model in peers]
        done({})
        measurement, files = own_measurement(panel)
        number = 0
        for item in candidates:
            done = watch(f"measure: {item.name}", 1)
            job = {"seed": panel.seed, **measurement, **item.job}
            if item.role == "original":
                measured = board.measure_original()
            elif item.role == "oracle":
                measured, number = board.measure_oracle(number), number + 1
            else:
                measured = board.measure(item.made.model, item.role, peers=observed)
                job |= unchanged_weights(original, after=item.made.model)
            inputs = {**item.inputs, **files}
            yield self.evaluation_record(
                item.name, item.made, measured, job=job, trace=item.trace, inputs=inputs
            )
            done({})

    def panel(self, *, seed: int = 0, layer: str | None = None, **more: Any) -> Panel:
        """What is measured on each model, at the experiment's layer unless another is named.

        Args:
            seed: Of everything that a metric or an audit draws.
            layer: The headline layer.
            **more: Further fields of `Panel`.
        """
        rows, index = self.test_rows, self.data.test_index
        gone, rest = sides_of(index.labels[rows], self.split.forgotten_classes)
        test_ids = [str(name) for name in index.ids[rows][np.concatenate([gone, rest])]]
        test = self.data.test.subset(rows) if self.unseen else self.data.test
        parts = parts_of(
            self.forget,
            retain=self.retain,
            test=test,
            forgotten_classes=self.split.forgotten_classes,
        )
        if self.data.triggered is not None:
            measured = np.isin(self.data.triggered_ids, index.ids[rows])
            parts["test_trigger"] = self.data.triggered.subset(np.flatnonzero(measured))
        return Panel(
            parts=parts,
            num_classes=self.data.num_classes,
            forgotten_classes=self.split.forgotten_classes,
            engine=self.engine,
            seed=seed,
            layer=layer or self.layer,
            test_ids=test_ids,
            **more,
        )

    def method_in_words(self, method: Method) -> dict[str, Any]:
        """The method as it goes into a record of this request."""
        return described(method, forgets_classes=bool(self.split.forgotten_classes))

    def save(self, run: Run, output: Output) -> None:
        """Writes the checkpoint, its record and the ids of its split: all of them, or none.

        A run that was refused or diverged has a record and no checkpoint. A checkpoint that is
        there stays, and so does its record: the new one is OUT.refused.json or OUT.failed.json.
        """
        metadata = {"eigenforget": run.kind, **self._told(run, output.recording)}
        place, series = output, {}
        if not isinstance(run.result, ModelAndCost) and output.path.exists():
            ending = f".{outcome_without_model(run.result).status}{output.path.suffix}"
            place = replace(output, path=output.path.with_suffix(ending))
        with results.checkpoint_files(place) as files:
            if isinstance(run.result, ModelAndCost):
                series = {} if run.trace is None else {"trace": list(run.trace)}
                rows = self._rows_text(output.recording)
                write_text(files.rows, rows)
                facts = self._facts(run, rows, output.recording)
                outcome = _saved(run.result, files.model, {**metadata, **facts.metadata()}, output)
                outputs = {**outcome.outputs, **results.file_of(files.rows)}
                outcome = replace(outcome, outputs=outputs)
            else:
                outcome = outcome_without_model(run.result)
            unsealed = self.record(
                run.kind,
                output.path.stem,
                outcome,
                job=dict(run.job),
                inputs=run.inputs,
                series=series,
            )
            files.write(self.seal([unsealed], output.recording, files.split.name))

    def _told(self, run: Run, recording: Recording) -> dict[str, str]:
        """The specs as a checkpoint tells them."""
        specs = {key: str(value["spec"]) for key, value in self.job().items()}
        if "method" in run.job:
            specs["method"] = run.job["method"]["spec"]
        if self.unseen:
            told = self._unseen_in_words(recording)
            specs |= {"unseen": told["spec"], "unseen_digest": told["digest"]}
        if "request" in specs:
            specs["request"] = recording.shown(specs["request"], self.request)
        return specs

    def _rows_text(self, recording: Recording) -> str:
        """The rows that the model keeps and those that it is tested on, as hashes."""
        kept = None if self.request is None else self.split.retain
        return KnownRows.of(self.data, kept=kept, key=row_key(recording.hash_ids)).text()

    def _facts(self, run: Run, rows: str, recording: Recording) -> DataFacts:
        asked = None if self.request is None else self.split
        hidden = recording.hash_ids is not None
        facts = DataFacts.of(self.data, asked, rows, hidden=hidden)
        return facts._replace(recall=Recall.from_json(run.job.get("recall")))

    def seal(
        self,
        records: Sequence[RunRecord],
        recording: Recording = PLAIN,
        split_name: str = SPLIT,
    ) -> SealedRecords:
        """The records as they are written, see `results.sealed`."""
        if self.unseen:
            told = self._unseen_in_words(recording)
            records = [replace(item, job={**item.job, "unseen": told}) for item in records]
        both = self.data.train_index, self.data.test_index
        groups = {str(name) for index in both if index.groups is not None for name in index.groups}
        names = {"id": [str(name) for index in both for name in index.ids], "group": sorted(groups)}
        manifest = None if self.request is None else self.manifest()
        return results.sealed(
            records,
            manifest,
            request=self.request,
            names=names,
            recording=recording,
            split_name=split_name,
        )

    def _unseen_in_words(self, recording: Recording) -> dict[str, Any]:
        key = row_key(recording.hash_ids)
        return described_unseen(self.unseen, self.data.test_index, self.unseen_rows, key)

    def manifest(self) -> Manifest:
        """The ids on both sides of the split."""
        ids = self.data.train_index.ids
        return manifest_of(map(str, ids[self.split.forget]), map(str, ids[self.split.retain]))

    def job(self, **more: Any) -> dict[str, Any]:
        """The specs as they go into a record."""
        named = {
            "data": self.data_spec,
            "model": self.model_spec,
            "recipe": self.recipe if self.trained_here else None,
            "request": self.request,
        }
        return {key: described(value) for key, value in named.items() if value is not None} | more

    def sizes(self) -> dict[str, int]:
        """Numbers of samples to forget, retained, for testing, and of those of gone classes."""
        labels = self.data.test_index.labels[self.test_rows]
        gone, rest = sides_of(labels, self.split.forgotten_classes)
        return {
            "forget": len(self.split.forget),
            "retain": len(self.split.retain),
            "test": len(gone) + len(rest),
            "test_forget": len(gone),
        }

    def inputs(self) -> dict[str, str]:
        """Digests of what the run acted on."""
        digests = {"data": self.data.digest}
        return digests if self.request is None else digests | {"split": self.split.digest}

    @property
    def origin(self) -> Origin:
        """What all records of this experiment have in common."""
        own: dict[str, Any] = {"layer": self.layer} if self.layer else {}
        if self.data.normalisation is not None:
            own |= {"normalisation": self.data.normalisation.as_json()}
        if self.unseen:
            own |= {"unseen": self._unseen_in_words(PLAIN)}
        return Origin(self.job(**own, **self.remarks), self.inputs(), self.engine)

    def record(self, kind: Kind, name: str, outcome: Outcome, **fields: Any) -> RunRecord:
        """An unsealed record of one run; `job` and `inputs` add to the experiment's own."""
        return run_record(kind, name, outcome, self.origin, **fields)

    def evaluation_record(
        self, name: str, made: ModelAndCost, measured: Measurement, **fields: Any
    ) -> RunRecord:
        """The unsealed record of one measured model; `made.seconds` is what it took to make it."""
        fields["job"] = {"sizes": self.sizes(), **fields.get("job", {})}
        return evaluation_record(name, made, measured, self.origin, split=self.split, **fields)


def _saved(made: ModelAndCost, draft: Path, metadata: Mapping[str, str], output: Output) -> Outcome:
    """Writes the draft of a checkpoint. Errors name the place where it is to be, not the draft."""
    try:
        checkpoint.save_checkpoint(
            made.model, draft, metadata, like=output.like, weights=output.weights
        )
    except EigenforgetError as error:
        raise type(error)(str(error).replace(str(draft), str(output.path))) from None
    digests = {"model": checkpoint.model_digest(made.model), **results.file_of(draft)}
    return Outcome("ok", made.seconds, cost=made.cost, outputs=digests)


def outcome_without_model(error: Refused | Diverged) -> Outcome:
    """The outcome of a run that made no model."""
    return Outcome("failed" if isinstance(error, Diverged) else "refused", 0.0, reason=str(error))


def described(value: Any, *, forgets_classes: bool = True) -> dict[str, Any]:
    """A spec as it goes into a record: {"spec": "muda(k=9)", "resolved": {…every field…}}.

    A method adds its guarantee, its recipe if it was made from one, with the fields that are not
    the recipe's, and the scores that it optimises, where there are any.

    Args:
        value: What the spec spells.
        forgets_classes: Whether a method is to forget whole classes; where not, one that leaves
            single samples to another optimises what that one does.
    """
    entry = {"spec": spell(value), "resolved": as_json(value)}
    recipe = recipe_of(value)
    if recipe is not None:
        entry["recipe"] = recipe
        if changed := changed_from_recipe(value):
            entry["recipe_changed"] = list(changed)
    if hasattr(value, "guarantee"):
        entry["guarantee"] = value.guarantee
    scores = optimised(value, forgets_classes)
    return entry | {"optimises": sorted(scores)} if scores else entry


def optimised(value: Any, forgets_classes: bool) -> set[str]:
    """Scores on which a method, or one that it wraps, trains for such a request."""
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return set()
    other = None if forgets_classes else getattr(value, "for_samples", None)
    if other is not None:
        return optimised(other, forgets_classes)
    inner = (optimised(getattr(value, f.name), forgets_classes) for f in dataclasses.fields(value))
    return set(getattr(value, "optimises", None) or ()).union(*inner)
