"""Plans: TOML files that spell a grid of data, models, recipes, requests, methods and seeds."""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import path_of
from eigenforget.core.registry import Registry
from eigenforget.core.spec import spell
from eigenforget.core.text import displayed, first_line, listed
from eigenforget.data import DATASETS
from eigenforget.evaluation.audits import AUDITS
from eigenforget.evaluation.evidence import Audit
from eigenforget.evaluation.metrics import METRICS, AnyMetric
from eigenforget.evaluation.scoring import check_skip, chosen_metrics
from eigenforget.experiments.bench.jobs import MethodJob, StudySpec
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.record import RecordError
from eigenforget.record.reading import read_bytes
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES, Recipe


class _Key(NamedTuple):
    """A key of a grid.

    Attributes:
        kind: Type of its values.
        form: "axis" for one value or a list, of which every combination is run; "list" for values
            that every run has; "one" for one value.
        default: Its value where it is left out; None where it is needed.
    """

    kind: type
    form: Literal["axis", "list", "one"]
    default: Any = None


# What may stand in a [[grid]] table, or above the first one for all grids.
_KEYS: dict[str, _Key] = {
    "data": _Key(str, "axis"),
    "model": _Key(str, "axis"),
    "recipe": _Key(str, "axis", (Recipe(),)),
    "request": _Key(str, "axis"),
    "method": _Key(str, "axis"),
    "seeds": _Key(int, "axis", (0,)),
    "retain_fraction": _Key(float, "axis", (1.0,)),
    "oracles": _Key(int, "list", (10, 11, 12)),
    "also_layer": _Key(str, "list", ()),
    "skip": _Key(str, "list", ()),
    "metric": _Key(str, "list", ()),
    "audit": _Key(str, "list", ()),
    "unseen": _Key(float, "one", 0.0),
    "layer": _Key(str, "one", ""),
    "map_points": _Key(int, "one", 800),
    "precision": _Key(str, "one", "32-true"),
    "channels_last": _Key(bool, "one", False),
}
_TOP = ("title", "grid")
_MOST_JOBS = 100_000
"""More would take days to list."""
_REGISTRIES: dict[str, Registry[type]] = {
    "data": DATASETS,
    "model": MODELS,
    "recipe": RECIPES,
    "request": REQUESTS,
    "method": METHODS,
}


class Plan(NamedTuple):
    """What a bench runs.

    Attributes:
        title: Of the results.
        jobs: In the order of the file, each once, however often the grids spell it.
    """

    title: str
    jobs: tuple[MethodJob, ...]

    @property
    def studies(self) -> tuple[StudySpec, ...]:
        """The studies of the jobs, each once."""
        return tuple(dict.fromkeys(job.study for job in self.jobs))


def read_plan(path: str | Path) -> Plan:
    """The plan in a TOML file.

    Raises:
        EigenforgetError: It cannot be read, or something in it is wrong; the message names file
            and line, and the valid keys where one is misspelt.
    """
    path = Path(path)
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise EigenforgetError(f"plan {path} cannot be read: {error}") from None
    except RecordError as error:
        raise EigenforgetError(f"plan {error}") from None
    return _Reader(path, text).plan()


