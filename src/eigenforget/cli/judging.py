"""Commands that measure models, data and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.launching import check_launched
from eigenforget.cli.options import (
    ChannelsLast,
    DataSpec,
    Device,
    Devices,
    HashIds,
    Layer,
    Layers,
    Ledger,
    Maps,
    ModelSpec,
    Out,
    Overwrite,
    Precision,
    RecipeSpec,
    RequestSpec,
    Require,
    Seed,
    Skip,
    Strategy,
    Track,
    app,
)


@app.command
def evaluate(
    models: Annotated[
        tuple[Path, ...], Parameter(help="checkpoints of unlearned models", negative=())
    ] = (),
    /,
    *,
    original: Annotated[Path, Parameter(help="checkpoint before unlearning")],
    forget: RequestSpec,
    out: Out,
    oracle: Annotated[
        tuple[Path, ...],
        Parameter(help="checkpoint retrained without the data; repeatable", negative=()),
    ] = (),
    data: DataSpec = "",
    model: ModelSpec = "",
    peer: Annotated[
        tuple[Path, ...],
        Parameter(help="made like the model from another training seed; repeatable", negative=()),
    ] = (),
    layer: Layer = "",
    also_layer: Layers = (),
    skip: Skip = (),
    maps: Maps = (),
    seed: Seed = 0,
    device: Device = "auto",
    devices: Devices = 1,
    strategy: Strategy = "auto",
    hash_ids: HashIds = None,
    ledger: Ledger = None,
    require: Require = (),
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    """Measure models beside the original and the oracles: a table, records and one HTML page in the
    folder --out.

    Three oracles or more make a band for every score. Two peers or more, of one model, let attacks
    with shadow models (U-LiRA) run. Exit code 1 where a --require does not hold; the results are
    written all the same.
    """
    check_launched(devices)
    from eigenforget.cli import judging_ as judging
    from eigenforget.cli import terminal
    from eigenforget.experiments import checkpoints, results, specs

    engine = terminal.engine(device=device, sharing=terminal.Sharing(devices, strategy))
    asked = specs.Specs(data=data, model=model, recipe="", request=forget)
    status = judging.evaluate(
        checkpoints.Checkpoints(original, oracle, models, peer),
        asked,
        out=out,
        scope=checkpoints.Scope(layer, also_layer, skip, maps),
        seed=seed,
        engine=engine,
        recording=results.Recording(hash_ids, ledger),
        require=require,
        track=track,
        overwrite=overwrite,
    )
    if status:
        raise SystemExit(status)


@app.command
def analyze(
    *,
    original: Annotated[Path, Parameter(help="checkpoint of the model that saw the data")],
    oracle: Annotated[
        tuple[Path, ...], Parameter(help="checkpoint retrained without it; repeatable", negative=())
    ],
    forget: RequestSpec,
    out: Out = Path("analysis.html"),
    records: Annotated[
        str,
        Parameter(
            help="folder of the records; default: beside the page, analysis-records for analysis.html"
        ),
    ] = "",
    data: DataSpec = "",
    model: ModelSpec = "",
    layer: Layer = "",
    also_layer: Layers = (),
    seed: Seed = 0,
    device: Device = "auto",
    devices: Devices = 1,
    strategy: Strategy = "auto",
    hash_ids: HashIds = None,
    overwrite: Overwrite = False,
) -> None:
    """Where do features of data lie that a model never saw? Original beside retrained models, layer
    by layer, in words and figures.

    Three oracles or more say how far retrained models differ among each other. Without
    --also-layer, up to three earlier blocks are chosen, evenly over the depth of the model.
    """
    check_launched(devices)
    from eigenforget.cli import judging_ as judging
    from eigenforget.cli import terminal
    from eigenforget.experiments import checkpoints, results, specs

    engine = terminal.engine(device=device, sharing=terminal.Sharing(devices, strategy))
    asked = specs.Specs(data=data, model=model, recipe="", request=forget)
    judging.analyze(
        checkpoints.Checkpoints(original, oracle, ()),
        asked,
        out=out,
        records=Path(records) if records else None,
        scope=checkpoints.Scope(layer, also_layer),
        seed=seed,
        engine=engine,
        recording=results.Recording(hash_ids),
        overwrite=overwrite,
    )


@app.command
def duplicates(
    *,
    data: DataSpec,
    forget: RequestSpec,
    threshold: Annotated[
        float,
        Parameter(help="cosine of the inputs from which on two samples count as near duplicates"),
    ] = 0.98,
) -> None:
    """Find retained samples that are almost forgotten ones. Exit code 1 where there are any."""
    from eigenforget.cli import judging_ as judging

    raise SystemExit(judging.duplicates(data, forget, threshold=threshold))


@app.command
def audit_metrics(
    *,
    data: DataSpec = "digits()",
    model: ModelSpec = "small_resnet(width=16)",
    recipe: RecipeSpec = "recipe(epochs=20, batch_size=64)",
    forget: Annotated[
        tuple[str, ...], Parameter(help="what to forget; repeatable", negative=())
    ] = (
        "by_class(label=3)",
        "at_random(fraction=0.1)",
    ),
    seeds: Annotated[int, Parameter(help="training seeds, from 0")] = 3,
    oracles: Annotated[int, Parameter(help="retrained models for each training seed")] = 3,
    skip: Skip = (),
    store: Annotated[
        str, Parameter(help="folder that keeps trained models and finds them again")
    ] = "",
    out: Out = Path("metric-audit"),
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    overwrite: Overwrite = False,
) -> None:
    """Judge the metrics before the methods: does each accept a retrained model and catch models
    that only pretend to forget?
    """
    from eigenforget.cli import auditing, terminal

    engine = terminal.engine(device=device, precision=precision, channels_last=channels_last)
    design = auditing.Design(data, model, recipe, forget, seeds, oracles, skip)
    auditing.audit_metrics(
        design, out=out, store=Path(store) if store else None, engine=engine, overwrite=overwrite
    )


@app.command
def methods(name: Annotated[str, Parameter(help="show the fields of this method")] = "", /) -> None:
    """List the unlearning methods and controls, or explain the fields of one."""
    from eigenforget.cli import listing

    listing.list_methods(name)
