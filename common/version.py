"""The version of c3, in one place."""

__version__ = "0.2.0"