class _Reader:
    """Reads one file; knows the lines for its errors."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()
        try:
            self.content = tomllib.loads(text)
        except RecursionError:
            raise EigenforgetError(
                f"{path}: its values are nested too deep; a plan has tables, lists and texts"
            ) from None
        except ValueError as error:  # of TOML, and of integers with more than 4,300 digits
            raise EigenforgetError(f"{path}: {first_line(error)}") from None
        self.parsed: dict[tuple[str, str], Any] = {}

    def plan(self) -> Plan:
        grids = self.content.get("grid", [])
        if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
            raise EigenforgetError(f"{self.path}: a plan has one [[grid]] table or more")
        common = {key: value for key, value in self.content.items() if key not in _TOP}
        title = self.content.get("title", self.path.stem)
        if not isinstance(title, str) or not title.strip() or not title.isprintable():
            raise EigenforgetError(
                f"{self.where('title', 0)}: title must be one line of text, got {displayed(title)}"
            )
        self._check_keys(common, 0, (*_TOP, *_KEYS))
        jobs: dict[MethodJob, None] = {}
        for number, grid in enumerate(grids, start=1):
            self._check_keys(grid, number, tuple(_KEYS))
            jobs |= dict.fromkeys(self._jobs(grid, common, number))
        return Plan(title, tuple(jobs))

    def where(self, key: str, number: int, value: str = "") -> str:
        """The place "FILE, line N" where the key stands, or the value where it is found there.

        Args:
            key: The key.
            number: Of the grid that it stands in; 0 above the first.
            value: One of its values.
        """
        forms = (value, value.replace('"', '\\"'))
        begins = re.compile(rf"""\s*(["']?){re.escape(key)}\1\s*=""")
        section, at = 0, 0
        for line_number, line in enumerate(self.lines, start=1):
            section += bool(re.match(r"\s*\[\[\s*grid\s*\]\]", line))
            if section == number and begins.match(line):
                at = line_number
            if at and section == number and value and any(form in line for form in forms):
                return f"{self.path}, line {line_number}"
        return f"{self.path}, line {at}" if at else str(self.path)

    def _check_keys(self, table: dict[str, Any], number: int, valid: Sequence[str]) -> None:
        for key in table:
            if key not in valid:
                near = difflib.get_close_matches(key[:100], valid, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise EigenforgetError(
                    f"{self.where(key, number)}: unknown key {displayed(key)}{hint}; "
                    f"the keys are {listed(valid, 100)}"
                )

    def _jobs(
        self, grid: dict[str, Any], common: dict[str, Any], number: int
    ) -> Iterator[MethodJob]:
        found = {key: self._values(key, grid, common, number) for key in _KEYS}
        count = math.prod(len(found[key]) for key, k in _KEYS.items() if k.form == "axis")
        if count > _MOST_JOBS:
            raise EigenforgetError(
                f"{self.path}: grid {number} has {count:,} jobs, more than {_MOST_JOBS:,}; divide "
                "it into several plans"
            )
        self._check_oracles(found["oracles"], found["seeds"], self._home("oracles", grid, number))
        audits = self._audits(found["audit"], self._home("audit", grid, number))
        metrics = self._metrics(found["metric"], self._home("metric", grid, number))
        try:
            check_skip(found["skip"], [item.name for item in (*metrics, *audits)])
        except EigenforgetError as error:
            raise EigenforgetError(f"{self._home('skip', grid, number)}: {error}") from None
        # In any order they are one study.
        fixed: dict[str, Any] = {key: tuple(sorted(found[key])) for key in ("oracles", "skip")}
        fixed |= {key: found[key][0] for key, k in _KEYS.items() if k.form == "one"}
        fixed["layers"] = tuple(sorted(found["also_layer"]))
        own = [path_of(kind) for kind in metrics if kind not in METRICS]
        fixed["metrics"] = tuple(sorted(f"python(path={path!r})" for path in own))
        fixed["audits"] = tuple(sorted(spell(audit) for audit in audits))
        axes = (found[key] for key in ("data", "model", "recipe", "request", "seeds"))
        for data, model, recipe, request, seed in itertools.product(*axes):
            study = StudySpec(
                data=data, model=model, recipe=recipe, request=request, seed=seed, **fixed
            )
            for fraction, method in itertools.product(found["retain_fraction"], found["method"]):
                yield MethodJob(study, method, fraction)

    def _metrics(self, specs: Sequence[str], where: str) -> Sequence[type[AnyMetric]]:
        """All metrics, these further ones with them.

        Raises:
            EigenforgetError: A spec is wrong; the message names the line.
        """
        try:
            return chosen_metrics(specs)
        except EigenforgetError as error:
            raise EigenforgetError(f"{where}: {error}") from None

    def _audits(self, specs: Sequence[str], where: str) -> list[Audit]:
        """The further audits; of one name there is one.

        Raises:
            EigenforgetError: A spec is wrong; the message names the line.
        """
        try:
            found = [AUDITS.parse(spec) for spec in specs]
        except EigenforgetError as error:
            raise EigenforgetError(f"{where}: {error}") from None
        if len({audit.name for audit in found}) < len(found):
            raise EigenforgetError(f"{where}: an audit stands twice in {listed(specs)}")
        return found

    def _home(self, key: str, grid: dict[str, Any], number: int) -> str:
        return self.where(key, number if key in grid else 0)

    def _values(
        self, key: str, grid: dict[str, Any], common: dict[str, Any], number: int
    ) -> tuple[Any, ...]:
        _, form, default = _KEYS[key]
        section = number if key in grid else 0
        given = grid.get(key, common.get(key))
        if given is None:
            if default is None:
                needed = listed([k for k, v in _KEYS.items() if v.default is None])
                raise EigenforgetError(
                    f"{self.path}: grid {number} has no {key}; it needs {needed}"
                )
            return default if form != "one" else (default,)
        many = given if isinstance(given, list) else [given]
        if key == "oracles" and not isinstance(given, list):
            raise EigenforgetError(
                f"{self.where(key, section)}: oracles is a list of seeds, one for each retrained "
                f"model, such as [10, 11, 12]; got {displayed(given)}"
            )
        if form == "one" and isinstance(given, list):
            raise EigenforgetError(f"{self.where(key, section)}: {key} takes one value, got a list")
        if form == "axis" and not many:
            raise EigenforgetError(
                f"{self.where(key, section)}: {key} is an empty list, so there is nothing to run"
            )
        return tuple(self._value(key, value, section) for value in many)

    def _value(self, key: str, value: Any, section: int) -> Any:
        kind: Any = _KEYS[key].kind
        if kind is float and type(value) is int and abs(value) < 2**63:
            value = float(value)
        fault = ""
        if type(value) is not kind:
            fault = f"{key} takes values of type {kind.__name__}"
        elif kind is int and abs(value) >= 2**63:
            fault = f"{key} takes integers of up to 64 bits"
        elif key == "map_points" and value < 1:
            fault = "map_points is 1 or more"
        elif key == "retain_fraction" and not 0 <= value <= 1:
            fault = "retain_fraction is from 0 (none) to 1 (all)"
        elif key == "unseen" and not 0 <= value < 1:
            fault = "unseen is from 0 (none) to below 1"
        if fault:
            raise EigenforgetError(f"{self.where(key, section)}: {fault}, got {displayed(value)}")
        return self._parsed(key, value, section) if key in _REGISTRIES else value

    def _parsed(self, key: str, spec: str, section: int) -> Any:
        if (key, spec) not in self.parsed:
            try:
                self.parsed[key, spec] = _REGISTRIES[key].parse(spec)
            except EigenforgetError as error:
                raise EigenforgetError(f"{self.where(key, section, spec)}: {error}") from None
        if key == "request" and "path='-'" in spell(self.parsed[key, spec]):
            raise EigenforgetError(
                f"{self.where(key, section, spec)}: a plan is run by many processes, which cannot "
                "share standard input; name a file"
            )
        return self.parsed[key, spec]

    def _check_oracles(self, oracles: tuple[int, ...], seeds: tuple[int, ...], where: str) -> None:
        if not oracles:
            raise EigenforgetError(
                f"{where}: oracles needs the seed of one retrained model or more; two make a band"
            )
        shared = sorted(set(oracles) & set(seeds))
        if shared or len(set(oracles)) < len(oracles):
            known = listed(sorted(oracles))
            what = f"{shared[0]} is a training seed too" if shared else f"got {known}"
            raise EigenforgetError(
                f"{where}: seeds of retrained models must differ from each other and from the "
                f"training seeds; {what}"
            )
