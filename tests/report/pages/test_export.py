"""The table for other tools: what each format holds, read back with other readers."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from eigenforget.cli import main
from eigenforget.record import RecordError, RunRecord, ScoreRow, seal, write
from eigenforget.report.escaping import flattened, latex
from eigenforget.report.glossary import HEADLINE, label
from eigenforget.report.pages import export
from eigenforget.report.pages.export import frame, to_csv, to_latex, to_markdown
from eigenforget.report.table import build
from tests.report.hostile_toys import HOSTILE
from tests.report_toys import made, score, whole


def hostile() -> list[RunRecord]:
    records = [made(f"oracle {i}", "oracle", [score("da", 0.5 + i / 100)]) for i in range(3)]
    return [
        *records,
        made(HOSTILE, "unlearned", [score("da", 0.7)]),
        made("[b]*", "unlearned", [score("da", None)]),
    ]


def bounded() -> list[RunRecord]:
    row = ScoreRow("da", 0.5, "share", "reference", (0.0, 1.0), low=0.4, high=0.625)
    return [
        made("oracle 1", "oracle", [score("da", 0.25)]),
        made("m", "unlearned", [row, score("nmi", None)]),
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Records as files, and split.json that is none."""
    place = tmp_path / "records"
    place.mkdir()
    for i, record in enumerate(whole()):
        write(record, place / f"{i:02d}.json")
    return place


def status(*argv: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in argv])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_csv_has_every_number_of_the_table_in_full() -> None:
    table = build(whole())
    found = {line["model"]: line for line in csv.DictReader(io.StringIO(to_csv(whole())))}
    assert list(found) == [row.model for row in table.rows]
    for row in table.rows:
        line = found[row.model]
        assert (line["role"], line["status"], float(line["seconds"])) == (
            row.role,
            row.status,
            row.seconds,
        )
        for name, cell in row.cells.items():
            wanted = {name: cell.value, f"{name}_gap": cell.gap, f"{name}_units": cell.units}
            assert {key: None if line[key] == "" else float(line[key]) for key in wanted} == wanted
            assert line[f"{name}_verdict"] == cell.verdict
    assert not any(name.endswith(("_low", "_high")) for name in found["one"])


def test_intervals_stand_where_there_are_any() -> None:
    found = list(csv.DictReader(io.StringIO(to_csv(bounded()))))
    assert [(line["da_low"], line["da_high"]) for line in found] == [("", ""), ("0.4", "0.625")]
    assert (
        "nmi_low" not in found[0]
        and found[1]["nmi"] == found[1]["nmi_gap"] == found[1]["nmi_verdict"] == ""
    )
    assert "0.500 [0.400, 0.625] (+0.250)" in to_markdown(
        bounded()
    ) and "$0.500$ $[0.400, 0.625]$ ($+0.250$)" in to_latex(bounded())


def test_zero_is_a_number_and_an_unknown_time_is_none() -> None:
    (line,) = csv.DictReader(io.StringIO(to_csv([made("m", "unlearned", [score("da", 0.0)])])))
    assert (line["da"], line["seconds"], line["da_gap"]) == ("0.0", "", "")
    both = [made("o", "oracle", [score("da", 0.0)]), made("m", "unlearned", [score("da", 0.0)])]
    assert to_csv(both).endswith("m,unlearned,ok,cannot-tell,0.0,0.0,,,\n")


def test_columns_of_one_name_are_refused() -> None:
    records = [made("m", "unlearned", [score("da", 0.5), score("da_gap", 0.5)])]
    with pytest.raises(RecordError, match="'da_gap'"):
        frame(records)
    assert frame(records, ["da"]).names == (
        "model",
        "role",
        "status",
        "verdict",
        "da",
        "da_gap",
        "da_units",
        "da_verdict",
        "seconds",
    )


def test_scores_are_chosen_by_name_or_alias_in_the_order_given() -> None:
    names = frame(whole(), ["nmi", "lp", "da@first", "nmi"]).names
    assert [n for n in names if n in ("nmi", "lp_forget", "da@first", "da")] == [
        "nmi",
        "lp_forget",
        "da@first",
    ]
    with pytest.raises(RecordError, match=r"no score 'dda' \(did you mean (.* or )?da"):
        frame(whole(), ["dda"])
    with pytest.raises(RecordError, match=r"no score 'zrf'; they have .*da"):
        to_latex(whole(), ["zrf"])


def test_documents_show_the_main_scores_and_data_all() -> None:
    head = to_markdown(whole()).splitlines()[0]
    shown = [name for name in HEADLINE if name in frame(whole()).names]
    assert (
        head == f"| model | role | status | {' | '.join(label(name) for name in shown)} |"
        and "da@first" in frame(whole()).names
    )
    others = [made("m", "unlearned", [score("mine", 0.5)])]
    assert "mine" in to_markdown(others).splitlines()[0]


def markdown_cells(line: str) -> list[str]:
    return re.split(r"(?<!\\)(?:\\\\)*\|", line.strip())[1:-1]


