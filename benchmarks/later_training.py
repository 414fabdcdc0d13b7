"""Does what was forgotten stay forgotten when the model is trained on?

    python benchmarks/later_training.py --into benchmarks/results/later_training.md   # some minutes on one core

Dimensional alignment of a class of digits in an original, retrained and unlearned models: as they
are, after the statistics of their batch norms are taken anew from the retained samples (no weight
moves), and after one pass of fine-tuning over these.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
from cyclopts import App, Parameter
from nmi_variants import made, outputs, unlearned
from torch import nn
from torch.optim.swa_utils import update_bn

from eigenforget.alignment import alignment_of_rows, default_k
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.specs import Specs
from eigenforget.record import write_text
from eigenforget.training.engine import Engine

SPECS = Specs(
    data="digits(test_fraction=0.4)",
    model="small_resnet(width=16)",
    recipe="recipe(epochs=20, batch_size=64)",
    request="by_class(label=3)",
)
ORACLE_SEEDS = (10, 11, 12)
METHODS_RUN = (
    "muda()",
    "muda(norm='frozen')",
    "probed_muda()",
    "delete()",
    "not_()",
    "finetune()",
    "head_mask()",
)
LATER = "finetune(epochs=1, lr=0.01)"
BATCH = 64

app = App(help=__doc__)


class Alignments(NamedTuple):
    """DA of a model as it is, with statistics taken anew, and trained on."""

    before: float
    recalibrated: float
    trained: float


@app.default
def main(
    *,
    store: Path = Path("store"),
    into: Annotated[Path | None, Parameter(help="the page; default: printed")] = None,
) -> None:
    """Train, compute and write the table."""
    torch.set_num_threads(1)
    experiment = Experiment.parse(SPECS, Engine(device="cpu"))
    models = made(experiment, store, ORACLE_SEEDS, {f"`{m}`": m for m in METHODS_RUN})
    text = page({name: alignments(experiment, model) for name, model in models.items()})
    if into is None:
        print(text)
    else:
        write_text(into, text)


def alignments(experiment: Experiment, model: nn.Module) -> Alignments:
    """DA of the model, and of it after what may come later."""
    later = unlearned(experiment, model, LATER)
    return Alignments(
        *(alignment(experiment, m) for m in (model, recalibrated(experiment, model), later))
    )


def recalibrated(experiment: Experiment, model: nn.Module) -> nn.Module:
    """A copy whose batch norms have the statistics of the retained samples."""
    found = copy.deepcopy(model)
    order = torch.Generator().manual_seed(0)
    update_bn([batch.inputs for batch in experiment.retain.batches(BATCH, order)], found)
    return found.eval()


def alignment(experiment: Experiment, model: nn.Module) -> float:
    """DA_k of the forget set's features, k the number of retained classes."""
    forget, retain = (
        torch.from_numpy(outputs(experiment, model, side)[0])
        for side in (experiment.forget, experiment.retain)
    )
    k = default_k(len(set(experiment.retain.labels().tolist())), width=forget.shape[1])
    return float(alignment_of_rows(forget, retain=retain, k=k))


def page(found: dict[str, Alignments]) -> str:
    """The table."""
    lines = [
        "# Forgotten, and then trained on",
        "",
        f"`{SPECS.data}`, `{SPECS.model}`, `{SPECS.recipe}`, `{SPECS.request}`, training seed 0. DA of the forget set with k = the retained classes,",
        "on training features, uncentred: as the model is; after the statistics of its batch norms were taken anew from the retained samples,",
        f"without a change of a weight; after `{LATER}` on these. Made by `python benchmarks/later_training.py`.",
        "",
        "| model | as it is | statistics taken anew | trained on |",
        "|---|---:|---:|---:|",
    ]
    lines += [
        f"| {name} | {' | '.join(f'{value:.3f}' for value in values)} |"
        for name, values in found.items()
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    app()
