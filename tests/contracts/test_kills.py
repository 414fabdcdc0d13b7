"""A slice of fuzz/kills.py: whole outputs and resume, whatever the step at which a command dies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_commands_leave_old_or_new_outputs_and_start_again(tmp_path: Path) -> None:
    asked = ("--slice", "--every", "30", "--only", "train", "--only", "evaluate")
    command = [sys.executable, "-m", "fuzz.kills", *asked, "--json", tmp_path / "kills.json"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["faults"] == [] and found["figures"]["runs killed"] > 5
    assert set(found["steps"]) == {"train --overwrite", "evaluate --overwrite"}
