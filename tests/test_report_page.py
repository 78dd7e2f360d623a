"""The report as one page: self-contained, readable by a machine, and usable in a browser."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3.evaluate.report.figures import COLOURS
from c3.evaluate.report.html import TEMPLATE
from c3.evaluate.report.pages import FigureOptions, write_page
from c3.evaluate.report.summary import best_on_validation
from c3.evaluate.run import evaluate
from c3.extract.store.cache import FeatureCache
from c3.train.run import TrainOptions, train
from c3.train.run_folder import list_runs
from PIL import Image

AXE = os.environ.get("C3_AXE")  # axe.min.js of npm's package axe-core, which checks rules of accessibility


@pytest.fixture(scope="module")
def page(caches_in: Callable[[Path], Callable[..., FeatureCache]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of one C3 run and two of Fast0Tag on a small store, whose class names want escaping."""
    tmp_path = tmp_path_factory.mktemp("page")
    cache = caches_in(tmp_path)(d_w=6)
    (tmp_path / "photographs").mkdir()
    for number in range(10):
        Image.fromarray(np.full((20, 20, 3), 20 * number, np.uint8)).save(tmp_path / f"photographs/test{number}.png")
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
    assert "Not drawn" in text and "c3 sweep --cache" in text  # figure 4 has no runs here, and says so


def test_the_first_screen_says_what_was_measured_and_what_leads(page: Path) -> None:
    text = page.read_text()
    head = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", text[text.index("<main>") : text.index('id="examples"')]))
    assert (
        "10 images of the split test" in head and "3 seen and 2 unseen" in head and "train 40, val 6, test 10" in head
    )
    reached = {run: json.loads((run / "metrics.json").read_text()) for run in page.parent.glob("runs/*")}
    zsl: dict[str, list[float]] = {"c3": [], "fast0tag": []}
    for run, metrics in reached.items():
        zsl[run.name.split("-")[0]].append(metrics["protocols"]["table"]["tasks"]["zsl"]["mAP"])
    best, other = sorted((np.mean(values) for values in zsl.values()), reverse=True)
    assert re.search(
        rf"ZSL mAP: .* leads with {best:.1f} \([\d.]+ to [\d.]+\), {best - other:.1f} points ahead of", head
    )
    assert "random scores" in head


def test_the_best_run_is_chosen_by_seen_classes_of_validation(page: Path) -> None:
    runs = list_runs(page.parent / "runs")
    scores = [run.record.seen.mAP for run in runs]
    found, why = best_on_validation(runs)
    assert found.id == runs[int(np.argmax(scores))].id
    assert why == f"The best of 3 runs scored on val: mAP over seen classes {100 * max(scores):.1f}."
    assert why in page.read_text()
    unscored = [replace(run, record=replace(run.record, seen=None)) for run in runs]
    assert best_on_validation(unscored)[0].method == "c3"


def test_a_table_has_one_row_a_method_with_its_tasks_beside_one_another(page: Path) -> None:
    text = page.read_text()
    table = text[text.index('<section id="tables"') : text.index("</table>", text.index('<section id="tables"'))]
    assert re.findall(r'scope="colgroup" colspan="\d+">([^<]+)', table) == ["ZSL", "GZSL"]
    rows = re.findall(r'<th scope="row">([^<]+)', table)
    assert sorted(rows) == ["C3-MLZSL", "Fast0Tag", "label frequency", "random scores"]
    assert len({row.count("<td") for row in table.split("<tr>")[3:]}) == 1


def test_without_a_script_the_classes_are_a_plain_table(page: Path) -> None:
    text = page.read_text()
    body = text[text.index('id="class-table"') : text.index('<section id="reproduce"')]
    assert len(re.findall(r'<th scope="row">', body)) == 5
    assert re.search(r'data-value="[\d.]+" style="--share:0\.\d+"', body)


def _luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_bars_and_figures_stand_out_from_their_ground(scheme: str) -> None:
    css = (TEMPLATE / "report.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", blocks[scheme == "dark"]))
    assert len([name for name in colours if name.startswith("series-")]) == len(COLOURS)
    for name in {*colours} - {"ground", "card", "line", "best"}:
        for ground in ("ground", "card"):
            light, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


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
    drawings = [attributes for tag, attributes in tags if tag == "svg"]
    assert all(attributes.get("aria-label") for attributes in drawings)
    kinds = [attributes["class"] for attributes in drawings]
    assert kinds.count("wide") == kinds.count("narrow") > 0
    assert dict(tags)["html"] == {"lang": "en"}


def test_no_two_regions_have_one_name_and_no_two_elements_one_id(page: Path) -> None:
    text = page.read_text()
    tags = _Elements(text).tags
    titles = dict(re.findall(r'<h2 id="([^"]+)">([^<]+)', text))
    regions = [found for tag, found in tags if tag == "section" or found.get("role") == "region"]
    names = [found.get("aria-label") or titles[str(found["aria-labelledby"])] for found in regions]
    assert len(names) > 6 and len(set(names)) == len(names)
    ids = [found["id"] for _, found in tags if "id" in found]
    assert sorted(set(ids)) == sorted(ids)


