"""The page of a search: self-contained, escaped, and usable by keyboard in a browser."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from c3 import Searcher
from c3.extract.store.cache import FeatureCache
from c3.predict.search_page import write_page
from search_place import make_place


@pytest.fixture(scope="module")
def page(caches_in: Callable[[Path], Callable[..., FeatureCache]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two words, one of which wants escaping; one of the ten photographs has gone."""
    root = tmp_path_factory.mktemp("page")
    place = make_place(root, caches_in(root), ["c3"])
    (place.images / "test3.png").unlink()
    searcher = Searcher.load(place.store, place.runs["c3"], device="cpu", images=place.images)
    vectors = np.array([[1.5, 1, 1, 0, 0.5, 0.5], [0, 0, 1, 0, 1, 0]], np.float32)
    found = searcher.search(["<b>red</b> boat", "a"], vectors=vectors, split="test", top=10)
    told = write_page(root / "page.html", found, searcher.run, searcher.store)
    assert "20 images" in told and "2 of 20 images are not where the store names them" in told
    return root / "page.html"


def test_the_page_needs_nothing_but_itself_and_escapes_words(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r'(?:src|href)="(?!#|data:)', text) == []
    assert "<b>red</b> boat" not in text and text.count("&lt;b&gt;red&lt;/b&gt; boat") > 3
    assert text.count("data:image/jpeg") == 18 and text.count("no picture") == 2
    assert text.count("are not where the store names them") == 1
    assert len(re.findall(r'<ol class="found">', text)) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(page: Path, browser: Any, width: int, scheme: str) -> None:
    view = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    said: list[str] = []
    view.on("console", lambda message: said.append(message.text))
    view.on("pageerror", lambda error: said.append(str(error)))
    view.on("request", lambda request: said.append(request.url) if request.url[:4] == "http" else None)
    view.goto(page.as_uri())
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    ground = view.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = sum(map(int, re.findall(r"\d+", ground)[:3]))
    assert brightness > 600 if scheme == "light" else brightness < 150

    dialog, buttons = view.locator("dialog"), view.locator(".found button")
    buttons.nth(1).focus()
    view.keyboard.press("Enter")
    assert dialog.is_visible()
    first = dialog.locator(".caption").inner_text()
    assert first.startswith("<b>red</b> boat: #") and ".png" in first
    assert dialog.locator("img").evaluate("image => image.naturalWidth / image.naturalHeight") == 2
    view.keyboard.press("ArrowRight")
    assert dialog.locator(".caption").inner_text() != first
    view.get_by_role("button", name="Previous").click()
    assert dialog.locator(".caption").inner_text() == first
    view.keyboard.press("ArrowRight")
    view.keyboard.press("Escape")
    assert not dialog.is_visible()
    assert buttons.nth(2).evaluate("button => button === document.activeElement")
    view.keyboard.press("Enter")
    view.get_by_role("button", name="Close").click()
    assert not dialog.is_visible()
    view.get_by_role("navigation").get_by_role("link", name="a", exact=True).click()
    assert view.locator("#word-2").is_visible()
    assert said == []
    view.close()
