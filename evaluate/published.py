"""The paper's Tables 1 and 2, in percent. Data only.

Source: C3-MLZSL, "(ML)2P-Encoder: On Exploration of Channel-Class Correlation for Multi-Label Zero-Shot Learning",
CVPR 2023. Methods are named as in the registry.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One method of a table: zsl and gzsl are (mAP, F1 at the first K, F1 at the second K).

    `protocol` is the one its numbers follow. Table 2 mixes two: its older rows come from LESA's paper, while BiAM and
    C3 in GZSL exceed 67.2, which is all that perfect scores can reach in LESA's average.
    """

    method: str
    title: str
    zsl: tuple[float, float, float]
    gzsl: tuple[float, float, float]
    protocol: str


@dataclass(frozen=True)
class PublishedTable:
    """A table of the paper: its number, data set, the K of its F1 columns and its rows in order."""

    number: int
    dataset: str
    dataset_title: str
    ks: tuple[int, int]
    rows: tuple[Row, ...]


TABLE_1 = PublishedTable(
    1, "nuswide", "NUS-WIDE", (3, 5),
    (
        Row("conse", "CONSE", (9.4, 21.6, 20.2), (2.1, 7.0, 8.1), "nuswide"),
        Row("labelem", "LabelEM", (7.1, 19.2, 19.5), (2.2, 9.5, 11.3), "nuswide"),
        Row("fast0tag", "Fast0Tag", (15.1, 27.8, 26.4), (3.7, 11.5, 13.5), "nuswide"),
        Row("kim", "Kim et al.", (10.4, 25.8, 23.6), (3.7, 10.9, 13.2), "nuswide"),
        Row("lesa-apc", "Attention per Cluster", (12.9, 24.6, 22.9), (2.6, 6.4, 7.7), "nuswide"),
        Row("lesa", "LESA", (19.4, 31.6, 28.7), (5.6, 14.4, 16.8), "nuswide"),
        Row("biam", "BiAM", (25.8, 32.0, 29.4), (8.9, 15.5, 18.5), "nuswide"),
        Row("c3", "Our Approach", (29.4, 32.8, 32.3), (10.2, 15.8, 19.2), "nuswide"),
    ),
)  # fmt: skip

TABLE_2 = PublishedTable(
    2, "openimages", "Open-Images-V4", (10, 20),
    (
        Row("conse", "CONSE", (40.4, 0.4, 0.3), (43.5, 2.6, 2.4), "openimages-lesa"),
        Row("labelem", "LabelEM", (40.5, 0.5, 0.4), (45.2, 5.2, 5.1), "openimages-lesa"),
        Row("fast0tag", "Fast0Tag", (41.2, 0.7, 0.6), (45.2, 16.0, 13.0), "openimages-lesa"),
        Row("lesa-apc", "Attention per Cluster", (40.7, 1.2, 0.9), (44.9, 16.9, 13.5), "openimages-lesa"),
        Row("lesa", "LESA", (41.7, 1.4, 1.0), (45.4, 17.4, 14.3), "openimages-lesa"),
        Row("biam", "BiAM", (62.8, 4.1, 3.7), (79.6, 17.6, 15.1), "openimages-biam"),
        Row("c3", "Our Approach", (65.7, 7.5, 6.5), (79.9, 27.6, 24.1), "openimages-biam"),
    ),
)  # fmt: skip

TABLES = {table.number: table for table in (TABLE_1, TABLE_2)}
