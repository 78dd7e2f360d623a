"""Paths in options mean what a shell makes of them, and every command works in a locale without UTF-8."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from unicodedata import normalize

import pytest
from c3.cli import main
from c3.common.user_paths import expanded, typed_path
from c3.extract.store.cache import FeatureCache
from click.testing import CliRunner

SMALL = ("--backbone", "squeezenet1_1", "--weights", "random:0", "--device", "cpu")
POSIX = {"LC_ALL": "POSIX", "LANG": "", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "OMP_NUM_THREADS": "1"}


def c3(*words: str) -> str:
    """Run a command that must succeed; return what it printed."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*words: str) -> str:
    """Run a command that must refuse in one line; return that line."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2, done.output
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("c3: ")]
    return line


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("WORK", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.mark.parametrize(
    ("typed", "path"),
    [
        ("~/a", "{home}/a"),
        ("~", "{home}"),
        ("$WORK/a", "{home}/a"),
        ("${WORK}/a", "{home}/a"),
        ("a/~/b", "a/~/b"),
        ("~no-such-user/a", "~no-such-user/a"),
        ("price$10", "price$10"),
        ("s3://bucket/~x/$WORK", "s3://bucket/~x/{home}"),
        ("random:0", "random:0"),
        ("-", "-"),
    ],
)
def test_what_a_path_means(home: Path, typed: str, path: str) -> None:
    assert expanded(typed) == path.format(home=home)


@pytest.mark.parametrize("name", ["~", "$WORK", "a$b", "${x"])
def test_a_file_of_exactly_that_name_comes_first(home: Path, name: str) -> None:
    Path(name).touch()
    assert typed_path(name) == name


@pytest.mark.parametrize("typed", ["", "a\0b", "$NOT_SET_HERE/a", "${NOT_SET_HERE}", "é" * 200, "a" * 256, "a/" * 2100])
def test_what_no_file_can_be_called(home: Path, typed: str) -> None:
    with pytest.raises(ValueError, match=r"^(the name of|a path whose|names of at most)"):
        typed_path(typed)


def test_options_of_every_stage_take_them(home: Path, table_dataset: Path) -> None:
    """--catalog, --out, --cache, --runs, --run, --vocabulary, --vectors, pictures and --images; in either form."""
    table_dataset.rename(home / "tïny")
    catalog = f"--catalog=~/{normalize('NFD', 'tïny')}/catalog.yaml"
    c3(catalog, "extract", "--dataset", "tiny", *SMALL, "--out", "~/sub/ö.zarr")
    assert not Path("~").exists()
    FeatureCache.open(home / "sub/ö.zarr").require_complete()
    assert "12 random rows" in c3("inspect", "$WORK/sub/ö.zarr", "--check-images", "12", "--images=~/tïny/images")
    c3("train", "--cache=~/sub/ö.zarr", "--method", "fast0tag", "--runs", "~/runs", "--set", "epochs=1",
       "--set", "hidden1=8", "--set", "hidden2=8")  # fmt: skip
    (run,) = (home / "runs").iterdir()
    (home / "words.txt").write_text("red\n")
    tags = c3("predict", "~/tïny/images/0*.png", "$WORK/tïny/images", f"--run=~/runs/{run.name}", "--csv",
              "--vocabulary", "~/words.txt", "--vectors=~/tïny/vectors.txt")  # fmt: skip
    assert tags.count(",ok,1,red,") == 12


def test_a_path_that_no_file_can_have_is_refused_in_one_line(home: Path) -> None:
    long = "x" * 300
    for words in (
        ["extract", "--dataset", "demo", "--out", long],
        ["inspect", "$NOT_SET_HERE/x.zarr"],
        ["merge", "a.zarr", "--out", f"{long}/b.zarr"],
        ["train", "--cache", "é" * 200],
        ["predict", long, "--run", "r"],
        ["predict", "a.jpg", "--run", f"r/{long}"],
        ["--catalog", long, "catalog", "list"],
        ["--catalog", "$NOT_SET_HERE", "catalog", "list"],
    ):
        assert ": expected " in refused(*words)
    assert list(Path().iterdir()) == [Path("home")]


def test_a_file_of_exactly_that_name_comes_first_in_a_catalog(tmp_path: Path, table_dataset: Path) -> None:
    (table_dataset / "images").rename(table_dataset / "pics$NOT_SET_HERE")
    (table_dataset / "labels.csv").rename(table_dataset / "labels$v2.csv")
    (table_dataset / "vectors.txt").rename(table_dataset / "$NOT_SET_HERE.txt")
    catalog = (table_dataset / "catalog.yaml").read_text("utf-8").replace("images: images", "images: pics$NOT_SET_HERE")
    catalog = catalog.replace("labels.csv", "labels$v2.csv").replace("vectors.txt", "$NOT_SET_HERE.txt")
    (table_dataset / "catalog.yaml").write_text(catalog, "utf-8")
    assert "wrong" not in c3("--catalog", str(table_dataset / "catalog.yaml"), "catalog", "check", "tiny")


def test_what_the_system_refuses_is_told_in_one_line(home: Path) -> None:
    Path("file").touch()
    assert "file" in refused("inspect", "file/store.zarr")
    loop = Path("loop")
    loop.symlink_to("loop")
    assert "loop" in refused("--catalog", "loop", "catalog", "list")


def test_an_ascii_locale(tmp_path: Path, table_dataset: Path) -> None:
    """Extract, inspect and check a data set in which every name is not ASCII, the way a bare container runs."""
    root = table_dataset.rename(tmp_path / "Bücher")
    (root / "images").rename(root / "写真")
    (root / "写真/00.png").rename(root / "写真/日本.png")
    for file, old, new in (
        ("labels.csv", "00.png", "日本.png"), ("labels.csv", "red", "röt"), ("unseen.txt", "red", "röt"),
        ("vectors.txt", "red", "röt"), ("catalog.yaml", "s: images", "s: 写真"), ("catalog.yaml", "tiny", "ä"),
    ):  # fmt: skip
        (root / file).write_text((root / file).read_text("utf-8").replace(old, new), "utf-8")

    catalog = ("--catalog", "Bücher/catalog.yaml")
    commands = (
        (*catalog, "catalog", "check", "ä"),
        (*catalog, "extract", "--dataset", "ä", *SMALL, "--out", "ö.zarr"),
        ("inspect", "ö.zarr", "--check-images", "2"),
    )
    # one process for all: importing torch takes longer than the rest
    code = "import sys; from c3.cli import main; [main(words.split(), standalone_mode=False) for words in sys.argv[1:]]"
    command = [sys.executable, "-c", code, *map(" ".join, commands)]
    done = subprocess.run(command, env=os.environ | POSIX, cwd=tmp_path, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    assert "ok       " in said and "no failures" in said and "2 random rows" in said
    store = FeatureCache.open(tmp_path / "ö.zarr")
    assert store.provenance.image_root == str(root / "写真")
    assert store.classes.names == ("blue", "dark röt", "röt")
    assert "日本.png" in store.image_paths("train").tolist()
