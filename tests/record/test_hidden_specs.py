"""Specs of requests: what names a person is hidden, in the fields and in the spelling."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eigenforget.core.spec import as_json, parse, spell
from eigenforget.record import (
    canonical,
    pseudonymised_text,
)
from eigenforget.requests import REQUESTS, personal_fields
from tests.record.pseudonym_toys import PERSONAL, SALT, described, hidden, name_of
from tests.record.toys import made

SPECS = [
    ("by_ids(ids=('ann', \"o'hara\"))", "ids", ["ann", "o'hara"], "id"),
    ("by_group(group='ann')", "group", "ann", "group"),
    ("by_group(group=('ann', 'b)ob('))", "group", ["ann", "b)ob("], "group"),
    ("by_subclass(value='poodle')", "value", "poodle", "column:fine"),
    ("where(column='ward', op='in', value=('A1', 'B2'))", "value", ["A1", "B2"], "column:ward"),
    ("where(column='id', op='==', value='ann')", "value", "ann", "id"),
    ("where(column='group', op='==', value='ann')", "value", "ann", "group"),
    ("where(column='age', op='>=', value=90)", "value", 90, "column:age"),
]


@pytest.mark.parametrize(("spec", "field", "values", "kind"), SPECS)
def test_values_in_requests_are_hidden_in_fields_and_in_the_spelling(
    spec: str, field: str, values: Any, kind: str
) -> None:
    wanted = (
        [name_of(str(v), kind) for v in values]
        if isinstance(values, list)
        else name_of(str(values), kind)
    )
    for text in (spec, f"union(requests=({spec}, by_class(label=3)))"):
        told = described(text)
        job = hidden(made(job={"request": told}))["job"]
        at, plain = (
            x["resolved"] if text == spec else x["resolved"]["fields"]["requests"][0]
            for x in (job["request"], told)
        )
        assert at["fields"][field] == wanted and {**at["fields"], field: 0} == {
            **plain["fields"],
            field: 0,
        }
        for value in values if isinstance(values, list) else [values]:
            assert repr(value) not in job["request"]["spec"]
        parsed = parse(job["request"]["spec"], REQUESTS, "request")
        assert json.loads(canonical(as_json(parsed))) == job["request"]["resolved"], (
            "the spelling says what the fields say"
        )


@pytest.mark.parametrize(
    "spec",
    [
        "by_class(label=3)",
        "at_random(fraction=0.1, seed=4)",
        "where(column='label', op='==', value=3)",
    ],
)
def test_classes_and_draws_name_no_one(spec: str) -> None:
    told = described(spec)
    assert hidden(made(job={"request": told}))["job"] == {
        "request": json.loads(canonical(told)),
        "ids": "hmac-sha256",
    }


def test_specs_in_running_text() -> None:
    ann = name_of("ann", "group")
    text = "Forget by_group(group='ann'), then by_class(label=1)."
    assert (
        pseudonymised_text(text, SALT, personal=PERSONAL)
        == f"Forget by_group(group='{ann}'), then by_class(label=1)."
    )
    assert "ann" not in pseudonymised_text('by_group (\n  group = "ann" )', SALT, personal=PERSONAL)
    for text in (
        "by_group(",
        "by_group('ann",
        "Forget my_by_group(group='ann')",
        "by_group(group=ann)",
        "by_group(*x)",
        "plain",
    ):
        assert pseudonymised_text(text, SALT, personal=PERSONAL) == text, (
            "what is no whole spec stays"
        )


OWN = '''
from typing import Any, ClassVar
from eigenforget.core.spec import configured

@configured
class Mine:
    """A request that says nothing of persons."""
    name: ClassVar[str] = "mine"
    person: Any
    inner: Any = None
    duplicates: str = "error"

    def select(self, index):
        return [0]

@configured
class Told(Mine):
    """A request that does."""
    name: ClassVar[str] = "told"
    personal: ClassVar[dict[str, str]] = {"person": "column:{ward}"}
    ward: str = "north"

def function(index, *, person: str = "", age: int = 0):
    return [0]
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "spec",
    [
        "python(path='own.py:Mine', person='Ann Lee')",
        "python(path='own.py:Mine', person=('bob', ('Ann Lee', 7)))",
        "python(path='own.py:Mine', person=1, inner=by_group(group='Ann Lee'))",
        "python(path='own.py:Mine', person=1, inner=python(path='own.py:function', person='Ann Lee'))",
        "python(path='own.py:Told', person='Ann Lee', ward='south')",
        "python(path='own.py:Told', person='Ann Lee')",
        "python(path='own.py:function', person='Ann Lee', age=93)",
        "union(requests=(by_class(label=3), python(path='own.py:Mine', person='Ann Lee')))",
    ],
)
def test_a_request_of_ones_own_never_leaks_who_it_is_about(own: None, spec: str) -> None:
    request = parse(spec, REQUESTS, "request")
    personal = personal_fields(request)
    told = {"spec": spell(request), "resolved": as_json(request)}
    record = made(
        job={"request": told},
        series={"forget_groups": {f"1 {spell(request)}": 0.5}},
        claims=(f"{spell(request)} was honoured, of Ann Lee",),
    )
    text = canonical(hidden(record, personal=personal))
    assert not re.search(r"Ann|[=:]93\b|'bob'", text)
    assert "own.py:" in text, "names of files are not hidden"
    assert "Ann" not in pseudonymised_text(spell(request), SALT, personal=personal)


def test_what_ones_own_request_declares_is_hidden_and_nothing_else(own: None) -> None:
    spec = "python(path='own.py:Told', person='ann', inner='kept')"
    request = parse(spec, REQUESTS, "request")
    told = {"spec": spell(request), "resolved": as_json(request)}
    job = hidden(made(job={"request": told}), personal=personal_fields(request))["job"]
    assert job["request"]["resolved"]["fields"] == {
        **as_json(request)["fields"],
        "person": name_of("ann", "column:north"),
    }


def test_methods_of_ones_own_are_not_hidden(own: None) -> None:
    request = parse("python(path='own.py:Mine', person='ann')", REQUESTS, "request")
    method = "python(path='method.py:Mine', target='kept')"
    job = hidden(
        made(
            job={
                "request": {"spec": spell(request), "resolved": as_json(request)},
                "method": {"spec": method},
            }
        )
    )["job"]
    assert job["method"]["spec"] == method and "ann" not in job["request"]["spec"]


def test_every_request_of_ours_says_what_is_personal() -> None:
    for kind in REQUESTS.own:
        assert isinstance(kind.personal, dict) and kind.name in PERSONAL
