"""Fresh weights for parameters that no reset_parameters() draws."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from eigenforget.core.errors import Refused
from eigenforget.methods import BadTeacher
from eigenforget.methods.unlearn import unlearn
from eigenforget.models import checkpoint
from eigenforget.models.initialisation import reinitialise
from eigenforget.training.engine import Engine

CLASSES, WIDTH = 4, 6


ENGINE = Engine(device="cpu")


def samples(shape: tuple[int, ...] = (WIDTH,), n: int = 32) -> tuple[Tensor, Tensor]:
    labels = torch.arange(n) % CLASSES
    noise = torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return noise + labels.reshape(-1, *[1] * len(shape)), labels


def sides(inputs: Tensor, labels: Tensor) -> dict[str, Any]:
    """Class 2 is forgotten."""
    gone = labels == 2
    return {"forget": (inputs[gone], labels[gone]), "retain": (inputs[~gone], labels[~gone])}


class Bare(nn.Module):
    """A class token and position embeddings, which belong to the model itself; a scale of one
    element.
    """

    def __init__(self) -> None:
        super().__init__()
        self.token, self.positions = (
            nn.Parameter(torch.randn(1, 1, 8) + 3),
            nn.Parameter(torch.randn(1, 500, 8) * 0.2 + 1),
        )
        self.scale, self.inner, self.head = (
            nn.Parameter(torch.tensor(1.5)),
            nn.Linear(1, 8),
            nn.Linear(8, CLASSES),
        )

    def forward(self, x: Tensor) -> Tensor:
        rows = self.inner(x[..., None]) + self.positions[:, : x.shape[1]]
        return self.head(
            (torch.cat([self.token.expand(len(x), -1, -1), rows], 1) * self.scale).relu().mean(1)
        )


def bare() -> Bare:
    torch.manual_seed(0)
    return Bare().eval()


def redrawn(seed: int, model: nn.Module | None = None) -> Any:
    drawn = copy.deepcopy(model or bare())
    reinitialise(dict(drawn.named_modules()), seed=seed, method="test", without_reset="own scale")
    return drawn


def test_bare_parameters_keep_nothing_but_their_scale() -> None:
    model, one, again, other = bare(), redrawn(1), redrawn(1), redrawn(2)
    old, new = (m.positions.detach().flatten() for m in (model, one))
    assert float(new.std()) == pytest.approx(float(old.std()), rel=0.05) and abs(
        float(new.mean())
    ) < 0.02 < 0.9 < float(old.mean())
    assert abs(float(torch.corrcoef(torch.stack([old, new]))[0, 1])) < 4 / math.sqrt(4000)
    assert (
        checkpoint.model_digest(one)
        == checkpoint.model_digest(again)
        != checkpoint.model_digest(other)
    )
    across = torch.stack([new, other.positions.detach().flatten()])
    assert abs(float(torch.corrcoef(across)[0, 1])) < 4 / math.sqrt(4000), "seeds differ"
    assert torch.equal(one.scale, model.scale) and not torch.equal(one.token, model.token)
    # What is drawn depends on the old values through their scale alone.
    shuffled = copy.deepcopy(model)
    with torch.no_grad():
        shuffled.positions.copy_(model.positions.flip(1) + 7)
    assert torch.allclose(redrawn(1, shuffled).positions, one.positions, rtol=1e-5)


NORMED: dict[str, Any] = {
    "pruned": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    "weight norm": nn.utils.parametrizations.weight_norm,
    "weight norm, older": nn.utils.weight_norm,
    "spectral norm": nn.utils.parametrizations.spectral_norm,
    "spectral norm, older": nn.utils.spectral_norm,
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("kind", NORMED)
def test_weights_behind_others_keep_nothing_but_their_scale(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))
    NORMED[kind](model[2])
    with torch.no_grad():  # hooks make the weight, a copy of which has no graph
        model(torch.randn(4, WIDTH))
    new = redrawn(1, model)
    for (name, old), drawn in zip(
        model.state_dict().items(), new.state_dict().values(), strict=True
    ):
        assert torch.equal(old, drawn) == name.endswith("_mask"), name
        assert "_u" not in name or float(drawn.norm()) == pytest.approx(1.0)
    if kind == "pruned":
        new(torch.randn(4, WIDTH))  # computes the weight
        assert torch.equal(new[2].weight == 0, model[2].weight_mask == 0)
    x, labels = samples()
    data = {"forget": (x[:8], labels[:8]), "retain": (x[8:], labels[8:]), "engine": ENGINE}
    found = unlearn(model, method="muda()", allow_untrained=True, **data)
    assert checkpoint.model_digest(found) != checkpoint.model_digest(model)
    with pytest.raises(Refused, match=r"retrain cannot .*train_oracles"):
        unlearn(model, method="retrain()", allow_untrained=True, **data)


def test_bad_teacher_takes_bare_parameters_and_others_still_refuse() -> None:
    model, data = bare(), sides(*samples())
    result = unlearn(model, method=BadTeacher(epochs=1), engine=ENGINE, **data)
    assert not torch.equal(result.token, model.token)  # type: ignore[arg-type]
    with pytest.raises(
        Refused,
        match="retrain cannot reinitialise every weight: Bare owns token, positions, scale and has no",
    ):
        reinitialise(dict(model.named_modules()), seed=0, method="retrain")
    model.register_buffer("relative_coords_table", torch.linspace(-1, 1, 4).reshape(2, 2))
    found = unlearn(model, method=BadTeacher(epochs=1), engine=ENGINE, **data)
    assert torch.equal(found.relative_coords_table, model.relative_coords_table)  # type: ignore[arg-type]
    model.register_buffer("variance", torch.ones(3))
    with pytest.raises(
        Refused,
        match="bad_teacher cannot reinitialise every weight: Bare owns variance and has no reset_parameters",
    ):
        unlearn(model, method=BadTeacher(epochs=1), engine=ENGINE, **data)
