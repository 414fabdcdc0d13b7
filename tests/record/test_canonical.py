"""Canonical JSON and digests of values."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eigenforget.record import (
    canonical,
    value_digest,
)
from tests.record.toys import refusal


def test_canonical_text_is_sorted_compact_raw_unicode_and_shortest_floats() -> None:
    value = {"b": [1, 2.5, 1e-7, 1e16, 0.1, -0.0, True, None], "ä": 'é\n"', "Z": {}, "a": ()}
    assert (
        canonical(value)
        == '{"Z":{},"a":[],"b":[1,2.5,1e-07,1e+16,0.1,-0.0,true,null],"ä":"é\\n\\""}'
    )


@pytest.mark.parametrize(
    "bad",
    [float("nan"), float("inf"), -float("inf"), {1: 2}, {"a": {None: 1}}, {1}, "\ud800", b"x"],
)
def test_canonical_refuses_what_json_cannot_hold(bad: Any) -> None:
    assert "not plain JSON" in refusal(canonical, {"deep": [bad]})


def test_digests_of_known_texts() -> None:
    # Published digest of the two bytes {}.
    assert (
        value_digest({})
        == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    )
    assert (
        value_digest({"b": 1, "a": "é"})
        == "sha256:" + hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    )


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(_JSON)
def test_canonical_text_reads_back_as_the_value_and_does_not_know_key_order(value: Any) -> None:
    def turned(item: Any) -> Any:
        if isinstance(item, dict):
            return {k: turned(item[k]) for k in reversed(item)}
        return [turned(v) for v in item] if isinstance(item, list) else item

    text = canonical(value)
    back = json.loads(text)
    assert back == value and canonical(back) == text and canonical(turned(value)) == text