def test_figure_6b_shows_one_label_under_every_method(page: Path) -> None:
    text = page.read_text()
    rows = re.findall(r'<ul class="compared".*?</ul>', text, re.DOTALL)
    assert len(rows) == 4
    for row in rows:
        label = re.search(r"<b>(\w)</b> <small>unseen</small>", row)
        assert row.count('style="--photo:url(data:image/jpeg;base64,') == 1 and label
        assert re.findall(r"</span>([\w-]+) <small>#[1-5]</small>", row) == ["C3-MLZSL", "Fast0Tag"]
        assert re.findall(r'src="data:image/png;[^"]+" alt="([^"]+)"', row) == [
            f"where {method} sees {label[1]}" for method in ("C3-MLZSL", "Fast0Tag")
        ]


def test_photographs_that_have_gone_are_said_to_be(page: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    write_page(other, FigureOptions(page.parent / "runs", images=tmp_path / "gone", device="cpu"))
    assert "photographs were not found; c3 report --images FOLDER" in other.read_text()


@pytest.mark.slow
@pytest.mark.skipif(not AXE, reason="needs axe-core: npm pack axe-core, and C3_AXE=.../axe.min.js")
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_violation(page: Path, browser: Any, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    view.goto(page.as_uri())
    view.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true; })")
    view.locator(".label:not([disabled]):visible").first.click()
    view.get_by_label("Beside").select_option(index=1)
    view.add_script_tag(path=AXE)
    found = view.evaluate("axe.run()")
    assert len(found["passes"]) > 40
    assert [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]] == []
    view.close()


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
        heading = table.locator("thead tr").last.locator("th").nth(1)
        before = table.locator("tbody th").all_inner_texts()
        heading.locator("button").focus()
        view.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "descending"
        shown = table.locator("tbody tr td:nth-child(2)").all_inner_texts()
        numbers = [float(re.match(r"[\d.]+", text)[0]) for text in shown if text != "-"]
        assert len(numbers) >= 3 and numbers == sorted(numbers, reverse=True)
        assert shown[len(numbers) :] == ["-"] * (len(shown) - len(numbers))  # what was not measured comes last
        view.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "ascending"
        first = table.locator("tbody tr td:nth-child(2)").first.inner_text()
        assert float(re.match(r"[\d.]+", first)[0]) == min(numbers)
        view.keyboard.press("Enter")
        assert heading.get_attribute("aria-sort") == "none"
        assert table.locator("tbody th").all_inner_texts() == before

        rows = view.locator("#class-table tbody tr")
        assert rows.count() == 5
        bar = rows.first.locator("td.bar").evaluate("e => getComputedStyle(e, '::before').left")
        assert bar == rows.last.locator("td.bar").evaluate("e => getComputedStyle(e, '::before').left")
        view.get_by_label("Class", exact=True).fill("B")
        assert rows.first.locator("th").inner_text() == "b unseen"
        view.get_by_label("Show").select_option("seen")
        assert rows.count() == 0
        view.get_by_label("Show").select_option("all")
        assert not view.locator("#class-table .other-run").first.is_visible()
        view.get_by_label("Beside").select_option(index=2)
        cells = rows.first.locator("td").all_inner_texts()
        assert float(cells[3]) == pytest.approx(float(cells[0]) - float(cells[2]), abs=0.11)
        view.get_by_label("Class", exact=True).fill("no such class")
        assert rows.count() == 0
        assert view.locator("#class-count").inner_text() == "0 of 5 classes"

        example = view.locator(".example").first
        label = example.locator(".label:not([disabled]):visible").first
        label.click()
        overlay = view.locator(".overlay").first
        assert (label.get_attribute("aria-pressed"), overlay.is_visible()) == ("true", True)
        assert overlay.evaluate("image => image.naturalWidth") == 7
        label.click()
        assert (label.get_attribute("aria-pressed"), overlay.is_visible()) == ("false", False)
        assert "labelled" in label.inner_text() and label.inner_text().startswith("#")
        view.locator(".example-run").select_option(index=1)
        of_runs = example.locator(".of-run")
        assert [of_runs.nth(number).is_visible() for number in range(of_runs.count())] == [False, True]
        assert example.locator(".label:visible").count() == 5
        figure = view.locator("figure svg:visible").first.bounding_box()
        assert figure["width"] <= width
        assert said == []
        view.close()

    plain = browser.new_page(viewport={"width": 390, "height": 800}, java_script_enabled=False)
    plain.goto(page.as_uri())
    assert plain.locator("#class-table tbody tr").count() == 5
    assert not plain.locator("#class-search").is_visible()
    plain.close()
