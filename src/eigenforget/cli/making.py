"""Commands that make models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.launching import check_launched
from eigenforget.cli.options import (
    Accumulate,
    ChannelsLast,
    Compile,
    DataSpec,
    Device,
    Devices,
    HashIds,
    Layer,
    Ledger,
    MethodSpec,
    ModelSpec,
    Out,
    Overwrite,
    Precision,
    RecipeSpec,
    RequestSpec,
    Seed,
    Skip,
    Strategy,
    Track,
    app,
)


@app.command
def demo(
    *,
    out: Out = Path("eigenforget-demo"),
    label: int = 3,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Forget one class of scikit-learn's digits with MUDA, two baselines and a cheat, and compare
    them with retrained oracles.
    """
    from eigenforget.cli.making_ import demo as run

    run(out=out, label=label, seed=seed, overwrite=overwrite)


@app.command
def train(
    *,
    data: DataSpec,
    model: ModelSpec,
    out: Out,
    recipe: RecipeSpec = "recipe()",
    without: RequestSpec = "",
    layer: Layer = "",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    devices: Devices = 1,
    strategy: Strategy = "auto",
    accumulate: Accumulate = 1,
    compile: Compile = False,
    hash_ids: HashIds = None,
    ledger: Ledger = None,
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    """Train a model; with --without REQUEST train the oracle that never saw the forgotten data."""
    check_launched(devices)
    from eigenforget.cli import making_ as making
    from eigenforget.cli import terminal
    from eigenforget.experiments import results, specs

    sharing = terminal.Sharing(devices, strategy, accumulate, compile)
    engine = terminal.engine(
        device=device, precision=precision, channels_last=channels_last, sharing=sharing
    )
    asked = specs.Specs(data=data, model=model, recipe=recipe, request=without)
    recording = results.Recording(hash_ids, ledger)
    making.train(
        asked,
        out=out,
        seed=seed,
        layer=layer,
        engine=engine,
        recording=recording,
        track=track,
        overwrite=overwrite,
    )


@app.command
def unlearn(
    checkpoint: Annotated[
        Path, Parameter(help="the trained model: .safetensors, or a torch state_dict")
    ],
    *,
    forget: RequestSpec,
    out: Out,
    method: MethodSpec = "muda()",
    data: DataSpec = "",
    model: ModelSpec = "",
    retain_fraction: Annotated[
        float, Parameter(help="share of the retained data that the method may use; 0 for none")
    ] = 1.0,
    layer: Layer = "",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    devices: Devices = 1,
    strategy: Strategy = "auto",
    accumulate: Accumulate = 1,
    compile: Compile = False,
    hash_ids: HashIds = None,
    ledger: Ledger = None,
    track: Track = (),
    overwrite: Overwrite = False,
) -> None:
    """Make a model forget, and write the new checkpoint with a record beside it. The given
    checkpoint is only read.

    --data and --model default to what the checkpoint says it was trained with.
    """
    check_launched(devices)
    from eigenforget.cli import making_ as making
    from eigenforget.cli import terminal
    from eigenforget.experiments import results, specs

    sharing = terminal.Sharing(devices, strategy, accumulate, compile)
    engine = terminal.engine(
        device=device, precision=precision, channels_last=channels_last, sharing=sharing
    )
    asked = specs.Specs(data=data, model=model, recipe="", request=forget)
    making.unlearn(
        checkpoint,
        asked,
        method=method,
        out=out,
        seed=seed,
        retain_fraction=retain_fraction,
        layer=layer,
        engine=engine,
        recording=results.Recording(hash_ids, ledger),
        track=track,
        overwrite=overwrite,
    )


@app.command
def sequence(
    *,
    data: DataSpec,
    model: ModelSpec,
    forget: Annotated[
        tuple[str, ...],
        Parameter(help="requests in the order in which they arrive; repeat it", negative=()),
    ],
    out: Out,
    recipe: RecipeSpec = "recipe()",
    method: MethodSpec = "muda()",
    again: Annotated[
        str, Parameter(help="error or skip: samples that an earlier request took")
    ] = "error",
    retain_fraction: Annotated[
        float, Parameter(help="share of the retained data that the method may use; 0 for none")
    ] = 1.0,
    oracle_seed: Annotated[
        tuple[int, ...],
        Parameter(help="seed of a model retrained at each step; repeatable", negative=()),
    ] = (),
    store: Annotated[
        str, Parameter(help="folder that keeps trained models and finds them again")
    ] = "",
    layer: Layer = "",
    skip: Skip = ("relearning",),
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    overwrite: Overwrite = False,
) -> None:
    """Honour requests one after the other, measure after each whether earlier ones stay forgotten,
    and compare with all at once.
    """
    from eigenforget.cli import sequencing, terminal

    plan = sequencing.Plan(data, model, recipe, method, forget, again, retain_fraction, layer)
    oracles = sequencing.Oracles(oracle_seed, Path(store) if store else None)
    engine = terminal.engine(device=device, precision=precision)
    sequencing.run_sequence(
        plan, out=out, seed=seed, oracles=oracles, engine=engine, skip=skip, overwrite=overwrite
    )
