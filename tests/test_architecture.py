"""The shape of the package, held by tests: import direction, public names, where hooks and loops
may stand, sizes.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import eigenforget
from eigenforget.cli import COMMANDS
from tests.test_names import tree_of

ROOT = Path(eigenforget.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
FLOORS = (
    {"core", "record"},
    {"alignment", "data", "report"},
    {"requests", "models"},
    {"training"},
    {"methods", "evaluation"},
    {"experiments"},
    {"cli"},
)
"""Who may import whom: only from floors below; parts of one floor are strangers."""
LEVEL = {name: level for level, names in enumerate(FLOORS) for name in names}


def part_of(path: Path) -> str:
    relative = path.relative_to(ROOT)
    return relative.parts[0].removesuffix(".py")


def imports(tree: ast.AST) -> list[str]:
    """Modules that are imported anywhere, under TYPE_CHECKING too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [f"{node.module}.{alias.name}" for alias in node.names] + [node.module]
    return found


def relative_imports(path: Path) -> list[ast.ImportFrom]:
    return [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.ImportFrom) and n.level]


MODULES = {
    ".".join(("eigenforget", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in FILES
}


def modules_of(path: Path) -> set[str]:
    """Modules of the package that a file imports: the named module, not the packages around it."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            inside = ".".join(("eigenforget", *path.relative_to(ROOT).parent.parts))
            found |= {
                f"{inside}.{node.module}" if node.module else f"{inside}.{alias.name}"
                for alias in node.names
            }
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {n for n in names if n in MODULES} or {str(node.module)}
    return {name for name in found if name in MODULES}


def own_parts(path: Path) -> set[str]:
    names = [name.split(".") for name in imports(tree_of(path))]
    return {
        name[1] for name in names if name[0] == "eigenforget" and len(name) > 1 and name[1] in LEVEL
    }


def test_the_package_has_twelve_entries() -> None:
    entries = {
        path.name.removesuffix(".py")
        for path in ROOT.iterdir()
        if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")
    }
    assert entries == set(LEVEL) | {"__init__"} and len(entries) == 13


@pytest.mark.parametrize(
    "path",
    [f for f in FILES if f.parent != ROOT or f.name != "__init__.py"],
    ids=lambda p: str(p.relative_to(ROOT)),
)
def test_imports_come_from_lower_floors(path: Path) -> None:
    own = part_of(path)
    for other in own_parts(path) - {own}:
        assert LEVEL[other] < LEVEL[own], f"{path.relative_to(ROOT)} imports {other}"


def test_every_module_is_imported_somewhere() -> None:
    """By another module, as a command, or under its name in a string that is imported late."""
    used = {"eigenforget", "eigenforget.cli.__main__"}  # what Python itself runs
    used |= {f"eigenforget.cli.{command}" for command in COMMANDS}
    for name, path in MODULES.items():
        used |= modules_of(path) - {name}
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                used |= {node.value.partition(":")[0]} & set(MODULES)
    packages = {name.rpartition(".")[0] for name in used}
    assert set(MODULES) - used - packages == set()


def test_no_circle_of_modules() -> None:
    graph = {name: modules_of(path) - {name} for name, path in MODULES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(("part", "allowed"), [("record", set()), ("report", {"record", "core"})])
def test_record_and_report_stand_alone(part: str, allowed: set[str]) -> None:
    third_party = {"jinja2", "markupsafe", "rich", "scipy"} if part == "report" else set()
    # What signs needs a package from outside, imported where it is used.
    on_use = {"signing.py": {"cryptography"}}
    for path in (ROOT / part).rglob("*.py"):
        assert own_parts(path) <= allowed | {part}, path
        for name in imports(tree_of(path)):
            top = name.split(".")[0]
            known = (
                sys.stdlib_module_names
                | third_party
                | {"eigenforget"}
                | on_use.get(path.name, set())
            )
            assert top in known, f"{path.name} imports {name}"


def test_only_record_imports_relatively_and_from_itself() -> None:
    """Its folder can be copied to another place, alone; elsewhere full names say where a name comes
    from.
    """
    for path in FILES:
        for node in relative_imports(path):
            assert path.parent.name == "record" and node.level == 1, (
                f"{path.name} imports {'.' * node.level}{node.module or ''}"
            )
    for path in (ROOT / "record").glob("*.py"):
        assert "eigenforget." not in {name[:12] for name in imports(tree_of(path))}, path


def test_public_names_resolve_and_are_few() -> None:
    assert len(eigenforget.__all__) == len(set(eigenforget.__all__)) <= 50
    for name in eigenforget.__all__:
        assert getattr(eigenforget, name) is not None
    with pytest.raises(AttributeError, match="nothing_like_it"):
        eigenforget.nothing_like_it  # noqa: B018


def test_every_all_resolves() -> None:
    for path in FILES:
        module = importlib.import_module(
            ".".join(("eigenforget", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(
                ".__init__"
            )
        )
        for name in getattr(module, "__all__", []):
            assert hasattr(module, name), f"{module.__name__}.{name}"


def test_hooks_loops_and_optimizers_stand_in_one_place() -> None:
    homes = {
        "register_forward_hook": {"features.py", "copies.py", "side_units.py"},
        "register_forward_pre_hook": {"features.py", "precision.py"},
        "register_hook": set(),
        "torch.optim": {
            "phases.py",
            "fitted_probe.py",  # there it solves a convex problem over its own weights
            "updater.py",  # a type, of optimizers that phases.py makes
            "recipe.py",  # its mean of weights
        },
        ".backward(": {"engine.py"},
        "optimizer.step(": {"engine.py"},
        "weights_only=False": set(),
    }
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        for word, allowed in homes.items():
            assert word not in text or path.name in allowed, f"{word} in {path.name}"


SWAPPED = {"int", "float", "bool", "Path", "nn.Module", "Source"}
"""Types of which two arguments are easily swapped, and nothing would fail. Tensors and texts have
an order that the field or the sentence knows: logits and labels, a value and what it is."""


def test_arguments_that_could_be_swapped_have_names() -> None:
    for path in FILES:
        tree = tree_of(path)
        kinds = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name[0] != "_"]
        bodies = [tree.body, *(kind.body for kind in kinds)]
        for node in (node for body in bodies for node in body):
            if not isinstance(node, ast.FunctionDef) or node.name.startswith("_"):
                continue
            given = [*node.args.posonlyargs, *node.args.args]
            types = [ast.unparse(arg.annotation) for arg in given if arg.annotation is not None]
            twice = {kind for kind in types if types.count(kind) > 1} & SWAPPED
            assert not twice, f"{path.name}:{node.lineno} {node.name} takes two {twice} by position"


def test_no_catch_all_and_no_assert_for_user_input() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Assert):  # tells a type checker what is known already
                said = ast.unparse(node.test)
                assert said.endswith(" is not None"), f"{path.name}:{node.lineno} asserts {said}"
            if isinstance(node, ast.ExceptHandler):
                caught = "" if node.type is None else ast.unparse(node.type)
                # A bench runs methods of anyone: whatever one raises is on record as its job's
                # failure, and the others go on. A file of the user's own is run when it is
                # imported.
                place = f"{path.parent.name}/{path.name}"
                runs_code_of_others = place in ("bench/work.py", "core/imports.py")
                if runs_code_of_others and caught == "(Exception, SystemExit)":
                    continue
                # The command line turns whatever comes into one line and an exit code.
                if path == ROOT / "cli" / "__init__.py" and "KeyboardInterrupt" in caught:
                    continue
                wide = ("", "(Exception, SystemExit)", "Exception", "BaseException")
                assert caught not in wide, f"{path.name}:{node.lineno} catches {caught or 'all'}"


def test_only_one_place_seeds_torch() -> None:
    """torch.manual_seed seeds every accelerator as well, and fork_rng restores none by default."""
    for path in FILES:
        for word in ("torch.manual_seed(", "torch.random.fork_rng(", "cuda.manual_seed"):
            allowed = path == ROOT / "core" / "seeds.py"
            assert allowed or word not in path.read_text(encoding="utf-8"), f"{word} in {path}"


REPOSITORY = Path(__file__).parent.parent
BESIDE = [
    p for name in ("benchmarks", "fuzz", "examples") for p in (REPOSITORY / name).rglob("*.py")
]


def test_functions_stay_small() -> None:
    """Counted is the body: options and their help stand in a signature, which may be long."""
    for path in (*FILES, *BESIDE):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                first = (
                    node.body[1] if ast.get_docstring(node) and len(node.body) > 1 else node.body[0]
                )
                length = (node.end_lineno or 0) - first.lineno + 1
                assert length <= 40, f"{path.name}:{node.name} has {length} lines"


def test_command_line_starts_without_torch() -> None:
    code = "import sys, eigenforget.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


PAGE = (REPOSITORY / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_the_page_names_the_entries_and_the_floors() -> None:
    rows = re.findall(r"^\| `([\w.]+)/?` \|", PAGE.split("## The import rule")[0], re.MULTILINE)
    assert {row.removesuffix(".py") for row in rows} == set(LEVEL)
    floors = re.findall(r"^    (\d)  (.+)$", PAGE, re.MULTILINE)
    found = {int(n): set(re.split(r"   +", names)[0].split(" | ")) for n, names in floors}
    assert found == {level + 1: names for level, names in enumerate(FLOORS)}


def test_the_page_names_files_and_registries_that_are_there() -> None:
    rows = re.findall(
        r"^\| [\w ]+ \| `([\w/]+\.py)` \| `(\w+)` in `([\w/]+)\.py`", PAGE, re.MULTILINE
    )
    assert len(rows) == 7
    for base, registry, module in rows:
        assert (ROOT / base).exists(), base
        home = "eigenforget." + module.removesuffix("/__init__").replace("/", ".")
        assert len(getattr(importlib.import_module(home), registry)) > 3
    for path in re.findall(r"`(\w+(?:/\w+)+\.py)`", PAGE):
        assert (ROOT / path).exists() or (ROOT.parent.parent / path).exists(), path
