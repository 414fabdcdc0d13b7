"""`evaluate`: measures models beside retrained ones, and shows, reports and saves the result."""

from __future__ import annotations

import io
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import rich.console
from torch import nn

from eigenforget.core.errors import EigenforgetError, naming
from eigenforget.core.extras import needed
from eigenforget.core.text import listed
from eigenforget.core.types import Split, digest_of_rows
from eigenforget.data.sources import DatasetSource, Source, as_source
from eigenforget.data.sources.content import (
    check_overlap,
    check_reading,
    content_rows,
    overlap,
)
from eigenforget.evaluation.observe import parts_of
from eigenforget.evaluation.records import (
    Origin,
    evaluation_record,
    measurement_job,
    with_verdicts,
    write_results,
)
from eigenforget.models.checkpoint import model_digest
from eigenforget.models.different import check_different
from eigenforget.models.heads import check_label_range
from eigenforget.models.prepare import PreparedModel, door, looks, prepare
from eigenforget.models.unchanged import unchanged_weights
from eigenforget.models.wrappers import on_its_device
from eigenforget.record import RecordError, RunRecord, chained
from eigenforget.record.fields import check_names
from eigenforget.report.pages.console import rich_table
from eigenforget.report.pages.export import frame, to_latex, to_markdown
from eigenforget.report.table import Cell, Row, build
from eigenforget.report.verdict import Verdict, verdict_on
from eigenforget.requests.splitting import settled_classes, sides_of
from eigenforget.training.arguments import check_arguments, check_classes_exist
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine, engine_beside
from eigenforget.training.recall import recall_if_any, warn_of_poor_recall

if TYPE_CHECKING:  # with torchmetrics, scipy and scikit-learn it takes as long to load as torch
    from eigenforget.evaluation.board import Measurement, Panel

_Value = TypeVar("_Value")
_WIDTH = 100
"""Characters of a line of the table that stands for an Evaluation."""


class ModelScores(Mapping[str, Cell]):
    """The scores of one model by name, each beside the retrained models.

    `found["muda"]["da"]` has the value and its interval (low, high), or the reason if there is no
    value. It also has the gap to the mean of the retrained models, that gap in half-widths of their
    band (units), and the verdict that follows.
    """

    def __init__(self, row: Row) -> None:
        self.row = row

    def __contains__(self, score: object) -> bool:
        return score in self.row.cells

    def __getitem__(self, score: str) -> Cell:
        return _named(self.row.cells, score, "score")

    def __iter__(self) -> Iterator[str]:
        return iter(self.row.cells)

    def __len__(self) -> int:
        return len(self.row.cells)

    def __repr__(self) -> str:
        return f"<{len(self)} scores of {self.row.model!r}: {listed(self)}>"


