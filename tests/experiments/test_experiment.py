"""An experiment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.data import DATASETS
from eigenforget.experiments.experiment import Experiment, described
from eigenforget.methods import DELETE, ESC, MUDA, RUM, SCRUB
from eigenforget.models.checkpoint import Checkpoint, model_digest, named_tensors
from eigenforget.models.features import find_head
from eigenforget.models.module import Module
from eigenforget.models.precision import types_of
from eigenforget.training.engine import Engine


def test_a_record_names_the_recipe_of_a_method_beside_its_spec() -> None:
    name = "cifar10-resnet18-scrub"
    entry = described(SCRUB(recipe=name))
    assert entry["recipe"] == name and entry["spec"].startswith("scrub(")
    assert entry["resolved"] == described(SCRUB(**SCRUB.recipes[name]))["resolved"]
    assert "recipe" not in described(SCRUB())


def test_scores_that_a_method_trains_on_depend_on_the_request() -> None:
    """muda leaves single samples to a method that trains on no probe."""
    mine = ["da", "da_energy", "lp_few_forget", "lp_forget"]
    for method in (MUDA(), RUM(high=MUDA())):
        assert described(method)["optimises"] == mine
        assert "optimises" not in described(method, forgets_classes=False)
    own = MUDA(target="masked_label")
    assert described(own, forgets_classes=False)["optimises"] == mine


def test_no_retained_data_is_what_a_share_of_zero_means(
    digits: Experiment, trained: nn.Module
) -> None:
    none = replace(digits, retain_fraction=0.0)
    with pytest.raises(Refused, match="muda needs retain data"):
        none.unlearn(trained, MUDA(), seed=0)
    made = none.unlearn(trained, DELETE(epochs=1), seed=0)
    assert any(
        not (a == b).all()
        for a, b in zip(made.model.parameters(), trained.parameters(), strict=True)
    )


def test_weights_have_the_types_of_the_model_whatever_they_are_trained_in(
    digits: Experiment, trained: nn.Module
) -> None:
    double = replace(digits, engine=Engine(device="cpu", precision="64-true"))
    made = double.train(seed=0).model, double.unlearn(trained, ESC(), seed=0).model
    for model in (*made, double.unlearn(trained, DELETE(epochs=1), seed=0).model):
        types = types_of(dict(named_tensors(model)))
        assert {types[name] for name, _ in model.named_parameters()} == {torch.float32}


NETS = """
from torch import nn

class Net(nn.Module):
    '''The head is registered first.'''
    def __init__(self, num_classes):
        super().__init__()
        self.head, self.body = nn.Linear(10, num_classes), nn.Linear(64, 10)
    def forward(self, x):
        return self.head(self.body(x.flatten(1)).relu())

class Soft(Net):
    def forward(self, x):
        return super().forward(x).softmax(1)

class Two(Net):
    def forward(self, x):
        found = super().forward(x)
        return found, found + 1

def one():
    from eigenforget import Logits
    import torch
    two = lambda z: torch.cat([torch.zeros_like(z), z], 1)
    return Logits(nn.Sequential(nn.Linear(3, 1)), two)

class Small(Net):
    def forward(self, x):
        return super().forward(x[..., :4])
"""


def test_what_a_model_gives_is_looked_at_before_any_work(
    digits: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "looked_at.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)

    def using(name: str) -> Experiment:
        return replace(digits, model_spec=Module(path=f"looked_at.py:{name}"))

    for name, line in (
        ("Soft", "probabilities.*Logits"),
        ("Two", "2 outputs.*Logits"),
        ("Small", "does not run on the training data"),
    ):
        with pytest.raises(EigenforgetError, match=line):
            using(name).check()
    using("Net").check()
    stored = Checkpoint(using("Net").new_model(0).state_dict(), {})
    assert find_head(using("Net").stored_model(stored))[0] == "head"


def test_a_stored_head_with_one_output_is_that_of_two_classes(
    digits: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one.py").write_text(NETS)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.py").write_text(
        "import torch\n"
        "def datasets():\n"
        "    return [(torch.randn(n, 3), torch.arange(n) % 2) for n in (12, 8)]\n"
    )
    job = replace(
        digits,
        data_spec=DATASETS.parse("python(path='rows.py:datasets')"),
        model_spec=Module(path="one.py:one"),
        loaded=None,
    )
    model = job.new_model(1)
    found = job.stored_model(Checkpoint(model.state_dict(), {}))
    assert model_digest(found) == model_digest(model)
