"""python -m eigenforget.record.verify FILE_OR_FOLDER…: are the records as they were written?

A file is checked alone, a folder as one chain. One line per record; exit status 0 when all is good, 2 with one line per
problem on standard error otherwise. Needs the standard library only.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eigenforget.record.canonical import RecordError
from eigenforget.record.store import Stored, chain_problems, in_order, read, record_files


def verify(path: str | Path) -> tuple[list[str], list[str]]:
    """(lines about good records, problems) of a file or of a folder."""
    path = Path(path)
    try:
        files = record_files(path) if path.is_dir() else [path]
    except RecordError as error:
        return [], [str(error)]
    stored: list[Stored] = []
    problems: list[str] = []
    for file in files:
        try:
            stored.append(Stored(read(file), file))
        except RecordError as error:
            problems.append(str(error))
    if path.is_dir() and not problems:
        # An unreadable link breaks the chain by itself, so the chain is judged only when every record can be read.
        problems = chain_problems(stored)
        stored = stored if problems else in_order(stored)
    return [_line(item) for item in stored], problems


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eigenforget.record.verify", description="Check records.")
    parser.add_argument("paths", nargs="+", metavar="FILE_OR_FOLDER", help="a record, or a folder that holds one chain")
    status = 0
    for path in parser.parse_args(argv).paths:
        good, problems = verify(path)
        for line in good:
            print(line)
        for problem in problems:
            print(f"error: {problem}", file=sys.stderr)
            status = 2
    return status


def _line(item: Stored) -> str:
    record = item.record
    what = record.kind if record.role is None else f"{record.kind} {record.role}"
    return f"ok  {item.path}  {what}  {record.name!r}  {record.outcome.status}  {record.digest}"


if __name__ == "__main__":
    sys.exit(main())
