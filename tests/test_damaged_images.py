"""Three hundred damaged pictures among good ones: no crash, right statuses, and good rows as without them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache, Status
from PIL import Image

GOOD, DAMAGED = 100, 300


def picture(rng: np.random.Generator, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    noise = rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def encoded(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def truncated(rng: np.random.Generator) -> bytes:
    whole = encoded(picture(rng), rng.choice(["JPEG", "PNG"]))
    return whole[: len(whole) // 2]


def cut_header(rng: np.random.Generator) -> bytes:
    return encoded(picture(rng), "JPEG")[: int(rng.integers(1, 12))]


def noise(rng: np.random.Generator) -> bytes:
    return rng.bytes(int(rng.integers(1, 2000)))


def text(rng: np.random.Generator) -> bytes:
    return b"<html><body>404 Not Found</body></html>" * int(rng.integers(1, 20))


def flipped(rng: np.random.Generator) -> bytes:
    """A PNG with a byte of its compressed data changed: its own checksum does not match."""
    content = bytearray(encoded(picture(rng), "PNG"))
    content[len(content) // 2] ^= 0xFF
    return bytes(content)


def bomb(rng: np.random.Generator) -> bytes:
    """A PNG of a few hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


def zero_size(rng: np.random.Generator) -> bytes:
    content = bytearray(encoded(picture(rng), "BMP"))
    content[18:26] = struct.pack("<ii", 0, 0)
    return bytes(content)


def tiny(rng: np.random.Generator) -> bytes:
    return encoded(picture(rng, size=(1, 1)), "PNG")


def turned_exif() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: a quarter turn
    return exif.tobytes()


UNREADABLE = (truncated, cut_header, noise, text, flipped, bomb, zero_size)
ODD = {
    "CMYK": lambda rng: encoded(picture(rng, "CMYK"), "JPEG"),
    "16-bit": lambda rng: encoded(Image.fromarray(rng.integers(0, 65536, (30, 40)).astype(np.uint16)), "PNG"),
    "palette": lambda rng: encoded(picture(rng, "P"), "GIF"),
    "transparent": lambda rng: encoded(picture(rng, "RGBA"), "PNG"),
    "grey": lambda rng: encoded(picture(rng, "L"), "JPEG"),
    "animated": lambda rng: encoded(
        picture(rng), "GIF", save_all=True, append_images=[picture(rng), picture(rng)], duration=40
    ),
    "turned": lambda rng: encoded(picture(rng), "JPEG", exif=turned_exif()),
}


def build(root: Path, draw_table: Callable[[Path, int], Path], damaged: bool) -> dict[str, Status]:
    """A data set of GOOD pictures, among them one of every odd kind, and DAMAGED ones in between or left away."""
    draw_table(root, 12)
    for file in (root / "images").iterdir():
        file.unlink()
    rng = np.random.default_rng(0)
    kinds = [None] * GOOD + [UNREADABLE[n % len(UNREADABLE)] for n in range(DAMAGED - 60)]
    kinds += [tiny] * 20 + ["empty"] * 20 + ["missing"] * 20
    expected: dict[str, Status] = {}
    lines = ["image_path,labels,split"]
    odd = list(ODD.values())
    goods = 0
    for number in rng.permutation(len(kinds)):
        kind, name = kinds[number], f"{number:03d}.jpg"
        if kind is None:
            content = odd[goods](rng) if goods < len(odd) else encoded(picture(rng), "JPEG")
            goods, status = goods + 1, Status.OK
        elif isinstance(kind, str):
            content, status = (b"", Status.EMPTY) if kind == "empty" else (None, Status.MISSING)
        else:
            content, status = kind(rng), Status.TOO_SMALL if kind is tiny else Status.UNREADABLE
        if not damaged and status != Status.OK:
            content = encoded(Image.new("RGB", (8, 8)), "PNG")  # a plain black picture in its place
        if content is not None:
            (root / "images" / name).write_bytes(content)
        expected[name] = status
        lines.append(f"{name},{('red', 'blue', 'dark red')[number % 3]},train")
    (root / "labels.csv").write_text("\n".join(lines) + "\n")
    return expected


@pytest.mark.slow
def test_damaged_pictures_among_good_ones(tmp_path: Path, draw_table: Callable[[Path, int], Path]) -> None:
    stores = []
    for name in ("damaged", "clean"):
        expected = build(tmp_path / name, draw_table, damaged=name == "damaged")
        options = ExtractOptions(
            "tiny", "squeezenet1_1", "random:0", tmp_path / f"{name}.zarr", tmp_path / name / "catalog.yaml",
            batch_size=16, chunk_rows=16, shard_rows=64, device="cpu",
        )  # fmt: skip
        said = extract(options)
        stores.append(FeatureCache.open(options.out))
    assert "no failures" in said
    damaged, clean = stores
    status = damaged.status("train")
    ids = damaged.image_ids("train").tolist()
    found = {Path(image).name: Status(value) for image, value in zip(ids, status, strict=True)}
    assert {
        name: found[name.removesuffix(".jpg")] if name not in found else found[name] for name in expected
    } == expected
    for level in damaged.levels:
        maps, reference = damaged.maps("train", level.name)[:], clean.maps("train", level.name)[:]
        good = status == Status.OK
        np.testing.assert_array_equal(maps[good], reference[good])
        assert not maps[~good].any()
        assert (maps[good].reshape(good.sum(), -1) != 0).any(1).all()
