"""Run records: what was asked, done and measured, as canonical JSON files in a hash chain. Standard library only."""

from eigenforget.record.canonical import RecordError, canonical, digest
from eigenforget.record.schema import SCHEMA, Outcome, RunRecord, ScoreRow, from_json, score_row, to_json
from eigenforget.record.store import chained, in_force, read, read_chain, read_folder, seal, tip, write, write_text

__all__ = [
    "SCHEMA",
    "Outcome",
    "RecordError",
    "RunRecord",
    "ScoreRow",
    "canonical",
    "chained",
    "digest",
    "from_json",
    "in_force",
    "read",
    "read_chain",
    "read_folder",
    "score_row",
    "seal",
    "tip",
    "to_json",
    "write",
    "write_text",
]
