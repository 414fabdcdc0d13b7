"""The command line as a whole: help without torch, one file per command, the way to a method."""

from __future__ import annotations

import ast
import inspect
import shlex
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import eigenforget
from eigenforget.cli import COMMANDS, app, main
from eigenforget.data import DATASETS
from eigenforget.methods import METHODS
from eigenforget.methods.base import Task
from eigenforget.methods.head_mask import HeadMask
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import RECIPES
from tests.cli.round_toys import QUICKLY, refused_in_one_line
from tests.test_architecture import LEVEL

ROOT = Path(eigenforget.__file__).parent
TRAIN = ["train", "--data", "digits()", "--model", "mlp(hidden=(8,))"]


def test_help_loads_neither_torch_nor_numpy() -> None:
    code = (
        "import sys; from eigenforget.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for command in COMMANDS:
        assert command.replace("_", "-") in done.stdout


@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("unlern", "unknown command 'unlern' (did you mean unlearn?)"),
        ("audit_metrics", "did you mean audit-metrics?"),
        ("cach", "did you mean cache?"),
        ("", "unknown command ''; choose from: demo, data"),
        ("--foo", "'--foo' is no option"),
    ],
)
def test_a_misspelt_command_is_named_without_torch(word: str, words: str) -> None:
    code = f"""
import sys
from eigenforget.cli import main
try:
    main([{word!r}, "--out", "x"])
finally:
    assert not {{"torch", "numpy", "pydantic"}} & sys.modules.keys()
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr and done.stderr.count("\n") == 1


def test_what_only_reads_records_loads_no_torch(tmp_path: Path) -> None:
    plans, golden = ROOT.parents[1] / "benchmarks/results", ROOT.parents[1] / "tests/golden/records"
    records = [str(golden / name) for name in ("00-original.json", "04-muda.json")]
    commands = [
        ["methods"],
        ["leaderboard", str(plans / "few_retain")],
        ["verify", str(golden)],
        ["report", *records, "--out", str(tmp_path / "report.html")],
        ["check", *records, "--require", "forgot==yes"],
        ["card", *records],
    ]
    code = f"""
