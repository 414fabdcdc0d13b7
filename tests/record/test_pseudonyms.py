"""Ids as salted hashes: against HMAC by hand, every place where one can stand, and salts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.record import (
    Outcome,
    ScoreRow,
    canonical,
    make_salt,
    manifest_of,
    pseudonymised,
    pseudonymised_split,
    pseudonyms,
    read_salt,
    seal,
)
from eigenforget.record.pseudonyms import Pseudonyms
from tests.record.pseudonym_toys import PERSONAL, SALT, described, hidden, name_of
from tests.record.toys import made, refusal


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


def test_a_warning_that_quotes_an_id_is_hidden_too() -> None:
    split = manifest_of(["ann"], ["bob"])
    told = hidden(made(job={"warnings": ["the row of ann is odd", "nothing"]}), split=split)
    assert told["job"]["warnings"] == [f"the row of {name_of('ann')} is odd", "nothing"]


@pytest.mark.parametrize(
    "job",
    [
        {"request": [3]},
        {"request": 0.5},
        {"request": {"resolved": {"name": [1], "fields": {}}}},
        {"method": {"resolved": {"name": "x", "fields": True}}},
        {"method": {"resolved": {"name": {}, "fields": "ab"}}},
        {"near_duplicates": {"pairs": [3]}},
        {"near_duplicates": {"pairs": -1}},
        {"warnings": 3},
    ],
)
def test_a_record_that_no_run_writes_is_refused(job: dict[str, Any]) -> None:
    assert "cannot be hidden" in refusal(pseudonymised, made("m", job=job), SALT, personal=PERSONAL)
