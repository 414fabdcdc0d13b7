"""The pages of the published results are what their scores files say."""

from __future__ import annotations

import importlib
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from eigenforget.experiments.bench import read_plan, read_scores_file
from eigenforget.experiments.bench.finished import read_experiments

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
pages: Any = importlib.import_module("pages")
PLANS = {path.stem: path for path in (ROOT / "benchmarks" / "plans").glob("*.toml")}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's pages without its figures and tables, which are then made."""
    root = tmp_path_factory.mktemp("repository")
    shutil.copytree(ROOT / "benchmarks", root / "benchmarks")
    shutil.copytree(ROOT / "docs", root / "docs")
    for path in (root / "benchmarks" / "results").rglob("*"):
        # The pages of the study of the verdict have a command of their own.
        if path.parent.name != "verdict_study" and path.name in (
            "summary.md",
            "summary.svg",
            "audit.svg",
            "sequence.md",
            "sequence.svg",
        ):
            path.unlink()
    (root / "docs" / "pictures" / "features.svg").unlink()
    (root / "docs" / "metrics.md").write_text(
        re.sub(
            "<!-- audit -->.*<!-- end -->",
            "<!-- audit --><!-- end -->",
            (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8"),
            flags=re.DOTALL,
        ),
        encoding="utf-8",
    )
    shutil.copy(ROOT / "README.md", root)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr(pages, "ROOT", root)
        patch.setattr(pages, "RESULTS", root / "benchmarks" / "results")
        pages.main()
    assert end.value.code == 0, "a bound of the class tables does not hold"
    return root


@pytest.mark.parametrize("folder", ["README.md", "docs", "benchmarks"])
def test_every_committed_page_is_made_again_bit_for_bit(made: Path, folder: str) -> None:
    files = [ROOT / folder] if folder.endswith(".md") else sorted((ROOT / folder).rglob("*"))
    pages_of = [p for p in files if p.suffix in (".md", ".svg", ".csv")]
    assert pages_of
    for path in pages_of:
        assert (made / path.relative_to(ROOT)).read_bytes() == path.read_bytes(), (
            f"{path}: run benchmarks/pages.py"
        )


def test_every_published_result_is_found() -> None:
    results = ROOT / "benchmarks" / "results"
    files = sorted(results.rglob("scores.jsonl.gz"))
    assert sum(path.stat().st_size for path in results.rglob("*") if path.is_file()) < 10e6
    assert len(files) > 25 and not list(results.rglob("records"))
    assert all(records for path in files for records in read_scores_file(path.parent).values())


@pytest.mark.parametrize("name", sorted(PLANS))
def test_every_plan_can_be_read(name: str) -> None:
    assert read_plan(PLANS[name]).jobs


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("class_cifar10", "cifar10"),
        ("class_fashion_mnist", "fashion_mnist"),
        ("compare_digits", "compare_digits"),
        ("compare_cifar10_class", "compare_cifar10_class"),
        ("compare_cifar10_random", "compare_cifar10_random"),
        ("few_retain", "few_retain"),
        ("requests", "requests"),
        ("backdoor", "backdoor"),
    ],
)
def test_plans_in_place_of_scripts_ask_for_what_was_published(name: str, folder: str) -> None:
    plan = read_plan(PLANS[name])
    asked = {
        (
            c.study.data.name,
            c.study.request.name,
            c.study.seed,
            c.method.name,
            c.retain_fraction,
        )
        for c in plan.jobs
    }
    published = {
        (
            r.job["data"]["resolved"]["name"],
            r.job["request"]["resolved"]["name"],
            r.job["seed"],
            r.job["method"]["resolved"]["name"],
            r.job.get("retain_fraction", 1.0),
        )
        for experiment in read_experiments(ROOT / "benchmarks" / "results" / folder).values()
        for records in experiment.seeds
        for r in records
        if r.role in ("unlearned", "control") and "method" in r.job
    }
    assert published and published <= asked
    oracles = {len(s.oracles) for s in plan.studies if s.request.name != "poisoned"}
    assert oracles <= {3, 6}
