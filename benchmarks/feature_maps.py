"""The picture at the top of the README: features before, after and retrained.

    python benchmarks/feature_maps.py original.safetensors muda.safetensors oracle.safetensors
    python benchmarks/pages.py feature_maps      # draws docs/pictures/features.svg from it

benchmarks/README.md has the commands that make the three checkpoints. What is kept is, for each
held-out digit, the share of its features' energy outside of the leading eigenspace of the retain
features. Dimensional alignment is what lies inside.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import torch
from cyclopts import App
from torch import nn

from eigenforget.alignment import default_k, eigenspace_of_rows, leading
from eigenforget.data import DATASETS, Data
from eigenforget.models import MODELS
from eigenforget.models.checkpoint import load_checkpoint
from eigenforget.models.features import capture
from eigenforget.record import write_text
from eigenforget.report.figures.style import BLUE, GREY, INK, VERMILLION

FOLDER = Path(__file__).parent / "results" / "feature_maps"
KEPT = "maps.json"
DATA, MODEL, FORGOTTEN = "digits()", "small_resnet(width=16)", 3
_DIM = "#555555"
_SIDE, _GAP, _TOP, _BOTTOM, _MARGIN = 196, 12, 52, 54, 56
_FONT, _HEAD = 16, 19
"""Sizes of letters that one can read where a phone shows the picture at half its size."""

app = App(help=__doc__)


class Panel(NamedTuple):
    """One model.

    Attributes:
        title: What it is.
        recognised: Accuracy on held-out samples of the forgotten class.
        label: The class of each held-out sample.
        outside: The share of its features' energy outside of the eigenspace.
    """

    title: str
    recognised: float
    label: Sequence[int]
    outside: Sequence[float]


@app.default
def keep(original: Path, unlearned: Path, retrained: Path) -> None:
    """Write what the picture shows into benchmarks/results/feature_maps/maps.json."""
    data = DATASETS.parse(DATA).load()
    lines = []
    for title, path in (("original", original), ("unlearned", unlearned), ("retrained", retrained)):
        shape = tuple(data.train.inputs.shape[1:])
        model = MODELS.parse(MODEL).build(num_classes=data.num_classes, input_shape=shape, seed=0)
        panel = measure(title, load_checkpoint(path, model).eval(), data)
        lines.append(json.dumps(panel._asdict()))
    FOLDER.mkdir(exist_ok=True)
    write_text(FOLDER / KEPT, "[" + ",\n".join(lines) + "]\n")


@torch.no_grad()
def measure(title: str, model: nn.Module, data: Data) -> Panel:
    """A panel of held-out samples, beside the eigenspace of the training samples that stay."""
    stays = data.train.targets != FORGOTTEN
    with capture(model) as tap:
        retain = tap(data.train.inputs[stays]).features.double()
        held_out = tap(data.test.inputs)
    k = default_k(len(data.train.targets[stays].unique()), width=retain.shape[1])
    basis = leading(eigenspace_of_rows(retain), k, samples=len(retain))
    rows, labels = held_out.features.double(), data.test.targets
    outside = 1 - ((rows @ basis) ** 2).sum(1) / (rows**2).sum(1)
    right = held_out.logits.argmax(1) == labels
    return Panel(
        title,
        round(right[labels == FORGOTTEN].double().mean().item(), 4),
        labels.tolist(),
        [round(share, 4) for share in outside.tolist()],
    )


def read_panels(folder: Path) -> list[Panel]:
    """The panels that `keep` kept in a folder."""
    return [Panel(**panel) for panel in json.loads((folder / KEPT).read_text(encoding="utf-8"))]


def draw(panels: Sequence[Panel]) -> str:
    """The picture as SVG: a column of dots for each class, the forgotten one in colour."""
    width = _MARGIN + len(panels) * (_SIDE + _GAP)
    height = _TOP + _SIDE + _BOTTOM
    title = f"Features of held-out digits; {FORGOTTEN} is the class to forget"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
        f' font-family="sans-serif" font-size="{_FONT}" role="img">',
        f"<title>{escape(title)}</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for share in (0, 50, 100):
        y = _height(share / 100)
        parts.append(
            f'<text x="{_MARGIN - 6}" y="{y + 5:g}" text-anchor="end" fill="{_DIM}">{share}%</text>'
        )
    for number, panel in enumerate(panels):
        parts += _panel(panel, _MARGIN + number * (_SIDE + _GAP))
    note = "Height: share of a digit's features outside the directions of the other digits"
    parts.append(f'<text x="{_MARGIN}" y="{height - 10}" fill="{_DIM}">{escape(note)}</text>')
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, left: float) -> Iterator[str]:
    said = f"calls {panel.recognised:.0%} of the {FORGOTTEN}s a {FORGOTTEN}"
    yield f'<text x="{left}" y="20" font-size="{_HEAD}" font-weight="bold" fill="{INK}">{panel.title}</text>'
    yield f'<text x="{left}" y="42" fill="{_DIM}">{escape(said)}</text>'
    yield (
        f'<rect x="{left}" y="{_TOP}" width="{_SIDE}" height="{_SIDE}"'
        f' fill="none" stroke="{GREY}" stroke-opacity="0.4"/>'
    )
    classes = sorted(set(panel.label))
    step = _SIDE / len(classes)
    jitter = random.Random(0)
    for place, label in enumerate(classes):
        gone = label == FORGOTTEN
        middle = left + step * (place + 0.5)
        look = f'fill="{VERMILLION}"' if gone else f'fill="{BLUE}" fill-opacity="0.35"'
        dots = (
            f'<circle cx="{middle + jitter.uniform(-0.32, 0.32) * step:.1f}"'
            f' cy="{_height(share):.1f}" r="{2.6 if gone else 2.2}"/>'
            for of, share in zip(panel.label, panel.outside, strict=True)
            if of == label
        )
        yield f"<g {look}>{''.join(dots)}</g>"
        ink, weight = (VERMILLION, "bold") if gone else (_DIM, "normal")
        yield (
            f'<text x="{middle:g}" y="{_TOP + _SIDE + 18}" text-anchor="middle"'
            f' font-weight="{weight}" fill="{ink}">{label}</text>'
        )


def _height(share: float) -> float:
    return _TOP + 8 + (_SIDE - 16) * (1 - share)


if __name__ == "__main__":
    app()
