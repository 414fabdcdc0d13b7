"""Plans: TOML files that spell a grid of data, models, recipes, requests, methods and seeds."""

from __future__ import annotations

import difflib
import itertools
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse, spell
from eigenforget.core.text import listed
from eigenforget.data import DATASETS
from eigenforget.evaluation.scoring import check_skip
from eigenforget.experiments.bench.cells import Cell, Setting
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES, Recipe


class Key(NamedTuple):
    """A key of a grid. axis: one value or a list of them, of which every combination is run; list:
    all of them in every run.
    """

    kind: type
    form: Literal["axis", "list", "one"]
    default: Any = None


KEYS: dict[str, Key] = {
    "data": Key(str, "axis"),
    "model": Key(str, "axis"),
    "recipe": Key(str, "axis", (Recipe(),)),
    "request": Key(str, "axis"),
    "method": Key(str, "axis"),
    "seeds": Key(int, "axis", (0,)),
    "retain_fraction": Key(float, "axis", (1.0,)),
    "oracles": Key(int, "list", (10, 11, 12)),
    "also_layer": Key(str, "list", ()),
    "skip": Key(str, "list", ()),
    "layer": Key(str, "one", ""),
    "map_points": Key(int, "one", 800),
    "precision": Key(str, "one", "32-true"),
    "channels_last": Key(bool, "one", False),
}
"""What may stand in a [[grid]] table, or above the first one for all grids. seeds: training seeds.
oracles: seeds of retrained models.
"""

_TOP = ("title", "grid")
_CHOICES: dict[str, Callable[[], Sequence[type]]] = {
    "data": lambda: DATASETS,
    "model": lambda: MODELS,
    "recipe": lambda: RECIPES,
    "request": lambda: REQUESTS,
    "method": lambda: METHODS,
}
_SPEC_NAMES = {"data": "data set"}


class Plan(NamedTuple):
    """title: of the results. cells: in the order of the file, each once, however often the grids
    spell it.
    """

    title: str
    cells: tuple[Cell, ...]

    @property
    def settings(self) -> tuple[Setting, ...]:
        return tuple(dict.fromkeys(cell.setting for cell in self.cells))


