"""A crop holds the object of its box, however EXIF turns the picture and whichever tool drew the box."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.backbone.pictures.crops import load_crop
from c3.extract.backbone.pictures.frame import Frame, read_frame
from c3.extract.catalog.catalog import Catalog
from c3.extract.datasets.manifest import Manifest, ReadOptions
from c3.extract.datasets.orientation import turn
from c3.extract.datasets.read import read_manifest
from official_trees import write_openimages
from PIL import ExifTags, Image, ImageOps

ALL = range(1, 9)
STORED = (160, 120)  # width and height
SQUARE = (8, 20, 58, 70)  # x0, y0, x1, y1 of the red square in stored pixels


def draw(path: Path, orientation: int, size: tuple[int, int] = STORED, scale: int = 1) -> Image.Image:
    """Write a picture with a red square, turned by EXIF; return it upright."""
    pixels = np.zeros((size[1] * scale, size[0] * scale, 3), np.uint8)
    x0, y0, x1, y1 = (side * scale for side in SQUARE)
    pixels[y0:y1, x0:x1] = (255, 0, 0)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, exif=exif)
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image)


def bounds(upright: Image.Image) -> list[int]:
    """Return x, y, width and height of the red square in an upright picture."""
    red = np.asarray(upright)[..., 0] > 128
    rows, columns = np.flatnonzero(red.any(axis=1)), np.flatnonzero(red.any(axis=0))
    return [int(side) for side in (columns[0], rows[0], np.ptp(columns) + 1, np.ptp(rows) + 1)]


def write_coco(root: Path, images: dict[str, tuple[tuple[int, int], list[int]]]) -> Path:
    """Write a COCO file of images as name: (size, bbox), the same for train and test; return the catalog."""
    content = {
        "images": [
            {"id": n, "file_name": name, "width": size[0], "height": size[1]}
            for n, (name, (size, _)) in enumerate(images.items())
        ],
        "annotations": [{"image_id": n, "category_id": 1, "bbox": box} for n, (_, box) in enumerate(images.values())],
        "categories": [{"id": 1, "name": "dog"}],
    }
    for year in ("train2017", "val2017"):
        path = root / f"annotations/instances_{year}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content))
    (root / "vectors.txt").write_text("dog 1 2 3\n")
    catalog = {
        "version": 1,
        "datasets": {"d": {"kind": "coco", "root": ".", "images": "images", "vectors": "v", "box_margin": 0}},
        "vectors": {"v": {"kind": "text", "path": "vectors.txt"}},
    }
    (root / "catalog.yaml").write_text(json.dumps(catalog))
    return root / "catalog.yaml"


def boxes(catalog: Path) -> Manifest:
    return read_manifest(Catalog(catalog).dataset("d"), ReadOptions(crops="boxes"))


def require_red(found: Manifest) -> None:
    """Require every crop of train to be the red square and nothing else, but for a pixel at its edge."""
    rows = found.splits["train"]
    for path, crop in zip(rows.path.tolist(), rows.crop, strict=True):
        pixels = load_crop(found.root / path, crop, 50).pixels
        assert pixels is not None
        assert pixels[2:-2, 2:-2, 0].min() > 200, path
        assert pixels[..., 1].max() < 60, path
        whole = load_crop(found.root / path, np.float32([0, 0, 1, 1]), 200).pixels
        assert whole is not None
        shares = (crop[2] - crop[0]) * (crop[3] - crop[1])
        assert shares == pytest.approx((whole[..., 0] > 128).mean(), abs=0.01), path


def stored_box() -> list[int]:
    x0, y0, x1, y1 = SQUARE
    return [x0, y0, x1 - x0, y1 - y0]


def test_a_box_in_stored_pixels_is_turned_with_its_picture(tmp_path: Path) -> None:
    for orientation in ALL:
        draw(tmp_path / f"images/train2017/{orientation}.jpg", orientation)
    require_red(boxes(write_coco(tmp_path, {f"{n}.jpg": (STORED, stored_box()) for n in ALL})))


def test_a_box_in_the_upright_picture_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The pictures that lie on their side tell that the tool turned pictures first, so half turns follow them."""
    caplog.set_level(logging.INFO)
    images = {}
    for n in ALL:
        upright = draw(tmp_path / f"images/train2017/{n}.jpg", n)
        images[f"{n}.jpg"] = (upright.size, bounds(upright))
    require_red(boxes(write_coco(tmp_path, images)))
    assert "EXIF turns 7 pictures with boxes; the boxes of 0 are turned with them" in caplog.text


