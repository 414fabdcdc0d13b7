"""Ids as salted hashes: against HMAC by hand, every place where one can stand, what is left as it
is, and salts.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.core.spec import as_json, parse, spell
from eigenforget.record import (
    Outcome,
    ScoreRow,
    canonical,
    make_salt,
    manifest_of,
    pseudonymised,
    pseudonymised_split,
    pseudonymised_text,
    pseudonyms,
    read_salt,
    seal,
    to_json,
)
from eigenforget.record.pseudonyms import Pseudonyms
from eigenforget.requests import REQUESTS, personal_fields
from tests.record.toys import made, refusal

SALT = bytes(range(32))
PERSONAL = personal_fields(None)


def name_of(value: str, kind: str = "id", salt: bytes = SALT) -> str:
    """By hand: the first 16 hex digits of HMAC-SHA-256."""
    return hmac.new(
        salt, f"eigenforget.pseudonym/1\x1f{kind}\x1f{value}".encode(), hashlib.sha256
    ).hexdigest()[:16]


def described(spec: str) -> dict[str, Any]:
    request = parse(spec, REQUESTS, "request")
    return {"spec": spell(request), "resolved": as_json(request)}


def hidden(record: Any, **more: Any) -> dict[str, Any]:
    """The pseudonymised record as JSON."""
    return json.loads(
        canonical(to_json(pseudonymised(record, SALT, **{"personal": PERSONAL, **more})))
    )


# --- one value ---


def test_a_pseudonym_is_a_keyed_hash_of_kind_and_value() -> None:
    names = Pseudonyms(SALT)
    assert names.of("id", "ann") == name_of("ann") == names.of("id", "ann")
    assert names.of("id", 7) == name_of("7")
    assert (
        len(
            {names.of(kind, "ann") for kind in ("id", "group", "column:name")}
            | {Pseudonyms(SALT[::-1]).of("id", "ann")}
        )
        == 4
    )
    assert names.of("id", "\ud800") != names.of("id", "\ud801")
    assert "at least 16 bytes, got 15" in refusal(Pseudonyms, b"x" * 15)


def test_two_values_with_one_pseudonym_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pseudonyms, "LENGTH", 1)
    names = Pseudonyms(SALT)
    assert "make another one" in refusal(lambda: [names.of("id", i) for i in range(17)])


def test_salts(tmp_path: Path) -> None:
    first, second = (read_salt(make_salt(tmp_path / name)) for name in "ab")
    assert len(first) == len(second) == 32 and first != second
    (tmp_path / "upper").write_text(first.hex().upper())
    assert read_salt(tmp_path / "upper") == first
    assert (
        "never replaced" in refusal(make_salt, tmp_path / "a")
        and read_salt(tmp_path / "a") == first
    )
    for content, words in (
        (b"", "got 0"),
        (b"00" * 15, "got 15"),
        (b"xyz", "hex"),
        (b"\xff" * 64, "hex"),
        (b"0" * 33, "hex"),
    ):
        (tmp_path / "bad").write_bytes(content)
        assert words in refusal(read_salt, tmp_path / "bad")
    assert "cannot be read" in refusal(read_salt, tmp_path / "none")


def test_a_split_of_pseudonyms() -> None:
    split = pseudonymised_split(manifest_of(["ann", "bob"], ["cec"]), SALT)
    assert (
        split == manifest_of([name_of("ann"), name_of("bob")], [name_of("cec")], hashed=True)
        and split.hashed
    )


# --- requests ---

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


# --- the rest of a record ---


def test_ids_groups_and_pairs_are_hidden_wherever_they_stand() -> None:
    record = made(
        job={"near_duplicates": {"total": 1, "pairs": [["ann", "bob", 0.99]]}, "group": ["ward 1"]},
        series={
            "pca": {"id": ["ann", "bob"], "x": [1, 2]},
            "deep": [{"groups": ["ward 1"]}],
            "forget_groups": {"1 by_ids(ids='ann')": 0.5},
        },
    )
    told = hidden(record)
    pair = [name_of("ann"), name_of("bob"), 0.99]
    assert told["job"] == {
        "near_duplicates": {"total": 1, "ids": "hmac-sha256", "pairs": [pair]},
        "group": [name_of("ward 1", "group")],
        "ids": "hmac-sha256",
    }
    key = f"1 by_ids(ids='{name_of('ann')}')"
    deep = [{"groups": [name_of("ward 1", "group")]}]
    assert told["series"] == {
        "pca": {"id": pair[:2], "x": [1, 2]},
        "deep": deep,
        "forget_groups": {key: 0.5},
    }


def test_pairs_of_a_record_whose_ids_were_hidden_are_not_hidden_twice() -> None:
    first = pseudonymised(
        made(job={"near_duplicates": {"total": 1, "pairs": [["ann", "bob", 0.99]]}}),
        SALT,
        personal=PERSONAL,
    )
    again = pseudonymised(
        made(job={"near_duplicates": first.job["near_duplicates"]}), SALT, personal=PERSONAL
    )
    assert again.job["near_duplicates"] == first.job["near_duplicates"]


def test_what_texts_quote_is_hidden_as_whole_words_and_numbers_are_left() -> None:
    split = manifest_of(["ann", "ann lee", "7"], ["x.y"])
    record = made(
        "ann",
        claims=("ann lee and ann, not anna or 7.",),
        non_claims=("x.y but not xzy",),
        scores=(ScoreRow("da", None, "1", "reference", (0.0, 1.0), reason="no row of ward 1"),),
        outcome=Outcome("refused", 0.0, reason="ids not in the training data: ann"),
    )
    told = hidden(record, split=split, known={"group": ["ward 1"]})
    ann = name_of("ann")
    assert told["claims"] == [f"{name_of('ann lee')} and {ann}, not anna or 7."] and told[
        "non_claims"
    ] == [f"{name_of('x.y')} but not xzy"]
    assert told["scores"][0]["reason"] == f"no row of {name_of('ward 1', 'group')}"
    assert told["outcome"]["reason"] == f"ids not in the training data: {ann}"
    assert told["name"] == "ann", "names of models are not hidden"


def test_the_digest_of_the_split_becomes_that_of_its_pseudonyms_or_goes() -> None:
    split = manifest_of(["ann"], ["bob"])
    record = seal(
        made(inputs={"data": "sha256:" + "a" * 64, "split": split.digest}), "sha256:" + "c" * 64
    )
    assert (
        hidden(record, split=split)["inputs"]["split"]
        == manifest_of([name_of("ann")], [name_of("bob")]).digest
    )
    alone = pseudonymised(record, SALT, personal=PERSONAL)
    assert list(alone.inputs) == ["data"] and alone.digest is alone.previous is None and seal(alone)


_IDS = st.text("abcdefg_'\"\\() ,\n", min_size=3, max_size=9).filter(
    lambda text: len(text.strip()) > 2
)


@settings(max_examples=60, deadline=None)
@given(ids=st.lists(_IDS, min_size=2, max_size=5, unique=True))
def test_no_id_of_a_request_is_left_anywhere(ids: list[str]) -> None:
    told = described(f"by_ids(ids={tuple(ids)!r})")
    text = canonical(hidden(made(job={"request": told}), split=manifest_of(ids, ["zz"])))
    for value in ids:
        for spelled in (repr(value), canonical(value), canonical(repr(value))[1:-1]):
            assert spelled not in text
