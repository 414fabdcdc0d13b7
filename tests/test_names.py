"""Names and places: one public name in one module, no reach-through, tests that mirror the package."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

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


class Word(NamedTuple):
    """A word that names something else than what we call it.

    Attributes:
        pattern: Its regular expression.
        instead: What we say.
        idioms: Plain English with it, which stays; each with its reason where that is not plain.
        under: Where the word is forbidden; everywhere by default.
    """

    pattern: str
    instead: str
    idioms: str = ""
    under: str = ""


WORDS = (
    Word(
        r"references?",
        "oracle, or retrained model",
        r"\"reference\"",  # the value of `better` in records, whose digests hold it
    ),
    Word(
        r"rounds?",
        "epoch, step, or what is counted",
        # of numbers: to round, and round numbers or brackets
        r"round\(|round weights|may round|(?:products|processors) round|rounds? (?:each|to|past|apart|away|ends?|line"
        r"|numbers?|ones|differently)|(?:way|it) round|round-trip|\| round \|",
    ),
    Word(r"cycles?", "epoch", r"one-cycle"),  # the schedule's own name
    Word(
        r"cases?",
        "experiment, study, or what it is",
        r"worst[- ]case|in any case|(?:lower|upper) case|hundred cases",
    ),
    Word(r"cells?", "job", r"'cell'|\.cells|for .*cell", under="experiments/"),
    Word(r"problems?", "experiment", r"bilevel problem", under="experiments/"),
    Word(r"the rest(?! of)", "retain set, or the others"),
    Word(r"the forgotten(?! (?:class|data|row|sample|training))", "forget set"),
    Word(r"what is kept", "retain set"),
    Word(r"(?:forgotten|forgetting|retained|held|kept) set", "forget set, or retain set"),
    Word(r"halves of the band", "half-widths"),
)
"""Design, section 2: one name for one thing. A page, a docstring, a message, a comment or a name
that has the word says what we say instead."""


def texts_of(path: Path) -> Iterator[tuple[int, str]]:
    """(line, text) of what people read in a source file: its strings, comments and names."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A string that is one name is a value of the program, not a text.
            yield node.lineno, "" if node.value.isidentifier() else node.value
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.lineno, spaced(node.name)
        elif isinstance(node, ast.arg):
            yield node.lineno, spaced(node.arg)
        elif isinstance(node, ast.AnnAssign):
            yield node.lineno, spaced(ast.unparse(node.target))
    lines: list[tuple[int, str]] = []
    with io.StringIO(path.read_text(encoding="utf-8")) as text:
        for token in tokenize.generate_tokens(text.readline):
            if token.type == tokenize.COMMENT:
                lines.append((token.start[0], token.string.lstrip("# ")))
    yield from ((line, f"{said} {_after(line, lines)}") for line, said in lines)


def _after(line: int, comments: list[tuple[int, str]]) -> str:
    """The first word of the comment on the next line, into which a phrase may run."""
    return next((said.split(" ")[0] for at, said in comments if at == line + 1), "")


def spaced(name: str) -> str:
    """The words of a name: a method's `batch_size`, or `WorstCase`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").strip()


def faults(text: str, place: str) -> list[str]:
    """The words in a text that we do not use there."""
    text = " ".join(text.split())
    found = []
    for word in WORDS:
        own = re.sub(word.idioms, "", text, flags=re.IGNORECASE) if word.idioms else text
        if word.under in place and (hit := re.search(rf"\b{word.pattern}\b", own, re.IGNORECASE)):
            found.append(f"{place}: {hit[0]!r} in {own[max(0, hit.start() - 40) :][:90]!r}")
    return found


def test_one_word_for_one_thing_in_the_source() -> None:
    for path in FILES:
        for line, text in texts_of(path):
            assert faults(text, place(path)) == [], f"line {line}"


REPOSITORY = TESTS.parent
PAGES = (
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *(REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md")),
    *sorted((ROOT / "report" / "pages").glob("*.jinja")),
)
"""Decisions and the change log are history: they say what things were called."""


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_one_word_for_one_thing_on_the_pages(path: Path) -> None:
    text = re.sub(r"\]\([^)]*\)", "]", path.read_text(encoding="utf-8"))  # without addresses
    for paragraph in text.split("\n\n"):
        assert faults(paragraph, path.name) == []


@pytest.mark.parametrize(
    ("old", "count"),
    [
        ("needs 1 retrained reference model, got 0", 1),
        ("mean over the references, that of z", 1),
        ('better = "reference" means closest', 0),
        ("rounds of steps; each begins a fresh order", 1),
        ("each round unlearns once, and a later round may only find a harder set", 1),
        ("| every 2 rounds | 0.975 |", 1),
        ("what rounds to no sample; round numbers", 0),
        ("looks at the case, which has the records", 1),
        ("loss in the worst case, in any case", 0),
        ("retain_steps of descent on the rest.", 1),
        ("what comes before, and the rest of the network", 0),
        ("Share at which the forgotten counts as relearned.", 1),
        ("of the forgotten classes and the forgotten samples", 0),
        ("take nothing from what is kept.", 1),
    ],
)
def test_the_words_are_found_and_idioms_are_not(old: str, count: int) -> None:
    assert len(faults(old, "experiments/a.py")) == count


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
