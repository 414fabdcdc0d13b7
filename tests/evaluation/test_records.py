"""Records of measured models, with an experiment and without."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn

from eigenforget import record
from eigenforget.data.sources import TensorSource
from eigenforget.evaluation.records import run_environment
from eigenforget.evaluation.scoring import measurement_names
from eigenforget.experiments.experiment import Experiment
from eigenforget.models import checkpoint
from eigenforget.training.cost import ModelAndCost
from eigenforget.training.engine import Engine
from tests.evaluation.test_evaluate import FORGET, RETAIN, net, quick


def test_records_hold_plain_json_and_claims_that_follow_from_the_scores(
    digits: Experiment, trained: nn.Module
) -> None:
    made = digits.panel().measure(trained, "original")
    sealed = record.seal(
        digits.evaluation_record(
            "original", ModelAndCost(trained, 2.5, {"cpu_seconds": 1.0}), made, job={"seed": 0}
        ),
        None,
    )
    text = json.dumps(record.to_json(sealed), allow_nan=False)
    assert record.record_from_json(json.loads(text)) == sealed
    assert (
        sealed.inputs["checked_model"] == checkpoint.model_digest(trained)
        and sealed.inputs["split"] == digits.split.digest
    )
    assert any(f"{made.value('da'):.4f}" in claim for claim in sealed.claims) and sealed.non_claims


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_on_a_gpu_it_says_what_decides_whether_a_rerun_gives_the_same_bits(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(device="cpu")
    monkeypatch.setattr(Fabric, "device", torch.device(kind, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    found = run_environment(engine)
    more = {"deterministic": False, "matmul": torch.get_float32_matmul_precision()}
    assert {name: found.get(name) for name in more} == (
        more if kind == "cuda" else dict.fromkeys(more)
    )


def test_data_digests_depend_on_content_and_side_and_not_on_order() -> None:
    def digests(forget: TensorSource, retain: TensorSource) -> tuple[str, str]:
        inputs = quick({"m": net()}, skip=measurement_names(), forget=forget, retain=retain)
        return inputs.records[0].inputs["data"], inputs.records[0].inputs["split"]

    plain = digests(FORGET, RETAIN)
    turned = digests(FORGET.subset(np.arange(20)[::-1].copy()), RETAIN)
    assert plain == turned
    moved = digests(FORGET.subset(np.arange(19)), RETAIN)
    changed = digests(TensorSource(FORGET.inputs + 1e-3, FORGET.targets), RETAIN)
    assert len({plain[0], moved[0], changed[0]}) == len({plain[1], moved[1], changed[1]}) == 3
