"""Names and places: one public name in one module, no reach-through, tests that mirror the package."""

from __future__ import annotations

import ast
from collections import defaultdict
from functools import cache
from pathlib import Path

import eigenforget

ROOT = Path(eigenforget.__file__).parent
TESTS = Path(__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
CROSSING = {"contracts", "numerics", "golden", "extras"}
"""Folders of tests that follow a kind of promise or of reference, not one module."""


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def place(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return [node.target.id]
    return []


def public_names(path: Path) -> set[str]:
    names = {name for node in tree_of(path).body for name in defined(node)}
    return {name for name in names if not name.startswith("_")}


def command(path: Path) -> set[str]:
    """The function of a command is named as on the command line: unlearn in cli/unlearn.py."""
    return {path.stem} if path.parent == ROOT / "cli" else set()


def test_a_public_name_is_defined_in_one_module() -> None:
    homes: dict[str, set[str]] = defaultdict(set)
    for path in FILES:
        for name in public_names(path) - command(path):
            homes[name].add(place(path))
    assert {name: sorted(where) for name, where in homes.items() if len(where) > 1} == {}


def test_types_are_nouns() -> None:
    """No bare past participle names a class."""
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ClassDef):
                words = {
                    "Made",
                    "Seen",
                    "Kept",
                    "Found",
                    "Given",
                    "Drawn",
                    "Spent",
                    "Said",
                    "Stored",
                }
                bare = node.name.strip("_")
                participle = bare.endswith("ed") and sum(c.isupper() for c in bare) == 1
                # Diverged and Refused are errors: Python's own say what happened, too.
                assert bare not in words and (
                    not participle or bare in {"Diverged", "Refused", "Masked", "Seed"}
                ), f"{place(path)}: {node.name}"


def test_no_module_reads_the_private_names_of_another() -> None:
    for path in FILES:
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("eigenforget"):
                private = [
                    a.name for a in node.names if a.name.startswith("_") and a.name[1] != "_"
                ]
                assert not private, f"{place(path)} imports {private}"


def test_no_object_is_written_into_from_outside() -> None:
    for path in FILES:
        for function in ast.walk(tree_of(path)):
            if not isinstance(function, ast.FunctionDef):
                continue
            for node in ast.walk(function):
                text = ast.unparse(node) if isinstance(node, (ast.Call, ast.Assign)) else ""
                if isinstance(node, ast.Call) and text.startswith("object.__setattr__("):
                    assert function.name == "__post_init__", f"{place(path)}: {text}"
                if isinstance(node, ast.Assign):
                    written = [ast.unparse(target) for target in node.targets]
                    assert not any(w.startswith("vars(") for w in written), f"{place(path)}: {text}"


def test_tests_mirror_the_package() -> None:
    """tests/models/test_heads.py tests models/heads.py; test_init.py tests a package as a whole."""
    for path in sorted(TESTS.rglob("test_*.py")):
        parts = path.relative_to(TESTS).parts
        if len(parts) == 1 or parts[0] in CROSSING or parts[0] == "benchmarks":
            continue
        name = parts[-1].removeprefix("test_")
        source = ROOT.joinpath(*parts[:-1], "__init__.py" if name == "init.py" else name)
        assert source.exists(), f"tests/{'/'.join(parts)} mirrors no {place(source)}"


def test_every_package_has_tests_of_its_own() -> None:
    """A test that stands at the top concerns the whole: the house, the docs, the golden pages."""
    top = {path.name for path in TESTS.glob("test_*.py")}
    assert top <= {
        "test_alignment.py",
        "test_architecture.py",
        "test_docs.py",
        "test_docs_code.py",
        "test_examples.py",
        "test_golden.py",
        "test_init.py",
        "test_names.py",
        "test_notebooks.py",
        "test_package.py",
        "test_project.py",
        "test_readme.py",
        "test_site.py",
    }, top
