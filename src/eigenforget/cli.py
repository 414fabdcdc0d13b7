"""The command line. Nothing heavy is imported until a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from eigenforget import __version__
from eigenforget.errors import EigenforgetError
from eigenforget.record import RecordError

app = App(
    name="eigenforget",
    help="Make a trained PyTorch classifier forget chosen training data, and measure in feature space whether it did.",
    version=__version__,
    result_action="return_value",
)

DataSpec = Annotated[str, Parameter(help="data set, as in 'digits()' or 'npz(path=\"cifar10.npz\")'")]
ModelSpec = Annotated[str, Parameter(help="model, as in 'small_resnet(width=16)'")]
RecipeSpec = Annotated[str, Parameter(help="training recipe, as in 'recipe(epochs=30, lr=0.1)'")]
RequestSpec = Annotated[str, Parameter(help="what to forget, as in 'by_class(label=3)' or 'by_ids(path=\"ids.txt\")'")]
MethodSpec = Annotated[str, Parameter(help="unlearning method, as in 'muda(alternations=10)'; see `eigenforget methods`")]
Seed = Annotated[int, Parameter(help="seed of initial weights, order, augmentation and draws")]
Out = Annotated[Path, Parameter(help="where the result goes")]
Overwrite = Annotated[bool, Parameter(help="replace an existing output", negative=())]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or mps")]
Precision = Annotated[str, Parameter(help="32-true, bf16-mixed, … for training; measurement is always float32")]
Layer = Annotated[str, Parameter(help="module whose output is the feature; default: the head's input")]
Layers = Annotated[tuple[str, ...], Parameter(name="--also-layer", help="further module to measure features at; repeatable", negative=())]
Skip = Annotated[tuple[str, ...], Parameter(help="metric or audit to leave out, such as relearning; repeatable", negative=())]
ChannelsLast = Annotated[bool, Parameter(help="keep images in channels-last memory order", negative=())]


@app.command
def demo(*, out: Out = Path("eigenforget-demo"), label: int = 3, seed: Seed = 0, overwrite: Overwrite = False) -> None:
    """Forget one class of scikit-learn's digits with MUDA, two baselines and a cheat, and compare them with retrained oracles."""
    from eigenforget.workflows import demo as run

    run(out=out, label=label, seed=seed, overwrite=overwrite)


@app.command
def train(
    *,
    data: DataSpec,
    model: ModelSpec,
    out: Out,
    recipe: RecipeSpec = "recipe()",
    without: RequestSpec = "",
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    overwrite: Overwrite = False,
) -> None:
    """Train a model; with --without REQUEST train the oracle that never saw the forgotten data."""
    from eigenforget import workflows

    engine = workflows.engine(device=device, precision=precision, channels_last=channels_last)
    specs = workflows.Specs(data=data, model=model, recipe=recipe, request=without)
    workflows.train(specs, out=out, seed=seed, engine=engine, overwrite=overwrite)


@app.command
def unlearn(
    checkpoint: Annotated[Path, Parameter(help="the trained model: .safetensors, or a torch state_dict")],
    *,
    forget: RequestSpec,
    out: Out,
    method: MethodSpec = "muda()",
    data: DataSpec = "",
    model: ModelSpec = "",
    retain_fraction: Annotated[float, Parameter(help="share of the retained data that the method may use; 0 for none")] = 1.0,
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    overwrite: Overwrite = False,
) -> None:
    """Make a model forget, and write the new checkpoint with a record beside it. The given checkpoint is only read.

    --data and --model default to what the checkpoint says it was trained with.
    """
    from eigenforget import workflows

    engine = workflows.engine(device=device, precision=precision, channels_last=channels_last)
    specs = workflows.Specs(data=data, model=model, recipe="", request=forget)
    workflows.unlearn(
        checkpoint, specs, method=method, out=out, seed=seed, retain_fraction=retain_fraction, engine=engine, overwrite=overwrite
    )


