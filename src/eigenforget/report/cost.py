"""The cost of a model as a share of the cost of retraining: one rule for every table and figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from eigenforget.record import RunRecord

Clock = Literal["processor", "wall"]


class Share(NamedTuple):
    """The cost of a model beside that of retraining.

    Attributes:
        value: The model's seconds over the mean seconds of the retrained models.
        clock: Which seconds were compared.
        retraining: The mean seconds of the retrained models by that clock.
    """

    value: float
    clock: Clock
    retraining: float


def wall_seconds(record: RunRecord) -> float | None:
    """Wall seconds that it took to make the model; None where they are unknown or it has no result.

    A model that comes without a record of its training has 0.0 seconds in its evaluate record.
    """
    return _known(record, record.outcome.seconds)


def processor_seconds(record: RunRecord) -> float | None:
    """Processor seconds of all threads and processes; None where they are unknown."""
    return _known(record, record.outcome.cost.get("cpu_seconds"))


def shares(records: Sequence[RunRecord]) -> dict[str, Share]:
    """The share of the cost of retraining, by name; a model of unknown cost is absent, never 0.

    Processor seconds are compared where the model and the retrained models know them, since the
    load on the machine does not move them. Otherwise wall seconds are. A retrained model that knows
    neither is left out of the mean. If one of the others knows no processor seconds, all
    comparisons go by wall seconds. Times on different devices do not compare: a model is compared
    with the retrained models of its own device.

    Args:
        records: The evaluate records of one table; records of another kind are ignored.
    """
    models = [r for r in records if r.kind == "evaluate"]
    retrained: dict[str, list[RunRecord]] = {}
    for r in models:
        if r.role == "oracle" and (processor_seconds(r) or wall_seconds(r)):
            retrained.setdefault(_device(r), []).append(r)
    means = {device: _means(those) for device, those in retrained.items()}
    found = {}
    for model in models:
        for clock, mean in means.get(_device(model), {}).items():
            own = _CLOCKS[clock](model)
            if own is not None:
                found[model.name] = Share(own / mean, clock, mean)
                break
    return found


_CLOCKS: dict[Clock, Callable[[RunRecord], float | None]] = {
    "processor": processor_seconds,
    "wall": wall_seconds,
}


def _means(retrained: Sequence[RunRecord]) -> dict[Clock, float]:
    """Mean seconds by each clock that can be compared, the one that counts first."""
    found: dict[Clock, float] = {}
    for clock, read in _CLOCKS.items():
        known = [s for r in retrained if (s := read(r)) is not None]
        if known and (len(known) == len(retrained) or clock == "wall"):
            found[clock] = sum(known) / len(known)
    return found


def _device(record: RunRecord) -> str:
    return repr(record.environment.get("device"))


def _known(record: RunRecord, seconds: object) -> float | None:
    number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
    return float(seconds) if record.outcome.status == "ok" and number and seconds > 0 else None  # type: ignore[arg-type, operator]
