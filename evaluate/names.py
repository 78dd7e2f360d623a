"""The names that a person may give to evaluation and reports. Data only; nothing is imported.

protocol.py, average_precision.py and report/render.py say what stands behind them; a test compares them with these.
"""

from __future__ import annotations

PROTOCOLS = ("nuswide", "nuswide-81", "openimages-lesa", "openimages-biam", "coco", "table")
TIES = ("grouped", "stable")
FORMATS = ("text", "markdown", "latex", "csv", "json")

NOT_FOR_CHOOSING = "reads labels of unseen classes, not for choosing settings"  # ZSL and GZSL of val
