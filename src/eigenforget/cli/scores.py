"""The command that scores training samples."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from eigenforget.cli.options import (
    DataSpec,
    Device,
    Layer,
    ModelSpec,
    Out,
    Overwrite,
    Precision,
    RecipeSpec,
    Seed,
    app,
)


@app.command
def scores(
    checkpoint: Annotated[
        Path | None, Parameter(help="a trained model, for loss, confidence and margin")
    ] = None,
    /,
    *,
    out: Out,
    score: Annotated[
        Literal["memorisation", "loss", "confidence", "margin"],
        Parameter(
            help="memorisation trains models on random subsets; the others are read off one checkpoint"
        ),
    ] = "memorisation",
    data: DataSpec = "",
    model: ModelSpec = "",
    recipe: RecipeSpec = "recipe()",
    models: Annotated[int, Parameter(help="memorisation: how many models are trained")] = 20,
    share: Annotated[
        float, Parameter(help="memorisation: share of the training samples that each is trained on")
    ] = 0.7,
    layer: Layer = "",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    overwrite: Overwrite = False,
) -> None:
    """Score each training sample, for the requests ranked, by_memorisation and worst_case: a .csv
    or .jsonl file of ids and scores.

    memorisation: how much likelier a model is to be right about the sample because it was trained
    with it (Feldman, Zhang). loss: the cross-entropy of the label. confidence: the largest
    probability. margin: the label's logit minus the largest other one.
    """
    from eigenforget.cli import ranking, terminal
    from eigenforget.experiments import specs

    ranking.score_samples(
        specs.Specs(data, model, recipe, ""),
        checkpoint,
        score=score,
        out=out,
        subsampling=ranking.Subsampling(models, share),
        seed=seed,
        layer=layer,
        engine=terminal.engine(device=device, precision=precision),
        overwrite=overwrite,
    )
