"""Every picture that can be shown becomes RGB pixels; every other one becomes a named status."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from c3.extract.backbone.pictures.crops import load_crop
from c3.extract.store.cache import Status
from PIL import Image

WHOLE = np.float32([0, 0, 1, 1])
RED = (200, 40, 20)


def save(path: Path, image: Image.Image, **options: object) -> Path:
    image.save(path, **options)
    return path


def gradient(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    return Image.merge("RGB", [Image.linear_gradient("L").resize(size)] * 3).convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        ("RGB", "jpg"),
        ("L", "jpg"),
        ("CMYK", "jpg"),
        ("RGBA", "png"),
        ("LA", "png"),
        ("P", "gif"),
        ("P", "png"),
        ("1", "png"),
    ],
)
def test_every_colour_mode_gives_the_same_picture(tmp_path: Path, mode: str, suffix: str) -> None:
    crop = load_crop(save(tmp_path / f"x.{suffix}", gradient(mode)), WHOLE, 32)
    assert crop.status == Status.OK
    assert crop.pixels.shape == (32, 32, 3)
    assert crop.pixels.dtype == np.uint8
    reference = np.asarray(gradient().resize((32, 32), Image.Resampling.BILINEAR)).astype(int)
    allowed = 60 if mode == "1" else 8  # black and white is dithered
    assert np.abs(crop.pixels.astype(int) - reference).mean() < allowed


def test_sixteen_bit_grey_keeps_its_range(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 64, dtype=np.uint16)[None].repeat(64, axis=0)
    crop = load_crop(save(tmp_path / "x.png", Image.fromarray(ramp)), WHOLE, 64)
    assert crop.pixels[0, 0, 0] < 5
    assert crop.pixels[0, -1, 0] > 250
    assert 110 < crop.pixels[0, 32, 0] < 145


def test_transparency_becomes_white(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (20, 20), (*RED, 0))
    picture.paste((*RED, 255), (0, 0, 10, 20))
    crop = load_crop(save(tmp_path / "x.png", picture), WHOLE, 20)
    assert crop.pixels[10, 2].tolist() == list(RED)
    assert crop.pixels[10, 17].tolist() == [255, 255, 255]


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 20), "black")
    picture.paste("white", (0, 0, 20, 20))  # left half
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise: the left becomes the top
    crop = load_crop(save(tmp_path / "x.jpg", picture, exif=exif), WHOLE, 20)
    assert crop.pixels[2].mean() > 250
    assert crop.pixels[17].mean() < 5


def test_a_box_is_cut_before_resizing(tmp_path: Path) -> None:
    picture = Image.new("RGB", (40, 40), "black")
    picture.paste(RED, (20, 10, 40, 30))
    crop = load_crop(save(tmp_path / "x.png", picture), np.float32([0.5, 0.25, 1, 0.75]), 8)
    assert (crop.pixels == RED).all()


def jpeg(size: tuple[int, int] = (200, 200)) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "jpeg")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (None, Status.MISSING),
        (b"", Status.EMPTY),
        (b"<html>this photo is no longer available</html>", Status.UNREADABLE),
        (jpeg()[:3000], Status.UNREADABLE),
        (jpeg()[:20], Status.UNREADABLE),
        (b"GIF89a" + bytes(10), Status.UNREADABLE),
    ],
)
def test_bad_images_become_a_status(tmp_path: Path, content: bytes | None, status: Status) -> None:
    if content is not None:
        (tmp_path / "x.jpg").write_bytes(content)
    crop = load_crop(tmp_path / "x.jpg", WHOLE, 32)
    assert (crop.status, crop.pixels) == (status, None)
    assert crop.reason


def test_a_folder_and_a_tiny_crop_become_a_status(tmp_path: Path) -> None:
    (tmp_path / "folder.jpg").mkdir()
    assert load_crop(tmp_path / "folder.jpg", WHOLE, 32).status in (Status.UNREADABLE, Status.EMPTY)
    path = save(tmp_path / "x.png", gradient())
    assert load_crop(path, np.float32([0.5, 0.5, 0.51, 0.9]), 32).status == Status.TOO_SMALL
