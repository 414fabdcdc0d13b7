"""The table of a terminal: 80 columns, and every number."""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from eigenforget.record import (
    Outcome,
    RunRecord,
)
from eigenforget.report import glossary
from eigenforget.report.pages.console import rich_table
from tests.report.band_toys import FAMILY, MARKUP, member, row
from tests.report.page_toys import MODELS, half, refused, score


@pytest.mark.parametrize("oracles", [0, 1, 2, 3])
def test_the_terminal_never_writes_past_80_columns(oracles: int) -> None:
    rng = np.random.default_rng(0)
    roles = {
        "original": "original",
        **dict.fromkeys(list(FAMILY)[:oracles], "oracle"),
        "finetune_with_a_very_long_name": "unlearned",
    }
    roles |= {f"model_{i}": "unlearned" for i in range(6)} | {MARKUP: "control"}
    records = []
    for name, role in roles.items():
        scores = [
            replace(row(s, float(rng.normal() * 10.0 ** rng.integers(-6, 9))), range=(None, None))
            for s in glossary._KNOWN
        ]
        records.append(
            replace(member(name, role, *scores), outcome=Outcome("ok", float(rng.uniform(1, 1e5))))
        )
    file = io.StringIO()
    Console(file=file, width=80).print(rich_table(records, 80))
    text = file.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert ("±" in text) == (
        oracles >= 2
    ) and f"{len(glossary._KNOWN) - len(glossary.HEADLINE)} further scores" in " ".join(
        text.split()
    )
    assert all(
        re.search(rf"^{re.escape(glossary.label(n))} ", text, re.MULTILINE)
        for n in glossary.HEADLINE
    )


def printed(records: list[RunRecord], width: int = 80) -> str:
    file = io.StringIO()
    Console(file=file, width=width).print(rich_table(records, width))
    return file.getvalue()


def scores_of(text: str) -> str:
    """What follows the verdicts."""
    return text.partition("\n\n")[2]


def test_the_verdicts_stand_first_with_signs(records: list[RunRecord]) -> None:
    lines = printed(records).partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["muda", "finetune", "twin", "head_mask"]
    assert lines[2].split("  ")[1].strip() == "still remembers" and "✗ no" in lines[2]
    assert "finetune, forgot: no, " in "\n".join(
        lines[5:]
    ) and "head_mask, forgot: no, " in "\n".join(lines[5:])


def test_the_terminal_table_fits_80_columns_and_shows_every_number(
    records: list[RunRecord],
) -> None:
    text = printed(records)
    assert max(map(len, text.splitlines())) <= 80
    text = scores_of(text)
    numbers = Counter(re.findall(r"(?<![\d.+-])\d\.\d{3}\b", text))
    models = [
        v
        for role, _, values in MODELS.values()
        if role != "oracle"
        for v in values
        if v is not None
    ]
    # Each model's values once; the retrained models as a mean and half of a band, in each of the
    # two blocks.
    wanted = Counter(f"{v:.3f}" for v in models)
    for one, two in zip(MODELS["oracle_1"][2], MODELS["oracle_2"][2], strict=True):
        assert one is not None and two is not None
        wanted += Counter(2 * [f"{(one + two) / 2:.3f}", f"{half(one, two):.3f}"])
    assert numbers == wanted
    first, second = (text[m.start() :].splitlines()[1:3] for m in re.finditer("\nDA ", text))
    # -0.353, +0.007, -0.319 and -0.001 from the mean, in halves of 0.088.
    assert first[0].split() == ["DA", "0.974", "0.621", "0.981", "0.655", "0.973"]
    assert first[1].split() == [
        "±",
        "0.088",
        "-4.0",
        "off",
        "+0.1",
        "in",
        "-3.6",
        "off",
        "+0.0",
        "in",
    ]
    assert [line.split() for line in second] == [
        ["DA", "0.974", "0.621"],
        ["±", "0.088", "-4.0", "off"],
    ]
    said = " ".join(text.split())
    assert "9.5%" in said and "107%" in said and "- = not applicable" in said
    for name in ("original", "muda", "finetune", "twin", "head_", "mask", "retrained"):
        assert name in text


def test_many_models_take_several_blocks_and_long_names_are_folded(
    records: list[RunRecord],
) -> None:
    long = "n" * 90 + "end"
    many = [
        replace(records[3], name=f"m{i:02}", scores=(score("da", 0.5 + i / 100),))
        for i in range(17)
    ]
    for oracles in (records[1:3], []):
        text = printed(
            [*oracles, *many, replace(records[3], name=long), refused("said_no"), refused("[red]x")]
        )
        assert max(map(len, text.splitlines())) <= 80
        text = scores_of(text)
        assert text.count("\nDA ") >= 3 and "[red]x" in text and text.count("refused") >= 2
        assert all(
            text.count(f"m{i:02}") == 1 and f"{0.5 + i / 100:.3f}" in text for i in range(17)
        )
        assert (
            long in re.sub(r"\s+|retrained", "", text)
            and sum(line.count("n" * 30) for line in text.splitlines()) >= 2
        )
        assert ("no gaps" in text) == (not oracles) and ("retrained  " in text) == bool(oracles)


def test_reasons_stand_below_the_table_with_their_scores_and_models(
    records: list[RunRecord],
) -> None:
    below = " ".join(printed(records).split()).partition("- = not applicable.")[2]
    assert "No value of MIA AUC (head_mask): a masked logit has no finite loss" in below
    other = replace(score("da", None), reason="needs 10 samples of the forget set, got 2")
    two = [replace(records[0], scores=(other,)), replace(records[1], scores=(score("da", None),))]
    below = " ".join(printed(two).split()).partition("- = not applicable.")[2]
    assert f"No value of DA ({records[0].name}): needs 10 samples" in below
    assert below.endswith(f"No value of DA ({records[1].name}): a masked logit has no finite loss")
    few = [replace(r, scores=(score("da", None), score("mia_auc", None))) for r in records[:3]]
    below = " ".join(printed(few).split()).partition("- = not applicable.")[2]
    assert below.endswith("No value of MIA AUC and DA: a masked logit has no finite loss")
