"""A file is replaced whole or not at all, whichever part of c3 writes it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from c3.common.errors import C3Error
from c3.common.files import replacing, write_bytes, write_text, writing
from safetensors.torch import save_file


def test_a_file_appears_whole_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with writing(path, durable=True) as scratch:
        scratch.write_text("two")
        assert path.read_text() == "one"
    assert path.read_text() == "two"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("stopped"), KeyboardInterrupt()])
def test_an_error_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "one")
    with pytest.raises(type(error)), replacing(path) as scratch:
        scratch.write_text("half of tw")
        raise error
    assert path.read_text() == "one"
    assert [file.name for file in tmp_path.iterdir()] == ["a.txt"]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        C3Error, match=r"no/such/a cannot be written \(No such .*\); mend that and run the command again"
    ):
        write_bytes(tmp_path / "no/such/a", b"data")
    with pytest.raises(OSError, match="No such file"), replacing(tmp_path / "no/such/a"):
        pass
    write_bytes(tmp_path / "a", b"data")
    with pytest.raises(C3Error, match=r"a cannot be written .*, it is as it was before"), writing(tmp_path / "a"):
        raise OSError(28, "No space left on device")
    with pytest.raises(C3Error, match=r"a cannot be written \(File name too long\); mend"):
        write_bytes(tmp_path / ("a" * 256), b"data")
    with pytest.raises(C3Error, match=r"and the same command continues$"):
        write_bytes(tmp_path / "no/such/a", b"a checkpoint", durable=True)
    assert (tmp_path / "a").read_bytes() == b"data"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_that_open_gives_whoever_writes_them(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        (tmp_path / "open").write_bytes(b"")
        write_bytes(tmp_path / "bytes", b"data")
        with writing(tmp_path / "tensors") as scratch:  # its library would make it readable for the owner alone
            save_file({"a": torch.zeros(2)}, scratch)
    finally:
        os.umask(before)
    assert {path.stat().st_mode for path in tmp_path.iterdir()} == {(tmp_path / "open").stat().st_mode}
