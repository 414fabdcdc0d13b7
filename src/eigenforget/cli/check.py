"""`eigenforget check`."""

from __future__ import annotations

from eigenforget.cli.options import RecordPaths, Require
from eigenforget.cli.record_files import read_all
from eigenforget.core.errors import EigenforgetError
from eigenforget.report import requirements


def check(records: RecordPaths, /, *, require: Require = ()) -> None:
    """Check every unlearned model against requirements, such as --require 'lp_gap<=band'.

    Exit code 0 if all requirements hold, 1 if one does not. A requirement that cannot be judged
    does not hold. docs/exports.md lists the requirements.

    Example:
        eigenforget check results/records --require 'forget_accuracy<=0.1'
    """
    if not require:
        raise EigenforgetError("check needs at least one --require, as in --require 'lp_gap<=band'")
    found = read_all(records)
    known = [row.name for record in found for row in record.scores]
    judged = requirements.judge_records(
        [requirements.parse_requirement(text, known) for text in require], found
    )
    for item in judged:
        print(item.line)
    raise SystemExit(0 if all(item.holds for item in judged) else 1)
