"""`cf_k` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from torch import nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.methods.base import Task
from eigenforget.methods.cf_k import CFk, last_layers
from eigenforget.methods.eu_k import EUk
from eigenforget.models.small_resnet import SmallResnet
from tests.numerics.method_toys import TAIL_SETTINGS, Forbidden, changed, equal_states, tail_by_hand


def test_cf_k_fine_tunes_the_last_layers_and_no_other_bit(convolutions: Task) -> None:
    result = CFk(k=2, **TAIL_SETTINGS)(replace(convolutions, forget=Forbidden()))
    equal_states(result, tail_by_hand(convolutions, convolutions.model), convolutions.model)
    tail = {name for name in result.state_dict() if int(name[0]) >= 3}
    assert changed(result, convolutions.model) == tail, (
        "statistics of the trained norm move, those of the frozen norm do not"
    )
    assert not any("train" in vars(module) or module.training for module in result.modules())
    copy.deepcopy(result).train()  # the modules are as other modules are
    assert all(module.training for module in result.train().modules())


def test_cf_k_counts_layers_from_the_end(convolutions: Task) -> None:
    assert changed(CFk(k=1, **TAIL_SETTINGS)(convolutions), convolutions.model) == {
        "7.weight",
        "7.bias",
    }
    assert changed(CFk(k=3, **TAIL_SETTINGS)(convolutions), convolutions.model) == set(
        convolutions.model.state_dict()
    )
    for kind in (CFk, EUk):
        with pytest.raises(
            Refused, match=rf"{kind.name}\(k=4\) needs a model with 4 .* this one has 3"
        ):
            kind(k=4)(convolutions)
    net = SmallResnet(width=4).build(num_classes=4, input_shape=(1, 8, 8), seed=0)
    layers = last_layers(net, 3, "cf_k")
    assert list(layers) == [
        "layer3.0.conv2",
        "layer3.0.bn2",
        *(f"layer3.0.downsample{i}" for i in ("", ".0", ".1")),
        "fc",
    ]


def test_cf_k_leaves_no_trace_after_a_failed_run(convolutions: Task) -> None:
    lent: list[nn.Module] = []

    class Lending(Task):
        def student(self) -> nn.Module:
            lent.append(super().student())
            return lent[-1]

    task = Lending(
        **{name: getattr(convolutions, name) for name in convolutions.__dataclass_fields__}
    )
    with pytest.raises(EigenforgetError, match="diverged"):
        CFk(k=2, lr=1e300)(task)
    assert not any("train" in vars(module) for module in lent[0].modules())