@dataclass(frozen=True, repr=False)
class Evaluation(Mapping[str, ModelScores]):
    """What `evaluate` found: `found["muda"]["da"].gap`; printed, a short table.

    Attributes:
        measured: Scores and series of each model, by name.
        records: A sealed record of each model, chained in order.
    """

    measured: Mapping[str, Measurement]
    records: tuple[RunRecord, ...]

    def __contains__(self, model: object) -> bool:
        return model in self._scores

    def __getitem__(self, model: str) -> ModelScores:
        return _named(self._scores, model, "model")

    def __iter__(self) -> Iterator[str]:
        return iter(self._scores)

    def __len__(self) -> int:
        return len(self._scores)

    def __repr__(self) -> str:
        return self._printed().export_text().rstrip()

    def _repr_html_(self) -> str:
        style = "font-family:ui-monospace,monospace;line-height:1.2"
        return self._printed().export_html(
            inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>'
        )

    def verdict(self, model: str) -> Verdict:
        """Whether the model forgot, what it kept and what it cost.

        The original and retrained models have one too: it shows whether the scores can tell.

        Raises:
            EigenforgetError: There is no such model.
        """
        table = build(self.records)
        return verdict_on(_named({r.model: r for r in table.rows}, model, "model"), table)

    def to_frame(self, scores: Sequence[str] = ()) -> Any:
        """A pandas table with a row for each model.

        Args:
            scores: The scores to show, each with its gap and verdict; all by default.

        Raises:
            EigenforgetError: pandas is not installed.
        """
        with own_errors():
            table = frame(self.records, scores)
        pandas = needed("pandas", extra="tables", what="to_frame()")
        return pandas.DataFrame(list(table.rows), columns=list(table.names)).set_index("model")

    def to_markdown(self, scores: Sequence[str] = ()) -> str:
        """The table in markdown, of the headline scores or of these."""
        with own_errors():
            return to_markdown(self.records, scores)

    def to_latex(self, scores: Sequence[str] = ()) -> str:
        """The table as a LaTeX tabular with the rules of booktabs."""
        with own_errors():
            return to_latex(self.records, scores)

    def report(self, path: str | Path, *, title: str = "Unlearning, measured") -> Path:
        """Writes the page with every score, figure and check as one HTML file; returns its path."""
        with own_errors():
            from eigenforget.report.pages.page import write_page

            return write_page(self.records, path, title=title)

    def save(
        self, folder: str | Path, *, title: str = "Unlearning, measured", overwrite: bool = False
    ) -> Path:
        """Writes records/, table.csv and report.html into a folder, all or none of them.

        `eigenforget verify folder/records` checks the records.

        Args:
            folder: The folder; it is made where it is missing.
            title: The title of the page.
            overwrite: Whether results that the folder holds are replaced.

        Returns:
            The folder.
        """
        with own_errors():
            return write_results(self.records, folder, title=title, overwrite=overwrite)

    @cached_property
    def _scores(self) -> dict[str, ModelScores]:
        rows = {row.model: row for row in build(self.records).rows}
        return {name: ModelScores(rows[name]) for name in self.measured}

    def _printed(self) -> rich.console.Console:
        console = rich.console.Console(width=_WIDTH, record=True, file=io.StringIO())
        console.print(rich_table(self.records, _WIDTH))
        classes = self.records[0].job.get("classes")
        if isinstance(classes, Mapping) and classes["gone"] and classes["said_by"] == "labels":
            console.print(
                f"Gone as a whole, as the retain set has none of the forget set's classes: "
                f"{listed(classes['gone'])}"
            )
        return console


