"""Values of models in a row, and counts of scores in the band."""

from __future__ import annotations

from dataclasses import replace

from eigenforget.report.figures.readings import band_sentence, beside, judged_first, shares_in_band
from eigenforget.report.table import build
from tests.report.band_toys import family, member, row
from tests.report_toys import whole


def test_originals_and_retrained_models_stand_with_their_means() -> None:
    records = whole()
    values = {"original": 0.5, "oracle 1": 0.25, "oracle 2": 0.75, "one": 0.125, "mask": 1.0}
    assert beside(records, values) == (
        "0.500 in the original, 0.500 in retrained models, 0.125 in one and 1.000 in mask"
    )
    assert beside(records, {"oracle 1": 0.25}) == "0.250 in the retrained model"
    many = dict.fromkeys(("one", "two", "three", "four"), 0.5)
    assert "four" not in beside(records, many)


def test_controls_come_last() -> None:
    records = whole()
    names = [r.name for r in judged_first(list(reversed(records)))]
    assert names[-1] == "mask" and set(names) == {"one", "two", "three", "four", "mask"}


def test_what_a_method_trains_on_does_not_count() -> None:
    records = [*family(0.52), member("far", "unlearned", row("s", 0.9))]
    assert shares_in_band(build(records), ["s", "t"]) == {"x": (1, 1), "far": (0, 1)}
    own = replace(records[-1], job={"method": {"spec": "far()", "optimises": ["s"]}})
    assert shares_in_band(build([*records[:-1], own]), ["s"]) == {"x": (1, 1)}


def test_the_sentence_names_the_most_and_the_fewest() -> None:
    records = [*family(0.52), member("far", "unlearned", row("s", 0.9))]
    assert "most in x (1 of 1), fewest in far (0 of 1)" in band_sentence(build(records), ["s"], "S")
    assert band_sentence(build(records[:-1]), ["s"], "S").endswith("band: x (1 of 1).")
    assert band_sentence(build(records[:4]), ["s"], "S") == ""
