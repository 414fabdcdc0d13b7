"""What a bench runs: studies, and the jobs on them, known by digests."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

from eigenforget.core.imports import path_of
from eigenforget.core.spec import as_json, spell
from eigenforget.core.version import __version__
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.metrics import METRICS
from eigenforget.evaluation.scoring import SCORING_REVISION
from eigenforget.experiments.model_cache import ModelKind
from eigenforget.experiments.named_files import code_files, named_files
from eigenforget.methods.base import Method
from eigenforget.record import value_digest
from eigenforget.requests import ForgetRequest
from eigenforget.training.recipe import TRAINING_REVISION, Recipe


@dataclass(frozen=True, kw_only=True)
class StudySpec:
    """One original and the oracles beside it, and what is measured on each model.

    Attributes:
        data: The data set.
        model: The model.
        recipe: How originals and oracles are trained.
        request: What is to be forgotten.
        seed: Training seed of the original.
        oracles: Training seeds of the oracles.
        layer: Whose output are the features; "" for the input of the linear head.
        layers: Further layers at which features are measured.
        skip: Metrics and audits that are left out.
        metrics: Specs of further metrics.
        audits: Specs of further audits.
        map_points: Samples in the maps of the features.
        precision: As for an engine.
        channels_last: As for an engine.
        device: Kind of device, such as "cpu" or "cuda".
        unseen: Share of the test side that methods may see and that is not measured.
        threads: Threads of a processor that computes all of it; 1 on other devices.
    """

    data: Any
    model: Any
    recipe: Recipe
    request: ForgetRequest
    seed: int
    oracles: tuple[int, ...]
    layer: str = ""
    layers: tuple[str, ...] = ()
    skip: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    audits: tuple[str, ...] = ()
    map_points: int = 800
    precision: str = "32-true"
    channels_last: bool = False
    device: str = "cpu"
    unseen: float = 0.0
    threads: int = 1

    @cached_property
    def identity(self) -> dict[str, Any]:
        """All that decides the results: every field resolved, named files, version of the code.

        Two spellings of one study have one identity. Of the data it has the spec only: whoever
        loads it compares its digest with that of earlier results.
        """
        own = {f.name: as_json(getattr(self, f.name)) for f in fields(self)}
        # Without these, as before they were fields: results that are there stay valid.
        for name, plain in (("threads", 1), ("unseen", 0.0), ("metrics", []), ("audits", [])):
            if own[name] == plain:
                del own[name]
        code = f"{__version__}/{TRAINING_REVISION}/{SCORING_REVISION}"
        return {**own, **({"files": self.files} if self.files else {}), "code": code}

    @cached_property
    def files(self) -> dict[str, str]:
        """Digests of the files that decide the results, as they are when this is first read."""
        metrics = [path_of(METRICS.kind(text)) or "" for text in self.metrics]
        audits = [AUDITS.parse(text) for text in self.audits]
        named = named_files(self.model, self.request, metrics)
        return named | code_files(self.recipe, audits)

    @cached_property
    def digest(self) -> str:
        """The digest of the identity."""
        return value_digest(self.identity)

    @property
    def title(self) -> str:
        """Data, model and request in words."""
        return f"{spell(self.data)}, {spell(self.model)}, {spell(self.request)}"


@dataclass(frozen=True)
class TrainingJob:
    """Train the original or one oracle of a study."""

    study: StudySpec
    kind: ModelKind
    seed: int

    @property
    def id(self) -> str:
        """A name for files, the same for the same work."""
        return f"{self.kind}-{self.study.digest[7:]}-{self.seed}"

    @property
    def title(self) -> str:
        """The job in a few words, for messages."""
        return f"{self.kind}, seed {self.seed}"


@dataclass(frozen=True)
class BaselineJob:
    """Measure the original and the oracles of a study."""

    study: StudySpec

    @property
    def id(self) -> str:
        """A name for files, the same for the same work."""
        return f"baselines-{self.study.digest[7:]}"

    @property
    def title(self) -> str:
        """The job in a few words, for messages."""
        return f"original and retrained models of seed {self.study.seed}"


@dataclass(frozen=True)
class MethodJob:
    """Unlearn with a method and measure the result.

    Attributes:
        study: Whose original is unlearned.
        method: The method.
        retain_fraction: Share of the retain set that the method may use.
    """

    study: StudySpec
    method: Method
    retain_fraction: float = 1.0

    @cached_property
    def digest(self) -> str:
        """What the result is found by, the same for the same work."""
        own = {
            "study": self.study.digest,
            "method": as_json(self.method),
            "retain_fraction": self.retain_fraction,
        }
        return value_digest({**own, **({"files": self.files} if self.files else {})})

    @cached_property
    def files(self) -> dict[str, str]:
        """Digests of the method's files, as they are when this is first read."""
        return code_files(self.method)

    @property
    def id(self) -> str:
        """A name for files, the same for the same work."""
        return f"method-{self.digest[7:]}"

    @property
    def name(self) -> str:
        """The method, and its share of the retain set where that is not all of it."""
        share = "" if self.retain_fraction == 1 else f" {100 * self.retain_fraction:g}%"
        return f"{self.method.name}{share}"

    @property
    def title(self) -> str:
        """The job in a few words, for messages."""
        return f"{self.name}, seed {self.study.seed}"


Job = TrainingJob | BaselineJob | MethodJob


def changed_files(job: Job) -> list[str]:
    """Files of a job that are not what they were when its digest was made.

    A result of theirs would be kept under the digest of another one.
    """
    anew = replace(job, study=replace(job.study))
    return sorted({name for name, _ in _files(job).items() ^ _files(anew).items()})


def _files(job: Job) -> dict[str, str]:
    return job.study.files | (job.files if isinstance(job, MethodJob) else {})