@door
def evaluate(
    models: Mapping[str, nn.Module | ModelAndCost],
    *,
    forget: Any,
    retain: Any,
    test: Any,
    oracles: Mapping[str, nn.Module | ModelAndCost] | None = None,
    peers: Sequence[nn.Module] = (),
    metrics: Sequence[Any] = (),
    audits: Sequence[Any] = (),
    skip: Sequence[str] = (),
    layer: str | None = None,
    layers: Sequence[str] = (),
    k: int | None = None,
    maps: Sequence[str] = (),
    map_points: int = 800,
    forgotten_classes: Sequence[int] | None = None,
    num_classes: int | None = None,
    allow_overlap: bool = False,
    engine: Engine | None = None,
    seed: int = 0,
) -> Evaluation:
    """Measures models beside retrained oracles, with every metric and audit.

    The models stay as they are. A model without a linear head needs `layer`. If the last nn.Linear
    is not the head, a forward pass of some samples finds the head.

    Args:
        models: Models by name; "original" is the model before unlearning. A ModelAndCost in place
            of a module also says what the model cost.
        forget: The forget set: (inputs, labels), a map-style Dataset, a DataLoader, or Samples of
            one of these.
        retain: The retain set, likewise.
        test: Held-out samples, likewise.
        oracles: Models retrained without the forget set, by name. Two or more give a band, one
            gives a gap without a band, and without any there is neither.
        peers: Models made like the one unlearned model, from other training seeds. With two or
            more, attacks with shadow models (U-LiRA) run too.
        metrics: Metrics of your own: classes, or spellings such as 'python(path="mine.py:Mine")'.
        audits: Audits of your own: functions (evidence, seed) → score, instances, classes or
            spellings. "linear_probe(c=2.0)" replaces the audit of that name.
        skip: Names of metrics and audits to leave out, such as "relearning".
        layer: The layer whose output is used as features; None: the input of the classifier head.
        layers: Further layers. All scores of features are measured there too, as "score@layer".
        k: Directions of the headline alignment; by default the number of classes in `retain`.
        maps: Further maps of the features: "tsne", "umap".
        map_points: Held-out samples in each map.
        forgotten_classes: Classes that are forgotten as a whole. By default these are the classes
            of `forget` if `retain` has none of them, and no class otherwise. If `retain` lacks only
            some of them, that is a warning.
        num_classes: Labels are below this number; by default the largest label plus one.
        allow_overlap: Whether a sample may be in several of `forget`, `retain` and `test`; the
            records then say how many are. By default that is an error.
        engine: Where to compute; by default the GPU of a model, or else the best device there is.
        seed: Every draw of metrics and audits follows from it.

    Returns:
        The scores of each model beside the retrained ones.

    Raises:
        EigenforgetError: An argument is wrong; the message is one line.
    """
    from eigenforget.evaluation.board import Panel

    check_arguments(layer=layer, k=k, num_classes=num_classes, map_points=map_points)
    check_arguments(allow_overlap=allow_overlap, engine=engine, seed=seed)
    given, retrained = models_by_name(models, "models"), models_by_name(oracles or {}, "oracles")
    _check_names(given, retrained)
    originals = {name: made for name, made in given.items() if name == "original"}
    check_different(_digests(originals), _digests(retrained).items())
    alike = _peers(peers, len(given.keys() - {"original"}))
    held_out = as_source(test, "test")
    sides = SampleSets(as_source(forget, "forget"), as_source(retain, "retain"), held_out)
    sides.check(allow_overlap=allow_overlap)
    gone = settled_classes(sides.forget, sides.retain, forgotten_classes)
    panel = Panel(
        parts=parts_of(sides.forget, retain=sides.retain, test=held_out, forgotten_classes=gone),
        num_classes=num_classes or sides.classes,
        forgotten_classes=gone,
        engine=engine or engine_beside(*(made.model for made in given.values())),
        seed=seed,
        layer=layer,
        layers=_names(layers, "layers"),
        k=k,
        map_points=map_points,
        maps=_names(maps, "maps"),
        skip=_names(skip, "skip"),
        metrics=_list(metrics, "metrics"),
        audits=_list(audits, "audits"),
    )
    check_classes_exist(gone, panel.num_classes)
    made = {**given, **retrained}
    trains = "relearning" not in skip
    ready, peers_ready = (prepared_models(m, sides, trains=trains) for m in (made, alike))
    compared = bool(retrained) or "original" in given
    check_outputs({**peers_ready, **ready}, num_classes, compared=compared)
    plain = {name: prepared.model for name, prepared in ready.items()}
    beside = [prepared.model for prepared in peers_ready.values()]
    measured = _measured(panel, plain, oracles=tuple(retrained), peers=beside)
    sealed = _sealed(measured, made, panel, sides, inferred=forgotten_classes is None)
    return Evaluation(measured, sealed)


def _digests(models: Mapping[str, ModelAndCost]) -> dict[str, str]:
    return {name: model_digest(made.model) for name, made in models.items()}


def _sealed(
    measured: Mapping[str, Measurement],
    made: Mapping[str, ModelAndCost],
    panel: Panel,
    sides: SampleSets,
    *,
    inferred: bool,
) -> tuple[RunRecord, ...]:
    """The sealed records of the models, in order."""
    origin, split = origin_of(panel, sides, made_by="eigenforget.evaluate", inferred=inferred)
    unsealed = [
        evaluation_record(
            name, made[name], found, origin, split=split, job=_left(made, name, found.role)
        )
        for name, found in measured.items()
    ]
    return tuple(chained(with_verdicts(unsealed)))


@contextmanager
def own_errors() -> Iterator[None]:
    """Errors of records, which know nothing of this package, as errors of it."""
    try:
        yield
    except RecordError as error:
        raise EigenforgetError(str(error)) from None