def test_files_whose_tools_disagree_are_read_picture_by_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images: dict[str, tuple[tuple[int, int], list[int]]] = {}
    for n in (5, 6, 7, 8):
        upright = draw(tmp_path / f"images/train2017/u{n}.jpg", n)
        images[f"u{n}.jpg"] = (upright.size, bounds(upright))
        draw(tmp_path / f"images/train2017/s{n}.jpg", n)
        images[f"s{n}.jpg"] = (STORED, stored_box())
    draw(tmp_path / "images/train2017/half.jpg", 3)
    images["half.jpg"] = (STORED, stored_box())
    require_red(boxes(write_coco(tmp_path, images)))
    assert "the sizes of 1 pictures do not tell" in caplog.text
    assert "(first: train2017/half.jpg)" in caplog.text


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_every_format_with_exif_is_turned(tmp_path: Path, suffix: str) -> None:
    for n in ALL:
        draw(tmp_path / f"images/train2017/{n}.{suffix}", n)
        assert read_frame(tmp_path / f"images/train2017/{n}.{suffix}") == Frame(STORED, n)
    require_red(boxes(write_coco(tmp_path, {f"{n}.{suffix}": (STORED, stored_box()) for n in ALL})))


def test_pictures_that_were_scaled_as_a_whole_and_squares_are_turned(tmp_path: Path) -> None:
    images = {}
    for n in ALL:
        draw(tmp_path / f"images/train2017/{n}.png", n, scale=2)
        draw(tmp_path / f"images/train2017/square{n}.png", n, size=(120, 120))
        images[f"{n}.png"] = (STORED, stored_box())
        images[f"square{n}.png"] = ((120, 120), stored_box())
    require_red(boxes(write_coco(tmp_path, images)))


def test_a_picture_of_another_size_is_named(tmp_path: Path) -> None:
    for n in (1, 6):
        draw(tmp_path / f"images/train2017/{n}.jpg", n)
        catalog = write_coco(tmp_path, {f"{n}.jpg": ((100, 120), stored_box())})
        with pytest.raises(C3Error, match=rf"train2017/{n}\.jpg has 160 x 120 pixels, expected 100 x 120 \(width"):
            boxes(catalog)
    catalog = write_coco(tmp_path, {"1.jpg": ((120, 160), stored_box())})  # nothing turns this one
    with pytest.raises(C3Error, match=r"train2017/1\.jpg has 160 x 120 pixels, expected 120 x 160"):
        boxes(catalog)


def test_pictures_that_are_missing_or_damaged_keep_their_boxes(tmp_path: Path) -> None:
    (tmp_path / "images/train2017").mkdir(parents=True)
    (tmp_path / "images/train2017/damaged.jpg").write_bytes(b"\xff\xd8\xff\xe1damaged")
    names = ("damaged.jpg", "missing.jpg", "a" * 300 + ".jpg")
    found = boxes(write_coco(tmp_path, {name: (STORED, stored_box()) for name in names}))
    np.testing.assert_allclose(found.splits["train"].crop, [[8 / 160, 20 / 120, 58 / 160, 70 / 120]] * 3, atol=1e-6)


def test_whole_images_are_read_without_opening_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    catalog = write_coco(tmp_path, {"1.jpg": ((1, 2), [0, 0, 0, 0])})
    assert len(read_manifest(Catalog(catalog).dataset("d")).splits["train"]) == 1


def test_boxes_of_open_images_lie_in_the_stored_pixels(tmp_path: Path) -> None:
    tree = write_openimages(tmp_path)
    found = read_manifest(Catalog(tree.catalog).dataset("openimages"), ReadOptions(crops="boxes", splits=("test",)))
    path = found.splits["test"].path[0]
    with Image.open(found.root / path) as image:
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6  # a quarter turn clockwise: x becomes y, and y is 1 - x
        image.save(found.root / path, exif=exif)
    spec = Catalog(tree.catalog).dataset("openimages")
    turned = read_manifest(spec, ReadOptions(crops="boxes", splits=("test",))).splits["test"]
    x0, y0, x1, y1 = found.splits["test"].crop[0]
    np.testing.assert_allclose(turned.crop[turned.path == path][0], [1 - y1, x0, 1 - y0, x1], atol=1e-6)
    np.testing.assert_array_equal(turned.crop[turned.path != path], found.splits["test"].crop[turned.path != path])


@pytest.mark.parametrize("orientation", ALL)
def test_corners_are_turned_as_pillow_turns_pixels(orientation: int) -> None:
    pixels = np.zeros((10, 20), np.uint8)
    pixels[1:4, 3:9] = 255
    image = Image.fromarray(pixels)
    image.getexif()[ExifTags.Base.Orientation] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    corners = turn(np.array([[3 / 20, 1 / 10, 9 / 20, 4 / 10]]), np.array([orientation]))[0]
    x0, y0, x1, y1 = np.round(corners * np.tile(upright.shape[::-1], 2)).astype(int)
    assert (upright[y0:y1, x0:x1] == 255).all()
    assert upright.astype(bool).sum() == (x1 - x0) * (y1 - y0)
