"""Run records: what was asked, done and measured, as canonical JSON files in a hash chain.

Needs the standard library only.
"""

from .canonical import RecordError, canonical, value_digest
from .digests import file_digest, text_digest, weights_digest
from .files import (
    atomic_file,
    atomic_folder,
    atomic_update,
    check_place,
    slug,
    write_bytes,
    write_text,
)
from .hidden_specs import Personal
from .ledger import append
from .manifest import Manifest, manifest_of, manifest_text, read_manifest
from .pseudonyms import make_salt, pseudonymised, pseudonymised_split, pseudonymised_text, read_salt
from .reading import read_bytes
from .schema import SCHEMA, Outcome, RunRecord, ScoreRow, record_from_json, score_row, to_json
from .store import chained, in_force, read, read_chain, read_folder, record_files, seal, tip, write
from .transactions import WriteError, check_replaceable, recover, recover_near, transaction

__all__ = [
    "SCHEMA",
    "Manifest",
    "Outcome",
    "Personal",
    "RecordError",
    "RunRecord",
    "ScoreRow",
    "WriteError",
    "append",
    "atomic_file",
    "atomic_folder",
    "atomic_update",
    "canonical",
    "chained",
    "check_place",
    "check_replaceable",
    "file_digest",
    "in_force",
    "make_salt",
    "manifest_of",
    "manifest_text",
    "pseudonymised",
    "pseudonymised_split",
    "pseudonymised_text",
    "read",
    "read_bytes",
    "read_chain",
    "read_folder",
    "read_manifest",
    "read_salt",
    "record_files",
    "record_from_json",
    "recover",
    "recover_near",
    "score_row",
    "seal",
    "slug",
    "text_digest",
    "tip",
    "to_json",
    "transaction",
    "value_digest",
    "weights_digest",
    "write",
    "write_bytes",
    "write_text",
]
