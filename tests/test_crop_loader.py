"""Pictures in batches: decoded ahead, in order, a failed one black and named, whatever the others are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.extract.backbone.pictures import crop_loader
from c3.extract.backbone.pictures.crop_loader import CropLoader, CropSource
from c3.extract.backbone.pictures.crops import Crop, load_crop
from c3.extract.backbone.pictures.decode_options import DecodeOptions
from c3.extract.store.cache import Status
from PIL import Image

WHOLE = np.float32([0, 0, 1, 1])


@pytest.fixture
def pictures(tmp_path: Path) -> list[CropSource]:
    """Five pictures of one grey each; the third is damaged."""
    for number in range(5):
        Image.new("RGB", (30, 20), (40 * number,) * 3).save(tmp_path / f"{number}.png")
    (tmp_path / "2.png").write_bytes(b"damaged")
    return [CropSource(tmp_path / f"{number}.png", WHOLE) for number in range(5)]


def test_batches_come_in_order_with_their_keys_and_a_failed_crop_is_black(pictures: list[CropSource]) -> None:
    loaded = list(CropLoader().load([("first", pictures[:3]), ("second", pictures[3:]), ("third", pictures[2:3])]))
    assert [key for key, _ in loaded] == ["first", "second", "third"]
    first, second, third = (batch for _, batch in loaded)
    assert (first.failed, second.failed, third.failed) == ([2], [], [0])
    assert (first.empty, second.empty, third.empty) == (False, False, True)
    assert first.crops[2].status == Status.UNREADABLE
    assert first.pixels().shape == (3, 3, 224, 224)
    assert first.pixels()[:, 0, 5, 5].tolist() == [0, 40, 0]
    assert second.pixels()[:, 2, 100, 7].tolist() == [120, 160]
    assert (first.pixels()[1].transpose(1, 2, 0) == load_crop(pictures[1].path, WHOLE).pixels).all()
    on = second.on(torch.device("cpu"))
    assert on.dtype == torch.uint8
    assert (on.numpy() == second.pixels()).all()
    assert on.stride() == (3 * 224 * 224, 1, 3 * 224, 3)  # channels last, as networks compute


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_batches_are_decoded_ahead_and_no_further_than_asked(
    ahead: int, pictures: list[CropSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    begun = threading.Semaphore(0)

    def counted(path: Path, box: np.ndarray, size: int, options: DecodeOptions, interpolation: str, fit: str) -> Crop:
        begun.release()
        return load_crop(path, box, size, options, interpolation, fit)

    def batches() -> Iterator[tuple[int, list[CropSource]]]:
        for number in range(20):
            taken.append(number)
            yield number, pictures[:2]

    monkeypatch.setattr(crop_loader, "load_crop", counted)
    loading = CropLoader(threads=1, ahead=ahead).load(batches())
    assert next(loading)[0] == 0
    assert taken == list(range(ahead + 1))
    for _ in range(2 * (ahead + 1)):  # all that was taken is decoded without anyone asking for it
        assert begun.acquire(timeout=120)
    loading.close()
    assert not begun.acquire(timeout=0.1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_pixels_reach_a_cuda_device_unchanged(pictures: list[CropSource]) -> None:
    ((_, batch),) = CropLoader().load([(None, pictures)])
    on = batch.on(torch.device("cuda"))
    assert on.device.type == "cuda"
    assert (on.cpu().numpy() == batch.pixels()).all()
    assert on.stride() == (3 * 224 * 224, 1, 3 * 224, 3)
