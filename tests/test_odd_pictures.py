"""Odd pictures through both doors: `c3 extract` with its store, its repair and its checks, and `c3 predict`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3 import Tagger
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.spot_check import check_images
from c3.extract.store.cache import FeatureCache, Status
from c3.extract.verify import verify
from c3.train.run import TrainOptions, train
from click.testing import CliRunner
from odd_pictures import RAMP, encoded, exif, jpeg_with, png_text, ramp_picture, tiff
from PIL import Image

NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
ODD = {
    "bad-exif.jpg": jpeg_with(ramp_picture(), 0xE1, exif((0x112, 3, 1, 6), (0x100, 2, 4, 0x61626364))),
    "cut.jpg": encoded(NOISE, "JPEG")[:-2],
    "float.tif": tiff(RAMP.astype("f4"), 3),
    "long-text.png": png_text(ramp_picture(), ["x" * (2 << 20)]),
    "panorama.png": encoded(Image.new("1", (1500, 1000)), "PNG"),
    "twelve-bits.tif": tiff(np.rint(4095 * RAMP).astype("u2")),
}  # in the order of their names
DEFAULT = {"cut.jpg": Status.UNREADABLE, "panorama.png": Status.UNREADABLE}
REMARKS = [
    "1 image is made of numbers whose range the file does not declare, and scaled by what was found, first: "
    "twelve-bits.tif (0 to 4095, of which 0 is black and 4095 is white)",
]  # fmt: skip


@pytest.fixture
def odd(tmp_path: Path, draw_table: Callable[[Path, int], Path]) -> ExtractOptions:
    """Options that extract twelve drawn pictures and the odd ones, with pictures of up to a megapixel."""
    root = draw_table(tmp_path / "tiny", 12)
    with (root / "labels.csv").open("a", newline="") as file:
        for name, content in ODD.items():
            (root / "images" / name).write_bytes(content)
            csv.writer(file).writerow([name, "red", "train"])
    return ExtractOptions(
        "tiny", "squeezenet1_1", "random:0", tmp_path / "f.zarr", root / "catalog.yaml", device="cpu", chunk_rows=4,
        shard_rows=8, max_megapixels=1,
    )  # fmt: skip


def statuses(options: ExtractOptions) -> dict[str, Status]:
    cache = FeatureCache.open(options.out)
    found = zip(cache.image_paths("train").tolist(), cache.status("train").tolist(), strict=True)
    return {Path(path).name: Status(status) for path, status in found if Path(path).name in ODD}


def test_odd_pictures_are_extracted_repaired_and_checked(odd: ExtractOptions, caplog: pytest.LogCaptureFixture) -> None:
    said = extract(odd)
    assert "2 unreadable" in said
    assert statuses(odd) == {name: DEFAULT.get(name, Status.OK) for name in ODD}
    assert [line for line in caplog.messages if ", first: " in line] == REMARKS
    reasons = [line for line in caplog.messages if line.startswith("failed: ")]
    assert any(
        "cut.jpg: unreadable, image file is truncated" in line and "--truncated keep" in line for line in reasons
    )
    assert any("larger than 1 megapixels (1500 x 1000" in line and "--max-megapixels 2" in line for line in reasons)

    kept = replace(odd, out=odd.out.with_name("kept.zarr"), truncated="keep", max_megapixels=2)
    caplog.clear()
    assert "no failures" in extract(kept)
    assert set(statuses(kept).values()) == {Status.OK}
    assert [line for line in caplog.messages if ", first: " in line] == [
        "1 image is one single colour, first: panorama.png (#000000)",
        *REMARKS,
        "1 image is cut off, and used as far as the file goes, first: cut.jpg",
    ]
    cache = FeatureCache.open(kept.out)
    assert (cache.origin.truncated, cache.origin.max_megapixels) == ("keep", 2)
    assert "--truncated keep --max-megapixels 2" in kept.command()
    assert ExtractOptions.from_record(cache.provenance.request, kept.out).decoding == kept.decoding
    assert "equal within" in check_images(kept.out, 99)

    before = {level.name: cache.read("train", level.name, 0, cache.rows("train")) for level in cache.levels}
    for shard in range(cache.shards("train")):
        cache.storage.delete(cache.shape.shard_keys("train", shard)[0])
    assert "made again" in verify(kept.out, repair=True)
    again = FeatureCache.open(kept.out)
    for name, values in before.items():
        np.testing.assert_array_equal(again.read("train", name, 0, again.rows("train")), values)

    with pytest.raises(
        C3Error, match=r"made by another request .*max_megapixels: store 2.*truncated: store .keep.*Give another --out"
    ):
        extract(replace(kept, truncated="status", max_megapixels=1))


def test_settings_that_were_not_asked_for_are_in_no_record(odd: ExtractOptions) -> None:
    plain = replace(odd, max_megapixels=179)
    assert not {"truncated", "max_megapixels"} & set(plain.record())
    assert "megapixels" not in plain.command()


def test_several_processes_read_with_the_same_settings(odd: ExtractOptions) -> None:
    options = replace(odd, truncated="keep", workers=1)
    extract(options)
    assert statuses(options) == {name: Status.UNREADABLE if name == "panorama.png" else Status.OK for name in ODD}


def test_odd_pictures_are_tagged(odd: ExtractOptions, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    extract(odd)
    run = train(TrainOptions(odd.out, "c3", tmp_path / "runs", {"epochs": 1, "groups": 2}, device="cpu"))
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, content in ODD.items():
        (folder / name).write_bytes(content)
    (folder / "notes.txt").touch()
    caplog.clear()
    tagged = Tagger.load(run.path, device="cpu").tag(folder, truncated="keep", max_megapixels=2)
    assert all(one.ok for one in tagged)
    assert any("one single colour" in line for line in caplog.messages)
    with pytest.raises(C3Error, match="truncated: expected status or keep"):
        Tagger.load(run.path, device="cpu").tag(folder, truncated="maybe")
    command = ["predict", str(folder), "--run", str(run.path), "--json", "--device", "cpu"]
    shown = CliRunner().invoke(main, command)
    assert shown.exit_code == 3
    lines = [json.loads(line) for line in shown.stdout.splitlines()]
    assert {Path(line["image"]).name: line["status"] for line in lines} == {
        name: DEFAULT.get(name, Status.OK).name.lower()
        for name in ODD  # with the limit of the store
    }
    assert "left out: 1 .txt" in shown.stderr
    assert "1 image is made of numbers" in shown.stderr
    assert "Traceback" not in shown.stderr and "Warning" not in shown.stderr

    shown = CliRunner().invoke(main, [*command, "--truncated", "keep", "--max-megapixels", "2"])
    assert shown.exit_code == 0, shown.output
    assert "1 image is one single colour" in shown.stderr
    assert "1 image is cut off" in shown.stderr
