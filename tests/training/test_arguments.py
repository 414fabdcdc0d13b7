"""Arguments that the doors share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from torch import nn

from eigenforget.core.errors import EigenforgetError
from eigenforget.training.arguments import check_arguments, check_classes_exist
from eigenforget.training.engine import Engine


def test_right_arguments_pass() -> None:
    check_arguments(model=nn.Identity(), seed=np.int64(3), engine=Engine(device="cpu"), layer="a")
    check_arguments(k=1, num_classes=2, map_points=1, allow_overlap=False, log=print)
    check_arguments(engine=None, layer=None, k=None, num_classes=None, log=None, look=None)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        *(("seed", v) for v in ("a", None, 1.5, True)),
        *(("k", v) for v in (0, -1, 1.5, "a", True)),
        *(("num_classes", v) for v in (0, 1, -1, "a")),
        *(("map_points", v) for v in (0, -1, "a", None)),
        ("allow_overlap", "yes"),
        ("engine", "cpu"),
        ("layer", 3),
        ("log", 3),
        ("look", 3),
        ("model", None),
    ],
)
def test_wrong_arguments_are_one_line_with_the_name(name: str, wrong: Any) -> None:
    with pytest.raises(EigenforgetError, match=f"^{name} must be ") as caught:
        check_arguments(**{name: wrong})
    shown = type(wrong).__name__ if wrong is None else repr(wrong)
    assert str(caught.value).endswith(shown)


def test_gone_classes_are_outputs_of_the_model() -> None:
    check_classes_exist(None, 3), check_classes_exist((0, 2), 3)
    for wrong in ((3,), (-1, 0)):
        with pytest.raises(EigenforgetError, match=f"forgotten_classes: {wrong[0]} .* 0 to 2"):
            check_classes_exist(wrong, 3)
