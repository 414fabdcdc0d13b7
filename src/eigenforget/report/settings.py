"""What was asked, where it ran and what is claimed, grouped by the models that it holds for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from eigenforget.record import RunRecord, canonical

_ALL = "all models"


class SettingLine(NamedTuple):
    """A field of the job, the environment or the inputs.

    Attributes:
        name: The field.
        value: Its value as text, of a spec its spelling.
        detail: The resolved spec as JSON; "" where there is none.
        models: The models that it holds for.
    """

    name: str
    value: str
    detail: str
    models: str


class Statement(NamedTuple):
    """A claim or a non-claim, and the models that it is stated of."""

    text: str
    models: str


def settings(records: Sequence[RunRecord], part: str) -> list[SettingLine]:
    """The fields of `part` ("job", "environment", "inputs"), a line per field and value."""
    parts: list[tuple[str, Mapping[str, Any]]] = [(r.name, getattr(r, part)) for r in records]
    names = dict.fromkeys(name for _, fields in parts for name in fields)
    lines = []
    for name in names:
        groups: dict[str, list[str]] = {}
        for model, fields in parts:
            if name in fields and fields[name] is not None:
                groups.setdefault(canonical(fields[name]), []).append(model)
        originals = {canonical(fields[name]): fields[name] for _, fields in parts if name in fields}
        lines += [
            SettingLine(name, *_shown(originals[k]), _models(m, len(records)))
            for k, m in groups.items()
        ]
    return lines


def statements(records: Sequence[RunRecord], part: str) -> list[Statement]:
    """The sentences of `part` ("claims" or "non_claims"), each once."""
    groups: dict[str, list[str]] = {}
    for record in records:
        for text in dict.fromkeys(getattr(record, part)):
            groups.setdefault(text, []).append(record.name)
    return [Statement(text, _models(models, len(records))) for text, models in groups.items()]


def spelled(records: Iterable[RunRecord], field: str) -> str:
    """The job's field where all records that have it agree; empty otherwise."""
    values = {
        canonical(r.job[field]): r.job[field] for r in records if r.job.get(field) is not None
    }
    return _shown(next(iter(values.values())))[0] if len(values) == 1 else ""


def _shown(value: Any) -> tuple[str, str]:
    if isinstance(value, dict) and isinstance(value.get("spec"), str):
        rest = {k: v for k, v in value.items() if k != "spec"}
        return value["spec"], canonical(rest.get("resolved", rest)) if rest else ""
    return (value, "") if isinstance(value, str) else (canonical(value), "")


def _models(models: Sequence[str], count: int) -> str:
    return _ALL if len(models) == count else ", ".join(models)
