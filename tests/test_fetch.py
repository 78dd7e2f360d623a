"""`c3 fetch` against a local server that drops connections, sends 404, 429 and half bodies; all on this machine."""

from __future__ import annotations

import base64
import csv
import hashlib
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.download.downloader import Downloader, Outcome, Politeness, Target
from c3.extract.download.fetch import COLUMNS, STATUS_FILE, FetchOptions, fetch
from c3.extract.download.url_lists import image_targets
from click.testing import CliRunner
from local_server import JPEG, Server

FAST = Politeness(rate=1000.0, tries=4, backoff=0.01, timeout=120.0)  # no server here is silent


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield running
    running.closing.set()
    running.shutdown()
    running.server_close()
    thread.join()


def get(server: Server, path: str, folder: Path, **known: object) -> Outcome:
    with Downloader(FAST) as downloader:
        return downloader.fetch(Target(f"{server.url}/{path}", folder / "x.jpg", **known))


@pytest.mark.parametrize(
    ("kind", "status", "requests"),
    [("plain", "ok", 1), ("busy", "ok", 3), ("broken", "ok", 3), ("drop", "ok", 3), ("half", "ok", 2),
     ("half-no-range", "ok", 3), ("gone", "gone", 1), ("forbidden", "failed", 1), ("removed", "placeholder", 1),
     ("always-broken", "failed", 4), ("html", "mismatch", 1)],
)  # fmt: skip
def test_whatever_the_server_does_becomes_a_status(
    server: Server, tmp_path: Path, kind: str, status: str, requests: int
) -> None:
    outcome = get(server, f"{kind}/a.jpg", tmp_path, size=None, md5=None, image=True)
    assert (outcome.status, server.asked[f"/{kind}/a.jpg"]) == (status, requests), outcome.detail
    if status == "ok":
        assert (tmp_path / "x.jpg").read_bytes() == JPEG
        assert [path.name for path in tmp_path.iterdir()] == ["x.jpg"]
    elif kind != "always-broken":
        assert list(tmp_path.iterdir()) == []
        assert outcome.detail


def test_a_dropped_download_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    assert get(server, "half/a.jpg", tmp_path, size=len(JPEG)).status == "ok"
    assert server.ranges == [None, f"bytes={len(JPEG) // 2}-"]
    assert (tmp_path / "x.jpg").read_bytes() == JPEG


def test_a_part_that_does_not_fit_is_started_again(server: Server, tmp_path: Path) -> None:
    md5 = hashlib.md5(JPEG).hexdigest()
    for part in (b"old edition of the file", JPEG + b"too long"):
        (tmp_path / "x.jpg.part").write_bytes(part)
        server.asked["/half/a.jpg"] = 1  # the half body is behind us
        assert get(server, "half/a.jpg", tmp_path, md5=md5).status == "ok"
        assert (tmp_path / "x.jpg").read_bytes() == JPEG
        (tmp_path / "x.jpg").unlink()


def test_a_whole_part_is_verified_and_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "x.jpg.part").write_bytes(JPEG)  # as after a kill between the last byte and the name
    server.asked["/half/a.jpg"] = 1  # the half body is behind us
    assert get(server, "half/a.jpg", tmp_path, md5=hashlib.md5(JPEG).hexdigest()).status == "ok"
    assert server.ranges == [f"bytes={len(JPEG)}-"]
    assert (tmp_path / "x.jpg").read_bytes() == JPEG


def test_a_stopped_download_ends_at_once_and_keeps_its_part(server: Server, tmp_path: Path) -> None:
    with Downloader(FAST) as downloader, ThreadPoolExecutor() as pool:
        running = pool.submit(downloader.fetch, Target(f"{server.url}/endless/a.jpg", tmp_path / "x.jpg"))
        while not (tmp_path / "x.jpg.part").exists() and not running.done():
            time.sleep(0.01)
        downloader.stop()
        outcome = running.result(timeout=120)
    assert (outcome.status, outcome.detail) == ("failed", "stopped")
    assert [path.name for path in tmp_path.iterdir()] == ["x.jpg.part"]


