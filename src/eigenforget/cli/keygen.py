"""`eigenforget keygen`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.core.errors import EigenforgetError
from eigenforget.record import make_salt
from eigenforget.record.files import check_place
from eigenforget.record.signing import fingerprint, make_key, read_public_key


def keygen(
    key: Annotated[
        Path | None,
        Parameter(
            help="new private key, PATH.pem; the public key is written beside it, PATH.pub.pem"
        ),
    ] = None,
    /,
    *,
    salt: Annotated[
        Path | None, Parameter(help="new file with a random salt, for --hash-ids")
    ] = None,
) -> None:
    """Make a key for signing records, or a salt for hiding ids. Neither is ever replaced.

    If the environment variable EIGENFORGET_KEY_PASSPHRASE is set, its passphrase encrypts the key.

    Example:
        eigenforget keygen signing.pem
    """
    if key is None and salt is None:
        raise EigenforgetError("keygen needs the PATH.pem of a new key, or --salt PATH")
    if salt is not None:
        check_place(salt, overwrite=False)
    if key is not None:
        if salt in (key, Path(f"{str(key).removesuffix('.pem')}.pub.pem")):
            raise EigenforgetError(f"--salt {salt} is a file of the key; choose another name")
        private, public = make_key(key)
        shown = fingerprint(read_public_key(public))
        print(f"wrote {private} (keep it secret) and {public}: {shown}")
    if salt is not None:
        print(f"wrote {make_salt(salt)}: keep it secret; whoever has it can find the ids by trying")
