"""`--precision auto`: chosen once, recorded as what ran, and kept on machines that would choose otherwise."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from c3.extract import request
from c3.extract.backbone import precision
from c3.extract.backbone.precision import cpu_flags, fastest_precision
from c3.extract.cluster import WorkerSetup
from c3.extract.options import ExtractOptions
from c3.extract.remake import prepare_remake
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache

CPU = torch.device("cpu")
X86 = "processor\t: 0\nflags\t\t: fpu avx512f {}\nbogomips\t: 1\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd {}\n"


@pytest.fixture
def asked(table_dataset: Path, tmp_path: Path) -> ExtractOptions:
    return ExtractOptions(
        "tiny", "squeezenet1_1", "random:0", tmp_path / "f.zarr", table_dataset / "catalog.yaml", splits=("train",),
        batch_size=4, device="cpu", precision="auto",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [(X86.format("avx512_bf16"), "bf16"), (X86.format("amx_bf16"), "bf16"), (ARM.format("bf16"), "bf16"),
     (X86.format("avx512_vnni"), "fp32"), (ARM.format("asimddp"), "fp32"), ("", "fp32"), (None, "fp32")],
    ids=["avx512_bf16", "amx_bf16", "arm", "x86-without", "arm-without", "empty", "no-file"],
)  # fmt: skip
def test_bfloat16_needs_units_of_the_processor(
    text: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "FLAGS", tmp_path / "cpuinfo")
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert fastest_precision(CPU)[0] == expected


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), "fp32"), ((8, 0), "bf16"), ((9, 0), "bf16")])
def test_bfloat16_needs_units_of_the_gpu(
    capability: tuple[int, int], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert fastest_precision(torch.device("cuda:1"))[0] == expected


def test_the_flags_of_this_machine_are_words() -> None:
    assert all(flag == flag.strip() for flag in cpu_flags())


@pytest.mark.parametrize(("here", "elsewhere"), [("fp32", "bf16"), ("bf16", "fp32")])
def test_the_choice_is_recorded_and_kept_where_another_would_be_made(
    asked: ExtractOptions, here: str, elsewhere: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(request, "fastest_precision", lambda _: (here, "a test says so"))
    caplog.set_level("INFO")
    extract(asked)
    assert f"precision {here}: a test says so" in caplog.text
    store = FeatureCache.open(asked.out)
    assert store.origin.precision == here
    assert (store.provenance.request or {})["precision"] == here

    monkeypatch.setattr(request, "fastest_precision", lambda _: (elsewhere, "another machine"))
    again = request.prepare(asked)  # as the command that continues
    assert again.options.precision == again.backbone.precision == here
    assert WorkerSetup.of(again).options.precision == here
    assert prepare_remake(store).backbone.precision == here
    assert "complete already" in extract(asked)
    assert request.prepare(replace(asked, overwrite=True)).backbone.precision == elsewhere
    extract(replace(asked, splits=("train", "val"), append=True))
    assert FeatureCache.open(asked.out).origin.precision == here
