"""ONNX graphs of the heads that read regions: onnxruntime gives torch's scores, whatever the memory format in torch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from c3.common.errors import C3Error
from c3.predict.export import Exported, require_equal, traced
from c3.train.models.base import Inputs
from c3.train.models.word_forms import WordForm
from c3.train.registry import METHODS
from torch import Tensor, nn

HEADS = {
    "kim": {"hidden": 8},
    "lesa-apc": {"clusters": 3, "width": 8},
    "lesa": {"heads": 3, "width": 8},
    "biam": {"width": 8, "heads": 2, "top_regions": 20},
}
INPUTS = Inputs(channels={"p8": 4, "p16": 6}, d_w=5, classes=7, regions=6)


class Tiny(nn.Module):
    """Stands for a backbone: two convolutions, pooled levels, and regions of 14 x 14."""

    resize = SimpleNamespace(side=28)

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 6, 2, stride=2)

    def features(self, pixels: Tensor, _pool: object) -> dict[str, Tensor]:
        first = self.first(pixels.float() / 255).relu()
        second = self.second(first).relu()
        pooled = [nn.functional.max_pool2d(first, 4), nn.functional.max_pool2d(second, 2)]
        return {"p8": pooled[0], "p16": pooled[1], "regions": second}


@pytest.mark.parametrize("method", HEADS)
def test_the_graph_of_a_head_that_reads_regions_gives_its_scores(tmp_path: Path, method: str) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    head, trained = METHODS[method](INPUTS, METHODS[method].Options(**HEADS[method])), torch.randn(7, 5)
    head.prepare(trained)
    module = Exported(Tiny(), head, WordForm("l2", trained)).eval()
    traced(module, method).save(tmp_path / "model.onnx")
    require_equal(tmp_path / "model.onnx", module, None)
    nn.init.normal_(module.backbone.second.weight)
    with pytest.raises(C3Error, match=f"graph of {METHODS[method].__name__} differs from torch"):
        require_equal(tmp_path / "model.onnx", module, None)
