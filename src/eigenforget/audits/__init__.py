"""AUDITS: measurements that must train something. Adding one is one file and one line here."""

from eigenforget.audits.evidence import Audit
from eigenforget.audits.linear_probe import LinearProbe

AUDITS: list[type[Audit]] = [LinearProbe]
ENSEMBLE_AUDITS: list[type[Audit]] = []

__all__ = ["AUDITS", "ENSEMBLE_AUDITS", "LinearProbe"]
