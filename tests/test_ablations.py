"""Rows a to d of Table 3: each is C3 without a part, and nothing else."""

from __future__ import annotations

import pytest
import torch
from c3.train.models.base import Inputs
from c3.train.models.c3 import C3, C3Options
from c3.train.models.c3_ablations import C3a, C3b, C3c, C3d
from torch import Tensor

INPUTS = Inputs({"p8": 5, "p16": 4, "p32": 3}, 6, 7)


def build(kind: type[C3]) -> C3:
    torch.manual_seed(0)
    return kind(INPUTS, C3Options(groups=2)).double().eval()


@pytest.fixture
def arrays() -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.rand(4, *INPUTS.shape(name), dtype=torch.float64) for name in INPUTS.channels}


@pytest.mark.parametrize(
    ("kind", "reads", "encoder", "attention"),
    [
        (C3a, ("p32",), False, False),
        (C3b, ("p8", "p16", "p32"), False, False),
        (C3c, ("p8", "p16", "p32"), True, False),
        (C3d, ("p8", "p16", "p32"), False, True),
        (C3, ("p8", "p16", "p32"), True, True),
    ],
)
def test_a_row_has_the_parts_that_the_paper_gives_it(
    arrays: dict[str, Tensor], kind: type[C3], reads: tuple[str, ...], encoder: bool, attention: bool
) -> None:
    model = build(kind)
    assert kind.reads(INPUTS) == model.projection.levels == reads
    assert any("encoder" in name for name, _ in model.named_parameters()) == encoder
    assert any("group_attention" in name for name, _ in model.named_parameters()) == attention
    x = model.finished(model.projection(arrays).amax(dim=-2))
    assert torch.equal(model.group_vectors(arrays), x) != encoder
    assert torch.equal(model(arrays), model.group_vectors(arrays)) != attention


def test_all_rows_start_from_the_same_projection(arrays: dict[str, Tensor]) -> None:
    expected = build(C3).projection(arrays)
    for kind in (C3b, C3c, C3d):
        assert torch.equal(build(kind).projection(arrays), expected)
