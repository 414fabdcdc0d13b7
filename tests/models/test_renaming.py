"""Names of weights: wrappers' prefixes, parts beside a model, likely reasons."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from eigenforget.models.renaming import nearest_reason, renaming, wrapper_prefix


def state(prefix: str = "", **more: Tensor) -> dict[str, Tensor]:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    return {prefix + name: value for name, value in model.state_dict().items()} | more


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_module.", "_orig_mod.", "module._orig_mod.", "model.", "net.body."]
)
@pytest.mark.parametrize("own", ["", "module.", "_orig_mod."])
def test_a_prefix_of_all_names_on_either_side_is_no_difference(prefix: str, own: str) -> None:
    mine, given = state(own), state(prefix)
    found = renaming(mine, given)
    assert found is not None and found.left_out == []
    assert list(found.names) == list(given) and list(found.names.values()) == list(mine)


def test_wrapped_parts_and_counters_that_are_missing_are_no_difference() -> None:
    given = {name.replace("0.", "0._orig_mod."): value for name, value in state().items()}
    del given["1.num_batches_tracked"]
    found = renaming(state(), given)
    assert found is not None
    assert found.names["0._orig_mod.weight"] == "0.weight" and len(found.names) == 6


def test_a_part_is_the_model_only_where_little_lies_beside_it() -> None:
    found = renaming(state(), state("model.", **{"loss.weight": torch.ones(2)}))
    assert found is not None and found.left_out == ["loss.weight"] and found.prefix == "model."
    # A layer of a larger model, or one of two networks, is not the model.
    assert renaming(state(), state("model.", **{"loss.weight": torch.ones(20)})) is None
    assert renaming(state(), state("student.") | state("teacher.")) is None
    assert renaming(state(), state(extra=torch.ones(1))) is None


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["module.a", "module.b"], "module."),
        (["module._orig_mod.a"], "module._orig_mod."),
        (["module.a", "b"], ""),
        (["model.a", "model.b"], ""),  # may be the model's own name: the model decides
    ],
)
def test_prefixes_that_only_wrappers_give_are_known_without_a_model(
    names: list[str], prefix: str
) -> None:
    assert wrapper_prefix(names) == prefix


@pytest.mark.parametrize(
    ("given", "word"),
    [
        ({"weight_orig": torch.ones(1), "weight_mask": torch.ones(1)}, "prune.remove"),
        ({"weight_g": torch.ones(1), "weight_v": torch.ones(1)}, "remove_weight_norm"),
        ({"parametrizations.weight.original0": torch.ones(1)}, "remove_parametrizations"),
        ({"lora_A.weight": torch.ones(1)}, "merge_and_unload"),
        ({"weight": torch.ones(7, 4)}, "another number of classes"),
        ({"kernel": torch.ones(3, 4)}, "another architecture"),
    ],
)
def test_the_likely_reason_of_a_misfit_is_named(given: dict[str, Tensor], word: str) -> None:
    assert word in nearest_reason({"weight": torch.ones(3, 4)}, given)
