"""Commands that write exports, and that judge records by requirements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from eigenforget.cli.options import Overwrite, Require, app
from eigenforget.core.errors import EigenforgetError

if TYPE_CHECKING:
    from eigenforget.record import RunRecord

Records = Annotated[
    tuple[Path, ...], Parameter(help="record files or folders of them", negative=())
]
File = Annotated[Path | None, Parameter(name=["--out", "-o"], help="the file; default: print it")]


@app.command
def export(
    records: Records,
    /,
    *,
    format: Annotated[
        Literal["csv", "parquet", "markdown", "latex"], Parameter(help="what is written")
    ],
    out: File = None,
    score: Annotated[
        tuple[str, ...],
        Parameter(
            help="score to write; repeatable; default: all, in documents the main ones", negative=()
        ),
    ] = (),
    overwrite: Overwrite = False,
) -> None:
    """Write the table of evaluate records for other tools: each score with its gap to the retrained
    models and what follows from it.
    """
    from eigenforget.report.pages import export as made

    _check_free(out, overwrite)
    found = _read(records)
    if format != "parquet":
        writers = {"csv": made.to_csv, "markdown": made.to_markdown, "latex": made.to_latex}
        _give(writers[format](found, score), out)
        return
    if out is None:
        raise EigenforgetError("--format parquet needs a file: -o FILE")
    from eigenforget.cli.exporting import write_parquet

    write_parquet(found, out, score)
    print(f"wrote {out}")


@app.command
def check(records: Records, /, *, require: Require = ()) -> None:
    """Judge every unlearned model by requirements, as in --require 'lp_gap<=band'. Exit code 0
    where all hold, 1 where one does not.

    See docs/exports.md for the requirements. What cannot be judged does not hold.
    """
    from eigenforget.report import requirements

    if not require:
        raise EigenforgetError("check needs at least one --require, as in --require 'lp_gap<=band'")
    found = _read(records)
    known = [row.name for record in found for row in record.scores]
    judged = requirements.judge_records(
        [requirements.parse_requirement(text, known) for text in require], found
    )
    for item in judged:
        print(item.line)
    raise SystemExit(0 if all(item.holds for item in judged) else 1)


@app.command
def card(
    records: Records,
    /,
    *,
    out: File = None,
    model: Annotated[
        str, Parameter(help="the model that the card is of; default: all unlearned ones")
    ] = "",
    overwrite: Overwrite = False,
) -> None:
    """Write a model card for the Hugging Face hub: what was forgotten, how it was measured, what is
    claimed, and how to check it.
    """
    from eigenforget.report.pages.card import card as made

    _check_free(out, overwrite)
    _give(made(_read(records), model), out)


def _read(paths: tuple[Path, ...]) -> list[RunRecord]:
    from eigenforget.record import read, read_folder

    return [r for path in paths for r in (read_folder(path) if path.is_dir() else [read(path)])]


def _check_free(out: Path | None, overwrite: bool) -> None:
    if out is not None and out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; say --overwrite to replace it")


def _give(text: str, out: Path | None) -> None:
    from eigenforget.record import write_text

    if out is None:
        print(text, end="")
        return
    write_text(out, text)
    print(f"wrote {out}")
