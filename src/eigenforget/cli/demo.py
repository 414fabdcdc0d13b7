"""`eigenforget demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from eigenforget.cli.options import Out, Overwrite, Seed
from eigenforget.cli.terminal import engine, one_thread, progress, say, show_results
from eigenforget.evaluation.records import write_results
from eigenforget.experiments.experiment import Experiment
from eigenforget.experiments.results import Output
from eigenforget.experiments.specs import Specs
from eigenforget.experiments.study import Study
from eigenforget.methods import METHODS

_METHODS = (
    "muda()",
    "finetune()",
    "random_label(epochs=3, lr=0.1)",
    "head_mask()",
)
_DATA = "digits(test_fraction=0.4)"
"""With a fifth held out, a class has 37 images: too few to tell features of other models from those
of retrained ones."""
_MODEL = "small_resnet(width=16, stem_stride=2)"
"""A stem that halves the images. Digits of 8 × 8 pixels lose nothing, and the demo takes half the
time."""
_RECIPE = "recipe(epochs=15, batch_size=64)"


def demo(
    *,
    out: Out = Path("eigenforget-demo"),
    label: Annotated[int, Parameter(help="the digit to forget")] = 3,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Forget a class of scikit-learn's digits, and compare methods with retrained models.

    The methods are MUDA, two baselines and a control that only pretends to forget.

    Example:
        eigenforget demo --out demo
    """
    request = f"by_class(label={label})"
    specs = Specs(data=_DATA, model=_MODEL, recipe=_RECIPE, request=request)
    experiment = Experiment.parse(specs, engine(device="cpu", channels_last=True))
    Output(out, overwrite=overwrite).check_folder()
    experiment.check(seed)
    methods = [METHODS.parse(method) for method in _METHODS]
    study = Study(experiment, methods, seed=seed)
    with progress() as watch, one_thread():
        chain = experiment.seal(list(study.records(watch)))
    title = f"eigenforget demo: forget digit {label}"
    write_results(chain.records, out, title=title, overwrite=overwrite, split=chain.split)
    show_results(chain.records, out)
    say(f"Open {out}/report.html in a browser. Next, a job of your own, from the same data:")
    say(
        f"  eigenforget train --data '{_DATA}' --model '{_MODEL}' --out original.safetensors",
        wrap=False,
    )
