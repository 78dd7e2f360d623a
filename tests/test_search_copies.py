"""Copies of the images that a search found: their names, nothing half copied, and targets that are refused early."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from c3 import Searcher
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.predict.found import Hit, Ranking, copies_of, copy_images
from c3.predict.search import Searcher as SearcherClass
from c3.predict.search_page import write_page
from click.testing import CliRunner, Result
from search_place import Place, make_place


@pytest.fixture(scope="module")
def place(caches_in: Callable[[Path], Callable[..., FeatureCache]], tmp_path_factory: pytest.TempPathFactory) -> Place:
    root = tmp_path_factory.mktemp("copies")
    return make_place(root, caches_in(root), ["c3"])


def search(place: Place, *arguments: str | Path) -> Result:
    command = (
        "search",
        place.store,
        "a",
        "--run",
        place.runs["c3"],
        "--split",
        "test",
        "--top",
        "3",
        "--device",
        "cpu",
    )
    return CliRunner().invoke(main, [str(argument) for argument in (*command, *arguments)])


def ranking(word: str, *images: Path, there: bool = True) -> Ranking:
    hits = (Hit(rank, None, 1.0, image.name, str(image), there, "test", rank, (0, 0, 1, 1))
            for rank, image in enumerate(images, start=1))  # fmt: skip
    return Ranking(word, "new", tuple(hits))


def drawn(folder: Path, *names: str) -> list[Path]:
    """Files whose content is their name."""
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(name)
    return [folder / name for name in names]


@pytest.mark.parametrize(
    "words", [("a;b", "a,b", "a-b"), ("R&D", "R D", "r d"), ("?", "!", "word")], ids=["marks", "case", "only marks"]
)
def test_words_that_look_alike_in_a_name_keep_all_their_images(tmp_path: Path, words: tuple[str, ...]) -> None:
    images = drawn(tmp_path / "images", "x.jpg", "y.jpg")
    folder = tmp_path / "copies"
    copies = copies_of([ranking(word, *images) for word in words], folder)
    assert copy_images(copies, folder) == f"{folder}: 6 images"
    found = sorted(folder.iterdir())
    assert len({path.name.casefold() for path in found}) == 6
    assert all(path.name.endswith(path.read_text()) for path in found)


def test_a_rank_in_a_word_or_in_a_name_takes_no_other_image(tmp_path: Path) -> None:
    images = drawn(tmp_path / "images", "001-x", "x")
    copies = copies_of([ranking("a", images[0]), ranking("a-001", images[1])], tmp_path / "copies")
    assert [hit.image for hit in copies.values()] == [str(image) for image in images]


@pytest.mark.parametrize("name", ["n" * 200 + ".jpg", "n" * 250 + ".jpg", "海" * 83 + ".png", "x." + "s" * 250],
                         ids=["204", "254", "wide", "suffix"])  # fmt: skip
def test_long_words_and_names_are_cut_by_bytes(tmp_path: Path, name: str) -> None:
    images = drawn(tmp_path / "images", "x.jpg", name)
    folder = tmp_path / "copies"
    copy_images(copies_of([ranking("海" * 60, *images), ranking("海" * 61, *images)], folder), folder)
    found = list(folder.iterdir())
    assert len(found) == 4 and all(path.name.startswith("海" * 20 + "-") for path in found)
    assert all(path.suffix in (".jpg", ".png") for path in found) or name.startswith("x.")


def test_no_copy_stays_where_one_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copyfile = shutil.copyfile

    def failing(source: str, target: Path) -> None:
        if source.endswith("y.jpg"):
            raise OSError(28, "No space left on device")
        copyfile(source, target)

    (old,) = drawn(tmp_path / "old", "kept")
    copies = {
        folder: copies_of([ranking("a", *drawn(tmp_path / "images", "x.jpg", "y.jpg"))], folder)
        for folder in (tmp_path / "old", tmp_path / "new/copies")
    }
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copyfile", failing)
        for folder, own in copies.items():
            with pytest.raises(C3Error, match="No space left on device; no copy stays"):
                copy_images(own, folder)
    assert list(old.parent.iterdir()) == [old] and not (tmp_path / "new").exists()
    assert copy_images(copies[tmp_path / "old"], tmp_path / "old") == f"{tmp_path / 'old'}: 2 images"


@pytest.mark.parametrize(("taken", "said"), [(1, "a-001-x.jpg exists already;"), (2, "a-001-x.jpg and 1 more exist")])
def test_names_that_are_taken_are_counted(tmp_path: Path, taken: int, said: str) -> None:
    names = ("x.jpg", "y.jpg")
    drawn(tmp_path / "copies", *(f"a-{rank:03d}-{name}" for rank, name in list(enumerate(names, start=1))[:taken]))
    with pytest.raises(C3Error, match=said):
        copies_of([ranking("a", *drawn(tmp_path / "images", *names))], tmp_path / "copies")


def test_taken_names_are_refused_before_anything_is_written(place: Place, tmp_path: Path) -> None:
    target = ("--images", place.images, "--copy", tmp_path / "copies")
    assert search(place, *target).exit_code == 0
    refused = search(place, *target, "--html", tmp_path / "page.html")
    assert (refused.exit_code, refused.stdout) == (2, "") and "and 2 more exist already" in refused.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("option", "target", "said"),
    [
        ("--html", "absent/page.html", "the folder {0}/absent does not exist; make it first"),
        ("--html", "file/page.html", "{0}/file is a file, expected a folder"),
        ("--html", "", "is a directory"),
        ("--copy", "file", "{0}/file is a file, expected a folder"),
        ("--copy", "file/below/copies", "{0}/file is a file, expected a folder"),
    ],
    ids=["no folder", "below a file", "a folder", "a file", "far below a file"],
)
def test_targets_are_checked_before_the_search(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str, target: str, said: str
) -> None:
    monkeypatch.setattr(SearcherClass, "search", lambda *_, **__: pytest.fail("searched"))
    (tmp_path / "file").write_text("")
    refused = search(place, option, tmp_path / target)
    assert refused.exit_code == 2 and said.format(tmp_path) in refused.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_images_that_are_elsewhere(place: Place, tmp_path: Path) -> None:
    gone = search(place, "--copy", tmp_path / "copies")
    assert (gone.exit_code, gone.stdout) == (2, "") and not (tmp_path / "copies").exists()
    assert "3 of 3 images are not where the store names them; c3 search --images FOLDER says" in gone.stderr
    wrong = search(place, "--copy", tmp_path / "copies", "--images", tmp_path)
    assert (wrong.exit_code, wrong.stdout) == (2, "") and not (tmp_path / "copies").exists()
    assert f"3 of 3 images are not in the folder {tmp_path} of --images, where {tmp_path}/test" in wrong.stderr
    assert "give --images the folder that holds them" in wrong.stderr
    partly = [ranking("a", *drawn(tmp_path / "images", "x.jpg")), ranking("b", Path("gone.jpg"), there=False)]
    told = copy_images(copies_of(partly, tmp_path / "part"), tmp_path / "part")
    assert told == (
        f"{tmp_path}/part: 1 image; 1 of 2 images are not where the store names them; c3 search --images FOLDER says "
        "where they are"
    )
    searcher = Searcher.load(place.store, place.runs["c3"], device="cpu", images=tmp_path)
    found = searcher.search(["a"], split="test", top=2)
    told = write_page(tmp_path / "page.html", found, searcher.run, searcher.store, tmp_path)
    assert f"2 of 2 images are not in the folder {tmp_path} of --images" in told
    assert "c3 search --images FOLDER says" not in told + (tmp_path / "page.html").read_text()
