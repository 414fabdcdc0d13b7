"""Checkpoints as people save them: read, and saved again in the same form."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.models.checkpoint import load_checkpoint, model_digest, save_checkpoint


def model(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def named(prefix: str, seed: int = 0) -> dict[str, torch.Tensor]:
    return {prefix + name: value for name, value in model(seed).state_dict().items()}


OPTIMIZER = {"state": {0: {"exp_avg": torch.ones(3, 4)}}, "param_groups": [{"lr": 0.1}]}
FORMS: dict[str, Any] = {
    "alone.pt": named(""),
    "parallel.pth": named("module."),
    "compiled.pt": named("_orig_mod."),
    "private.pt": named("_module."),
    "tutorial.pt": {"model_state_dict": named(""), "optimizer_state_dict": OPTIMIZER, "epoch": 3},
    "lightning.ckpt": {
        "state_dict": named("model."),
        "optimizer_states": [OPTIMIZER],
        "hyper_parameters": {"lr": 0.1},
        "epoch": 3,
    },
    "kuangliu.pth": {"net": named("module."), "acc": np.float64(95.0), "epoch": 3},
    "imagenet.pth.tar": {"state_dict": named(""), "args": argparse.Namespace(lr=0.1), "epoch": 3},
    "nested.pt": {"ema": {}, "model": {"state_dict": named("")}, "epoch": 3},
    "hub.bin": named(""),
}


@pytest.mark.filterwarnings("ignore::eigenforget.core.notices.EigenforgetWarning")
@pytest.mark.parametrize("name", FORMS)
def test_forms_are_read_and_saved_back_with_their_keys_names_and_types(
    tmp_path: Path, name: str
) -> None:
    path, out = tmp_path / name, tmp_path / f"new-{name}"
    torch.save(FORMS[name], path)
    assert model_digest(load_checkpoint(path, model(1))) == model_digest(model())
    save_checkpoint(model(2), out, {"method": "finetune()"}, like=path)
    assert model_digest(load_checkpoint(out, model(1))) == model_digest(model(2))
    with torch.serialization.safe_globals([argparse.Namespace]):
        before, after = FORMS[name], torch.load(out, weights_only=True)
    way = load_checkpoint(path).form.way
    assert load_checkpoint(out).metadata == ({"method": "finetune()"} if way else {})
    assert after.get("epoch") == before.get("epoch") and "acc" not in after
    assert not any(str(key).startswith("optim") for key in after)
    for key in way:
        before, after = before[key], after[key]
    assert list(after) == list(before)
    assert [t.dtype for t in after.values()] == [t.dtype for t in before.values()]


def test_what_is_the_originals_is_left_out_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "tutorial.pt"
    held = FORMS["tutorial.pt"] | {"features": torch.ones(2), "best_acc": 0.9, "classes": ["cat"]}
    torch.save(held, path)
    with pytest.warns(EigenforgetWarning, match=r"optimizer_state_dict, features, best_acc"):
        save_checkpoint(model(2), tmp_path / "new.pt", like=path)
    kept = torch.load(tmp_path / "new.pt", weights_only=True)
    assert kept.keys() == {"model_state_dict", "epoch", "classes", "eigenforget"}


def test_of_several_sets_of_weights_one_must_be_chosen(tmp_path: Path) -> None:
    path = tmp_path / "timm.pt"
    torch.save({"state_dict": named(""), "state_dict_ema": named("", seed=1)}, path)
    with pytest.raises(EigenforgetError, match=r"state_dict and state_dict_ema.*--weights"):
        load_checkpoint(path)
    with pytest.raises(EigenforgetError, match=r"'other'.*state_dict, state_dict_ema"):
        load_checkpoint(path, weights="other")
    for key, seed in (("state_dict", 0), ("state_dict_ema", 1)):
        found = load_checkpoint(path, model(2), weights=key)
        assert model_digest(found) == model_digest(model(seed))
    # The moving average remembers what is forgotten: it does not go into a file like this one.
    with pytest.warns(EigenforgetWarning, match="state_dict_ema"):
        save_checkpoint(model(3), tmp_path / "new.pt", like=path, weights="state_dict")
    assert load_checkpoint(tmp_path / "new.pt").form.way == ("state_dict",)
    torch.save({"state_dict": named(""), "model": named("")}, path)
    assert load_checkpoint(path).form.way == ("state_dict",), "both are the same"


def test_pieces_of_a_large_model_are_one_checkpoint(tmp_path: Path) -> None:
    names = list(named(""))
    for number, part in enumerate((names[:3], names[3:])):
        save_file({name: named("")[name] for name in part}, tmp_path / f"{number}.safetensors")
    places = {name: f"{int(place >= 3)}.safetensors" for place, name in enumerate(names)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": places}), encoding="utf-8")
    for path in (index, tmp_path):
        assert model_digest(load_checkpoint(path, model(1))) == model_digest(model())
    save_checkpoint(model(2), tmp_path / "new.safetensors", like=index)
    assert list(load_checkpoint(tmp_path / "new.safetensors").tensors) == sorted(names)
    for wrong in ({"weight_map": {"a": "../0.safetensors"}}, {"weight_map": []}, [1], {}):
        index.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(EigenforgetError, match=r"index\.json: "):
            load_checkpoint(index)


def test_float64_is_rounded_with_a_warning_and_comes_back_as_float64(tmp_path: Path) -> None:
    path, out = tmp_path / "double.pt", tmp_path / "new.pt"
    torch.save(copy.deepcopy(model()).double().state_dict(), path)
    with pytest.warns(EigenforgetWarning, match=r"6 tensors.*float64.*model\.double"):
        assert model_digest(load_checkpoint(path, model(1))) == model_digest(model())
    exact = load_checkpoint(path, model(1).double())
    assert next(exact.parameters()).dtype == torch.float64
    save_checkpoint(exact, out, like=path)
    saved = torch.load(out, weights_only=True)
    assert saved["0.weight"].dtype == torch.float64
    assert torch.equal(saved["0.weight"], model().double().state_dict()["0.weight"])


def test_a_file_of_another_model_is_no_form_to_save_in(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    with pytest.raises(EigenforgetError, match=r"other\.pt.*another model"):
        save_checkpoint(model(), tmp_path / "new.pt", like=tmp_path / "other.pt")
    with pytest.raises(EigenforgetError, match=r"saved as \.pt, got .*new\.safetensors"):
        save_checkpoint(model(), tmp_path / "new.safetensors", like=tmp_path / "other.pt")
    assert [p.name for p in tmp_path.iterdir()] == ["other.pt"]
