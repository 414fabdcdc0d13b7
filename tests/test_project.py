"""The files that make this a project one can pick up: licence, citation, metadata."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from eigenforget.core.version import __version__

ROOT = Path(__file__).parent.parent


def test_licence_version_and_authors_are_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text()
    stated = dict(re.findall(r"^(version|license): (.+)$", citation, re.MULTILINE))
    assert stated == {"version": __version__, "license": project["license"]}
    assert "Apache License" in (ROOT / "LICENSE").read_text()
    (author,) = project["authors"]
    assert f"  - name: {author['name']}" in citation


def test_the_workflow_runs_what_ci_runs_on_every_version_that_is_declared() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    declared = [c.split(" :: ")[-1] for c in classifiers if re.search(r"Python :: 3\.\d", c)]
    assert re.findall(r'"(3\.\d+)"', workflow) == declared and "run: .ci/run" in workflow


def test_links_of_the_project_files_lead_somewhere() -> None:
    for name in ("CONTRIBUTING.md", "SECURITY.md"):
        for target in re.findall(r"\]\(([^)#]+)", (ROOT / name).read_text()):
            assert (ROOT / target).exists(), f"{name}: {target}"


def test_every_decision_is_a_file_with_a_status_and_a_line_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    files = sorted(path for path in folder.glob("*.md") if path.name != "README.md")
    rows = re.findall(
        r"^\| \[(\d+)\]\((.+?)\) \| (.+) \| (\w+) \|$", (folder / "README.md").read_text(), re.M
    )
    assert [name for _, name, _, _ in rows] == [path.name for path in files]
    for number, path in enumerate(files, start=1):
        head = path.read_text().splitlines()
        shown = rows[number - 1]
        assert int(path.name[:4]) == int(shown[0]) == number
        assert head[0] == f"# {number}. {shown[2]}" and head[2].startswith(f"Status: {shown[3]}")


def test_the_changelog_has_the_form_of_keep_a_changelog() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "https://keepachangelog.com/" in text
    versions = re.findall(r"^## (.+)$", text, re.M)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", v) for v in versions[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, re.M)) <= kinds
