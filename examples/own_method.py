"""A method of your own, from your own package, usable everywhere by its name.

Your package declares it in its pyproject.toml and needs no change in eigenforget:

    [project.entry-points."eigenforget.methods"]
    shrink_head = "own_method:ShrinkHead"

This script plays both sides: it lays out such an installed package in a temporary folder, then uses
the method from the command line.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, ClassVar

import torch
from torch import nn

from eigenforget.core.errors import Refused
from eigenforget.core.fields import Below1
from eigenforget.core.spec import configured
from eigenforget.methods.base import Method, Task
from eigenforget.models.features import find_head


@configured
class ShrinkHead(Method):
    """Scale the head's rows of the forgotten classes: a deliberately simple method that shows the
    parts a method has.
    """

    name: ClassVar = "shrink_head"
    source: ClassVar = "an example; no paper"
    needs: ClassVar = ("whole classes forgotten",)
    guarantee: ClassVar = "none: features stay the original's"
    role: ClassVar = "control"
    passes: ClassVar = "none"

    factor: Annotated[Below1, "what the rows are multiplied with"] = 0.0

    def __call__(self, task: Task) -> nn.Module:
        if not task.forgotten_classes:
            raise Refused("shrink_head needs a class that is forgotten as a whole")
        student = task.student()
        _, head = find_head(student)
        with torch.no_grad():
            head.weight[list(task.forgotten_classes)] *= self.factor
        return student.eval()


def install(folder: Path) -> dict[str, str]:
    """What `pip install your-package` would leave; an environment in which Python finds it."""
    shutil.copy(__file__, folder / "own_method.py")
    info = folder / "your_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: your-package\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[eigenforget.methods]\nshrink_head = own_method:ShrinkHead\n"
    )
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = install(folder)

        def eigenforget(*argv: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "eigenforget.cli", *argv],
                env=environment,
                cwd=folder,
                check=True,
            )

        eigenforget("methods", "shrink_head")
        eigenforget(
            "train",
            "--data",
            "digits()",
            "--model",
            "mlp(hidden=(32, 16))",
            "--recipe",
            "recipe(epochs=3, lr=0.05)",
            "--out",
            "original.safetensors",
        )
        eigenforget(
            "unlearn",
            "original.safetensors",
            "--forget",
            "by_class(label=3)",
            "--method",
            "shrink_head(factor=0.1)",
            "--out",
            "shrunk.safetensors",
        )
        print((folder / "shrunk.json").read_text()[:300])


if __name__ == "__main__":
    main()