def read_plan(path: str | Path) -> Plan:
    """The plan in a TOML file. Errors: EigenforgetError with file and line, and the valid keys
    where one is misspelt.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise EigenforgetError(
            f"plan {path} cannot be read: {getattr(error, 'strerror', None) or error}"
        ) from None
    return _Reader(path, text).plan()


class _Reader:
    """Reads one file; knows the lines for its errors."""

    def __init__(self, path: Path, text: str) -> None:
        self.path, self.lines = path, text.splitlines()
        try:
            self.content = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise EigenforgetError(f"{path}: {error}") from None
        self.parsed: dict[tuple[str, str], Any] = {}

    def plan(self) -> Plan:
        grids = self.content.get("grid", [])
        if not isinstance(grids, list) or not grids or not all(isinstance(g, dict) for g in grids):
            raise EigenforgetError(f"{self.path}: a plan has one [[grid]] table or more")
        common = {key: value for key, value in self.content.items() if key not in _TOP}
        title = self.content.get("title", self.path.stem)
        if not isinstance(title, str) or not title.strip():
            raise EigenforgetError(f"{self.where('title', 0)}: title must be a text, got {title!r}")
        self._check_keys(common, 0, (*_TOP, *KEYS))
        cells: dict[Cell, None] = {}
        for number, grid in enumerate(grids, start=1):
            self._check_keys(grid, number, tuple(KEYS))
            cells |= dict.fromkeys(self._cells(grid, common, number))
        return Plan(title, tuple(cells))

    def where(self, key: str, number: int, value: str = "") -> str:
        """FILE, line N: where the key stands in the grid of this number (0: above the first), or
        the value where it is found there.
        """
        section, at = 0, 0
        for line_number, line in enumerate(self.lines, start=1):
            section += bool(re.match(r"\s*\[\[\s*grid\s*\]\]", line))
            if section == number and re.match(rf"""\s*(["']?){re.escape(key)}\1\s*=""", line):
                at = line_number
            if (
                at
                and section == number
                and value
                and any(form in line for form in (value, value.replace('"', '\\"')))
            ):
                return f"{self.path}, line {line_number}"
        return f"{self.path}, line {at}" if at else str(self.path)

    def _check_keys(self, table: dict[str, Any], number: int, valid: Sequence[str]) -> None:
        for key in table:
            if key not in valid:
                near = difflib.get_close_matches(key, valid, n=1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise EigenforgetError(
                    f"{self.where(key, number)}: unknown key {key!r}{hint}; the keys are {listed(valid, 100)}"
                )

    def _cells(self, grid: dict[str, Any], common: dict[str, Any], number: int) -> Iterator[Cell]:
        found = {key: self._values(key, grid, common, number) for key in KEYS}
        # In any order they are one setting.
        once: dict[str, Any] = {key: tuple(sorted(found[key])) for key in ("oracles", "skip")}
        once |= {key: found[key][0] for key, k in KEYS.items() if k.form == "one"}
        self._check_fixed(
            once,
            found["seeds"],
            self._home("oracles", grid, number),
            self._home("skip", grid, number),
        )
        once["layers"] = tuple(sorted(found["also_layer"]))
        combinations = itertools.product(
            *(found[key] for key in ("data", "model", "recipe", "request", "seeds"))
        )
        for data, model, recipe, request, seed in combinations:
            setting = Setting(
                data=data, model=model, recipe=recipe, request=request, seed=seed, **once
            )
            for fraction, method in itertools.product(found["retain_fraction"], found["method"]):
                yield Cell(setting, method, fraction)

    def _home(self, key: str, grid: dict[str, Any], number: int) -> str:
        return self.where(key, number if key in grid else 0)

    def _values(
        self, key: str, grid: dict[str, Any], common: dict[str, Any], number: int
    ) -> tuple[Any, ...]:
        _, form, default = KEYS[key]
        section = number if key in grid else 0
        given = grid.get(key, common.get(key))
        if given is None:
            if default is None:
                needed = listed([k for k, v in KEYS.items() if v.default is None])
                raise EigenforgetError(
                    f"{self.path}: grid {number} has no {key}; it needs {needed}"
                )
            return default if form != "one" else (default,)
        many = given if isinstance(given, list) else [given]
        if form == "one" and isinstance(given, list):
            raise EigenforgetError(f"{self.where(key, section)}: {key} takes one value, got a list")
        if form == "axis" and not many:
            raise EigenforgetError(
                f"{self.where(key, section)}: {key} is an empty list, so there is nothing to run"
            )
        return tuple(self._value(key, value, section) for value in many)

    def _value(self, key: str, value: Any, section: int) -> Any:
        kind: Any = KEYS[key].kind
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise EigenforgetError(
                f"{self.where(key, section)}: {key} takes values of type {kind.__name__}, got {value!r}"
            )
        if key == "map_points" and value < 1:
            raise EigenforgetError(
                f"{self.where(key, section)}: map_points is 1 or more, got {value}"
            )
        if key == "retain_fraction" and not 0 <= value <= 1:
            raise EigenforgetError(
                f"{self.where(key, section)}: retain_fraction is from 0 (none) to 1 (all), got {value}"
            )
        return self._parsed(key, value, section) if key in _CHOICES else value

    def _parsed(self, key: str, spec: str, section: int) -> Any:
        if (key, spec) not in self.parsed:
            try:
                self.parsed[key, spec] = parse(spec, _CHOICES[key](), _SPEC_NAMES.get(key, key))
            except EigenforgetError as error:
                raise EigenforgetError(f"{self.where(key, section, spec)}: {error}") from None
        if key == "request" and "path='-'" in spell(self.parsed[key, spec]):
            what = "a plan is run by many processes, which cannot share standard input; name a file"
            raise EigenforgetError(f"{self.where(key, section, spec)}: {what}")
        return self.parsed[key, spec]

    def _check_fixed(
        self, once: dict[str, Any], seeds: tuple[int, ...], oracles_at: str, skip_at: str
    ) -> None:
        oracles = once["oracles"]
        if not oracles:
            raise EigenforgetError(
                f"{oracles_at}: oracles needs the seed of one retrained model or more; two make a band"
            )
        shared = sorted(set(oracles) & set(seeds))
        if shared or len(set(oracles)) < len(oracles):
            what = f"{shared[0]} is a training seed too" if shared else f"got {listed(oracles)}"
            raise EigenforgetError(
                f"{oracles_at}: seeds of retrained models must differ from each other and from the training seeds; {what}"
            )
        try:
            check_skip(once["skip"])
        except EigenforgetError as error:
            raise EigenforgetError(f"{skip_at}: {error}") from None
