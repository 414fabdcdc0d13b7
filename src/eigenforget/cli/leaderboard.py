"""`eigenforget leaderboard`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.terminal import say
from eigenforget.core.errors import EigenforgetError
from eigenforget.experiments.bench.finished import read_experiments
from eigenforget.record import check_place, read_bytes, write_text
from eigenforget.report.pages import leaderboard as report
from eigenforget.report.pages.leaderboard import ExperimentRecords

_BEGIN, _END = "<!-- leaderboard: {} -->", "<!-- end of leaderboard -->"


def leaderboard(
    folders: Annotated[
        tuple[Path, ...], Parameter(help="folders with results of plans", negative=())
    ],
    /,
    *,
    into: Annotated[
        Path | None,
        Parameter(
            help="document whose marks enclose the table; a picture goes beside it; default: print"
        ),
    ] = None,
) -> None:
    """Make one table of the results of several plans.

    It counts how many scores of each method are in the band of the retrained models, and shows
    the cost.

    Example:
        eigenforget leaderboard results/plan
    """
    if not folders:
        raise EigenforgetError("leaderboard needs a folder with results of a plan")
    if into is not None:
        check_place(into, overwrite=True)
    experiments: dict[str, ExperimentRecords] = {}
    for folder in folders:
        found = read_experiments(folder)
        if not found:
            raise EigenforgetError(
                f"{folder} has no results of a bench (EXPERIMENT/seedN/records or a scores file)"
            )
        experiments |= {f"{folder}/{name}": experiment for name, experiment in found.items()}
    below = Path.cwd() if into is None else into.absolute().parent
    linked = _linked(experiments, below)
    if into is None:
        print(report.leaderboard_table(linked), end="")
        return
    picture = into.with_suffix(".svg")
    text = report.leaderboard_table(linked, picture=picture.name)
    _put(into, " ".join(map(str, folders)), text)
    write_text(picture, report.leaderboard_picture(linked))
    say(f"wrote the table into {into}, and its picture {picture}", wrap=False)


def _linked(experiments: dict[str, ExperimentRecords], below: Path) -> list[ExperimentRecords]:
    """The experiments, whose titles are links from a folder to their summaries."""
    short = {name: Path(name).name for name in experiments}
    for name in experiments:  # two plans may share an experiment
        if list(short.values()).count(short[name]) > 1:
            short[name] = "/".join(Path(name).parts[-2:])
    links = {
        name: os.path.relpath(Path(name).absolute(), below).replace(os.sep, "/")
        for name in experiments
    }
    return [
        experiment._replace(title=f"[{short[name]}]({links[name]}/summary.md)")
        for name, experiment in experiments.items()
    ]


def _put(document: Path, source: str, text: str) -> None:
    """Replaces the text between the marks in a document."""
    begin = _BEGIN.format(source)
    try:
        old = read_bytes(document).decode()
    except UnicodeDecodeError:
        raise EigenforgetError(f"{document} is not text in UTF-8") from None
    before, mark, rest = old.partition(begin)
    _, end, after = rest.partition(_END)
    if not mark or not end:
        raise EigenforgetError(
            f"{document} has no lines {begin!r} and {_END!r}, to put the table between"
        )
    write_text(document, f"{before}{begin}\n\n{text}\n{_END}{after}")
