"""Trained models in a folder, each under the digest of all that decides its weights.

Every study, plan and process finds them again, and none is trained twice at once.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.locks import held
from eigenforget.core.version import __version__
from eigenforget.data.bundle import Data
from eigenforget.experiments.experiment import Experiment, described
from eigenforget.experiments.named_files import code_files, named_files
from eigenforget.models import checkpoint
from eigenforget.record import canonical, value_digest
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.log import Log
from eigenforget.training.recipe import TRAINING_REVISION

_UNSEALED = "nothing shows that its metadata are as they were written (an older version's file)"

ModelKind = Literal["original", "oracle"]


class StoredModel(NamedTuple):
    """A model in a cache.

    Attributes:
        path: Its file.
        size: In bytes.
        used: When it was last used, in seconds since 1970.
        about: Its metadata.
    """

    path: Path
    size: int
    used: float
    about: dict[str, str]


@dataclass(frozen=True)
class ModelCache:
    """Originals and oracles in a folder.

    Their weights follow from the data (by content digest, and by what becomes of its values), the
    specs of model and recipe, the split (for oracles), the seed and the version of the training
    code. They also follow from the precision, the memory order, the kind of device and, on a CPU,
    the number of threads. A file whose tensors or metadata (specs, seconds, cost) do not have the
    digest written in it is set aside (its name gets .damaged) and trained anew. Locks are held by
    the operating system, so a process that dies leaves none.

    Attributes:
        folder: Where the models are.
        warn: Called with a line where a damaged file was found.
        threads: Processor threads that train the models; None: as many as torch uses now.
    """

    folder: Path
    warn: Callable[[str], None] = field(default=lambda _: None, compare=False)
    threads: int | None = None

    def get(
        self,
        experiment: Experiment,
        kind: ModelKind,
        seed: int,
        log: Callable[[], Log | None] = lambda: None,
    ) -> ModelAndCost:
        """The model, trained now if it is not there; one process trains, others wait for it.

        Args:
            experiment: What it is trained on.
            kind: "original" or "oracle".
            seed: Of the training.
            log: Asked for a log only where the model is trained.
        """
        identity = self._identity(experiment, kind, seed)
        path = self.path_of(identity, kind, seed)
        found = self._load(experiment, path, identity)
        if found is not None:
            return found
        with held(self._lock(path), wait=True):
            # Only who has the lock sets a damaged file aside: it could be the good one that another
            # process has just put there.
            found = self._load(experiment, path, identity, mend=True)
            if found is None:
                found = experiment.train(seed=seed, without_forget=kind == "oracle", log=log())
                self._save(experiment, found, path, identity, kind)
            return found

    def has(self, experiment: Experiment, kind: ModelKind, seed: int) -> bool:
        """Whether a file is there; it is read and checked only when it is used."""
        return self.path_for(experiment, kind, seed).exists()

    def path_for(self, experiment: Experiment, kind: ModelKind, seed: int) -> Path:
        """Where the model is kept, or will be."""
        return self.path_of(self._identity(experiment, kind, seed), kind, seed)

    def path_of(self, identity: dict[str, Any], kind: ModelKind, seed: int) -> Path:
        """Where the model of this identity is kept."""
        return self.folder / f"{kind}-seed{seed}-{value_digest(identity)[7:23]}.safetensors"

    def entries(self) -> list[StoredModel]:
        """The models, least recently used first; other files are left out."""
        found = []
        for path in self.folder.glob("*.safetensors"):
            about = _metadata(path)
            if about is not None and "identity" in about:
                with suppress(FileNotFoundError):  # pruned meanwhile
                    status = path.stat()
                    found.append(StoredModel(path, status.st_size, status.st_mtime, about))
        return sorted(found, key=lambda e: (e.used, e.path.name))

    def prune(self, max_bytes: int) -> list[StoredModel]:
        """Removes the least recently used models until the others take at most `max_bytes`.

        One that is being trained or used is skipped. Returns those that were removed.
        """
        if max_bytes < 0:
            raise EigenforgetError(f"the size to prune to must be 0 bytes or more, got {max_bytes}")
        entries = self.entries()
        total, removed = sum(e.size for e in entries), []
        for entry in entries:
            if total <= max_bytes:
                break
            with held(self._lock(entry.path), wait=False) as mine:
                if not mine:
                    continue
                entry.path.unlink(missing_ok=True)
            total -= entry.size
            removed.append(entry)
        return removed

    def damaged(self) -> list[str]:
        """One line for each model that is not whole, or whose tensors or metadata were changed."""
        lines = []
        for path in sorted(self.folder.glob("*.safetensors")):
            try:
                if not checkpoint.load_checkpoint(path).sealed:
                    lines.append(f"{path}: {_UNSEALED}")
            except EigenforgetError as error:
                lines.append(str(error))
        return lines

    def set_aside(self) -> list[Path]:
        """Damaged files that were put aside; nothing uses them."""
        return sorted(self.folder.glob("*.damaged"))

    def _identity(self, experiment: Experiment, kind: ModelKind, seed: int) -> dict[str, Any]:
        threads = self.threads or torch.get_num_threads()
        return identity_of(experiment, kind, seed, threads=threads)

    def _load(
        self, experiment: Experiment, path: Path, identity: dict[str, Any], *, mend: bool = False
    ) -> ModelAndCost | None:
        if not path.exists():
            return None
        try:
            stored = checkpoint.load_checkpoint(path)
            if not stored.sealed:
                raise EigenforgetError(f"{path}: {_UNSEALED}")
            if stored.metadata.get("identity") != canonical(identity):
                raise EigenforgetError(f"{path}: its identity is not the one that was written")
            made = ModelAndCost(
                experiment.stored_model(stored),
                float(stored.metadata["seconds"]),
                json.loads(stored.metadata["cost"]),
            )
        except EigenforgetError as error:
            if mend:
                self._set_aside(path, error)
            return None
        with suppress(FileNotFoundError):  # pruned meanwhile
            os.utime(path)  # for prune(): this one was used now
        return made

    def _set_aside(self, path: Path, error: EigenforgetError) -> None:
        """A damaged file is kept for who wants to look into it, under a name that nothing finds."""
        try:
            path.replace(path.with_suffix(f".{int(time.time())}.damaged"))
        except FileNotFoundError:
            return  # another process did it first
        self.warn(f"a stored model is damaged and is trained anew: {error}")

    def _save(
        self,
        experiment: Experiment,
        made: ModelAndCost,
        path: Path,
        identity: dict[str, Any],
        kind: ModelKind,
    ) -> None:
        specs = {
            key: value["spec"]
            for key, value in experiment.job().items()
            if key != "request" or kind == "oracle"
        }
        about = {
            "eigenforget": "train",
            **specs,
            "identity": canonical(identity),
            "seconds": f"{made.seconds:.3f}",
            "cost": json.dumps(dict(made.cost)),
        }
        checkpoint.save_checkpoint(made.model, path, about, overwrite=True)

    def _lock(self, path: Path) -> Path:
        return self.folder / ".locks" / f"{path.stem}.lock"


def identity_of(
    experiment: Experiment, kind: ModelKind, seed: int, *, threads: int = 1
) -> dict[str, Any]:
    """All that decides the weights.

    Specs are resolved, so that two spellings of one model are one model. Files that the model's
    spec names count, and so do threads on a processor: they change the order of additions. The
    digest of the data is that of raw values, so what is done to them counts as well.
    """
    engine = experiment.engine
    if engine.devices > 1:
        raise EigenforgetError(
            "trained models are kept for jobs on one device only: of several processes one would "
            "wait for another's lock"
        )
    files = named_files(experiment.model_spec) | code_files(experiment.recipe)
    device = engine.fabric.device.type
    more = {
        "accumulate": engine.accumulate if engine.accumulate > 1 else None,
        "files": files or None,
        "inputs": _made_of_values(experiment.data),
        "threads": threads if device == "cpu" and threads > 1 else None,
    }
    return {key: value for key, value in more.items() if value is not None} | {
        "data": experiment.data.digest,
        "model": described(experiment.model_spec)["resolved"],
        "recipe": described(experiment.recipe)["resolved"],
        "split": experiment.split.digest if kind == "oracle" else None,
        "seed": seed,
        "precision": engine.precision,
        "channels_last": engine.channels_last,
        "device": device,
        "code": f"{__version__}/{TRAINING_REVISION}",
    }


def _made_of_values(data: Data) -> list[Any] | None:
    """What the inputs of a data set depend on beside its values; None where on these alone."""
    if data.vocabulary is not None:  # which words have ids, and how many of a text are read
        return [data.encoding, data.vocabulary, *data.input_shape]
    normalised = data.normalisation
    if normalised is None or normalised.normalize == "train":
        return None
    return [normalised.spelled()]


def _metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a safetensors file, without its tensors; None where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return None
