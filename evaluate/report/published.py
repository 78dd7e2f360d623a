"""The paper's Tables 1 to 5, in percent. Data only.

Source: C3-MLZSL, "(ML)2P-Encoder: On Exploration of Channel-Class Correlation for Multi-Label Zero-Shot Learning",
CVPR 2023. Methods and backbones are named as in the registries.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One row of a table: for every task of the table the values of its metrics, in their order.

    `protocol` is the one its numbers follow. Table 2 mixes two: its older rows come from LESA's paper, while BiAM and
    C3 in GZSL exceed 67.2, which is all that perfect scores can reach in LESA's average.
    """

    method: str
    title: str
    values: tuple[tuple[float, ...], ...]
    protocol: str
    backbone: str = "vgg19"


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper: number, subject, data set, the tasks of a row, metrics, and rows in order.

    `by_backbone`: the rows are backbones of one method, not methods of one backbone.
    """

    number: int
    subject: str
    dataset: str
    dataset_title: str
    tasks: tuple[str, ...]
    metrics: tuple[str, ...]
    rows: tuple[Row, ...]
    by_backbone: bool = False

    @property
    def ks(self) -> tuple[int, ...]:
        """The K of its F1 columns; a table without any fits every protocol."""
        return tuple(int(metric.removeprefix("F1@")) for metric in self.metrics if metric.startswith("F1@"))


ZERO_SHOT = ("zsl", "gzsl")
F1_AT_3_5, F1_AT_10_20 = ("mAP", "F1@3", "F1@5"), ("mAP", "F1@10", "F1@20")

TABLE_1 = PublishedTable(
    1, "multi-label ZSL and GZSL", "nuswide", "NUS-WIDE", ZERO_SHOT, F1_AT_3_5,
    (
        Row("conse", "CONSE", ((9.4, 21.6, 20.2), (2.1, 7.0, 8.1)), "nuswide"),
        Row("labelem", "LabelEM", ((7.1, 19.2, 19.5), (2.2, 9.5, 11.3)), "nuswide"),
        Row("fast0tag", "Fast0Tag", ((15.1, 27.8, 26.4), (3.7, 11.5, 13.5)), "nuswide"),
        Row("kim", "Kim et al.", ((10.4, 25.8, 23.6), (3.7, 10.9, 13.2)), "nuswide"),
        Row("lesa-apc", "Attention per Cluster", ((12.9, 24.6, 22.9), (2.6, 6.4, 7.7)), "nuswide"),
        Row("lesa", "LESA", ((19.4, 31.6, 28.7), (5.6, 14.4, 16.8)), "nuswide"),
        Row("biam", "BiAM", ((25.8, 32.0, 29.4), (8.9, 15.5, 18.5)), "nuswide"),
        Row("c3", "Our Approach", ((29.4, 32.8, 32.3), (10.2, 15.8, 19.2)), "nuswide"),
    ),
)  # fmt: skip

TABLE_2 = PublishedTable(
    2, "multi-label ZSL and GZSL", "openimages", "Open-Images-V4", ZERO_SHOT, F1_AT_10_20,
    (
        Row("conse", "CONSE", ((40.4, 0.4, 0.3), (43.5, 2.6, 2.4)), "openimages-lesa"),
        Row("labelem", "LabelEM", ((40.5, 0.5, 0.4), (45.2, 5.2, 5.1)), "openimages-lesa"),
        Row("fast0tag", "Fast0Tag", ((41.2, 0.7, 0.6), (45.2, 16.0, 13.0)), "openimages-lesa"),
        Row("lesa-apc", "Attention per Cluster", ((40.7, 1.2, 0.9), (44.9, 16.9, 13.5)), "openimages-lesa"),
        Row("lesa", "LESA", ((41.7, 1.4, 1.0), (45.4, 17.4, 14.3)), "openimages-lesa"),
        Row("biam", "BiAM", ((62.8, 4.1, 3.7), (79.6, 17.6, 15.1)), "openimages-biam"),
        Row("c3", "Our Approach", ((65.7, 7.5, 6.5), (79.9, 27.6, 24.1)), "openimages-biam"),
    ),
)  # fmt: skip

TABLE_3 = PublishedTable(
    3, "ablation", "nuswide", "NUS-WIDE", ZERO_SHOT, ("mAP",),
    (
        Row("c3-a", "a: shuffle and groups only", ((25.3,), (8.1,)), "nuswide"),
        Row("c3-b", "b: a + Forward Pyramid", ((27.3,), (8.5,)), "nuswide"),
        Row("c3-c", "c: b + (ML)2P-Encoder", ((28.4,), (9.2,)), "nuswide"),
        Row("c3-d", "d: b + Group Attention", ((27.9,), (8.8,)), "nuswide"),
        Row("c3", "C3-MLZSL: all three", ((29.4,), (10.2,)), "nuswide"),
    ),
)  # fmt: skip

TABLE_4 = PublishedTable(
    4, "backbones of C3-MLZSL", "nuswide", "NUS-WIDE", ZERO_SHOT, F1_AT_3_5,
    (
        Row("c3", "VGG19", ((29.4, 32.8, 32.3), (10.2, 15.8, 19.2)), "nuswide", "vgg19"),
        Row("c3", "ResNet50", ((30.9, 33.6, 33.2), (10.7, 15.9, 19.4)), "nuswide", "resnet50"),
        Row("c3", "ResNet101", ((31.2, 33.9, 33.9), (10.9, 16.1, 19.5)), "nuswide", "resnet101"),
    ),
    by_backbone=True,
)  # fmt: skip

TABLE_5 = PublishedTable(
    5, "multi-label learning, trained on the classes asked for", "nuswide-81", "NUS-WIDE with 81 labels", ("seen",),
    ("F1@3", "F1@5", "mAP"),
    (
        Row("logistic", "Logistic", ((51.1, 46.1, 21.6),), "nuswide-81"),
        Row("warp", "WARP", ((54.4, 49.4, 3.1),), "nuswide-81"),
        Row("wsabie", "WSABIE", ((53.8, 49.2, 3.1),), "nuswide-81"),
        Row("fast0tag", "Fast0Tag", ((53.8, 48.6, 22.4),), "nuswide-81"),
        Row("cnn-rnn", "CNN-RNN", ((55.2, 50.8, 28.3),), "nuswide-81"),
        Row("kim", "Kim et al.", ((56.8, 51.3, 32.6),), "nuswide-81"),
        Row("lesa-apc", "LESA ApC", ((56.6, 50.7, 31.7),), "nuswide-81"),
        Row("lesa", "LESA", ((58.0, 52.0, 31.5),), "nuswide-81"),
        Row("biam", "BiAM", ((59.6, 53.4, 47.8),), "nuswide-81"),
        Row("c3", "Ours", ((59.8, 53.8, 48.0),), "nuswide-81"),
    ),
)  # fmt: skip

TABLES = {table.number: table for table in (TABLE_1, TABLE_2, TABLE_3, TABLE_4, TABLE_5)}

# Classes in the mean of GZSL mAP on Open Images: all 7186 + 400, or those with a verified test label, 4728 + 400.
GZSL_CLASSES = {"openimages-lesa": 7586, "openimages-biam": 5128}
