"""Records as JSON and back; every wrong field is named."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from eigenforget.record import (
    ScoreRow,
    canonical,
    record_from_json,
    score_row,
    seal,
    to_json,
)
from eigenforget.record.fields import MOST_LEVELS, alike, printable
from eigenforget.record.schema import outline, outline_from_json
from tests.record.toys import A, B, made, refusal


def nested(levels: int) -> dict[str, Any]:
    """An object with so many levels in it."""
    found: dict[str, Any] = {}
    for _ in range(levels):
        found = {"x": found}
    return found


def test_json_and_back() -> None:
    sealed = seal(made(), A)
    assert record_from_json(to_json(sealed)) == sealed
    assert to_json(sealed)["scores"][1] == {
        "name": "mia_auc",
        "value": None,
        "unit": "AUC",
        "better": "reference",
        "range": [0.0, None],
        "low": None,
        "high": None,
        "reason": "no finite loss",
    }


def test_score_row_opens_infinite_ends() -> None:
    ends = {"range": (0.0, float("inf")), "low": 0.4, "high": 0.6}
    score = SimpleNamespace(
        name="kl",
        value=0.5,
        unit="nats",
        better="lower",
        reason="",
        trace="both",
        about=None,
        **ends,
    )
    assert score_row(score) == ScoreRow(
        "kl", 0.5, "nats", "lower", (0.0, None), 0.4, 0.6, trace="both"
    )
    score.value = 1e200
    row = score_row(score)
    assert (row.value, row.low, row.high) == (None, None, None) and row.reason.startswith("1e+200")


# Path into the JSON, the value put there ("-" deletes the field), and words of the message.
WRONG: list[tuple[tuple[Any, ...], Any, str]] = [
    (("created",), "-", "missing field 'created'"),
    (("scores", 0, "unit"), "-", "scores[0]: missing field 'unit'"),
    (("extra\nline",), 1, "unknown field 'extra\\nline'"),
    (("outcome", "extra"), 1, "outcome: unknown field 'extra'"),
    (("schema",), "eigenforget.record/2", "'eigenforget.record/2'"),
    (("kind",), "guess", "kind must be one of train, unlearn, evaluate, got 'guess'"),
    (("name",), " ", "name must be a non-empty text"),
    (("role",), "boss", "role must be one of original, oracle, unlearned, control, got 'boss'"),
    (("role",), None, "role is set in evaluate records"),
    (("kind",), "train", "role is set in evaluate records"),
    (("created",), "2026-02-30T00:00:00Z", "a date that exists"),
    (("created",), "2026-11-24 13:00", "a UTC time"),
    (("job",), [], "job must be an object"),
    (("job", "corrects"), "abc", "job.corrects must be a digest"),
    (("inputs", "da\nta"), "md5:1", "a name in inputs must be one line without control"),
    (("inputs", "data"), "md5:1", "inputs['data'] must be a digest"),
    (("name",), "muda\nok  other", "name must be one line without control"),
    (("name",), "\x1b[31mmuda", "got '\\x1b[31mmuda'"),
    (("name",), "a\u202edum", "got 'a\\u202edum'"),
    (("name",), "mu\u200bda", "got 'mu\\u200bda'"),
    (("name",), "mu\u2028da", "got 'mu\\u2028da'"),
    (("scores", 0, "name"), "d\ra", "scores[0].name must be one line"),
    (("scores", 0, "unit"), "\x9b1m", "scores[0].unit must be one line"),
    (("outcome", "outputs"), {"file:m\x00": B}, "a name in outcome.outputs must be one line"),
    (("outcome", "seconds"), 10**400, "outcome.seconds must be a finite number (of at"),
    (("scores", 0, "value"), 2**53 + 1, "scores[0].value must be a finite number"),
    (("scores", 0, "value"), float("nan"), "scores[0].value must be a finite number, got nan"),
    (("scores", 0, "value"), -1e101, "scores[0].value must be a finite number (of at most 1e+100"),
    (("outcome", "seconds"), float("inf"), "outcome.seconds must be a finite number"),
    (("job", "seed"), 10**400, "a number in job must be an integer of 64 bits, got 1000"),
    (("series", "da"), [[1, -(2**63) - 1]], "a number in series must be an integer of 64 bits"),
    (("environment", "x"), {"y": float("inf")}, "a number in environment must be finite"),
    (("outcome", "cost"), nested(MOST_LEVELS), "outcome.cost is nested more than 200 levels deep"),
    (("outcome", "status"), "fine", "outcome.status must be one of ok, refused, failed"),
    (("outcome", "status"), "refused", "must say why the run was refused"),
    (("outcome", "seconds"), True, "outcome.seconds must be a finite number, got True"),
    (("outcome", "seconds"), -1.0, "at least 0, got -1.0"),
    (("scores",), {}, "scores must be a list"),
    (("scores", 0, "value"), "0.9", "scores[0].value must be a finite number, got '0.9'"),
    (("scores", 0, "value"), None, "scores[0]: a score without a value needs a reason ('da')"),
    (("scores", 0, "better"), "big", "one of higher, lower, reference"),
    (("scores", 0, "range"), [0.0], "must be [low, high], got 1 values"),
    (("scores", 0, "range"), [1.0, 0.0], "the range of 'da' runs from 1.0 down to 0.0"),
    (("scores", 0, "low"), 0.995, "the interval of 'da' runs from 0.995 down to 0.99"),
    (("scores", 1, "name"), "da", "'da' appears more than once"),
    (("claims",), [""], "claims[0] must be a non-empty text"),
    (("previous",), "sha256:" + "A" * 64, "previous must be a digest"),
]


@pytest.mark.parametrize(
    ("place", "value", "words"),
    WRONG,
    ids=[f"{'.'.join(map(str, w[0]))}-{i}" for i, w in enumerate(WRONG)],
)
def test_a_wrong_field_is_refused_in_one_line(
    place: tuple[Any, ...], value: Any, words: str
) -> None:
    body = json.loads(canonical(to_json(seal(made()))))
    holder = body
    for step in place[:-1]:
        holder = holder[step]
    if value == "-":
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    assert words in refusal(record_from_json, body)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("range", [False, True]),
        ("range", [0, "1"]),
        ("range", [0, [1]]),
        ("range", [0, float("nan")]),
        ("better", ["higher"]),
        ("better", None),
        ("trace", ""),
        ("trace", None),
        ("trace", {}),
        ("unit", None),
        ("unit", 1),
        ("name", ["da"]),
        ("value", True),
        ("low", "0"),
        ("reason", None),
        ("about", None),
        ("extra", 1),
    ],
)
@pytest.mark.parametrize("ends", [[0, 1], [0.0, 1.0]])
def test_a_score_that_looks_like_a_right_one_of_before_is_refused(
    name: str, value: Any, ends: list[float]
) -> None:
    body = json.loads(canonical(to_json(seal(made()))))
    body["scores"][0]["range"] = ends
    body["scores"][0]["trace"] = "above"
    for read in (record_from_json, outline_from_json):
        body["scores"][0].pop(name if name == "extra" else "about", None)
        whole = read(body)
        assert whole == read(body)  # by now all that may be remembered is
        wrong = json.loads(json.dumps(body))
        wrong["scores"][0][name] = value
        assert refusal(read, wrong).startswith("scores[0]")


def test_an_outline_is_the_record_without_what_its_chain_does_not_need() -> None:
    body = json.loads(canonical(to_json(seal(made(), A))))
    assert outline_from_json(body) == outline(record_from_json(body))
    assert outline_from_json(body).digest == body["digest"] and body["scores"]


def test_numbers_and_depth_within_the_bounds_are_sealed() -> None:
    job = {"seed": 2**64 - 1, "least": -(2**63), "deep": nested(MOST_LEVELS - 2), "e": -0.0}
    assert seal(made(job=job)).job == job
    assert seal(made(name="Größe ｶﾞ 模型 ❤\ufe0f", job={})).name.startswith("Größe")


def test_texts_are_shown_on_one_line_whatever_is_in_them() -> None:
    shown = printable("a\nb\x1b[2J\u202e\u200b\udcff é\u3000ü")
    assert shown == "a\\nb\\x1b[2J\\u202e\\u200b\\udcff é\u3000ü"


@pytest.mark.parametrize(
    "twin", ["FT", "ft ", " Ft", "f\u200bt", "f\u034ft", "ｆｔ", "f\u00adt", "ft\ufe0f"]
)
def test_names_that_look_alike_are_found(twin: str) -> None:
    assert alike(["muda", "ft", "ft", twin]) == ("ft", twin)
    assert alike(["muda", "ft", "ft2", "f t", "ft-", "fť"]) is None
