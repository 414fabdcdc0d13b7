"""The model card: its metadata as the hub reads it, what it says, and names that try to be more
than a name.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from eigenforget.cli import main
from eigenforget.record import RecordError, RunRecord, write
from eigenforget.report.escaping import markdown
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.pages.card import model_card
from tests.report_toys import made, score, whole

NAME = 'x"\n---\nlicense: mit\n- {a: [b]} # `c` | <i>d</i> é \u202e\U0001f600 \\'
JOB: dict[str, Any] = {
    "request": {"spec": "by_class(label=3)"},
    "method": {"spec": "scrub(alpha=0.1)"},
    "data": {"spec": 'npz(path="a:b.npz")'},
    "model": {"spec": "mlp(hidden=(8,))"},
    "seed": 0,
    "sizes": {"forget": 30, "retain": 270},
}


def records(
    name: str = "gone", values: tuple[float | None, ...] = (0.25,), **job: Any
) -> list[RunRecord]:
    scores = [score(s, v, (None, None)) for s, v in zip(HEADLINE, values, strict=False)]
    others = [
        made(
            f"oracle {i}",
            "oracle",
            [score(s.name, 0.2 + i / 100, (None, None)) for s in scores],
            job=JOB,
        )
        for i in range(3)
    ]
    said: dict[str, Any] = {
        "claims": ("It is 1 < 2.",),
        "non_claims": ("No proof.",),
        "inputs": {"checked_model": "sha256:ab"},
    }
    model = made(name, "unlearned", scores, job=JOB | job, **said)
    return [*others, model, made("mask", "control", scores, job=JOB)]


def front(text: str) -> str:
    """What stands between the first two lines of three hyphens."""
    _, found, _ = re.split(r"(?m)^---$\n?", text, maxsplit=2)
    return found


def metadata(text: str) -> dict[str, Any]:
    found = pytest.importorskip("yaml").safe_load(front(text))
    assert isinstance(found, dict)
    return found


def test_the_metadata_by_known_answer() -> None:
    assert front(model_card(records())).splitlines() == [
        "# license: the publisher's choice",
        "tags:",
        "- machine-unlearning",
        "- eigenforget",
        "model-index:",
        '- name: "gone"',
        "  results:",
        "  - task:",
        "      type: other",
        "    dataset:",
        r'      name: "npz(path=\"a:b.npz\")"',
        '      type: "npz"',
        "    metrics:",
        '    - type: "forget_accuracy"',
        "      value: 0.25",
        '      name: "forget accuracy"',
    ]


def test_the_hub_reads_every_headline_score_of_each_unlearned_model() -> None:
    hub = pytest.importorskip("huggingface_hub")
    data = hub.ModelCard(model_card(whole(), "two")).data
    wanted = {
        s.name: s.value
        for s in next(r for r in whole() if r.name == "two").scores
        if s.name in HEADLINE
    }
    assert (
        data.model_name == "two"
        and data.tags == ["machine-unlearning", "eigenforget"]
        and data.license is None
    )
    assert {r.metric_type: r.metric_value for r in data.eval_results} == wanted
    assert {(r.task_type, r.dataset_type, r.dataset_name) for r in data.eval_results} == {
        ("other", "unknown", "unknown")
    }
    assert {r.metric_name for r in data.eval_results} == set(map(label, wanted))


def test_all_unlearned_models_are_in_the_index_and_no_control() -> None:
    index = metadata(model_card(whole()))["model-index"]
    assert [entry["name"] for entry in index] == ["one", "two", "three", "four"]
    assert [entry["name"] for entry in metadata(model_card(whole(), "three"))["model-index"]] == [
        "three"
    ]


@pytest.mark.parametrize(
    "name",
    [
        NAME,
        "yes",
        "1e3",
        "null",
        "- a",
        "''",
        "&a *a",
        "!!python/object:os.system",
        "%YAML 1.2",
        "\ud7ff\ufeff\u0085",
    ],
)
def test_hostile_names_are_names(name: str) -> None:
    text = model_card(
        records(
            name,
            request={"spec": f"by_ids(ids=({name!r},))\n---\n"},
            data={"spec": f"npz(path={name!r})\n---"},
        )
    )
    found = metadata(text)
    assert set(found) == {"tags", "model-index"} and [
        entry["name"] for entry in found["model-index"]
    ] == [name]
    assert found["model-index"][0]["results"][0]["dataset"]["name"] == f"npz(path={name!r})\n---"
    assert len(re.findall(r"(?m)^---$", text)) == 2 and f"\n# {markdown(name)}\n" in text
    body = (
        pytest.importorskip("markdown_it")
        .MarkdownIt("gfm-like", {"linkify": False})
        .parse(text.split("---\n")[-1])
    )
    kinds = {t.type for token in body for t in (token, *(token.children or []))}
    assert (
        not kinds & {"html_inline", "html_block", "link_open", "em_open", "hr", "fence"}
        and {"table_open", "code_inline"} <= kinds
    )


@pytest.mark.parametrize("value", [1e-5, -1e-300, 1e22, 12345678.0, 0.1 + 0.2, 0.0, -0.0, 1.0])
def test_values_are_numbers_of_the_same_bits(value: float) -> None:
    (metric,) = metadata(model_card(records(values=(value,))))["model-index"][0]["results"][0][
        "metrics"
    ]
    assert isinstance(metric["value"], float) and metric["value"] == value
    assert math.copysign(1, metric["value"]) == math.copysign(1, value)


@pytest.mark.parametrize(
    ("spec", "task"),
    [
        ("digits()", "image-classification"),
        ("table(path='a.csv')", "tabular-classification"),
        ("text(path='a')", "text-classification"),
        ("mine(text=1)", "other"),
    ],
)
def test_the_task_follows_from_the_data(spec: str, task: str) -> None:
    (result,) = metadata(model_card(records(data={"spec": spec})))["model-index"][0]["results"]
    assert result["task"] == {"type": task} and result["dataset"] == {
        "name": spec,
        "type": spec.split("(")[0],
    }


def test_it_says_what_was_done_measured_and_how_to_check() -> None:
    text = model_card(records())
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [
        "What was forgotten, and how",
        "What the measurements say",
        "Results",
        "Before you quote this",
        "Claimed",
        "Not claimed",
        "How to verify",
    ]
    for said in (
        "- request: `by_class(label=3)`",
        "- method: `scrub(alpha=0.1)`",
        "- samples: forget 30, retain 270",
        "on 3 models retrained",
        "gone: ",
        "| mask | control | ok |",
        "EF016",
        "- It is 1 &lt; 2.",
        "- No proof.",
        "`eigenforget verify RECORDS --files FOLDER`",
        "- weights of gone: `sha256:ab`",
        "- record of gone: `not sealed`",
    ):
        assert said in text, said
    sealed = whole()
    assert all(
        f"- record of {r.name}: `{r.digest}`" in model_card(sealed)
        for r in sealed
        if r.role == "unlearned"
    )


def test_what_has_no_value_is_left_out_or_said_to_be_unknown() -> None:
    def types(values: tuple[float | None, ...]) -> list[str]:
        return [
            m["type"]
            for m in metadata(model_card(records(values=values)))["model-index"][0]["results"][0][
                "metrics"
            ]
        ]

    assert types((None, 0.5)) == ["retain_accuracy"] and types((None,)) == ["verdict"]


def test_errors() -> None:
    with pytest.raises(RecordError, match="nothing to write a card of"):
        model_card(whole(models={"mask": "control", "oracle": "oracle"}))
    with pytest.raises(RecordError, match=r"named 'mask'; the records have one, two, three, four"):
        model_card(whole(), "mask")
    lost = replace(
        records()[3],
        outcome=replace(records()[3].outcome, status="failed", reason="it diverged"),
        scores=(),
    )
    with pytest.raises(RecordError, match="nothing to write a card of"):
        model_card([*records()[:3], lost])


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "records").mkdir()
    for i, record in enumerate(whole()):
        write(record, tmp_path / "records" / f"{i}.json")
    main(["card", str(tmp_path / "records"), "--model", "two", "-o", str(tmp_path / "README.md")])
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == model_card(whole(), "two")
    capsys.readouterr()
    main(["card", str(tmp_path / "records")])
    assert capsys.readouterr().out == model_card(whole())
    with pytest.raises(SystemExit, match="2"):
        main(["card", str(tmp_path / "records"), "--model", "nobody"])
    assert "named 'nobody'" in capsys.readouterr().err
