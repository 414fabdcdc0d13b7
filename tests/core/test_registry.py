"""Choices of other packages and files: found, or refused with one line when they are broken."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from eigenforget.core import registry
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.registry import Registry, from_function
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.methods import METHODS

REQUIRED = ("name", "needs", "guarantee", "source", "role", "passes")
FILE = """
from typing import ClassVar
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method

@configured
class Mine(Method):
    name: ClassVar[str] = "mine"
    needs: ClassVar[tuple] = ()
    guarantee: ClassVar[str] = "none"
    source: ClassVar[str] = "me"
    role: ClassVar[str] = "unlearned"
    passes: ClassVar[str] = "none"
    epochs: int = 3

    def __call__(self, task):
        return task.student()

def copied(task, *, times: int = 1):
    return [task] * times

def wrong(task, other):
    return task

number = 3
"""


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found: list[EntryPoint] = []
    monkeypatch.setattr(
        registry, "entry_points", lambda group: found if group == "eigenforget.methods" else []
    )
    return found


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def fresh() -> Registry[type]:
    """The methods as if nothing had asked for them yet."""
    return Registry("method", "eigenforget.methods", METHODS.own, requires=REQUIRED)


def test_a_method_of_another_package_is_known(
    points: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type("Mine", (), {**dict.fromkeys(REQUIRED, ""), "name": "mine"})
    monkeypatch.setitem(sys.modules, "some_package", SimpleNamespace(Mine=kind))
    points.append(EntryPoint("mine", "some_package:Mine", "eigenforget.methods"))
    assert tuple(fresh()) == (*METHODS.own, kind)
    assert fresh().get("mine") is kind


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:Mine", "cannot be loaded: .*No module named 'no_such_package'"),
        ("math:no_such_name", "cannot be loaded"),
        ("math:pi", "is no method: it lacks"),
        ("eigenforget.methods.finetune:Finetune", "takes the method name 'finetune'"),
    ],
)
def test_broken_entry_points_are_one_line(
    points: list[EntryPoint], value: str, message: str
) -> None:
    points.append(EntryPoint("mine", value, "eigenforget.methods"))
    with pytest.raises(EigenforgetError, match=message) as caught:
        len(fresh())
    assert "\n" not in str(caught.value)


def test_a_class_of_ones_own_file_has_one_spelling(in_folder: Path) -> None:
    text = "python(path='mine.py:Mine', epochs=5)"
    value = METHODS.parse(text)
    assert (value.name, value.epochs) == ("mine", 5)
    assert spell(value) == text
    assert parse(spell(value), METHODS, "method") == value
    assert as_json(value) == {"name": "python", "fields": {"path": "mine.py:Mine", "epochs": 5}}
    assert from_json(as_json(value), METHODS, "method") == value
    assert METHODS.kind("python(path='mine.py:Mine')") is type(value)
    masked = METHODS.parse(f"masked(inner={text})")
    assert METHODS.parse(spell(masked)) == masked and text in spell(masked)


def test_a_class_of_ours_keeps_its_name_when_it_is_named_by_path() -> None:
    value = METHODS.parse("python(path='eigenforget.methods:MUDA', k=9)")
    assert spell(value) == "muda(k=9)"


def test_a_function_of_ones_own_file_is_a_choice(in_folder: Path) -> None:
    toys: Registry[type] = Registry(
        "toy", wrap=lambda f: from_function(f, call="__call__", given=("task",), needs=())
    )
    value: Any = toys.parse("python(path='mine.py:copied', times=2)")
    assert value("task") == ["task", "task"] and value.needs == ()
    assert spell(value) == "python(path='mine.py:copied', times=2)"
    assert toys.parse(spell(value)) == value != toys.parse("python(path='mine.py:copied')")
    with pytest.raises(EigenforgetError, match="is no toy: it lacks name"):
        Registry[type]("toy").parse("python(path='mine.py:copied')")


def test_a_changed_file_is_run_again(in_folder: Path) -> None:
    text = "python(path='mine.py:Mine')"
    assert METHODS.parse(text).epochs == 3
    (in_folder / "mine.py").write_text(FILE.replace("epochs: int = 3", "epochs: int = 7"))
    assert METHODS.parse(text).epochs == 7
    code = type(METHODS.parse(text)).__call__.__code__
    assert code.co_filename == str(in_folder / "mine.py"), "tracebacks name it from any folder"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("python()", "method needs path="),
        ("python(path=3)", "method needs path="),
        ("python(path='none.py:Mine')", "'none.py:Mine' cannot be imported"),
        ("python(path='mine.py:Other')", "'mine.py:Other'.*mine.py has no 'Other'"),
        ("python(path='mine.py:number')", "'mine.py:number' is no method: it lacks name"),
        ("python(path='mine.py:Mine', epoch=3)", "no field 'epoch'.*epochs"),
        ("python(path='mine.py:Mine', epochs='x')", "epochs: .*got 'x'"),
        ("python(path='mine.py:copied', times='x')", "times: .*got 'x'"),
        ("python(path='mine.py:wrong')", r"wrong is called as wrong\(task\): .*'other'"),
    ],
)
def test_wrong_choices_of_ones_own_are_one_line(in_folder: Path, text: str, message: str) -> None:
    with pytest.raises(EigenforgetError, match=message) as caught:
        METHODS.parse(text)
    assert "\n" not in str(caught.value)
