"""All data sets: their specs."""

from __future__ import annotations

import pytest

from eigenforget.core import spec
from eigenforget.data import DATASETS
from eigenforget.data.digits import Digits
from tests.data.toys import refusal

REQUIRED = {
    "npz": {"path": "here"},
    "image_folder": {"path": "here"},
    "text": {"path": "here"},
    "image_table": {"path": "here", "label": "y"},
    "table": {"path": "here", "label": "y"},
    "hf_dataset": {"path": "here", "image": "image"},
    "backdoored": {"inner": Digits()},
    "confused": {"inner": Digits()},
}


@pytest.mark.parametrize("kind", DATASETS, ids=lambda kind: kind.name)
def test_every_field_is_described_and_every_spec_survives_json(kind):
    assert all(description for *_, description in spec.describe(kind))
    made = kind(**REQUIRED.get(kind.name, {}))
    assert spec.from_json(spec.as_json(made), DATASETS, "data set") == made
    assert spec.parse(spec.spell(made), DATASETS, "data set") == made


@pytest.mark.parametrize(
    "text", ["digits(test_fraction=1.0)", "digits(test_fraction=0)", "npz()", "digits(seed=-1)"]
)
def test_fields_out_of_range_are_refused(text):
    assert text.split("(")[0] in refusal(lambda: spec.parse(text, DATASETS, "data set"))
