"""The walks of docs/your-model.md that need further libraries run as they stand there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.walks import check_saved, walk


def test_the_walk_from_a_lightning_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("lightning")
    walk("A Lightning module", tmp_path, monkeypatch)
    before, after = (torch.load(tmp_path / f"{n}.ckpt") for n in ("last", "forgotten"))
    check_saved(tmp_path, before["state_dict"], after["state_dict"])


def photos(folder: Path) -> None:
    """Two classes, one of warm and one of cold colours."""
    random = np.random.default_rng(0)
    for side, count in (("train", 30), ("test", 10)):
        for number, kind in enumerate(("cat", "dog")):
            place = folder / side / kind
            place.mkdir(parents=True)
            for picture in range(count):
                pixels = random.integers(0, 160, (40, 36, 3), dtype=np.uint8)
                pixels[..., 2 * number] += 60
                Image.fromarray(pixels).save(place / f"{picture}.png")


def test_the_walk_from_images_in_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    photos(tmp_path / "photos")
    asked = [f"photos/train/{kind}/{n}.png" for kind in ("cat", "dog") for n in (0, 3, 5)]
    (tmp_path / "asked.txt").write_text("\n".join(asked))
    walk("Images in folders, a torchvision network", tmp_path, monkeypatch)
    check_saved(
        tmp_path, torch.load(tmp_path / "resnet.pth"), torch.load(tmp_path / "forgotten.pth")
    )


def test_the_walk_from_hugging_faces_trainer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for library in ("transformers", "datasets", "accelerate"):
        pytest.importorskip(library)
    walk("A classifier tuned with Hugging Face's Trainer", tmp_path, monkeypatch)
    before, after = (
        load_file(tmp_path / n / "model.safetensors") for n in ("classifier", "forgotten")
    )
    check_saved(tmp_path, before, after)
