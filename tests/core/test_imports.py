"""Objects of one's own file or package by path."""

from __future__ import annotations

import pickle
import sys
from math import hypot
from pathlib import Path

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.imports import imported, note_path, path_of
from eigenforget.core.own_code import modules_beside


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_name_in_a_package_and_a_name_within_a_name() -> None:
    assert imported("math:hypot", "method") is hypot
    assert imported("pathlib:Path.home", "method") == Path.home


def test_a_file_is_run_once_for_each_content_beside_its_neighbours(folder: Path) -> None:
    (folder / "beside_mine.py").write_text("NUMBER = 7\n")
    (folder / "mine.py").write_text("from beside_mine import NUMBER\nclass Mine:\n    pass\n")
    path = list(sys.path)
    first = imported("mine.py:Mine", "method")
    assert imported(f"{folder / 'mine.py'}:Mine", "method") is first
    assert imported("mine.py:NUMBER", "method") == 7 and sys.path == path
    assert type(pickle.loads(pickle.dumps(first()))) is first
    (folder / "mine.py").write_text("class Mine:\n    again = True\n")
    assert imported("mine.py:Mine", "method").again and not hasattr(first, "again")


def test_a_file_that_fails_leaves_nothing_behind(folder: Path) -> None:
    (folder / "broken.py").write_text("raise ValueError('on purpose')\n")
    modules, path = set(sys.modules), list(sys.path)
    for _ in range(2):
        with pytest.raises(EigenforgetError, match=r"broken\.py:Mine.*on purpose"):
            imported("broken.py:Mine", "method")
    assert set(sys.modules) == modules and sys.path == path


@pytest.mark.parametrize("ending", ["1 / 0", "raise SystemExit", "x = nothing", "raise Exception"])
def test_whatever_a_file_raises_is_one_line(folder: Path, ending: str) -> None:
    (folder / "broken.py").write_text(f"def mine():\n    pass\n{ending}\n")
    with pytest.raises(
        EigenforgetError, match=r"broken\.py:mine.*cannot be imported: \w+"
    ) as caught:
        imported("broken.py:mine", "method")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("mine.py", "'mine.py'"),
        ("..x:Mine", "'..x:Mine'"),
        ("a\0b.py:Mine", "b.py:Mine"),
        ("a" * 5000 + ".py:Mine", "5010 characters"),
        (":Mine", "':Mine'"),
        ("mine.py:", "'mine.py:'"),
        ("none.py:Mine", "'none.py:Mine'"),
        ("no_such_package:Mine", "file.py:Name"),
        ("math:nothing", "'nothing'"),
    ],
)
def test_a_wrong_path_is_one_line_that_names_it(folder: Path, path: str, words: str) -> None:
    with pytest.raises(EigenforgetError) as caught:
        imported(path, "method")
    message = str(caught.value)
    assert "method" in message and words in message and "\n" not in message


def test_the_path_of_a_class_is_remembered() -> None:
    class Mine:
        pass

    assert path_of(Mine) is None
    note_path(Mine, "mine.py:Mine")
    assert path_of(Mine) == "mine.py:Mine"


def test_each_file_imports_the_module_beside_it_as_it_is_now(folder: Path) -> None:
    for name, number in (("one", 1), ("two", 2)):
        (folder / name).mkdir()
        (folder / name / "same_name.py").write_text(f"NUMBER = {number}\n")
        (folder / name / "mine.py").write_text(
            "import same_name\ndef mine():\n    return same_name.NUMBER\n"
        )
    one, two = (imported(f"{name}/mine.py:mine", "method") for name in ("one", "two"))
    assert (one(), two()) == (1, 2) and imported("one/mine.py:mine", "method") is one
    (folder / "one" / "same_name.py").write_text("NUMBER = 3  # another\n")
    assert imported("one/mine.py:mine", "method")() == 3 and (one(), two()) == (1, 2)


def test_an_error_in_the_middle_of_a_file_names_its_line(folder: Path) -> None:
    (folder / "broken.py").write_text("x = 1\n\nx.nothing\n")
    with pytest.raises(EigenforgetError, match=r"broken\.py, line 3: AttributeError"):
        imported("broken.py:mine", "method")


def test_modules_beside_a_file_are_found_without_running_it(folder: Path) -> None:
    (folder / "parts").mkdir()
    for name, text in {
        "mine.py": "import torch, one\ndef f():\n    from parts import two\n",
        "one.py": "import mine\n",
        "parts/__init__.py": "",
        "parts/two.py": "from .three import x\nfrom . import four\n",
        "parts/three.py": "(",
        "parts/four.py": "from ..one import y\n",
        "parts/unused.py": "",
    }.items():
        (folder / name).write_text(text)
    assert list(modules_beside(folder / "mine.py")) == [
        "one",
        "parts",
        "parts.four",
        "parts.three",
        "parts.two",
    ]
    within = modules_beside(folder / "parts" / "two.py", "parts")
    assert list(within) == ["parts", "parts.four", "parts.three"]
