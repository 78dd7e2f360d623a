"""The report as one page: self-contained, readable by a machine, and usable in a browser."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3.evaluate.report.pages import FigureOptions, write_page
from c3.evaluate.run import evaluate
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from PIL import Image

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip


@pytest.fixture
def page(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> Path:
    """The page of one C3 run and two of Fast0Tag on a small store, whose class names want escaping."""
    cache = make_cache(d_w=6)
    (tmp_path / "photographs").mkdir()
    for number in range(10):
        Image.fromarray(np.full((20, 20, 3), 20 * number, np.uint8)).save(tmp_path / f"photographs/test{number}.jpg")
    for method, settings in (
        ("c3", {"groups": 2, "lambda_reg": 0.3}),
        ("fast0tag", {"hidden1": 8, "hidden2": 8, "seed": 0}),
        ("fast0tag", {"hidden1": 8, "hidden2": 8, "seed": 1}),
    ):
        options = {"epochs": 2, "batch_size": 8, "lr": 1e-3} | settings
        run = train(TrainOptions(cache.path, method, tmp_path / "runs", options, device="cpu"))
        evaluate(run.path, device="cpu")
    table = run.path / "per_class.csv"
    table.write_text(table.read_text().replace("\na,", "\n</script><b>a</b>,"))
    path = tmp_path / "report.html"
    told = write_page(path, FigureOptions(tmp_path / "runs", images=tmp_path / "photographs", device="cpu"))
    assert "3 runs on tiny" in told
    return path


class _Elements(HTMLParser):
    """Every start tag, and the text of every cell."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_needs_nothing_but_itself(page: Path) -> None:
    text = page.read_text()
    for tag, attributes in _Elements(text).tags:
        for name in ("src", "href", "xlink:href", "data-overlay"):
            value = attributes.get(name) or "#"
            assert value.startswith(("#", "data:")), (tag, name, value[:80])
    assert not re.search(r"@import|url\(\s*['\"]?http", text)
    assert "<metadata" not in text


def test_the_page_says_where_everything_comes_from(page: Path) -> None:
    text = page.read_text()
    for run in page.parent.joinpath("runs").iterdir():
        record = json.loads((run / "run.json").read_text())
        assert text.count(run.name) >= 3
        assert record["cache"]["digest"] in text
        assert f"torch {record['versions']['torch']}" in text
    assert "--groups 2" in text and "--lambda 0.3" in text and "--set hidden1=8" in text
    assert "Protocol table: every image counts" in text
    assert "not drawn" in text.lower() and "c3 sweep --cache" in text  # figure 4 has no runs here, and says so


def test_names_from_data_do_not_become_markup(page: Path) -> None:
    text = page.read_text()
    data = re.search(r'id="per-class">(.*?)</script>', text, re.DOTALL)
    names = {line["name"] for run in json.loads(data[1]) for line in run["classes"]}
    assert "</script><b>a</b>" in names


def test_headings_have_an_order_and_pictures_a_description(page: Path) -> None:
    tags = _Elements(page.read_text()).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and max(b - a for a, b in pairwise(levels)) <= 1
    assert all("alt" in attributes for tag, attributes in tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in tags if tag == "svg")
    assert dict(tags)["html"] == {"lang": "en"}


def test_photographs_that_have_gone_are_said_to_be(page: Path) -> None:
    shutil.rmtree(page.parent / "photographs")
    write_page(page, FigureOptions(page.parent / "runs", device="cpu"))
    assert "photographs were not found; c3 report --images FOLDER" in page.read_text()


@pytest.fixture
def browser() -> Iterator[object]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    if CHROMIUM is None:
        pytest.skip("needs chromium: apt-get install chromium")
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.mark.slow
def test_the_page_in_a_browser(page: Path, browser: Any) -> None:
    for width, scheme in ((1280, "light"), (390, "dark")):
        view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        said: list[str] = []
        view.on("console", lambda message, said=said: said.append(message.text))
        view.on("pageerror", lambda error, said=said: said.append(str(error)))
        view.on("request", lambda request, said=said: said.append(request.url) if request.url[:4] == "http" else None)
        view.goto(page.as_uri())

        assert view.evaluate("document.documentElement.scrollWidth") <= width  # only tables scroll sideways
        ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
        assert brightness > 600 if scheme == "light" else brightness < 150

        table = view.locator("table.sortable").first
        heading = table.locator("th").nth(2)
        heading.locator("button").focus()
        view.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "descending"
        shown = table.locator("tbody tr td:nth-child(3)").all_inner_texts()
        numbers = [float(re.match(r"[\d.]+", text)[0]) for text in shown if text != "-"]
        assert len(numbers) >= 6 and numbers == sorted(numbers, reverse=True)
        assert shown[len(numbers) :] == ["-"] * (len(shown) - len(numbers))  # what was not measured comes last
        view.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "ascending"
        first = table.locator("tbody tr td:nth-child(3)").first.inner_text()
        assert float(re.match(r"[\d.]+", first)[0]) == min(numbers)

        view.get_by_label("Class", exact=True).fill("B")
        rows = view.locator("#class-table tbody tr")
        assert rows.first.locator("td").first.inner_text() == "b"
        view.get_by_label("Show").select_option("seen")
        assert "b" not in view.locator("#class-table tbody tr td:first-child").all_inner_texts()
        view.get_by_label("Show").select_option("all")
        view.get_by_label("Class", exact=True).fill("no such class")
        assert rows.count() == 0
        assert view.locator("#class-count").inner_text() == "0 of 5 classes"

        label = view.locator(".label:not([disabled])").first
        label.click()
        overlay = view.locator(".overlay").first
        assert (label.get_attribute("aria-pressed"), overlay.is_visible()) == ("true", True)
        assert overlay.evaluate("image => image.naturalWidth") == 7
        label.click()
        assert (label.get_attribute("aria-pressed"), overlay.is_visible()) == ("false", False)
        assert said == []
        view.close()
