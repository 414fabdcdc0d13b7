"""Images in folders by class."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from eigenforget.core.notices import EigenforgetWarning
from eigenforget.data.image_folder import ImageFolder
from tests.data.toys import images, refusal, sides


def paint(
    path: Path, mode: str = "RGB", size: tuple[int, int] = (4, 4), seed: int = 0
) -> np.ndarray:
    """Writes a random image and gives its array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    channels = {"L": (), "1": (), "RGB": (3,), "RGBA": (4,)}[mode]
    array = images(1, size[1], size[0], *channels, seed=seed)[0]
    image = Image.fromarray(array)
    image = image.convert("1") if mode == "1" else image
    image.save(path)
    return np.asarray(image)


def test_image_folder_with_train_and_test(tmp_path):
    painted = {}
    for n, name in enumerate(
        ("train/b/2.png", "train/a/1.png", "train/b/1.bmp", "test/a/x.png", "test/b/y.png")
    ):
        painted[name] = paint(tmp_path / name, seed=n)
    (tmp_path / "train/a/.hidden").write_text("skipped")
    data = ImageFolder(path=str(tmp_path), size=4).load()
    assert data.class_names == ("a", "b") and data.input_shape == (3, 4, 4)
    assert data.train_index.ids.tolist() == ["train/a/1.png", "train/b/1.bmp", "train/b/2.png"]
    assert data.train.targets.tolist() == [0, 1, 1] and data.test.targets.tolist() == [0, 1]
    pixels = np.stack([painted[name] for name in data.train_index.ids]) / 255
    for source, index in ((data.train, data.train_index), (data.test, data.test_index)):
        raw = np.stack([painted[name] for name in index.ids]) / 255
        expected = (raw - pixels.mean((0, 1, 2))) / pixels.std((0, 1, 2))
        np.testing.assert_allclose(
            source.inputs, expected.transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5
        )


def test_image_folder_splits_by_itself(tmp_path):
    for n in range(20):
        paint(tmp_path / f"{'train' if n % 2 else 'bus'}/{n:02}.png", seed=n)
    data = ImageFolder(path=str(tmp_path), size=4, test_fraction=0.2, seed=1).load()
    assert data.class_names == ("bus", "train")  # a class may be called train
    assert np.bincount(data.test.labels()).tolist() == [2, 2] and len(data.train) == 16
    for index in sides(data).values():
        assert all(
            label == ("train" in name) for name, label in zip(index.ids, index.labels, strict=True)
        )


def raw_content(path: Path, name: str, size: int) -> str:
    index = ImageFolder(path=str(path), size=size).load().train_index
    return index.content[index.ids.tolist().index(name)]


def content_of(array: np.ndarray) -> str:
    full = array if array.ndim == 3 else array[..., None]
    return hashlib.sha256(f"uint8{list(full.shape)}".encode() + full.tobytes()).hexdigest()


def test_image_folder_colours_and_sizes(tmp_path):
    for side in ("train", "test"):
        paint(tmp_path / side / "a/1.png", "L")
    grey = paint(tmp_path / "train/b/grey.png", "L", seed=5)
    bits = paint(tmp_path / "train/b/bits.png", "1", seed=6)
    paint(tmp_path / "test/b/1.png", "L", seed=7)
    assert ImageFolder(path=str(tmp_path), size=4).load().input_shape == (1, 4, 4)
    assert raw_content(tmp_path, "train/b/grey.png", 4) == content_of(grey)
    assert raw_content(tmp_path, "train/b/bits.png", 4) == content_of(bits.astype(np.uint8) * 255)
    clear = paint(
        tmp_path / "train/b/rgba.png", "RGBA", seed=8
    )  # one colour image makes all of them RGB
    assert ImageFolder(path=str(tmp_path), size=4).load().input_shape == (3, 4, 4)
    assert raw_content(tmp_path, "train/b/grey.png", 4) == content_of(np.stack([grey] * 3, axis=2))
    assert raw_content(tmp_path, "train/b/rgba.png", 4) == content_of(clear[..., :3])
    wide = Image.fromarray(paint(tmp_path / "train/b/wide.png", size=(12, 6), seed=9))
    resized = np.asarray(wide.resize((4, 4), Image.Resampling.BILINEAR))
    assert raw_content(tmp_path, "train/b/wide.png", 4) == content_of(resized)


