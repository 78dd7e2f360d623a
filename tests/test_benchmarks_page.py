"""docs/benchmarks.md says of every claim whether it is reached, and its charts show the numbers of its tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from c3.common.errors import C3Error
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("**/*.md"))]
NAMES = ("claims", "extraction", "reading", "training", "evaluation", "scale")
TABLE = """## Claims

| claim | measured | aim | | command |
|---|---:|---|---|---|
| [read / other](#reading) | 0.9 | at least 1.2 | **not reached** | `store.py` |
| seconds | 1,200 s | at most 60 s | reached | the same |
| nothing | | | not measured | |
"""


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_every_claim_says_whether_it_is_reached() -> None:
    from claims import Page

    claims = Page.read().claims
    assert len(claims) > 20
    assert [(claim.what, claim.said) for claim in claims] == [(claim.what, claim.reached) for claim in claims]


def test_a_claim_is_compared_with_its_aim() -> None:
    from claims import Page

    first, second = Page(TABLE).claims
    assert (first.what, first.share, first.reached) == ("read / other", pytest.approx(0.75), "not reached")
    assert (second.share, second.reached, second.said) == (pytest.approx(0.05), "not reached", "reached")


# claim -> the heading of its table (and which one, from 0), the column, our row and the other one
CELLS: dict[str, tuple[str, int, str, str, str | None]] = {
    "extraction with VGG19 / backbone alone": ("Writing beside the backbone", 0, "ratio", "vgg19", None),
    "extraction with SqueezeNet / backbone alone": ("Writing beside the backbone", 0, "ratio", "squeezenet1_1", None),
    "VGG19, freed memory kept / before": ("Memory between batches", 0, "faster", "vgg19", None),
    "read cold / memmap": ("Reading", 0, "cold", "c3", "numpy memmap"),
    "read warm / memmap": ("Reading", 0, "warm", "c3", "numpy memmap"),
    "read cold again / memmap": ("Reading", 0, "cold again", "c3", "numpy memmap"),
    "read cold again / tensorstore on the same store": ("Reading", 0, "cold again", "c3", "tensorstore on c3"),
    "read cold, lz4 / tensorstore on the same store": ("Reading", 0, "cold", "c3 lz4", "tensorstore on c3 lz4"),
    "read cold / BiAM's layout": ("Reading", 0, "cold", "c3", "BiAM layout (2,048 rows)"),
    "read warm / BiAM's layout": ("Reading", 0, "warm", "c3", "BiAM layout (2,048 rows)"),
    "read cold / tensorstore on the same store": ("Reading", 0, "cold", "c3", "tensorstore on c3"),
    "read warm / tensorstore on the same store": ("Reading", 0, "warm", "c3", "tensorstore on c3"),
    "bytes of a store / float16": ("Reading and writing", 0, "bytes / raw", "c3", None),
    "bytes of an int8 store / float16": ("Reading and writing", 0, "bytes / raw", "c3 int8", None),
    "train c3 from memory / bare step": ("Training", 0, "c3", "ram", "bare"),
    "train c3 streaming / bare step": ("Training", 0, "c3", "stream", "bare"),
    "train fast0tag from memory / bare step": ("Training", 0, "fast0tag", "ram", "bare"),
    "train fast0tag streaming / bare step": ("Training", 0, "fast0tag", "stream", "bare"),
    "train c3-plus from memory / bare step": ("Training", 0, "c3-plus", "ram", "bare"),
    "train c3-plus streaming / bare step": ("Training", 0, "c3-plus", "stream", "bare"),
    "train c3-plus streaming / DataLoader over h5": ("Training", 0, "c3-plus", "stream", "DataLoader, h5"),
    "train c3 streaming / DataLoader over h5": ("Training", 0, "c3", "stream", "DataLoader, h5"),
    "train c3 streaming / images and VGG19 in every epoch": ("Training", 0, "c3", "stream", "end to end"),
    "evaluate at Open Images size / scikit-learn": ("Evaluation", 0, "rows/s", "c3", "sklearn loop"),
    "1,000 resamples at Open Images size": ("Evaluation", 2, "seconds", "c3, 1,000 resamples", None),
    "evaluate at NUS-WIDE size / scikit-learn": ("Evaluation", 1, "rows/s", "c3", "sklearn loop"),
}


@pytest.mark.parametrize("what", CELLS)
def test_a_claim_is_what_its_table_says(what: str) -> None:
    from claims import CLAIMS, Page, number

    page = Page.read()
    (rows,) = page.under(CLAIMS, "claim", "measured")
    said = number(dict(zip(rows.texts("claim"), rows.texts("measured"), strict=True))[what])
    heading, which, column, ours, other = CELLS[what]
    table = page.under(heading, column)[which]
    found = dict(zip((row[0] for row in table.rows), table.numbers(column), strict=True))
    assert said == pytest.approx(found[ours] / (found[other] if other else 1), rel=0.015, abs=0.006)


@pytest.mark.parametrize("name", NAMES)
def test_a_chart_shows_the_numbers_of_its_table(name: str) -> None:
    """Else: python benchmarks/charts.py."""
    from charts import CHARTS, DIGEST, IMAGES, digest
    from claims import Page

    path = IMAGES / f"benchmarks-{name}.png"
    with Image.open(path) as chart:
        chart.load()
        assert chart.info[DIGEST] == digest(CHARTS[path.name](Page.read()))
    assert path.stat().st_size < 100_000


def test_a_chart_changes_with_a_number_of_its_table(tmp_path: Path) -> None:
    from charts import DIGEST, claims, digest, save
    from claims import Page

    before, after = (claims(Page(text)) for text in (TABLE, TABLE.replace("0.9", "0.8")))
    assert digest(before) != digest(after)
    save(before, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as chart:
        assert chart.info[DIGEST] == digest(before)


def test_a_chart_without_its_table_names_it() -> None:
    from charts import training
    from claims import Page

    with pytest.raises(C3Error, match="no table with the columns way, of bare under 'Training'"):
        training(Page(TABLE))


def anchors(path: Path) -> set[str]:
    """The anchors of the headings of a page, as GitHub makes them."""
    text = re.sub(r"(?ms)^```.*?^```", "", path.read_text(encoding="utf-8"))
    titles = re.findall(r"(?m)^#+ (.*)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_hold(page: Path) -> None:
    text = re.sub(r"(?ms)^```.*?^```", "", page.read_text(encoding="utf-8"))
    links = [link.partition("#") for link in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in link]
    for target, _, anchor in links:
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_scripts_that_pages_name_are_there(page: Path) -> None:
    for script in re.findall(r"\bbenchmarks/\w+\.py", page.read_text(encoding="utf-8")):
        assert (ROOT / script).is_file(), script
