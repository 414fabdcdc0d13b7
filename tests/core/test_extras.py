"""Optional libraries."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from eigenforget.core.extras import needed
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.torchvision_set import TorchvisionSet
from tests.data.toys import refusal


def test_missing_libraries_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

    monkeypatch.setattr(importlib, "import_module", without)
    assert refusal(TorchvisionSet().load) == (
        "torchvision_set needs torchvision, which is not installed: pip install 'eigenforget[vision]'"
    )
    line = refusal(HfDataset(path="x", text="text").load)
    assert (
        line == "hf_dataset needs datasets, which is not installed: pip install 'eigenforget[hf]'"
    )

    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert refusal(lambda: needed("torchvision", extra="vision", what="x")) == (
        "x needs torchvision, which is installed but cannot be imported: operator torchvision::nms does not exist"
    )
