"""A slice of fuzz/kills.py: whole outputs and resume, whatever the step at which a command dies."""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import NoReturn

import pytest

from fuzz import kills

ASKED = ("--slice", "--every", "30", "--only", "train", "--only", "evaluate")


@pytest.mark.long
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills forks")
def test_killed_commands_leave_old_or_new_outputs_and_start_again(tmp_path: Path) -> None:
    """In a fork of this process, which has loaded torch."""
    child = os.fork()
    if child == 0:
        _kill(tmp_path)
    _, status = os.waitpid(child, 0)
    assert status == 0, (tmp_path / "said").read_text()
    found = json.loads((tmp_path / "kills.json").read_text())
    assert found["faults"] == [] and found["figures"]["runs killed"] > 5
    assert set(found["steps"]) == {"train --overwrite", "evaluate --overwrite"}


def _kill(folder: Path) -> NoReturn:
    code = 70
    said = os.open(folder / "said", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1), os.dup2(said, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    sys.argv = ["kills", *ASKED, "--json", str(folder / "kills.json")]
    try:
        kills.main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException:  # pytest must not go on in this process
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
