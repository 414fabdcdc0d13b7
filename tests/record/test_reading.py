"""Files that are no files: one line each, without waiting and without filling the memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eigenforget.record import file_digest, read, read_manifest, read_salt, seal, write
from eigenforget.record.reading import read_bytes
from eigenforget.record.signing import make_key, read_public_key, read_signature, sign_all
from eigenforget.record.verify import Options, verify, verify_main
from tests.record.toys import chain, made, refusal


def strange_things(folder: Path) -> dict[str, Path]:
    """By what they are; the names are those of records, so that commands take them for some."""
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    (folder / "link.json").symlink_to(folder / "nowhere")
    with open(folder / "sparse.json", "wb") as file:
        file.truncate(2 << 30)
    names = ("pipe", "folder", "link", "sparse", "none")
    return {
        "device": Path("/dev/zero"),
        "NUL": folder / "a\0b.json",
        **{name: folder / f"{name}.json" for name in names},
    }


READERS = {
    "record": read,
    "split": read_manifest,
    "signature": read_signature,
    "salt": read_salt,
    "public key": read_public_key,
    "private key": lambda path: sign_all([], path),
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_every_reader_says_in_one_line_that_it_cannot_be_read(tmp_path: Path) -> None:
    for kind, path in strange_things(tmp_path).items():
        for name, reader in READERS.items():
            assert "cannot be read: " in refusal(reader, path), (kind, name)
        if kind != "sparse":
            assert "cannot be read: " in refusal(file_digest, path), kind


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_verify_names_what_it_cannot_read_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    things = [path for kind, path in strange_things(tmp_path).items() if kind != "NUL"]
    [good] = chain(tmp_path / "good", [made()])
    assert verify_main([str(path) for path in [*things, tmp_path / "good"]]) == 2
    said = capsys.readouterr()
    # What is a folder may hold records; this one holds none.
    assert said.err.count("\n") == len(things) and str(good.digest) in said.out
    assert verify_main([str(tmp_path)]) == 2
    assert {line.split(": ")[1] for line in capsys.readouterr().err.splitlines()} == {
        str(path) for path in things if path.parent == tmp_path and path.name != "none.json"
    }


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_what_lies_under_the_name_of_a_file_is_that_file(tmp_path: Path) -> None:
    """A pipe, a folder or a link to nowhere in its place is an error, and "not checked" is none."""
    digest = "sha256:" + "a" * 64
    write(seal(made(inputs={"file:pipe.json": digest})), tmp_path / "r.json")
    assert [f.status for f in verify([tmp_path / "r.json"]).findings][1] == "not checked"
    for name, path in strange_things(tmp_path).items():
        if name in ("pipe", "folder", "link"):
            write(
                seal(made(inputs={f"file:{path.name}": digest})),
                tmp_path / "r.json",
                overwrite=True,
            )
            wrong = [f.where for f in verify([tmp_path / "r.json"]).findings if f.status == "error"]
            assert wrong == [str(path)]


def test_a_file_of_the_most_bytes_is_read_and_one_more_is_not(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bytes(tmp_path / "f", 5) == b"12345"
    assert "more than 4 bytes" in refusal(read_bytes, tmp_path / "f", 4)


def test_a_signature_whose_record_was_taken_away_is_an_error(tmp_path: Path) -> None:
    _, public = make_key(tmp_path / "key.pem")
    folder = tmp_path / "records"
    chain(folder, [made("m0"), made("m1")])
    sign_all([folder], tmp_path / "key.pem")
    (folder / "1.json").unlink()  # the last of a chain: no other record misses it
    for options in (Options(), Options(public_key=public)):
        [wrong] = [f for f in verify([folder], options).findings if f.status == "error"]
        assert wrong.where == str(folder / "1.json.sig") and "1.json" in wrong.what
