"""Optional libraries."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from eigenforget.core.extras import needed
from eigenforget.data.hf_dataset import HfDataset
from eigenforget.data.images import decoded
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

    assert refusal(lambda: decoded(Path("x.png"), None, "x.png", lambda: None)) == (
        "reading images needs PIL, which is not installed: pip install 'eigenforget[images]'"
    )

    def broken(name: str) -> Any:
        raise RuntimeError("operator torchvision::nms does not exist\nmore")

    monkeypatch.setattr(importlib, "import_module", broken)
    assert refusal(lambda: needed("torchvision", extra="vision", what="x")) == (
        "x needs torchvision, which is installed but cannot be imported: operator torchvision::nms does not exist"
    )


def test_neither_commands_nor_reports_load_what_only_images_need() -> None:
    code = (
        "import sys, eigenforget.data, eigenforget.report.pages.page;"
        "print({'PIL', 'plotly', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