@pytest.mark.parametrize("known", [{"size": 5}, {"md5": "0" * 32}, {"sha256": "0" * 64}])
def test_what_is_not_as_known_is_not_kept(server: Server, tmp_path: Path, known: dict[str, object]) -> None:
    outcome = get(server, "plain/a.jpg", tmp_path, **known)
    assert outcome.status == "mismatch"
    assert "expected" in outcome.detail
    assert list(tmp_path.iterdir()) == []


def test_addresses_that_are_none_and_dead_hosts_fail_without_an_exception(server: Server, tmp_path: Path) -> None:
    dead = server.url.rsplit(":", 1)[0] + ":9"  # the discard port, where no server listens
    with Downloader(FAST) as downloader:
        for url in ("no address", "ftp://127.0.0.1/x", f"{dead}/x", f"{server.url}/loop", "http://[::bad/x"):
            outcome = downloader.fetch(Target(url, tmp_path / "x"))
            assert outcome.status == "failed", url
            assert outcome.detail


def test_requests_keep_to_the_rate(server: Server, tmp_path: Path) -> None:
    with Downloader(Politeness(rate=20.0, backoff=0.01), connections=4) as downloader:
        threads = [
            threading.Thread(target=downloader.fetch, args=(Target(f"{server.url}/plain/{n}", tmp_path / str(n)),))
            for n in range(6)
        ]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(server.times) == 6
    assert max(server.times) - began > 4.9 / 20  # six requests at twenty a second; the first may come late


def write_catalog(root: Path, server: Server, kinds: list[str], **entry: object) -> Path:
    """A data set of official files of these kinds, with its list of image addresses."""
    files = [{"path": f"lists/{kind}.txt", "url": f"{server.url}/{kind}/file"} for kind in kinds]
    dataset = {"kind": "openimages", "root": "data", "files": files, "images": "images"} | entry
    (root / "catalog.yaml").write_text(yaml.safe_dump({"version": 1, "datasets": {"web": dataset}}))
    return root / "catalog.yaml"