def test_markdown_lines_have_as_many_cells_as_the_head() -> None:
    lines = to_markdown(hostile()).splitlines()
    table = lines[: lines.index("")]
    assert len(table) == 2 + 1 + 5 and {len(markdown_cells(line)) for line in table} == {4}
    assert markdown_cells(table[2])[-1].strip() == "0.510 ± 0.050" and table[-1].endswith("| – |")
    assert markdown_cells(table[6])[-1].strip() == "0.700 (+0.190; +3.8, off)"


def test_latex_lines_have_as_many_cells_as_the_head() -> None:
    text = to_latex(hostile())
    body = [line for line in text.splitlines() if line.endswith(r" \\")]
    assert len(body) == 2 + 5 and all(len(re.findall(r"(?<!\\)&", line)) == 3 for line in body)
    assert body[-1].startswith(r"{[}b{]}{*} & unlearned & ok & --") and latex(HOSTILE) in body[-2]
    assert (
        text.count(r"\midrule") == 2 and text.count(r"\toprule") == text.count(r"\bottomrule") == 1
    )


def test_latex_without_retrained_models_has_flattened_less() -> None:
    values = {"da": 0.5, "nmi": 12345.0, "nc1": 1.5e-7}
    records = [
        made("m", "unlearned", [score(name, value, (None, None)) for name, value in values.items()])
    ]
    assert to_latex(records, ["da", "nmi", "nc1"]).splitlines()[2:] == [
        r"\begin{tabular}{llllll}",
        r"\toprule",
        r"model & role & status & DA & NMI & NC1 \\",
        r"\midrule",
        r"m & unlearned & ok & $0.500$ & $1.23 \cdot 10^{4}$ & $1.5 \cdot 10^{-7}$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_parquet_is_the_frame(folder: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    main(["export", str(folder), "--format", "parquet", "-o", str(tmp_path / "t.parquet")])
    found, wanted = parquet.read_table(tmp_path / "t.parquet"), frame(whole())
    assert tuple(found.column_names) == wanted.names and [
        tuple(r.values()) for r in found.to_pylist()
    ] == list(wanted.rows)
    assert {str(found.schema.field(n).type) for n in wanted.names if n in wanted.texts} == {
        "string"
    }
    assert {str(found.schema.field(n).type) for n in wanted.names if n not in wanted.texts} == {
        "double"
    }
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


@pytest.mark.parametrize("form", ["csv", "markdown", "latex"])
def test_export_prints_or_writes(
    form: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", str(folder), "--format", form, "--score", "da", "--score", "lp"])
    printed = capsys.readouterr().out
    assert printed == getattr(export, f"to_{form}")(whole(), ["da", "lp_forget"])
    main(
        [
            "export",
            str(folder),
            "--format",
            form,
            "--score",
            "da",
            "--score",
            "lp",
            "-o",
            str(tmp_path / "out"),
        ]
    )
    assert (tmp_path / "out").read_text(encoding="utf-8") == printed


def test_nothing_is_overwritten_unasked(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "kept"
    out.write_text("mine", encoding="utf-8")
    for given in (
        ["export", folder, "--format", "csv"],
        ["export", folder, "--format", "parquet"],
        ["card", folder],
    ):
        assert status(*given, "-o", out) == 2 and "use --overwrite" in capsys.readouterr().err
    assert out.read_text(encoding="utf-8") == "mine"
    assert (
        status("export", folder, "--format", "csv", "-o", out, "--overwrite", "--score", "nothing")
        == 2
    )
    assert out.read_text(encoding="utf-8") == "mine"
    main(["export", str(folder), "--format", "csv", "-o", str(out), "--overwrite"])
    assert out.read_text(encoding="utf-8").startswith("model,role,status,")


def test_bad_input_is_flattened(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for given, message in (
        (["--format", "csv"], "RECORDS"),
        ([folder, "--format", "parquet"], "needs a file: -o FILE"),
        ([folder, "--format", "xlsx"], "xlsx"),
        ([folder, "--format", "csv", "-o", "/dev/null/none/t.csv"], "is a file; name a folder"),
        ([folder, "--format", "parquet", "-o", "/dev/full"], "is not a regular file"),
        ([tmp_path / "no.json", "--format", "csv"], "cannot be read"),
    ):
        assert status("export", *given) == 2
        said = capsys.readouterr().err
        assert message in said and said.count("\n") == 1


def test_single_files_and_folders_are_read_alike(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["export", *map(str, sorted(folder.glob("*.json"))), "--format", "csv"])
    assert capsys.readouterr().out == to_csv(whole())


def test_sealed_records_of_hostile_names_can_be_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = flattened(HOSTILE)  # no record has a name of two lines
    write(seal(replace(hostile()[3], name=name)), tmp_path / "a.json")
    main(["export", str(tmp_path / "a.json"), "--format", "csv"])
    (line,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert line["model"] == name
