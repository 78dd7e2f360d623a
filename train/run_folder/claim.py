"""Hold a run folder while it trains: two processes that write one run would lose the work of both."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...common.errors import C3Error

LOG = logging.getLogger(__name__)
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}  # what some network file systems answer


@contextmanager
def claimed(path: Path) -> Iterator[None]:
    """Hold the folder of a run for this process. The lock is a file beside it, which ends with the process.

    A file system without locks gets a warning. Raises C3Error where another process holds the folder, and where its
    parent cannot be written.
    """
    lock = path.with_name(f".{path.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise C3Error(f"cannot create the run folder {path}: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            own = os.path.samestat(os.fstat(file.fileno()), lock.stat())  # another process may just have removed it
        except (BlockingIOError, FileNotFoundError):
            own = False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            LOG.warning("%s lies on a file system without locks: let no second process train this run", path)
            own = True
        if not own:
            raise C3Error(f"{path} is being trained by another process; wait for its end, then give the command again")
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
