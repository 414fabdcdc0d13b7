"""`eigenforget sign`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import RecordPaths
from eigenforget.record.signing import sign_all


def sign(
    records: RecordPaths,
    /,
    *,
    key: Annotated[Path, Parameter(help="private key in PEM, made by keygen")],
    overwrite: Annotated[bool, Parameter(help="replace existing signatures", negative=())] = False,
) -> None:
    """Write an Ed25519 signature beside each record, RECORD.json.sig.

    The records must be unchanged since they were written. The passphrase of the key is read from
    the environment variable EIGENFORGET_KEY_PASSPHRASE.

    Example:
        eigenforget sign results/records --key signing.pem
    """
    signed = sign_all(records, key, overwrite=overwrite)
    print(f"signed {len(signed)} {'record' if len(signed) == 1 else 'records'}")
