"""Options that commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

FLAT = Parameter(name="*")
"""Marks a dataclass whose fields are options of the command, without a prefix."""

DataSpec = Annotated[
    str, Parameter(help="data set, as in 'digits()' or 'npz(path=\"cifar10.npz\")'")
]
ModelSpec = Annotated[str, Parameter(help="model, as in 'small_resnet(width=16)'")]
RecipeSpec = Annotated[str, Parameter(help="training recipe, as in 'recipe(epochs=30, lr=0.1)'")]
RequestSpec = Annotated[
    str, Parameter(help="what to forget, as in 'by_class(label=3)' or 'by_ids(path=\"ids.txt\")'")
]
MethodSpec = Annotated[
    str,
    Parameter(help="unlearning method, as in 'muda(w_da=10.0)'; see `eigenforget methods`"),
]
OF_64_BITS = validators.Number(gte=-(2**63), lt=2**63)
"""For integers that stand in records."""
Seed = Annotated[
    int,
    Parameter(
        help="seed of initial weights, order of samples, augmentation and random draws",
        validator=OF_64_BITS,
    ),
]
Out = Annotated[Path, Parameter(help="where to write the result")]
Overwrite = Annotated[bool, Parameter(help="replace an existing output", negative=())]
Device = Annotated[str, Parameter(help="auto, cpu, cuda or one GPU, such as cuda:1")]
Precision = Annotated[
    str,
    Parameter(
        help="precision of training: 32-true, 64-true, bf16-mixed, bf16-true, and on a GPU "
        "16-mixed and 16-true; measurement and checkpoints are in float32"
    ),
]
Layer = Annotated[
    str,
    Parameter(
        help="module whose output is used as features; default: the input of the classifier head"
    ),
]
Layers = Annotated[
    tuple[str, ...],
    Parameter(
        name="--also-layer",
        help="another module at which to measure features; repeatable",
        negative=(),
    ),
]
Skip = Annotated[
    tuple[str, ...],
    Parameter(help="metric or audit to leave out, such as relearning; repeatable", negative=()),
]
Metrics = Annotated[
    tuple[str, ...],
    Parameter(
        help="another metric, as in 'python(path=\"mine.py:MyMetric\")'; repeatable", negative=()
    ),
]
Audits = Annotated[
    tuple[str, ...],
    Parameter(
        help="another audit, or one with other settings, as in 'relearning(epochs=2)' or "
        "'python(path=\"mine.py:MyAudit\")'; repeatable",
        negative=(),
    ),
]
Maps = Annotated[
    tuple[str, ...],
    Parameter(
        name="--map", help="another map of the features: tsne or umap; repeatable", negative=()
    ),
]
Devices = Annotated[
    int,
    Parameter(
        help="number of devices that share the work, one process for each; needs no launcher, and "
        "works under torchrun"
    ),
]
Strategy = Annotated[
    str, Parameter(help="how several devices work together: auto or ddp; both mean ddp")
]
Accumulate = Annotated[int, Parameter(help="number of batches whose mean gradient makes one step")]
Compile = Annotated[
    bool, Parameter(help="compile the model with torch.compile while it trains", negative=())
]
ChannelsLast = Annotated[
    bool, Parameter(help="keep images in channels-last memory order", negative=())
]

WeightsKey = Annotated[
    str,
    Parameter(
        help="key of the weights in a checkpoint that holds several sets, such as state_dict_ema"
    ),
]
HashIds = Annotated[
    Path | None,
    Parameter(
        help="file with a salt (see keygen); records then hold salted hashes instead of ids, "
        "groups and values"
    ),
]
Require = Annotated[
    tuple[str, ...],
    Parameter(
        help="requirement, as in 'verdict==like-retrained'; repeatable; see docs/exports.md",
        negative=(),
    ),
]
OwnChecks = Annotated[
    tuple[str, ...],
    Parameter(
        name="--check",
        help="a check of your own beside the others, as in "
        "'python(path=\"mine.py:service_level\")'; repeatable; see docs/checks.md",
        negative=(),
    ),
]
Track = Annotated[
    tuple[str, ...],
    Parameter(
        help="also send the numbers to tensorboard:FOLDER, mlflow:URI or trackio:PROJECT; "
        "repeatable",
        negative=(),
    ),
]

Allow = Annotated[
    tuple[str, ...],
    Parameter(
        help="continue, with a warning in the record, although the data changed after training "
        "(changed-data), or the original is hardly better than guessing on its training data or "
        "clearly worse than when it was saved (poor-original); repeatable",
        negative=(),
    ),
]
RetainFraction = Annotated[
    float, Parameter(help="share of the retain set that the method may use; 0 for none")
]
Unseen = Annotated[
    str,
    Parameter(
        help="test samples that the method may see; they are left out of the measurement. A share "
        "such as 0.1, or a text file with one id per line"
    ),
]
StoreFolder = Annotated[
    str, Parameter(help="folder in which trained models are kept and found again")
]
RecordPaths = Annotated[
    tuple[Path, ...], Parameter(help="record files, or folders of them", negative=())
]
OutFile = Annotated[
    Path | None, Parameter(name=["--out", "-o"], help="file to write; default: print")
]
OutPage = Annotated[Path, Parameter(name=["--out", "-o"], help="HTML file to write")]


@FLAT
@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Where a command computes."""

    device: Device = "auto"
    precision: Precision = "32-true"


@FLAT
@dataclass(frozen=True, kw_only=True)
class MeasuringOptions:
    """Where a command measures, always in float32."""

    device: Device = "auto"
    devices: Devices = 1
    strategy: Strategy = "auto"


@FLAT
@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """Where and how a command trains."""

    device: Device = "auto"
    precision: Precision = "32-true"
    channels_last: ChannelsLast = False
    devices: Devices = 1
    strategy: Strategy = "auto"
    accumulate: Accumulate = 1
    compile: Compile = False


@FLAT
@dataclass(frozen=True, kw_only=True)
class TrainedOptions:
    """What a checkpoint usually records itself. An option takes precedence over the checkpoint."""

    data: DataSpec = ""
    model: ModelSpec = ""
    layer: Layer = ""
    allow: Allow = ()


DEVICE, MEASURING, TRAINING = DeviceOptions(), MeasuringOptions(), TrainingOptions()
TRAINED = TrainedOptions()
