"""Who gave the labels of a data set. Imports nothing, so that the command line can offer the names."""

from __future__ import annotations

HUMAN = "human"
HUMAN_AND_MACHINE = "human+machine"
LABEL_SOURCES = (HUMAN, HUMAN_AND_MACHINE)
