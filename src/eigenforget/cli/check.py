"""`eigenforget check`."""

from __future__ import annotations

from eigenforget.cli.options import RecordPaths, Require
from eigenforget.cli.record_files import read_all
from eigenforget.core.errors import EigenforgetError
from eigenforget.report import requirements


def check(records: RecordPaths, /, *, require: Require = ()) -> None:
    """Check every unlearned model against requirements, and print its verdict first.

    Exit code 0 if all requirements hold, 1 if one does not. A requirement that cannot be judged
    does not hold. docs/exports.md lists the requirements.

    Example:
        eigenforget check results/records --require 'verdict==like-retrained'
    """
    if not require:
        raise EigenforgetError(
            "check needs at least one --require, as in --require 'verdict==like-retrained'"
        )
    found = read_all(records)
    known = [row.name for record in found for row in record.scores]
    judged = requirements.judge_records(
        [requirements.parse_requirement(text, known) for text in require], found
    )
    for line in requirements.verdict_lines(found):
        print(line)
    for item in judged:
        print(item.line)
    raise SystemExit(0 if all(item.holds for item in judged) else 1)
