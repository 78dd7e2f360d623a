"""Numbers in sentences."""

from __future__ import annotations


def counted(number: int, noun: str, many: str = "") -> str:
    """Return a number with its noun; `many` is the plural where it is not the noun with an s.

    >>> counted(1, "shard"), counted(1200, "shard"), counted(2, "class", "classes")
    ('1 shard', '1,200 shards', '2 classes')
    """
    return f"{number:,} {noun if number == 1 else many or f'{noun}s'}"
