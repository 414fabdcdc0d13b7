"""What a model gives, and which of it are the logits."""

from __future__ import annotations

import warnings
from collections import namedtuple
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from eigenforget.core.errors import EigenforgetError, Refused
from eigenforget.core.notices import EigenforgetWarning
from eigenforget.evaluation.evaluate import evaluate
from eigenforget.methods.unlearn import unlearn
from eigenforget.models.checkpoint import (
    load_checkpoint,
    load_into,
    model_digest,
    save_checkpoint,
)
from eigenforget.models.features import find_head
from eigenforget.models.outputs import Logits, checked_logits
from tests.models.module_toys import CLASSES, INPUTS, LABELS, Answering, net, sides

Z = net()(INPUTS[:8]).detach()
WIDE = torch.cat([Z, Z], 1)


class Named(NamedTuple):
    features: Tensor
    logits: Tensor


@pytest.mark.parametrize(
    "output",
    [
        Z,
        {"logits": Z, "features": WIDE},
        Named(WIDE, Z),
        (Z, 3),
        [Z],
        (Z, WIDE[:, :, None]),
    ],
    ids=str,
)
def test_logits_that_leave_no_doubt(output: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert checked_logits(output, 8) is Z
        assert checked_logits(Z.log_softmax(1), 8).shape == Z.shape


@pytest.mark.parametrize(
    ("output", "line"),
    [
        (Z.softmax(1), r"probabilities.*output=lambda p"),
        ((Z.softmax(1), 3), r"probabilities.*output=lambda p"),
        ((Z, Z + 1), r"2 outputs \(float32 \[8, 3\], float32 \[8, 3\]\).*doubt.*output=0 or 1\)"),
        ((Z, WIDE), r"float32 \[8, 3\], float32 \[8, 6\].*doubt.*output="),
        ((WIDE, Z), r"float32 \[8, 6\], float32 \[8, 3\].*doubt.*output=0 or 1\)"),
        ((None, Z), r"NoneType, float32 \[8, 3\].*doubt.*output=1"),
        ((), "0 outputs"),
        ({"x": Z[0], "y": WIDE}, r"none named 'logits'.*output='y'\)"),
        ({"logits": Z[:, :, None]}, r"out of scope.*output=lambda output: …\)"),
        ({"logits": Z[:, :1]}, r"torch.zeros_like\(z\['logits'\]\), z\['logits'\]\], 1\)\)$"),
        (Named(WIDE, Z[:, :1]), r"torch.zeros_like\(z.logits\), z.logits\], 1\)\)$"),
        ({"scores": Z, "x": 1}, r"'scores', 'x' and none named 'logits'.*output='scores'"),
        (namedtuple("Pair", "scores")(3), r"1 output.*Logits\(model"),
        (None, r"NoneType.*Logits\(model"),
        (Z[:, 0], r"got \[8\].*two classes: Logits\(model, output=lambda z: torch.stack"),
        (Z[:, :, None], r"got \[8, 3, 1\].*Logits\(model"),
        (Z[:4], r"logits \[8, C\] for 8 samples, got float32 \[4, 3\]"),
        (Z.argmax(1)[:, None], r"got int64 \[8, 1\]"),
        (Z[:, :1], r"one output.*torch.cat\(\[torch.zeros_like\(z\), z\], 1\)\)$"),
        (Z[:, :1].sigmoid(), r"one output.*torch.logit\(z\)\], 1\)\), if z is a probability$"),
    ],
    ids=str,
)
def test_what_are_no_logits_is_one_line_with_the_cure(output: Any, line: str) -> None:
    with pytest.raises(EigenforgetError, match=line) as caught:
        checked_logits(output, 8)
    assert "\n" not in str(caught.value)


def test_outputs_between_0_and_1_are_a_warning() -> None:
    with pytest.warns(EigenforgetWarning, match=r"between 0 and 1.*torch.logit"):
        checked_logits((20 * (Z - Z.mean())).sigmoid(), 8)
    one = torch.linspace(0.1, 0.9, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checked_logits(torch.stack([torch.zeros(8), one], 1), 8)


@pytest.mark.parametrize(
    ("answer", "output"),
    [
        (lambda z: (torch.cat([z, z], 1), z), 1),
        (lambda z: {"scores": z}, "scores"),
        (lambda z: Named(z, z + 1), "features"),
        (lambda z: z[:, :, None], lambda z: z.squeeze(2)),
    ],
)
def test_a_word_about_the_output_gives_the_same_weights(answer: Any, output: Any) -> None:
    found = unlearn(Logits(Answering(answer), output), method="finetune(epochs=1)", **sides())
    assert isinstance(found, Logits) and found(INPUTS).shape == (30, CLASSES)
    want = unlearn(Answering(), method="finetune(epochs=1)", **sides())
    assert model_digest(found.model) == model_digest(want)


@pytest.mark.parametrize("output", [3, "nope"])
def test_an_output_that_is_not_there(output: Any) -> None:
    with pytest.raises(EigenforgetError, match=r"float32 \[30, 3\]") as caught:
        Logits(Answering(lambda z: (z,)), output)(INPUTS)
    assert repr(output) in str(caught.value)


def test_a_model_may_give_several_outputs_in_training_alone() -> None:
    given = Answering(lambda z: z, training=lambda z: (z, z + 1))
    found = unlearn(Logits(given, 0), method="finetune(epochs=1)", **sides())
    want = unlearn(Answering(), method="finetune(epochs=1)", **sides())
    assert model_digest(found.model) == model_digest(want)
    with pytest.raises(EigenforgetError, match=r"output=1\).*float32 \[30, 3\]"):
        Logits(given.eval(), 1)(INPUTS)


BOTH: dict[str, Any] = {
    "cat": (lambda z: z, lambda z: torch.cat([torch.zeros_like(z), z], 1)),
    "stack": (lambda z: z[:, 0], lambda z: torch.stack([torch.zeros_like(z), z], 1)),
}


@pytest.mark.parametrize("joining", BOTH)
def test_one_output_for_two_classes(joining: str) -> None:
    answer, two = BOTH[joining]
    model = Answering(answer)
    model.net[2] = nn.Linear(8, 1)
    labels = (LABELS > 0).long()
    data = {"forget": (INPUTS[:12], labels[:12]), "retain": (INPUTS[12:], labels[12:])}
    with pytest.raises(EigenforgetError, match=rf"Logits\(model, output=lambda z: torch.{joining}"):
        unlearn(model, method="muda()", **data)
    given = Logits(model, two)
    for method in ("finetune(epochs=1)", "muda()"):
        found = unlearn(given, method=method, allow_untrained=True, **data)
        assert isinstance(found, Logits) and find_head(found)[1].out_features == 1
    seen = evaluate({"original": given}, test=data["retain"], allow_overlap=True, **data)[
        "original"
    ]
    assert seen["da"].value is not None and "each class" in seen["nc3"].reason


def test_methods_that_know_rows_of_classes_leave_a_head_with_one_output() -> None:
    model = Answering()
    model.net[2] = nn.Linear(8, 1)
    given = Logits(model, BOTH["cat"][1])
    two = LABELS < 2
    inputs, labels = INPUTS[two], LABELS[two]
    data = {
        "forget": (inputs[labels == 1], labels[labels == 1]),
        "retain": (inputs[labels == 0], labels[labels == 0]),
        "allow_untrained": True,
    }
    for method in ("cmf()", "esc_t()", "head_mask()"):
        with pytest.raises(Refused, match=r"an output for each class; model\.net\.2 has one for"):
            unlearn(given, method=method, **data)
    found = unlearn(given, method="fisher_forgetting()", **data)
    assert model_digest(found) != model_digest(given)


def test_a_checkpoint_of_the_model_inside_fits_and_is_written_back(tmp_path: Path) -> None:
    her = net()
    torch.save(her.state_dict(), tmp_path / "her.pt")
    picked = Logits(net(), output=lambda logits: logits)
    load_into(picked, load_checkpoint(tmp_path / "her.pt"))
    assert model_digest(picked.model) == model_digest(her)
    save_checkpoint(picked, tmp_path / "again.pt", like=tmp_path / "her.pt")
    assert list(torch.load(tmp_path / "again.pt")) == list(her.state_dict())


def test_answers_for_each_place_or_token_are_out_of_scope() -> None:
    for shape in ((2, 5, 40), (2, 3, 8, 8)):
        with pytest.raises(EigenforgetError, match=r"logits \[B, C\].*out of scope"):
            checked_logits(torch.zeros(shape), 2)
