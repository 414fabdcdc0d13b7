"""Plans: what a TOML file expands to, what it is known by, and what is wrong with it, by file and
line.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eigenforget.core.errors import EigenforgetError
from eigenforget.core.spec import parse, spell
from eigenforget.data import DATASETS
from eigenforget.experiments.bench import Bench, MethodJob, Store, StudySpec, pool_of, read_plan
from eigenforget.methods import METHODS
from eigenforget.models import MODELS
from eigenforget.requests import REQUESTS
from eigenforget.training.recipe import Recipe

PLAN = """
title = "Two grids"
data = "digits()"
model = ["mlp(hidden=(8,))", "mlp(hidden=(16,))"]
[[grid]]
request = ["by_class(label=3)", "at_random(fraction=0.1)"]
method = ["finetune(epochs=1)", "head_mask()"]
seeds = [0, 1]
retain_fraction = [1, 0.1]
oracles = [5, 6]
skip = ["relearning"]

[[grid]]
request = "by_class(label=3)"
method = "head_mask()"
seeds = 0
oracles = [5, 6]
skip = ["relearning"]
"""


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_grid_is_the_product_of_its_lists_and_a_job_stands_once(tmp_path: Path) -> None:
    plan = read_plan(written(tmp_path, PLAN))
    assert plan.title == "Two grids"
    expected = set(
        itertools.product(
            ("mlp(hidden=(8,))", "mlp(hidden=(16,))"),
            ("by_class(label=3)", "at_random(fraction=0.1)"),
            (0, 1),
            (1.0, 0.1),
            ("finetune(epochs=1)", "head_mask()"),
        )
    )
    found = [
        (
            spell(c.study.model),
            spell(c.study.request),
            c.study.seed,
            c.retain_fraction,
            spell(c.method),
        )
        for c in plan.jobs
    ]
    assert (
        len(found) == 32 and set(found) == expected
    )  # the second grid spells jobs of the first one again
    assert len(plan.studies) == 8 and all(
        s.oracles == (5, 6) and s.skip == ("relearning",) for s in plan.studies
    )
    assert len({c.digest for c in plan.jobs}) == 32 and len({s.digest for s in plan.studies}) == 8


def test_defaults_are_those_of_a_study(tmp_path: Path) -> None:
    text = 'data = "digits()"\nmodel = "mlp()"\nrequest = "by_class(label=1)"\n[[grid]]\nmethod = "muda()"\n'
    (job,) = read_plan(written(tmp_path, text)).jobs
    assert job.study == StudySpec(
        data=parse("digits()", DATASETS, "d"),
        model=parse("mlp()", MODELS, "m"),
        recipe=Recipe(),
        seed=0,
        oracles=(10, 11, 12),
        request=parse("by_class(label=1)", REQUESTS, "r"),
    )
    assert (job.retain_fraction, job.name) == (1.0, "muda") and replace(
        job, retain_fraction=0.05
    ).name == "muda 5%"


def test_audits_of_a_plan_are_spelled_out_in_one_order(tmp_path: Path) -> None:
    text = PLAN.replace("seeds = 0\n", 'seeds = 0\naudit = ["svc_mia( most = 50 )", "idi()"]\n')
    last = read_plan(written(tmp_path, text)).jobs[-1]
    assert last.study.audits == ("idi()", "svc_mia(most=50)")


def test_a_job_is_known_by_its_resolved_spec_and_by_nothing_else(tmp_path: Path) -> None:
    base = read_plan(written(tmp_path, PLAN)).jobs[0]
    spelled = PLAN.replace(
        "by_class(label=3)", "by_class( label = 3, duplicates='error' )"
    ).replace('"Two grids"', '"Other"')
    other = read_plan(written(tmp_path, spelled)).jobs[0]
    assert other.digest == base.digest
    method = parse("muda()", METHODS, "method")
    same = parse("muda(k=None)", METHODS, "method")
    assert MethodJob(base.study, method).digest == MethodJob(base.study, same).digest
    changes = {
        "data": parse("digits(test_fraction=0.3)", DATASETS, "d"),
        "model": parse("mlp(hidden=(9,))", MODELS, "m"),
        "recipe": Recipe(epochs=31),
        "request": parse("by_class(label=4)", REQUESTS, "r"),
        "seed": 7,
        "oracles": (5, 7),
        "layer": "0",
        "layers": ("0",),
        "skip": (),
        "map_points": 10,
        "precision": "bf16-mixed",
        "channels_last": True,
        "device": "cuda",
    }
    assert set(changes) == set(base.study.identity) - {"code"}
    changes["audits"] = ("svc_mia()",)  # a plan without audits has the digest it had before
    digests = {
        replace(base, study=replace(base.study, **{key: value})).digest
        for key, value in changes.items()
    }
    digests |= {
        base.digest,
        replace(base, retain_fraction=0.5).digest,
        replace(base, method=method).digest,
    }
    assert len(digests) == len(changes) + 3


WRONG = {
    "misspelt key": (
        PLAN.replace("seeds = [0, 1]", "seed = [0, 1]"),
        r"line 8: unknown key 'seed' \(did you mean 'seeds'\?\); the keys are data, model",
    ),
    "misspelt key above": (
        PLAN.replace('data = "digits()"', 'dataset = "digits()"'),
        r"line 3: unknown key 'dataset'.*title, grid, data, model",
    ),
    "misspelt method": (
        PLAN.replace('head_mask()"]', 'hed_mask()"]'),
        r"line 7: unknown method 'hed_mask'.*head_mask",
    ),
    "misspelt field": (
        PLAN.replace("finetune(epochs=1)", "finetune(epoch=1)"),
        r"line 7: method finetune has no field 'epoch'",
    ),
    "spec below the key": (
        PLAN.replace(
            'method = ["finetune(epochs=1)", "head_mask()"]',
            'method = [\n  "finetune()",\n  "mudda()",\n]',
        ),
        r"line 9: unknown method 'mudda'",
    ),
    "type": (
        PLAN.replace("seeds = [0, 1]", 'seeds = ["0", 1]'),
        r"line 8: seeds takes values of type int, got '0'",
    ),
    "bool is no number": (
        PLAN.replace("seeds = [0, 1]", "seeds = true"),
        r"line 8: seeds takes values of type int, got True",
    ),
    "fraction": (
        PLAN.replace("[1, 0.1]", "[1, 10]"),
        r"line 9: retain_fraction is from 0 \(none\) to 1 \(all\), got 10.0",
    ),
    "empty": (PLAN.replace("seeds = [0, 1]", "seeds = []"), r"line 8: seeds is an empty list"),
    "list": (
        PLAN.replace("seeds = 0\n", 'seeds = 0\nlayer = ["a"]\n'),
        r"line 17: layer takes one value",
    ),
    "shared seed": (
        PLAN.replace("seeds = [0, 1]", "seeds = [0, 5]"),
        r"line 10: seeds of retrained models must differ.*5 is a training seed too",
    ),
    "no oracle": (
        PLAN.replace("oracles = [5, 6]", "oracles = []", 1),
        r"line 10: oracles needs the seed of one retrained model or more",
    ),
    "number of oracles": (
        PLAN.replace("oracles = [5, 6]", "oracles = 3", 1),
        r"line 10: oracles is a list of seeds.*\[10, 11, 12\]; got 3",
    ),
    "points": (
        PLAN.replace("seeds = 0\n", "seeds = 0\nmap_points = 0\n"),
        r"line 17: map_points is 1 or more, got 0",
    ),
    "standard input": (
        PLAN.replace("by_class(label=3)", "by_ids(path='-')", 1),
        r"line 6: .*cannot share standard input; name a file",
    ),
    "audit": (
        PLAN.replace("seeds = 0\n", 'seeds = 0\naudit = ["svc_mai()"]\n'),
        r"line 17: .*svc_mai",
    ),
    "audit twice": (
        PLAN.replace("seeds = 0\n", 'seeds = 0\naudit = ["idi()", "idi(most=50)"]\n'),
        r"line 17: an audit stands twice",
    ),
    "skip": (
        PLAN.replace('skip = ["relearning"]', 'skip = ["relerning"]', 1),
        r"line 11: .*relerning",
    ),
    "missing": (
        PLAN.replace('data = "digits()"\n', ""),
        r"grid 1 has no data; it needs data, model, request, method",
    ),
    "no grid": ('title = "x"\n', r"a plan has one \[\[grid\]\] table or more"),
    "title": (PLAN.replace('"Two grids"', "3"), r"line 2: title must be one line of text, got 3"),
    "printed title": (
        PLAN.replace('"Two grids"', r'"a\u001b[31m"'),
        r"line 2: title must be one line",
    ),
    "TOML": (PLAN + "x = = 3\n", r"line \d+"),
    "deep": (f"x = {'[' * 5000}{']' * 5000}\n{PLAN}", "nested too deep"),
    "digits": (f"x = {'1' * 5000}\n{PLAN}", "4300 digits"),
    "wide seeds": (PLAN.replace("seeds = 0", f"seeds = {10**400}"), r"line 16: seeds .*64 bits"),
    "wide fraction": (
        PLAN.replace("[1, 0.1]", f"[{10**400}]"),
        r"line 9: retain_fraction takes values of type float, got 1000",
    ),
    "many": (
        PLAN.replace("seeds = [0, 1]", f"seeds = {list(range(100, 20000))}"),
        "grid 1 has 318,400 jobs, more than 100,000",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_file_and_line(name: str, tmp_path: Path) -> None:
    text, message = WRONG[name]
    path = written(tmp_path, text)
    with pytest.raises(EigenforgetError, match=message) as caught:
        read_plan(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_plan_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        EigenforgetError,
        match=re.escape(f"plan {tmp_path / 'no.toml'}: cannot be read: No such file"),
    ):
        read_plan(tmp_path / "no.toml")


def test_a_plan_is_a_file_that_fits_in_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(2**36)
    for path, words in (
        ("pipe.toml", "no regular file"),
        ("huge.toml", "more than"),
        (".", "folder"),
    ):
        with pytest.raises(EigenforgetError, match=words):
            read_plan(tmp_path / path)


def test_a_thousand_jobs_share_their_models_and_are_listed_by_status(tmp_path: Path) -> None:
    methods = ", ".join(f'"finetune(epochs={i + 1})"' for i in range(25))
    text = (
        'data = "digits()"\nmodel = ["mlp(hidden=(8,))", "mlp(hidden=(9,))"]\n'
        'request = ["by_class(label=3)", "by_class(label=4)"]\n'
        f"[[grid]]\nmethod = [{methods}]\nseeds = [0, 1, 2, 3, 4]\nretain_fraction = [1.0, 0.1]\n"
    )
    plan = read_plan(written(tmp_path, text))
    bench = Bench(plan, Store.at(tmp_path / "store"), pool_of("sequential"))
    outline = bench.outline()
    assert len(outline.methods) == 1000 and len(outline.baselines) == 20
    # Originals do not depend on the request, oracles not on the training seed.
    assert len(outline.training) == 2 * 5 + 2 * 2 * 3
    folder = tmp_path / "store" / "jobs"
    folder.mkdir(parents=True)
    for number, job in enumerate(bench.jobs()):
        status = ("ok", "refused", "failed")[number % 3]
        (folder / f"{job.digest[7:]}.{status}.json").write_text("{}", encoding="utf-8")
    statuses = bench.store.statuses()
    assert sorted(statuses.values()) == ["failed"] * 333 + ["ok"] * 334 + ["refused"] * 333
    assert bench.outline().done == {"ok": 334, "refused": 333, "failed": 333}
