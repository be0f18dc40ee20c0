"""Doctor: checks of a set-up, each finding with its remedy. The command is ``eco2 doctor``."""

from __future__ import annotations

from eco2_callbacks.doctor.examination import examine
from eco2_callbacks.doctor.findings import Finding, Level

__all__ = ["Finding", "Level", "examine"]
