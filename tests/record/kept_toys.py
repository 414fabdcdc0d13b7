"""Toys that several tests of this folder share."""

from __future__ import annotations

import json
import struct
from typing import Any


def blob(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data
