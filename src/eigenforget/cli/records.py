"""Commands that read records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import (
    Overwrite,
    app,
)
from eigenforget.core.errors import EigenforgetError


@app.command
def report(
    records: Annotated[
        tuple[Path, ...], Parameter(help="record files or folders of them", negative=())
    ],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="the HTML file")] = Path(
        "report.html"
    ),
    title: str = "eigenforget report",
    overwrite: Overwrite = False,
) -> None:
    """Make one self-contained HTML page from evaluate records."""
    from eigenforget.record import read, read_folder
    from eigenforget.report import write_page

    if not records:
        raise EigenforgetError("report needs record files, or a folder of them")
    if out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; say --overwrite to replace it")
    found = [r for path in records for r in (read_folder(path) if path.is_dir() else [read(path)])]
    write_page(found, out, title)
    print(f"wrote {out}")


@app.command
def verify(
    records: Annotated[
        tuple[Path, ...],
        Parameter(help="record files, or folders that hold one chain each", negative=()),
    ],
    /,
    *,
    files: Annotated[
        tuple[Path, ...],
        Parameter(help="folder with files that records name; repeatable", negative=()),
    ] = (),
    public_key: Annotated[
        Path | None, Parameter(help="PEM file: every record must be signed with this key")
    ] = None,
    expect_tip: Annotated[
        str | None, Parameter(help="digest noted elsewhere that must be in the folder's chain")
    ] = None,
    strict: Annotated[
        bool, Parameter(help="what could not be checked is an error", negative=())
    ] = False,
    json: Annotated[
        bool, Parameter(help="one JSON object on standard output", negative=())
    ] = False,
) -> None:
    """Check records, their chain and signatures, and the files that they name. Exit code 2 where
    something is not as it was written.

    The same without torch: python -m eigenforget.record.verify.
    """
    from eigenforget.record import verify as check

    options = check.Options(files, public_key, expect_tip, strict)
    raise SystemExit(check.print_findings(records, options, as_json=json))


@app.command
def keygen(
    key: Annotated[
        Path | None,
        Parameter(help="new private key, PATH.pem; the public one goes beside it as PATH.pub.pem"),
    ] = None,
    /,
    *,
    salt: Annotated[
        Path | None, Parameter(help="new file with a random salt, for --hash-ids")
    ] = None,
) -> None:
    """Make a key for signing records, or a salt for hiding ids. Neither is ever replaced.

    The key is encrypted with the passphrase in the environment variable EIGENFORGET_KEY_PASSPHRASE,
    where it is set.
    """
    from eigenforget.record import make_salt
    from eigenforget.record.signing import fingerprint, make_key, read_public_key

    if key is None and salt is None:
        raise EigenforgetError("keygen needs the PATH.pem of a new key, or --salt PATH")
    if salt is not None:
        print(f"wrote {make_salt(salt)}: keep it secret; whoever has it can find out ids by trying")
    if key is not None:
        private, public = make_key(key)
        print(
            f"wrote {private} (keep it secret) and {public}: {fingerprint(read_public_key(public))}"
        )


@app.command
def sign(
    records: Annotated[
        tuple[Path, ...], Parameter(help="record files, or folders of them", negative=())
    ],
    /,
    *,
    key: Annotated[Path, Parameter(help="private key in PEM, made by keygen")],
    overwrite: Annotated[
        bool, Parameter(help="sign again where there is a signature", negative=())
    ] = False,
) -> None:
    """Write an Ed25519 signature beside each record, RECORD.json.sig. The records must be as they
    were written.

    The passphrase of the key is read from the environment variable EIGENFORGET_KEY_PASSPHRASE.
    """
    from eigenforget.record.signing import sign_all

    signed = sign_all(records, key, overwrite=overwrite)
    print(f"signed {len(signed)} {'record' if len(signed) == 1 else 'records'}")
