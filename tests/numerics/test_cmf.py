"""`cmf` against its own formula, written out again by hand."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from eigenforget.core import seeds
from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import as_json, from_json, parse, spell
from eigenforget.methods.base import Task
from eigenforget.methods.cmf import CMF, ClassMeanHead, class_means
from eigenforget.methods.delete import DELETE
from eigenforget.methods.finetune import Finetune
from eigenforget.methods.identity import Identity
from eigenforget.methods.random_label import RandomLabel
from eigenforget.methods.unsir import UNSIR
from eigenforget.models import checkpoint
from eigenforget.models.features import find_head
from eigenforget.training.losses import cross_entropy
from eigenforget.training.phases import Optimizer, Phase
from tests.numerics.method_toys import SEED, accuracy, changed, equal_weights


def means_by_hand(
    features: np.ndarray, labels: np.ndarray, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    z = np.stack([f / np.linalg.norm(f) for f in features])
    mu = z.sum(0) / len(z)
    rows = []
    for c in range(classes):
        centre = z[labels == c].mean(0) - mu
        rows.append(centre / np.linalg.norm(centre))
    return np.stack(rows), mu


def test_cmf_head_is_its_formula(small: Task) -> None:
    sources = (small.retain, small.forget)
    x = np.concatenate([s.inputs.numpy() for s in sources])  # type: ignore[union-attr]
    y = np.concatenate([s.labels() for s in sources])  # type: ignore[union-attr]
    features = small.model[:2](torch.as_tensor(x)).detach().numpy()  # type: ignore[index]
    weight, mu = means_by_hand(features, y, 4)
    found = class_means(small.engine, small.model, sources, 5)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.weight[:4].numpy(), weight, atol=1e-6)
    np.testing.assert_allclose(found.mean.numpy(), mu, atol=1e-6)
    assert not found.weight[4].any(), "a class without samples"
    head = ClassMeanHead(small.model[2], temperature=0.5)  # type: ignore[index]
    assert not list(head.parameters()) and list(head.state_dict()) == ["weight", "bias", "mean"]
    head.weight.copy_(torch.as_tensor(weight))
    head.mean.copy_(torch.as_tensor(mu))
    for f, logits in zip(features, head(torch.as_tensor(features)).numpy(), strict=True):
        centred = f / np.linalg.norm(f) - mu
        np.testing.assert_allclose(
            logits, [centred @ w / np.linalg.norm(centred) / 0.5 for w in weight], atol=1e-12
        )


def test_cmf_recomputes_the_head_before_every_cycle_and_at_the_end(small: Task) -> None:
    """Two cycles of fine-tuning: the encoder moves under a constant head, which follows from true
    labels in between.
    """
    result = CMF(
        inner=Finetune(epochs=2, lr=0.3, batch_size=8, schedule="constant", weight_decay=0.01)
    )(small)
    sources = (small.retain, small.forget)
    x = torch.cat([s.inputs for s in sources])  # type: ignore[union-attr]
    y = np.concatenate([s.labels() for s in sources])  # type: ignore[union-attr]
    encoder = copy.deepcopy(small.model[:2])  # type: ignore[index]
    step = torch.optim.SGD(
        encoder.parameters(), lr=0.3, momentum=0.9, nesterov=True, weight_decay=0.01
    )

    def head() -> list[Tensor]:
        return [torch.as_tensor(a) for a in means_by_hand(encoder(x).detach().numpy(), y, 4)]

    def logits(inputs: Tensor, weight: Tensor, mu: Tensor) -> Tensor:
        z = encoder(inputs)
        z = z / z.norm(dim=1, keepdim=True) - mu
        return z / z.norm(dim=1, keepdim=True) @ weight.T

    heads = []
    for cycle in range(2):
        heads.append(head())
        for batch in small.retain.batches(8, seeds.generator(SEED, "order", "recover", cycle)):  # type: ignore[union-attr]
            step.zero_grad()
            nn.functional.cross_entropy(logits(batch.inputs, *heads[-1]), batch.labels).backward()
            step.step()
    assert (heads[0][0] - heads[1][0]).abs().max() > 0.01
    equal_weights(result[0], encoder[0], small.model[0])  # type: ignore[index]
    weight, mu = head()
    torch.testing.assert_close(result[2].weight, weight, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(result[2].mean, mu, rtol=1e-4, atol=1e-6)  # type: ignore[index]
    torch.testing.assert_close(result(x), logits(x, weight, mu), rtol=1e-4, atol=1e-5)


def test_cmf_wraps_any_method_and_its_result_can_be_loaded_again(
    task: Task, tmp_path: object
) -> None:
    before = checkpoint.model_digest(task.model)
    for inner in (
        RandomLabel(epochs=1),
        DELETE(epochs=1),
        UNSIR(noise_steps=2, repeats=1, retain_per_class=20, repair_epochs=1),
    ):
        method = CMF(inner=inner)
        result = method(task)
        mine, theirs = result.state_dict(), task.model.state_dict()
        assert set(mine) - set(theirs) == {f"fc.{name}" for name in CMF.adds} and set(
            theirs
        ) <= set(mine)
        assert (
            isinstance(find_head(result)[1], ClassMeanHead)
            and checkpoint.model_digest(task.model) == before
        )
        assert {n for n, _ in result.named_parameters()} == {
            n for n in dict(task.model.named_parameters()) if "fc." not in n
        }
        checkpoint.save_checkpoint(result, f"{tmp_path}/{inner.name}.safetensors", {})
        again = method.adapt(task.model)
        checkpoint.load_into(
            again, checkpoint.load_checkpoint(f"{tmp_path}/{inner.name}.safetensors")
        )
        inputs = task.forget.inputs  # type: ignore[attr-defined]
        assert (
            torch.equal(again.eval()(inputs), result(inputs))
            and result(inputs).abs().max() <= 1 + 1e-5
        )
        assert inner.name != "unsir" or accuracy(task, result, task.retain) > 0.8  # type: ignore[arg-type]


class _Elsewhere(nn.Module):
    """A model that a method trains beside the student."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(6, 4).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class _TrainsElsewhere:
    name: ClassVar[str] = "trains_elsewhere"
    needs: ClassVar[tuple[str, ...]] = ("retain",)
    role: ClassVar[str] = "unlearned"

    def __call__(self, task: Task) -> nn.Module:
        other = _Elsewhere()
        phase = Phase(
            "other",
            (task.forget,),
            lambda part: cross_entropy(part.outputs.logits, part.batch.labels),
            Optimizer(),
        )
        before = other.head.weight.detach().clone()
        task.engine.fit(other, [phase], epochs=2, seed=0)
        assert not torch.equal(other.head.weight, before)
        return task.student()


def test_cmf_leaves_other_models_that_the_inner_method_trains_alone(small: Task) -> None:
    result = CMF(inner=_TrainsElsewhere())(small)
    assert {n for n in changed(result, CMF().adapt(small.model)) if not n.startswith("2.")} == set()


def test_cmf_is_spelled_with_its_inner_method() -> None:
    kinds: list[type] = [CMF, Finetune, RandomLabel]
    value = parse("cmf(inner=finetune(epochs=3), temperature=0.1)", kinds, "method")
    assert (
        value == CMF(inner=Finetune(epochs=3), temperature=0.1)
        and parse(spell(value), kinds, "method") == value
    )
    assert from_json(as_json(value), kinds, "method") == value and spell(CMF()) == "cmf()"
    for text, message in (
        ("cmf(inner=3)", "a method is needed"),
        ("cmf(inner=identity())", "identity is a control"),
    ):
        with pytest.raises(EigenforgetError, match=message):
            parse(text, [*kinds, Identity], "method")