@app.command
def evaluate(
    models: Annotated[tuple[Path, ...], Parameter(help="checkpoints of unlearned models", negative=())] = (),
    /,
    *,
    original: Annotated[Path, Parameter(help="checkpoint before unlearning")],
    forget: RequestSpec,
    out: Out,
    oracle: Annotated[tuple[Path, ...], Parameter(help="checkpoint retrained without the data; repeatable", negative=())] = (),
    data: DataSpec = "",
    model: ModelSpec = "",
    peer: Annotated[tuple[Path, ...], Parameter(help="made like the model from another training seed; repeatable", negative=())] = (),
    layer: Layer = "",
    also_layer: Layers = (),
    skip: Skip = (),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Measure models beside the original and the oracles: a table, records and one HTML page in the folder --out.

    Three oracles or more make a band for every score. Two peers or more, of one model, let attacks with shadow models (U-LiRA) run.
    """
    from eigenforget import workflows

    specs = workflows.Specs(data=data, model=model, recipe="", request=forget)
    workflows.evaluate(
        workflows.Checkpoints(original, oracle, models, peer), specs, out=out, scope=workflows.Scope(layer, also_layer, skip), seed=seed,
        engine=workflows.engine(device=device), overwrite=overwrite,
    )  # fmt: skip


@app.command
def duplicates(
    *,
    data: DataSpec,
    forget: RequestSpec,
    threshold: Annotated[float, Parameter(help="cosine of the inputs from which on two samples count as near duplicates")] = 0.98,
) -> None:
    """Find retained samples that are almost forgotten ones. Exit code 1 where there are any."""
    from eigenforget import workflows

    raise SystemExit(workflows.duplicates(data, forget, threshold=threshold))


@app.command
def sequence(
    *,
    data: DataSpec,
    model: ModelSpec,
    forget: Annotated[tuple[str, ...], Parameter(help="requests in the order in which they arrive; repeat it", negative=())],
    out: Out,
    recipe: RecipeSpec = "recipe()",
    method: MethodSpec = "muda()",
    again: Annotated[str, Parameter(help="error or skip: samples that an earlier request took")] = "error",
    retain_fraction: Annotated[float, Parameter(help="share of the retained data that the method may use; 0 for none")] = 1.0,
    oracle_seed: Annotated[tuple[int, ...], Parameter(help="seed of a model retrained at each step; repeatable", negative=())] = (),
    store: Annotated[str, Parameter(help="folder that keeps trained models and finds them again")] = "",
    skip: Skip = ("relearning",),
    seed: Seed = 0,
    device: Device = "auto",
    precision: Precision = "32-true",
    overwrite: Overwrite = False,
) -> None:
    """Honour requests one after the other, measure after each whether earlier ones stay forgotten, and compare with all at once."""
    from eigenforget import sequencing, workflows

    plan = sequencing.Plan(data, model, recipe, method, forget, again, retain_fraction)
    oracles = sequencing.Oracles(oracle_seed, Path(store) if store else None)
    engine = workflows.engine(device=device, precision=precision)
    sequencing.run_sequence(plan, out=out, seed=seed, oracles=oracles, engine=engine, skip=skip, overwrite=overwrite)


@app.command
def analyze(
    *,
    original: Annotated[Path, Parameter(help="checkpoint of the model that saw the data")],
    oracle: Annotated[tuple[Path, ...], Parameter(help="checkpoint retrained without it; repeatable", negative=())],
    forget: RequestSpec,
    out: Out = Path("analysis.html"),
    data: DataSpec = "",
    model: ModelSpec = "",
    layer: Layer = "",
    also_layer: Layers = (),
    skip: Skip = ("relearning",),
    seed: Seed = 0,
    device: Device = "auto",
    overwrite: Overwrite = False,
) -> None:
    """How features differ between a model that saw the data and one that did not: spectra, alignment curves, projections."""
    from eigenforget import workflows

    specs = workflows.Specs(data=data, model=model, recipe="", request=forget)
    workflows.analyze(
        workflows.Checkpoints(original, oracle, ()), specs, out=out, scope=workflows.Scope(layer, also_layer, skip), seed=seed,
        engine=workflows.engine(device=device), overwrite=overwrite,
    )  # fmt: skip


@app.command
def report(
    records: Annotated[tuple[Path, ...], Parameter(help="record files or folders of them", negative=())],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="the HTML file")] = Path("report.html"),
    title: str = "eigenforget report",
    overwrite: Overwrite = False,
) -> None:
    """Make one self-contained HTML page from evaluate records."""
    from eigenforget.record import read, read_folder
    from eigenforget.report import write_page

    if not records:
        raise EigenforgetError("report needs record files, or a folder of them")
    if out.exists() and not overwrite:
        raise EigenforgetError(f"{out} exists; say --overwrite to replace it")
    found = [r for path in records for r in (read_folder(path) if path.is_dir() else [read(path)])]
    write_page(found, out, title)
    print(f"wrote {out}")


@app.command
def verify(records: Annotated[tuple[Path, ...], Parameter(help="record files or folders", negative=())], /) -> None:
    """Check the digests and the chain of records."""
    from eigenforget.record import verify as check

    raise SystemExit(check.main([str(path) for path in records]))


@app.command
def audit_metrics(
    *,
    data: DataSpec = "digits()",
    model: ModelSpec = "small_resnet(width=16)",
    recipe: RecipeSpec = "recipe(epochs=20, batch_size=64)",
    forget: Annotated[tuple[str, ...], Parameter(help="what to forget; repeatable", negative=())] = (
        "by_class(label=3)",
        "at_random(fraction=0.1)",
    ),
    seeds: Annotated[int, Parameter(help="training seeds, from 0")] = 3,
    oracles: Annotated[int, Parameter(help="retrained models for each training seed")] = 3,
    skip: Skip = (),
    store: Annotated[str, Parameter(help="folder that keeps trained models and finds them again")] = "",
    out: Out = Path("metric-audit"),
    device: Device = "auto",
    precision: Precision = "32-true",
    channels_last: ChannelsLast = False,
    overwrite: Overwrite = False,
) -> None:
    """Judge the metrics before the methods: does each accept a retrained model and catch models that only pretend to forget?"""
    from eigenforget import auditing, workflows

    engine = workflows.engine(device=device, precision=precision, channels_last=channels_last)
    design = auditing.Design(data, model, recipe, forget, seeds, oracles, skip)
    auditing.audit_metrics(design, out=out, store=Path(store) if store else None, engine=engine, overwrite=overwrite)


@app.command
def methods(name: Annotated[str, Parameter(help="show the fields of this method")] = "", /) -> None:
    """List the unlearning methods and controls, or explain the fields of one."""
    from eigenforget import workflows

    workflows.list_methods(name)


def main(argv: Sequence[str] | None = None) -> Any:
    """Entry point: bad input ends with one line on standard error and exit code 2."""
    try:
        return app(sys.argv[1:] if argv is None else list(argv), exit_on_error=False, print_error=False)
    except CycloptsError as error:
        fail(str(error))
    except (EigenforgetError, RecordError) as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def fail(message: str) -> None:
    """One line on standard error, exit code 2."""
    print("eigenforget: " + " ".join(message.split()), file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
