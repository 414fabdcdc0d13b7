"""Several processes for one command: outputs, exit codes and signals of the launcher."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from eigenforget.cli import launching, main
from tests.cli.round_toys import refused_in_one_line
from tests.training.test_processes import compare

SAYS = """
import os, sys, time
from eigenforget.cli import launching
launching.GRACE = 600  # the first one fails long before
rank, world = os.environ["RANK"], os.environ["WORLD_SIZE"]
assert os.environ["LOCAL_RANK"] == rank and world == os.environ["LOCAL_WORLD_SIZE"]
assert os.environ["MASTER_PORT"]
print(f"rank {rank} of {world} {sys.argv[1]}", flush=True)
if rank == "0":
    open(sys.argv[2], "w").close()
while not os.path.exists(sys.argv[2]):  # nobody ends the first one before it has spoken
    time.sleep(0.01)
"""


FAIL = "launching.let_first_speak(); print('wrong', rank, file=sys.stderr); sys.exit(2)"


@pytest.mark.parametrize(
    ("does", "code", "said", "complained"),
    [
        ("", 0, "rank 0 of 3 x", ""),
        (FAIL, 2, "rank 0 of 3 x", "wrong 0"),
        (
            "time.sleep(1200) if rank != '1' else (print('alone', file=sys.stderr), sys.exit(3))",
            3,
            "rank 0 of 3 x",
            "alone",
        ),
        ("time.sleep(1200) if rank != '0' else sys.exit(4)", 4, "rank 0 of 3 x", ""),
        ("time.sleep(1200) if rank != '2' else os.kill(os.getpid(), 9)", 137, "rank 0 of 3 x", ""),
    ],
)
def test_the_launcher_speaks_with_one_voice(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    does: str,
    code: int,
    said: str,
    complained: str,
) -> None:
    handler, started = signal.getsignal(signal.SIGTERM), time.monotonic()
    assert launching.supervise(["x", str(tmp_path / "spoken")], 3, ["-c", SAYS + does]) == code
    assert time.monotonic() - started < 900, (
        "nobody waits for a process that sleeps for twenty minutes"
    )
    assert signal.getsignal(signal.SIGTERM) is handler
    found = capfd.readouterr()
    assert (found.out.strip(), found.err.strip()) == (said, complained)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--strategy", "foo"), "strategy 'foo' must be one of auto, ddp"),
        (("--device", "foo"), "device 'foo' must be one of auto, cpu, cuda"),
        (("--device", "cuda:1"), "a number is for one GPU"),
        (("--precision", "foo"), "precision 'foo' must be one of 32-true"),
        (("--device", "cpu", "--precision", "16-true"), "'16-true' needs a GPU"),
        (("--accumulate", "0"), "accumulate must be from 1"),
    ],
)
@pytest.mark.parametrize("devices", ["1", "2"])
def test_wrong_settings_fail_before_processes_are_started(
    more: tuple[str, ...],
    message: str,
    devices: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    monkeypatch.setattr("eigenforget.cli.supervise", lambda *_: pytest.fail("processes started"))
    if more == ("--device", "cuda:1") and devices == "1":
        message = "device 'cuda:1': torch finds no CUDA GPU"
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    argv = ["train", "--data", "digits()", "--model", "mlp()", "--out", "x.safetensors"]
    words = [*argv, "--devices", devices, *more]
    refused_in_one_line(words, message, tmp_path, capsys, monkeypatch)


ENDS = """
import atexit, os, sys

def tell():
    group = sys.modules.get("torch.distributed")
    with open(os.path.join(os.path.dirname(__file__), os.environ["RANK"]), "w") as file:
        file.write(str(group is not None and group.is_initialized()))

if "RANK" in os.environ:
    atexit.register(tell)  # asked last
"""
"""A module that Python loads when it starts."""


@pytest.mark.long
def test_a_command_on_two_devices(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same weights as on one; the group of processes ends before Python does."""
    (tmp_path / "started").mkdir()
    (tmp_path / "started" / "sitecustomize.py").write_text(ENDS)
    paths = (str(tmp_path / "started"), os.environ.get("PYTHONPATH", ""))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    words = [
        "train",
        "--data",
        "digits()",
        "--model",
        "small_resnet(width=2)",
        "--recipe",
        "recipe(epochs=1)",
        "--device",
        "cpu",
    ]
    words += ["--precision", "64-true"]
    codes = []
    for devices in ("1", "2"):
        try:
            main([*words, "--devices", devices, "--out", str(tmp_path / f"{devices}.safetensors")])
        except SystemExit as end:
            codes.append(end.code)
    assert codes == [0]
    out, err = capfd.readouterr()
    assert out.count("wrote") == 2 and not err
    open_at_the_end = [(tmp_path / "started" / rank).read_text() for rank in ("0", "1")]
    assert open_at_the_end == ["False", "False"]
    one, two = (load_file(tmp_path / f"{devices}.safetensors") for devices in ("1", "2"))
    assert not any(value.dtype == torch.float64 for value in one.values())
    compare({"": two}, {"": one}, rtol=1e-6, atol=1e-7)  # rounded from float64
    records = [json.loads((tmp_path / f"{devices}.json").read_text()) for devices in ("1", "2")]
    assert [item["environment"].get("devices") for item in records] == [None, 2]
    assert (
        records[0]["outcome"]["cost"]["trained_samples"]
        == records[1]["outcome"]["cost"]["trained_samples"]
    )
