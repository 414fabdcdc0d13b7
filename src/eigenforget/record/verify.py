"""Checks that records, and the files they name, are as they were written.

    python -m eigenforget.record.verify FILE_OR_FOLDER…

It checks a file alone and a folder as one chain, and prints one line for each thing: "ok" and "not
checked: why" on standard output, "error" on standard error; the last line says whether all is as it
was written. The exit status is 0 when nothing is
wrong, else 2. It needs the standard library only: the folder of this module may be copied to
another place alone and run there as python -m record.verify. Signatures need the package
cryptography.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .canonical import RecordError
from .checks import Files, VerifyFinding, file_findings
from .fields import printable, sha256
from .manifest import is_manifest, read_manifest
from .signing import NoCryptographyError, check_signature, read_public_key, signature_path
from .store import StoredRecord, chain_problems, in_order, read_outline, record_files, visible
from .transactions import recover_near


class Options(NamedTuple):
    """How to verify.

    Args:
        files: Folders in which named files may be.
        public_key: A PEM file; every record must be signed with its key.
        expect_tip: A digest that was noted elsewhere and must be in the chain.
        strict: Whether what could not be checked is an error.
    """

    files: tuple[Path, ...] = ()
    public_key: Path | None = None
    expect_tip: str | None = None
    strict: bool = False


class Verification(NamedTuple):
    """The result of verifying.

    Args:
        findings: What was found, in order.
        tips: The digest of the newest record of each folder whose chain is whole.
    """

    findings: list[VerifyFinding]
    tips: dict[str, str]

    @property
    def status(self) -> int:
        """The exit status."""
        return 2 if any(finding.status == "error" for finding in self.findings) else 0


def verify(paths: Sequence[str | Path], options: Options | None = None) -> Verification:
    """Checks these files and folders.

    Raises:
        RecordError: The options cannot be used.
    """
    options = options or Options()
    given = [Path(path) for path in paths]
    if options.expect_tip is not None:
        sha256(options.expect_tip, "--expect-tip")
        if len(given) != 1 or not os.path.isdir(given[0]):
            raise RecordError("--expect-tip is for one folder of records")
    files = Files(options.files)
    key = None if options.public_key is None else read_public_key(options.public_key)
    findings: list[VerifyFinding] = []
    tips: dict[str, str] = {}
    for path in given:
        stored, found = _records(path)
        whole = os.path.isdir(path) and not any(finding.status == "error" for finding in found)
        findings += found
        if whole:
            tips[str(path)] = str(stored[-1].record.digest)
            findings.append(
                VerifyFinding(
                    "ok",
                    str(path),
                    f"a chain of {_counted(len(stored))}; its tip is {tips[str(path)]}",
                )
            )
        if options.expect_tip is not None:
            findings.append(_expected(path, stored, options.expect_tip, whole))
        findings += file_findings(stored, files)
        findings += _signatures(stored, key)
    findings += [VerifyFinding("not checked", *_parted(str(e), Path())) for e in files.unread]
    if options.strict:
        findings = [
            f._replace(status="error", what=f"not checked: {f.what}")
            if f.status == "not checked"
            else f
            for f in findings
        ]
    return Verification(findings, tips)


def print_findings(paths: Sequence[str | Path], options: Options, *, as_json: bool = False) -> int:
    """Verifies, prints the findings and returns the exit status."""
    try:
        result = verify(paths, options)
    except RecordError as error:
        print(f"error: {printable(str(error))}", file=sys.stderr)
        return 2
    if as_json:
        rows = [finding._asdict() for finding in result.findings]
        print(
            json.dumps(
                {"findings": rows, "tips": result.tips, "status": result.status},
                indent=1,
            )
        )
        return result.status
    for status, where, what in result.findings:
        if status == "error":
            print(f"error: {printable(where)}: {printable(what)}", file=sys.stderr)
        else:
            print(f"{status}  {printable(where)}  {printable(what)}")
    if len(result.findings) > 1:
        print(_summary(result.findings))
    return result.status


def verify_main(argv: Sequence[str] | None = None) -> int:
    """The command line of this module."""
    parser = argparse.ArgumentParser(
        prog="python -m eigenforget.record.verify",
        description="Check records and the files they name.",
    )
    parser.add_argument(
        "paths",
        nargs="+",
        metavar="FILE_OR_FOLDER",
        help="a record, or a folder that holds one chain",
    )
    parser.add_argument(
        "--files",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="folder with files that records name",
    )
    parser.add_argument(
        "--public-key", type=Path, metavar="PEM", help="every record must be signed with this key"
    )
    parser.add_argument(
        "--expect-tip",
        metavar="DIGEST",
        help="digest noted elsewhere that must be in the folder's chain",
    )
    parser.add_argument(
        "--strict", action="store_true", help="what could not be checked is an error"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args(argv)
    options = Options(tuple(given.files), given.public_key, given.expect_tip, given.strict)
    return print_findings(given.paths, options, as_json=given.json)


def _records(path: Path) -> tuple[list[StoredRecord], list[VerifyFinding]]:
    """The records that can be read, in chain order where there is one, and findings about them."""
    if is_manifest(path):
        return [], [_manifest(path)]
    try:
        recover_near(path)
        paths = record_files(path) if os.path.isdir(path) else [path]
    except RecordError as error:
        return [], [_error(error, path)]
    stored: list[StoredRecord] = []
    problems: list[VerifyFinding] = []
    for file in paths:
        try:
            stored.append(StoredRecord(read_outline(file), file))  # one at a time in memory
        except RecordError as error:
            problems.append(_error(error, file))
    if os.path.isdir(path) and not problems:
        # An unreadable link breaks the chain by itself, so the chain is judged only when every
        # record can be read.
        faults = [VerifyFinding("error", *_parted(line, path)) for line in chain_problems(stored)]
        problems = list(dict.fromkeys(faults))
        stored = stored if problems else in_order(stored)
    return stored, [
        *(VerifyFinding("ok", str(item.path), _line(item)) for item in stored),
        *problems,
        *(_orphans(path) if os.path.isdir(path) else ()),
    ]


def _orphans(folder: Path) -> list[VerifyFinding]:
    """Signatures in the folder whose records are not there."""
    gone = (
        (path, path.name.removesuffix(".sig"))
        for path in visible(folder, ".json.sig")
        if not os.path.lexists(path.with_suffix(""))
    )
    return [
        VerifyFinding(
            "error", str(path), f"signs {name}, which is not there: the record was taken away"
        )
        for path, name in gone
    ]


def _manifest(path: Path) -> VerifyFinding:
    """A list of ids that is given in place of a record, as in *.json."""
    try:
        found = read_manifest(path)
    except RecordError as error:
        return _error(error, path)
    return VerifyFinding(
        "ok",
        str(path),
        f"ids of the split {found.digest}: {len(found.forget)} to forget and {len(found.retain)} "
        "to retain",
    )


def _expected(path: Path, stored: Sequence[StoredRecord], tip: str, whole: bool) -> VerifyFinding:
    digests = [item.record.digest for item in stored]
    if tip not in digests:
        return VerifyFinding(
            "error",
            str(path),
            f"the expected tip {tip} is in no record: records were taken off the end, or others "
            "are here",
        )
    if not whole:
        return VerifyFinding(
            "not checked", str(path), f"the expected tip {tip}: the chain is broken"
        )
    later = len(digests) - 1 - digests.index(tip)
    return VerifyFinding(
        "ok",
        str(path),
        f"the expected tip {tip} is in the chain, {_counted(later)} before its end",
    )


def _summary(findings: Sequence[VerifyFinding]) -> str:
    """The answer in one line."""
    counts = Counter(finding.status for finding in findings)
    told = (
        f"{counts['ok']} ok, {counts['not checked']} not checked, {counts['error']} with an error"
    )
    return f"not verified: {told}" if counts["error"] else f"verified: {told}"


def _counted(records: int) -> str:
    return f"{records} record{'' if records == 1 else 's'}"


def _signatures(stored: Sequence[StoredRecord], key: bytes | None) -> list[VerifyFinding]:
    """What the signatures show. Without a key none is needed, unless others have one."""
    signed = [item for item in stored if os.path.lexists(signature_path(item.path))]
    if not signed and key is None:
        return []
    return [_signature(item, key) for item in stored]


def _signature(item: StoredRecord, key: bytes | None) -> VerifyFinding:
    path = signature_path(item.path)
    if not os.path.lexists(path):
        if key is not None:
            what = f"is not signed: there is no {path.name}"
            return VerifyFinding("error", str(item.path), what)
        what = f"is not signed, as others of its chain are: there is no {path.name}"
        return VerifyFinding("not checked", str(item.path), what)
    try:
        return VerifyFinding("ok", str(path), check_signature(item.record, path, key))
    except NoCryptographyError as error:
        return VerifyFinding("not checked", str(path), f"signature not checked: {error}")
    except RecordError as error:
        return _error(error, path)


def _error(error: RecordError, path: Path) -> VerifyFinding:
    return VerifyFinding("error", *_parted(str(error), path))


def _parted(message: str, path: Path) -> tuple[str, str]:
    """Where and what: a message begins with the file that it is about."""
    if message.startswith(f"{path}: "):
        return str(path), message.removeprefix(f"{path}: ")
    where, colon, what = message.partition(": ")
    return (where, what) if colon else (str(path), message)


def _line(item: StoredRecord) -> str:
    record = item.record
    what = record.kind if record.role is None else f"{record.kind} {record.role}"
    return f"{what}  {record.name!r}  {record.outcome.status}  {record.digest}"


if __name__ == "__main__":
    sys.exit(verify_main())