def test_bad_image_folders_are_refused(tmp_path):
    data = ImageFolder(path=str(tmp_path), size=4)
    assert refusal(ImageFolder(path=str(tmp_path / "no")).load).endswith(
        "/no: cannot be read as a folder: No such file or directory"
    )
    paint(tmp_path / "a/1.png")
    assert refusal(data.load) == f"{tmp_path}: at least two class folders are needed, found a"
    (tmp_path / "b").mkdir()
    assert refusal(data.load) == f"{tmp_path}/b: this class has no images"
    paint(tmp_path / "b/1.png")
    assert "only one of class" in refusal(data.load)
    (tmp_path / "b/notes.txt").write_text("x")
    assert f"{tmp_path}/b: holds notes.txt; allowed: .png" in refusal(data.load)
    (tmp_path / "b/notes.txt").unlink()
    for name in ("a", "b"):
        for n in range(2, 6):
            paint(tmp_path / f"{name}/{n}.png", seed=n)
    assert len(data.load().train) == 8
    broken = tmp_path / "b/5.png"
    whole = broken.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no image"):
        broken.write_bytes(content)
        assert refusal(data.load).startswith(f"{broken}: not a readable image: ")
    Image.fromarray(np.full((4, 4), 3000, np.uint16)).save(broken)
    line = f"{broken}: images must have 8 bits per channel, got mode "
    assert refusal(data.load) in (f"{line}'I;16'", f"{line}'I'")  # by the version of Pillow


def test_image_folder_sides_must_have_the_same_classes(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b", "test/c"):
        paint(tmp_path / name / "1.png")
    line = refusal(ImageFolder(path=str(tmp_path)).load)
    assert line.startswith(str(tmp_path)) and "classes c" in line


def test_a_class_without_test_images_is_a_warning(tmp_path):
    for name in ("train/a", "train/b", "train/c", "test/a", "test/b"):
        paint(tmp_path / name / "1.png")
    (tmp_path / "test/b/1.png").unlink()  # an empty folder, and none
    with pytest.warns(EigenforgetWarning, match="class b, c"):
        data = ImageFolder(path=str(tmp_path), size=4).load()
    assert data.class_names == ("a", "b", "c") and len(data.train) == 3 and len(data.test) == 1


@pytest.mark.parametrize("keep", ["memory", "disk"])
def test_photos_are_turned_upright(tmp_path, keep):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        paint(tmp_path / name / "1.png", size=(4, 4))
    seen = np.zeros((4, 4), np.uint8)
    seen[0] = 200  # bright at the top, which the camera saved on its side
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(seen)).save(tmp_path / "train/a/2.png", exif=exif)
    with pytest.warns(EigenforgetWarning, match="1 image is turned"):
        data = ImageFolder(path=str(tmp_path), size=4, keep=keep, normalize="none").load()
    where = data.train_index.ids.tolist().index("train/a/2.png")
    image = next(data.train.subset(np.array([where])).batches(1)).inputs[0, 0]
    assert (image[0] > 0.7).all() and (image[1:] == 0).all()


def test_files_of_file_managers_are_left_out(tmp_path):
    for name in ("train/a", "train/b", "test/a", "test/b"):
        paint(tmp_path / name / "1.png")
    plain = ImageFolder(path=str(tmp_path), size=4).load()
    (tmp_path / "train/a/Thumbs.db").write_bytes(b"x")
    (tmp_path / "train/b/.DS_Store").write_bytes(b"x")
    (tmp_path / "__MACOSX").mkdir()
    with pytest.warns(EigenforgetWarning) as said:
        data = ImageFolder(path=str(tmp_path), size=4).load()
    assert data.digest == plain.digest and len(said) == 1
    assert all(name in str(said[0].message) for name in (".DS_Store", "Thumbs.db", "__MACOSX"))


def test_images_of_several_frames_and_sizes_beyond_memory_are_refused(
    tmp_path, monkeypatch
) -> None:
    for n in range(6):
        paint(tmp_path / "ab"[n % 2] / f"{n}.png", seed=n)
    spec = ImageFolder(path=str(tmp_path), size=4)
    frame = Image.new("RGB", (4, 4))
    second = Image.new("RGB", (4, 4), (255, 0, 0))
    frame.save(tmp_path / "a" / "z.png", save_all=True, append_images=[second])
    message = refusal(spec.load)
    assert "z.png" in message and "frames" in message
    (tmp_path / "a" / "z.png").unlink()

    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "resize", full)
    message = refusal(ImageFolder(path=str(tmp_path), size=50_000).load)
    assert "memory" in message and "size=50000" in message
    assert "workers" in refusal(lambda: ImageFolder(path="x", workers=10**9))


def test_names_that_are_no_text_are_refused(tmp_path) -> None:
    for n in range(6):
        paint(tmp_path / "ab"[n % 2] / f"{n}.png", seed=n)
    (tmp_path / "a" / "0.png").rename(os.fsdecode(os.fsencode(tmp_path / "a") + b"/\xff.png"))
    assert "Unicode" in refusal(ImageFolder(path=str(tmp_path), size=4).load)