import sys
from eigenforget.cli import main
for argv in {commands!r}:
    try:
        main(argv)
    except SystemExit as end:
        assert end.code in (0, 1, None), argv
    heavy = {{"torch", "sklearn", "torchmetrics", "lightning_fabric"}} & sys.modules.keys()
    assert not heavy, (argv, heavy)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_unlearn_is_imported_without_the_compiler_of_torch() -> None:
    code = """
import sys
from eigenforget import unlearn, train
heavy = {"torch._dynamo", "lightning_fabric", "sklearn", "scipy.stats"} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_the_docstring_of_its_function(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    function = getattr(__import__(f"eigenforget.cli.{command}", fromlist=["_"]), command)
    main([command.replace("_", "-"), "--help"])
    shown = "".join(capsys.readouterr().out.split())
    for paragraph in (inspect.getdoc(function) or "").split("\n\n"):
        assert "".join(paragraph.split()) in shown
    for name in inspect.signature(function).parameters:
        assert name  # signature can be read: cyclopts needs nothing else of the function


def test_every_file_is_a_command_or_shared() -> None:
    shared = {
        "__init__",
        "__main__",
        "options",
        "terminal",
        "launching",
        "endings",
        "record_files",
        "cache",
    }
    files = {path.stem for path in (ROOT / "cli").glob("*.py")}
    assert set(COMMANDS) <= files and files - set(COMMANDS) - shared <= {"benching_"}
    assert app.version == eigenforget.__version__


def test_at_most_12_functions_lead_from_the_command_line_to_the_method(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, trip = tmp_path / "o.safetensors", []

    def head_mask(self: HeadMask, task: Task) -> nn.Module:
        frame = sys._getframe(1)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if ROOT in path.parents and path.name != "prepare.py":  # a decorator of the doors
                trip.insert(0, (path.relative_to(ROOT), frame.f_code.co_name))
            frame = frame.f_back  # type: ignore[assignment]
        return task.student()

    main([*TRAIN, "--recipe", "recipe(epochs=1)", "--out", str(original)])
    monkeypatch.setattr(HeadMask, "__call__", head_mask)
    command = ["unlearn", str(original), "--forget", "by_class(label=3)", "--method", "head_mask()"]
    main([*command, "--out", str(tmp_path / "u.safetensors")])
    assert trip[0] == (Path("cli/__init__.py"), "main") and trip[1][0] == Path("cli/unlearn.py")
    assert len(trip) <= 12, trip
    floors = [LEVEL[path.parts[0].removesuffix(".py")] for path, _ in trip]
    assert floors == sorted(floors, reverse=True), "no function calls back up"


def test_a_command_is_a_signature_and_a_body_in_one_file() -> None:
    """No command hands all its parameters down."""
    for command in COMMANDS:
        tree = ast.parse((ROOT / "cli" / f"{command}.py").read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and node.name != command:
                count = len(node.args.args) + len(node.args.kwonlyargs)
                assert count <= 6, f"{command}.py: {node.name} takes {count} arguments"


OPTIONS = {
    "--data": DATASETS,
    "--model": MODELS,
    "--recipe": RECIPES,
    "--method": METHODS,
    "--forget": REQUESTS,
    "--without": REQUESTS,
}


@pytest.mark.parametrize("command", [*COMMANDS, "cache list", "cache check", "cache prune", ""])
def test_help_ends_with_an_example_that_can_be_pasted(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = command.replace("_", "-").split()
    main([*words, "--help"])
    shown = capsys.readouterr().out.split("\nExample:\n")[1].replace("\\\n", " ")
    lines = [tokens for line in shown.splitlines() if (tokens := shlex.split(line))]
    commands = [tokens[1:] for tokens in lines if tokens[0] == "eigenforget"]
    assert commands[-1] == lines[-1][1:] and commands[-1][: len(words)] == words
    for tokens in commands:
        app.parse_args(tokens, exit_on_error=False, print_error=False)
        for option, value in pairwise(tokens):
            if option in OPTIONS:
                OPTIONS[option].parse(value)


OWN = '''
import numpy as np
import torch
from torch import nn

from eigenforget.core.types import Score
from eigenforget.data.bundle import Arrays, from_arrays
from eigenforget.evaluation.metrics import PanelMetric


def blobs(*, n: int = 60):
    """Three clusters on the corners of a triangle."""
    labels = np.arange(n) % 3
    inputs = np.random.default_rng(0).normal(size=(n, 4)) + 4 * np.eye(4)[labels]
    rows = Arrays(inputs=inputs.astype(np.float32), labels=labels, ids=[f"p{i}" for i in range(n)])
    sides = np.split(np.arange(n), 2)
    return from_arrays(train=rows.rows(sides[0]), test=rows.rows(sides[1]))


class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, num_classes))


def third(index):
    return np.flatnonzero(index.labels == 2)


def noise(task, *, scale: float = 0.1):
    """Weights with noise on them."""
    model = task.student()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += scale * torch.ones_like(parameter)
    return model


class Largest(PanelMetric):
    """Mean of the largest logit on the forget set."""

    name = "largest"
    reads = "logits"
    glossary = {"largest": ("top logit", "outputs", "Mean of the largest logit.")}

    def __init__(self):
        super().__init__()
        self.add_state("total", torch.zeros(2, dtype=torch.float64), dist_reduce_fx="sum")

    @classmethod
    def create(cls, context):
        return cls()

    def update(self, part, batch, outputs):
        if part == "forget":
            top = outputs.logits.max(dim=1).values.double()
            self.total = self.total + torch.stack([top.sum(), torch.tensor(float(len(top)))])

    def measure(self):
        value = float(self.total[0] / self.total[1])
        return (Score("largest", value, "1", "reference", (-1e9, 1e9), trace="above"),)


def share(evidence, seed, *, scale: float = 1.0) -> float:
    forget, retain = (len(evidence.parts[part].labels) for part in ("forget", "retain"))
    return scale * forget / (forget + retain)
'''


def test_one_of_each_kind_comes_from_a_file_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from eigenforget.record import file_digest, read, read_folder

    (tmp_path / "mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    own = {
        name: f'python(path="mine.py:{name}")' for name in ("blobs", "third", "noise", "Largest")
    }
    model, recipe = 'module(path="mine.py:Net")', "recipe(epochs=10, batch_size=8)"
    main(
        [
            "train",
            "--data",
            own["blobs"],
            "--model",
            model,
            "--recipe",
            recipe,
            "--out",
            "o.safetensors",
        ]
    )
    forget = ["--forget", own["third"]]
    main(["unlearn", "o.safetensors", *forget, "--method", own["noise"], "--out", "u.safetensors"])
    assert read("u.json").job["method"]["spec"] == "python(path='mine.py:noise')"
    scores = ["--metric", own["Largest"], "--audit", 'python(path="mine.py:share", scale=3.0)']
    asked = ["evaluate", "u.safetensors", "--original", "o.safetensors", *forget, *scores]
    main([*asked, *QUICKLY, "--out", "results"])
    found = read_folder("results/records")[1]
    values = {row.name: row.value for row in found.scores}
    assert values["share"] == pytest.approx(3.0 / 3) and values["largest"] is not None
    assert found.inputs["file:mine.py"] == file_digest("mine.py")
    assert found.job["measurement"]["metrics"] == ["mine.py:Largest"]
    with pytest.raises(SystemExit):
        main([*asked, "--skip", "nothing_like_it", "--out", "other"])
    assert not Path("other").exists() and torch.is_grad_enabled()


@pytest.mark.parametrize("name", ["a" * 5000, "\x1b[2K\nok verified", "a/" * 3000])
def test_odd_paths_are_one_printable_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for argv in (["cache", "list", name], ["card", name], ["report", name], ["verify", name]):
        refused_in_one_line(argv, "", tmp_path, capsys, monkeypatch)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([*TRAIN, "--seed", "1" * 30, "--out", "m.safetensors"], "--seed"),
        ([*TRAIN, "--devices", "1" * 30, "--out", "m.safetensors"], "devices must be from 1 to"),
        ([*TRAIN, "--accumulate", "1" * 30, "--out", "m.safetensors"], "accumulate must be"),
        (["audit-metrics", "--seeds", "1" * 30], "needs from 1 to"),
        (["scores", *TRAIN[1:], "--models", "1" * 30, "--out", "s.csv"], "at most 100,000 models"),
        (["bench", "p.toml", "--workers", "1" * 30], "p.toml"),
    ],
    ids=lambda v: v[0] if isinstance(v, list) else None,
)
def test_numbers_that_no_run_can_have_are_refused_before_it(
    argv: list[str],
    words: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refused_in_one_line(argv, words, tmp_path, capsys, monkeypatch)
