"""Methods of other packages: found by entry point, refused with one line when they are broken."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import pytest

import eigenforget.methods as methods
from eigenforget.core.errors import EigenforgetError


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    found: list[EntryPoint] = []
    monkeypatch.setattr(
        methods, "entry_points", lambda group: found if group == "eigenforget.methods" else []
    )
    methods.known_methods.cache_clear()
    yield found  # type: ignore[misc]
    methods.known_methods.cache_clear()


def point(value: str) -> EntryPoint:
    return EntryPoint("mine", value, "eigenforget.methods")


def test_a_method_of_another_package_is_known(
    points: list[EntryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(
        "Mine",
        (),
        {
            "name": "mine",
            "needs": (),
            "guarantee": "none",
            "source": "me",
            "role": "unlearned",
            "passes": "none",
        },
    )
    monkeypatch.setitem(__import__("sys").modules, "some_package", SimpleNamespace(Mine=kind))
    points.append(point("some_package:Mine"))
    assert methods.known_methods() == (*methods.METHODS, kind)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package:Mine", "cannot be loaded: No module named 'no_such_package'"),
        ("math:no_such_name", "cannot be loaded"),
        ("math:pi", "is no method: it lacks"),
        (
            "eigenforget.methods.finetune:Finetune",
            "takes the method name 'finetune', which is in use",
        ),
    ],
)
def test_broken_entry_points_are_one_line(
    points: list[EntryPoint], value: str, message: str
) -> None:
    points.append(point(value))
    with pytest.raises(EigenforgetError, match=message):
        methods.known_methods()
