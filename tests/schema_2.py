"""Stores as an older c3 made them, of version 2: without image paths and dimension names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest
from c3.extract.store.attributes import Attributes


@contextmanager
def new_stores_of_version_2() -> Iterator[None]:
    """Make stores that are created meanwhile, in this process, of version 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c3.extract.store.cache.Attributes", partial(Attributes, schema=2))
        yield
