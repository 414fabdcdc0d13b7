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
from tests.record.toys import A, made, refusal


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
    (("inputs", "da\nta"), "md5:1", "inputs['da\\nta'] must be a digest"),
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