@dataclass(frozen=True)
class SampleSets:
    """The samples that were given; analyses do without held-out ones."""

    forget: Source
    retain: Source
    test: Source | None

    @cached_property
    def by_name(self) -> dict[str, Source]:
        """The sets that were given."""
        sets = {"forget": self.forget, "retain": self.retain, "test": self.test}
        return {name: samples for name, samples in sets.items() if samples is not None}

    @cached_property
    def rows(self) -> dict[str, list[str]]:
        """The `content_rows` of each set; none of held-out samples that were not given."""
        return {"test": []} | {name: content_rows(s) for name, s in self.by_name.items()}

    @cached_property
    def overlaps(self) -> dict[str, int]:
        """How many samples of one set are in another one too, such as "retain of forget"."""
        sets = self.by_name
        rows = {id(samples): self.rows[name] for name, samples in sets.items()}
        pairs = (("retain", "forget"), ("test", "forget"), ("test", "retain"))
        return {
            f"{what} of {of}": overlap(sets[of], other=sets[what], rows=lambda s: rows[id(s)]) or 0
            for what, of in pairs
            if what in sets
        }

    @property
    def random_inputs(self) -> list[str]:
        """The sets that the user allows to differ each time they are read."""
        return [
            name
            for name, samples in self.by_name.items()
            if isinstance(samples, DatasetSource) and samples.allow_random
        ]

    def check(self, *, allow_overlap: bool) -> None:
        """Checks the samples before anything is measured on them.

        Raises:
            EigenforgetError: They differ each time they are read, or some are in two of the sets
                and the message says how many; unless either is allowed.
        """
        for name, samples in self.by_name.items():
            check_reading(samples, name)
        for pair, count in () if allow_overlap else self.overlaps.items():
            what, _, of = pair.partition(" of ")
            check_overlap(f"{what} set", of=f"{of} set", count=count)

    @property
    def classes(self) -> int:
        """The largest label and one."""
        return 1 + max(int(samples.labels().max()) for samples in self.by_name.values())


def prepared_models(
    models: Mapping[str, ModelAndCost], sides: SampleSets, *, trains: bool
) -> dict[str, PreparedModel]:
    """The models in the form in which they are measured, by name.

    Args:
        models: The models as they were given.
        sides: The samples.
        trains: Whether an audit trains copies of them.

    Raises:
        EigenforgetError: One does not fit the samples; the message names it.
    """
    samples = looks(**sides.by_name)
    found = {
        name: prepare(
            made.model,
            samples,
            trains=trains,
            what=f"model {name!r}",
            hint='; or leave out what trains models: skip=("relearning",)',
        )
        for name, made in models.items()
    }
    for name, prepared in found.items():
        with naming(f"model {name!r}"):
            for source in sides.by_name.values():
                check_label_range(source.labels(), prepared.num_classes)
    return found


def check_outputs(
    models: Mapping[str, PreparedModel], num_classes: int | None, *, compared: bool
) -> None:
    """Checks that models have outputs for the classes, and as many as those that they stand beside.

    Raises:
        EigenforgetError: They have not; the message names them.
    """
    counts = {name: prepared.num_classes for name, prepared in models.items()}
    least, most = (choose(counts, key=counts.__getitem__) for choose in (min, max))
    if num_classes is not None and counts[least] < num_classes:
        raise EigenforgetError(
            f"num_classes={num_classes} is more than the {counts[least]} outputs of model {least!r}"
        )
    if compared and counts[least] < counts[most]:
        raise EigenforgetError(
            f"models are compared by their outputs: {least!r} has {counts[least]} and {most!r} "
            f"{counts[most]}; give models of the same classes"
        )


def _left(models: Mapping[str, ModelAndCost], name: str, role: str) -> dict[str, Any]:
    """What of the original's weights an unlearned model still has, where the original is known."""
    if role != "unlearned" or "original" not in models:
        return {}
    return unchanged_weights(models["original"].model, after=models[name].model)


def _measured(
    panel: Panel,
    models: Mapping[str, nn.Module],
    *,
    oracles: Sequence[str],
    peers: Sequence[nn.Module],
) -> dict[str, Measurement]:
    from eigenforget.evaluation.board import Board

    originals = [models["original"]] if "original" in models else []
    with on_its_device(*models.values(), *peers):
        for original in originals:
            known = recall_if_any(original, panel.parts["retain"], panel.engine, panel.layer)
            warn_of_poor_recall(known)
        board = Board(
            panel, originals, [models[name] for name in oracles], peers=len(peers) or None
        )
        observed = [panel.observe(model) for model in peers]
        found = {
            name: board.measure_original()
            if name == "original"
            else board.measure(model, "unlearned", peers=observed)
            for name, model in models.items()
            if name not in oracles
        }
        return found | {name: board.measure_oracle(i) for i, name in enumerate(oracles)}


