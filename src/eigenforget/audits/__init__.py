"""AUDITS: measurements that must train something. Adding one is one file and one line here."""

from eigenforget.audits.linear_probe import LinearProbe

AUDITS: list[type] = [LinearProbe]

__all__ = ["AUDITS", "LinearProbe"]