def image_list(path: Path, server: Server, kinds: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    digest = base64.b64encode(hashlib.md5(JPEG).digest()).decode()
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ImageID", "Subset", "OriginalURL", "Title", "OriginalSize", "OriginalMD5"])
        for number, kind in enumerate(kinds):
            subset = ("train", "validation", "test")[number % 3]
            writer.writerow([f"{number:016x}", subset, f"{server.url}/{kind}/{number}.jpg", 'a "title", twice',
                             len(JPEG), digest])  # fmt: skip


def journal(root: Path) -> dict[str, str]:
    with (root / "data/images" / STATUS_FILE).open(newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        assert tuple(reader.fieldnames or ()) == COLUMNS
    return {row["path"]: row["status"] for row in rows}


KINDS = ["plain", "gone", "removed", "html", "always-broken", "half", "drop", "busy", "plain"]
LIST = {"image_urls": {"path": "urls.csv", "format": "openimages", "folder": "images"}}


def test_every_image_gets_a_status_and_the_same_command_asks_only_for_what_may_come(
    server: Server, tmp_path: Path
) -> None:
    image_list(tmp_path / "data/urls.csv", server, KINDS)
    options = FetchOptions("web", write_catalog(tmp_path, server, [], **LIST), images=True, politeness=FAST)
    summary = fetch(options)
    assert "1 failed, 1 gone, 1 mismatch, 5 ok, 1 placeholder" in summary
    assert journal(tmp_path) == {
        "train/0000000000000000.jpg": "ok", "validation/0000000000000001.jpg": "gone",
        "test/0000000000000002.jpg": "placeholder", "train/0000000000000003.jpg": "mismatch",
        "validation/0000000000000004.jpg": "failed", "test/0000000000000005.jpg": "ok",
        "train/0000000000000006.jpg": "ok", "validation/0000000000000007.jpg": "ok",
        "test/0000000000000008.jpg": "ok",
    }  # fmt: skip
    assert (tmp_path / "data/images/test/0000000000000005.jpg").read_bytes() == JPEG
    server.asked.clear()
    assert "1 failed, 1 gone before, 1 mismatch before, 1 placeholder before, 5 there already" in fetch(options)
    assert set(server.asked) == {"/always-broken/4.jpg"}
    server.asked.clear()
    fetch(FetchOptions(**(vars(options) | {"retry_failed": True, "splits": ("val",)})))
    assert set(server.asked) == {"/gone/1.jpg", "/always-broken/4.jpg"}


def test_an_image_that_is_listed_twice_is_fetched_once_and_a_torn_journal_is_mended(
    server: Server, tmp_path: Path
) -> None:
    image_list(tmp_path / "data/urls.csv", server, ["drop", "plain", "gone"])
    lines = (tmp_path / "data/urls.csv").read_text().splitlines(True)
    (tmp_path / "data/urls.csv").write_text("".join([*lines, lines[1]]))
    (tmp_path / "data/images").mkdir()
    (tmp_path / "data/images" / STATUS_FILE).write_text(",".join(COLUMNS) + "\ntest/00000000000")
    options = FetchOptions("web", write_catalog(tmp_path, server, [], **LIST), images=True, politeness=FAST)
    assert "1 gone, 1 listed twice, 2 ok" in fetch(options)
    assert journal(tmp_path)["test/0000000000000002.jpg"] == "gone"
    assert "1 gone before, 3 there already" in fetch(options)


def test_a_stopped_fetch_goes_on(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_list(tmp_path / "data/urls.csv", server, ["plain"] * 12)
    options = FetchOptions("web", write_catalog(tmp_path, server, [], **LIST), jobs=1, politeness=FAST)
    calls, whole = Counter(), Downloader.fetch

    def stop(self: Downloader, target: Target) -> Outcome:
        calls["fetch"] += 1
        if calls["fetch"] == 5:
            raise KeyboardInterrupt
        return whole(self, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="the same command continues"):
        patch.setattr(Downloader, "fetch", stop)
        fetch(FetchOptions(**(vars(options) | {"images": True})))
    there = {path.stem for path in (tmp_path / "data/images").rglob("*.jpg")}
    assert 0 < len(there) < 12
    summary = fetch(FetchOptions(**(vars(options) | {"images": True})))
    assert f"{12 - len(there)} ok, {len(there)} there already" in summary
    again = [name for name, times in server.asked.items() if times > 1]  # the download that the stop cut off, if any
    assert len(server.asked) == 12
    assert len(again) <= 1
    assert not {f"{int(Path(name).stem):016x}" for name in again} & there


def test_files_are_fetched_once_and_verified(server: Server, tmp_path: Path) -> None:
    options = FetchOptions("web", write_catalog(tmp_path, server, ["plain", "half"]), politeness=FAST)
    assert "2 files fetched, 0 were there" in fetch(options)
    assert (tmp_path / "data/lists/half.txt").read_bytes() == JPEG
    assert "0 files fetched, 2 were there" in fetch(options)
    bad = write_catalog(tmp_path, server, ["plain", "gone"])
    with pytest.raises(C3Error, match=r"1 of 1 files could not be downloaded, first .*/gone/file: gone, HTTP 404"):
        fetch(FetchOptions("web", bad, politeness=FAST))
    assert (tmp_path / "data/lists/plain.txt").exists()


def test_the_limit_counts_images_and_the_command_line_says_it_all(server: Server, tmp_path: Path) -> None:
    image_list(tmp_path / "data/urls.csv", server, ["plain"] * 5)
    catalog = write_catalog(tmp_path, server, ["plain"], **LIST)
    done = CliRunner().invoke(
        main, ["--catalog", str(catalog), "fetch", "web", "--images", "--limit", "3", "--jobs", "2", "--rate", "500"]
    )
    assert done.exit_code == 0, done.output
    assert "web: 1 files fetched" in done.stdout
    assert "web: images 3 ok; a line for each in" in done.stdout


@pytest.mark.parametrize(
    ("entry", "content", "said"),
    [
        ({}, "", r"no file of data set web has a plain official address; .*c3 --catalog .* catalog check web"),
        ({"image_urls": "urls.csv"}, "", "datasets.web.image_urls: expected settings .name: value., found 'urls.csv'"),
        (LIST, None, "list of image addresses not found: expected .*urls.csv; see: c3 --catalog .* catalog check web"),
        (LIST, "a,b\n", r"urls.csv line 1: expected the columns ImageID, Subset, OriginalURL, found a,b"),
        (LIST, "ImageID,Subset,OriginalURL\n../../x,train,http://x\n", "urls.csv line 2: expected a path below"),
        (LIST, "ImageID,Subset,OriginalURL,OriginalMD5\na,train,http://x,zz\n", "line 2: OriginalMD5 must be 16 bytes"),
        (LIST, "ImageID,Subset,OriginalURL\na,train\n", "line 2: the line ends early"),
        (
            {"image_urls": {"path": "urls.csv", "format": "parquet"}},
            "",
            "image_urls.format: expected .* or 'table', found 'parquet'",
        ),
    ],
)
def test_bad_lists_are_refused(
    server: Server, tmp_path: Path, entry: dict[str, object], content: str | None, said: str
) -> None:
    catalog = write_catalog(tmp_path, server, [], **entry)
    if content is not None:
        (tmp_path / "data").mkdir()
        (tmp_path / "data/urls.csv").write_text(content)
    with pytest.raises(C3Error, match=said):
        fetch(FetchOptions("web", catalog, images=bool(entry), politeness=FAST))
    assert not list(tmp_path.rglob("*.jpg"))


def test_the_lists_of_nus_wide_and_of_your_own(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/NUS-WIDE-urls.txt").write_text(
        "Photo_file        Photo_id          url_Large         url_Middle             url_Small         url_Original\n"
        "C:\\ImageData\\Flickr\\actor\\0001_2124494179.jpg 2124494179  null http://h/m.jpg  http://h/s.jpg  null\n"
        "C:\\ImageData\\Flickr\\zoo\\0002_1.jpg 1  null null null null\n"
    )
    (tmp_path / "data/own.csv").write_text(
        "path,url,split,size\na/1.jpg,http://h/1,train,\nb/2.jpg,http://h/2,test,7\n"
    )

    def targets(path: str, kind: str, *splits: str) -> list[tuple[str, str, int | None]]:
        entry = {"kind": "table", "root": "data", "image_urls": {"path": path, "format": kind, "folder": "Flickr"}}
        (tmp_path / "c.yaml").write_text(yaml.safe_dump({"version": 1, "datasets": {"own": entry}}))
        found = image_targets(Catalog(tmp_path / "c.yaml").dataset("own"), splits)
        return [(t.url, t.path.relative_to(tmp_path / "data/Flickr").as_posix(), t.size) for t in found]

    assert targets("NUS-WIDE-urls.txt", "nuswide") == [("http://h/m.jpg", "actor/0001_2124494179.jpg", None)]
    assert targets("own.csv", "table") == [("http://h/1", "a/1.jpg", None), ("http://h/2", "b/2.jpg", 7)]
    assert targets("own.csv", "table", "test") == [("http://h/2", "b/2.jpg", 7)]


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_your_own_list_is_read_as_a_table_is(tmp_path: Path, code: str, delimiter: str) -> None:
    assert own_list(tmp_path, "path,url\ncafé.jpg,http://h/1\n".replace(",", delimiter).encode(code)) == ["café.jpg"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("path,url\ncafé.jpg,http://h/1\n".encode("latin-1"), "own.csv is not a text file in UTF-8 .line 2"),
        (b'path,url\na.jpg,"http://h/1\nb.jpg,http://h/2"\n', "own.csv line 2: url holds a line break"),
        (b'path,url\na.jpg,"http://h/1\nb.jpg,http://h/2\n', "own.csv line 2 cannot be read as csv: a quote is open"),
        (b"path,url\na.jpg\n", "own.csv line 2: expected 2 fields"),
    ],
)
def test_your_own_list_is_refused_with_its_line(tmp_path: Path, content: bytes, said: str) -> None:
    with pytest.raises(C3Error, match=said):
        own_list(tmp_path, content)


def own_list(root: Path, content: bytes) -> list[str]:
    (root / "own.csv").write_bytes(content)
    entry = {"kind": "table", "root": ".", "image_urls": {"path": "own.csv", "format": "table"}}
    (root / "c.yaml").write_text(yaml.safe_dump({"version": 1, "datasets": {"own": entry}}))
    return [target.path.name for target in image_targets(Catalog(root / "c.yaml").dataset("own"), ())]


def test_requests_are_not_told_one_by_one(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert get(server, "plain/a.jpg", tmp_path).status == "ok"
    assert [record for record in caplog.records if record.name.startswith("http")] == []