def origin_of(
    panel: Panel, sides: SampleSets, *, made_by: str, inferred: bool
) -> tuple[Origin, Split]:
    """What records say of job and data, and the split that forget and retain set make.

    Args:
        panel: What is measured.
        sides: The samples.
        made_by: The function that measures.
        inferred: Whether the labels said which classes are gone as a whole, and not the caller.
    """
    further, files = measurement_job(panel)
    counts, gone = (len(sides.forget), len(sides.retain)), panel.forgotten_classes
    sizes = {"forget": counts[0], "retain": counts[1]}
    if sides.test is not None:
        forgotten, _ = sides_of(sides.test.labels(), gone)
        sizes |= {"test": len(sides.test), "test_forget": len(forgotten)}
    layer = {"layer": panel.layer} if panel.layer else {}
    classes = {"gone": list(gone), "said_by": "labels" if inferred else "caller"}
    job = {"made_by": made_by, "sizes": sizes, "classes": classes, **layer, **further}
    if found := {pair: count for pair, count in sides.overlaps.items() if count}:
        job["overlap"] = found
    if sides.random_inputs:
        job["random_inputs"] = sides.random_inputs
    gone_rows, kept_rows, test_rows = (sides.rows[name] for name in ("forget", "retain", "test"))
    split = _digest(forget=gone_rows, retain=kept_rows)
    data = _digest(train=[*gone_rows, *kept_rows], test=test_rows)
    origin = Origin(job, {"data": data, "split": split, **files}, panel.engine)
    rows = np.arange(sum(counts))
    return origin, Split(rows[: counts[0]], rows[counts[0] :], gone, split)


def _digest(**parts: Sequence[str]) -> str:
    """A digest of samples that depends on the part of each, and not on their order."""
    return digest_of_rows(f"{part}\x1f{row}" for part, rows in parts.items() for row in rows)


def _check_names(given: Collection[str], retrained: Collection[str]) -> None:
    clash = sorted(set(given) & set(retrained))
    if clash or not given:
        raise EigenforgetError(
            f"model names must be given and unique; twice: {listed(clash) or 'none given'}"
        )
    try:
        check_names([*given, *retrained], "the name of a model")
    except RecordError as error:
        raise EigenforgetError(str(error)) from None


def models_by_name(given: Any, what: str) -> dict[str, ModelAndCost]:
    """The models that were given, each with its cost.

    Raises:
        EigenforgetError: They are no dict of modules by name.
    """
    if not isinstance(given, Mapping):
        raise EigenforgetError(
            f"{what} must be a dict of models by name, got {type(given).__name__}"
        )
    found = {}
    for name, model in given.items():
        made = model if isinstance(model, ModelAndCost) else ModelAndCost(model, 0.0, {})
        if not isinstance(made.model, nn.Module) or not isinstance(name, str):
            raise EigenforgetError(
                f"{what}: {name!r} must name an nn.Module, got {type(made.model).__name__}"
            )
        found[name] = made
    return found


def _peers(given: Any, unlearned: int) -> dict[str, ModelAndCost]:
    models = _list(given, "peers")
    if models and unlearned != 1:
        raise EigenforgetError(
            f"peers are made like the one unlearned model that is measured; {unlearned} were given"
        )
    return models_by_name({f"peer {i}": model for i, model in enumerate(models, 1)}, "peers")


def _list(given: Any, what: str) -> list[Any]:
    if isinstance(given, (str, type)) or not isinstance(given, Sequence):
        raise EigenforgetError(f"{what} must be a list, got {given!r}")
    return list(given)


def _names(given: Any, what: str) -> tuple[str, ...]:
    names = _list(given, what)
    if not all(isinstance(name, str) for name in names):
        raise EigenforgetError(f"{what} must be a list of names, got {given!r}")
    return tuple(names)


def _named(found: Mapping[str, _Value], name: str, what: str) -> _Value:
    if name not in found:
        raise EigenforgetError(f"no {what} {name!r}; there are: {listed(found, 100)}")
    return found[name]
