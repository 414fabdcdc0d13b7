"""Every Python block of the documentation runs, every command line parses, every link leads on.

docs/your-model.md is run whole by its walks, and README.md by test_readme.py.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import eigenforget
from eigenforget.cli import app
from eigenforget.data import DATASETS
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("benchmarks/*.md")])
OPTIONS = {
    "--data": DATASETS,
    "--model": MODELS,
    "--recipe": RECIPES,
    "--method": METHODS,
    "--forget": REQUESTS,
    "--without": REQUESTS,
}
NOT_RUN = "<!-- not run:"
"""Stands before a block that cannot run in a test, with the reason."""


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, language: str) -> list[str]:
    """The blocks of a language that are to run, in their order."""
    text = path.read_text(encoding="utf-8")
    block = rf"^(?P<before>.*)\n+```{language}\n(?P<code>[\s\S]*?)```"
    found = re.finditer(block, text, re.MULTILINE)
    return [block["code"] for block in found if not block["before"].startswith(NOT_RUN)]


RUN = [
    path
    for path in (ROOT / "docs").rglob("*.md")
    if path.name != "your-model.md" and blocks(path, "python")
]


class Net(nn.Module):
    """What the pages call `Net`."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU()), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(x))


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the pages take for granted: a model, its data, and oracles."""
    torch.manual_seed(0)
    y = torch.arange(90) % 3
    x = torch.randn(90, 4) + 3 * nn.functional.one_hot(y, 4)
    gone = y == 2
    x_test = torch.randn(60, 4) + 3 * nn.functional.one_hot(y[:60], 4)
    sets = {
        "forget": (x[gone], y[gone]),
        "retain": (x[~gone], y[~gone]),
        "test": (x_test, y[:60]),
    }
    recipe = "recipe(epochs=5, batch_size=16)"
    original = eigenforget.train(Net(), (x, y), recipe)
    oracles = eigenforget.train_oracles(recipe, sets["retain"], model=Net)
    unlearned = eigenforget.unlearn(
        original, forget=sets["forget"], retain=sets["retain"], method="finetune()"
    )
    loader = DataLoader(TensorDataset(*sets["retain"]))
    return {
        **{name: getattr(eigenforget, name) for name in ("evaluate", "unlearn")},
        **{"eigenforget": eigenforget, "nn": nn, "TensorDataset": TensorDataset, "Net": Net},
        **{"fit": lambda model, data, seed: None, "plain": torch.nn.Identity()},
        **sets,
        **{f"{name}_set": TensorDataset(*tensors) for name, tensors in sets.items()},
        **{"retain_loader": loader, "photo_set": loader, "ids": x.long(), "mask": x > 0},
        **{"labels": y},
        **{"model": original, "original": original, "unlearned": unlearned, "oracles": oracles},
        **{"models": {"original": original, "muda": unlearned}, "oracle": oracles["oracle 1"]},
        **{f"oracle{n}": oracles[f"oracle {n}"] for n in (1, 2, 3)},
    }


@pytest.mark.parametrize("path", RUN, ids=name_of)
def test_its_python_runs(
    path: Path, names: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for code in blocks(path, "python"):
        exec(compile(code, name_of(path), "exec"), dict(names))


def test_few_blocks_are_not_run() -> None:
    texts = [path.read_text(encoding="utf-8") for path in PAGES]
    assert sum(text.count(NOT_RUN) for text in texts) <= 4


def commands(text: str, names: dict[str, str]) -> Iterator[list[str]]:
    """The command lines of a shell block, with the variables filled in and loops taken once."""
    for line in text.replace("\\\n", " ").splitlines():
        if loop := re.match(r"\s*for (\w+) in (\S+).*?; do", line):
            names[loop[1]] = loop[2]
            line = line[loop.end() :]
        if assigned := re.match(r"([A-Z]+)='(.*)'$", line):
            names[assigned[1]] = assigned[2]
        split = shlex.shlex(line, posix=True, punctuation_chars="|&;")
        split.whitespace_split = True
        words = [re.sub(r"\$(\w+)", lambda found: names[found[1]], word) for word in split]
        while words:
            end = next((i for i, w in enumerate(words) if set(w) <= set("|&;")), len(words))
            if words[0] == "eigenforget":
                yield words[1:end]
            words = words[end + 1 :]


@pytest.mark.parametrize("path", [p for p in PAGES if blocks(p, "bash")], ids=name_of)
def test_its_command_lines_parse(path: Path) -> None:
    names: dict[str, str] = {}
    for block in blocks(path, "bash"):
        for tokens in commands(block, names):
            app.parse_args(tokens, exit_on_error=False, print_error=False)
            for option, value in pairwise(tokens if tokens[0] != "card" else ()):
                if option in OPTIONS and ".py" not in value:  # those files stand on the pages
                    OPTIONS[option].parse(value)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", h)) for h in heads)
    return {h.strip().lower().replace(" ", "-") for h in plain}


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_its_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#]*)#?([^)]*)\)", text):
        page = (path.parent / target) if target else path
        assert page.exists(), f"no {target}"
        assert not anchor or anchor in anchors(page), f"no heading for #{anchor} in {page.name}"
