"""The schema of the catalog: names stay as they are written, and what does not fit is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from c3.cli import main
from c3.common.catalog_file import read_catalog
from c3.common.errors import C3Error
from c3.extract.catalog.catalog import Catalog
from c3.extract.catalog.specs import CocoSpec, DatasetSpec, TableSpec
from click.testing import CliRunner


def catalog(folder: Path, settings: str, name: str = "d", more: str = "") -> Catalog:
    """Write a catalog with one table data set and the vectors `g`, and read it."""
    (folder / "catalog.yaml").write_text(
        f"version: 1\ndatasets:\n  {name}: {{kind: table, root: ., {settings}}}\n"
        f"vectors: {{g: {{kind: text, path: glove.txt}}}}\n{more}"
    )
    return Catalog(folder / "catalog.yaml")


def dataset(folder: Path, settings: str) -> DatasetSpec:
    return catalog(folder, settings).dataset("d")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("unseen: [tree]", "d.unseen: expected the name of a file or folder, found a list .tree."),
        ("classes: [dog, cat]", "d.classes: expected the name of a file or folder, found a list .dog, cat."),
        ("unseen: ", "d.unseen: expected a value, found nothing: fill in the setting or delete it"),
        ("classes: ~", "d.classes: expected a value, found nothing"),
        ("leak_cosine: high", "d.leak_cosine: expected a number, found 'high'"),
        ("leak_cosine: 1.5", "d.leak_cosine: expected at most 1, found '1.5'"),
        ("leak_cosine: .nan", "d.leak_cosine: expected a number, found '.nan'"),
        ("images: [images, more]", "d.images: expected the name of a file or folder, found a list .images, more."),
        (r'images: "a\0b"', "d.images: expected the name of a file or folder"),
        ("images: $C3_NOT_SET/x", r"d.images: expected a path whose variables have a value \(\$C3_NOT_SET has none\)"),
        ("vectors: {kind: text, path: g.txt}", "d.vectors: expected a name of the section `vectors`, found settings"),
        ("vectors: 3", "unknown vectors '3'"),
        ("files: labels.csv", "d.files: expected a list, found 'labels.csv'"),
        ("files: [labels.csv]", "d.files.0: expected settings .name: value., found 'labels.csv'"),
        ("files: [{path: a}, {pth: b}]", "d.files.1: the setting 'path' is missing; .*'pth'. Did you mean 'path'"),
        ("files: [{path: a, size: big}]", "d.files.0.size: expected a whole number, found 'big'"),
        ("files: [{path: a, optional: perhaps}]", "d.files.0.optional: expected true or false, found 'perhaps'"),
        ("files: [{path: a, instead: b}]", "d.files.0.instead: expected a list, found 'b'"),
        ("counts: 5", "d.counts: expected settings .name: value., found '5'"),
        ("counts: {seen: many}", "d.counts.seen: expected a whole number, found 'many'"),
        ("image_urls: {path: x}", "d.image_urls: the setting 'format' is missing"),
        ("title: [a]", "d.title: expected a text, found a list"),
        ("name: other", "unknown setting of datasets.d: 'name'"),
        ("catalog: other.yaml", "unknown setting of datasets.d: 'catalog'"),
        ("validation: 3", "unknown setting of datasets.d: 'validation'"),
        ("table: a.csv, table: b.csv", "line 3: 'table' is set twice"),
        ("caf\u00e9: a.csv, cafe\u0301: b.csv", "line 3: 'caf\u00e9' is set twice"),
        ("label_separator: ''", "d.label_separator: expected a text with at least 1 character"),
        ("label_separator: [a]", "d.label_separator: expected a text, found a list"),
        ("label_seperator: a", "'label_seperator'. Did you mean 'label_separator'"),
        ("table: " + "a" * 300, "d.table: expected names of at most 255 bytes and paths of at most 4,095, found 'aaa"),
        ("images: " + "a/" * 3000, "d.images: expected names of at most 255 bytes"),
        ("[a]: b", "line 3: expected a name before the colon"),
        ("<<: [a]", "line 3: << merges mappings only, found 'a'"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(tmp_path: Path, settings: str, said: str) -> None:
    with pytest.raises(C3Error, match=said) as caught:
        dataset(tmp_path, settings)
    assert str(tmp_path / "catalog.yaml") in str(caught.value) or said == "unknown vectors '3'"


def test_every_fault_of_an_entry_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(C3Error, match=r"d\.labels: expected .*; datasets\.d\.leak_cosine: .*; .*'tabel'. Did you mean"):
        dataset(tmp_path, "labels: all, tabel: labels.csv, leak_cosine: high")


@pytest.mark.parametrize(
    ("section", "entry", "said"),
    [
        ("vectors", "{path: [a]}", "vectors.x.path: expected the name of a file or folder"),
        ("vectors", "{kind: glove, path: a}", "vectors.x.kind: expected 'text', .*, found 'glove'"),
        ("vectors", "{path: a, lookup: no}", "vectors.x.lookup: expected 'words' or 'names', found 'no'"),
        ("vectors", "{kind: text}", "vectors.x: the setting 'path' is missing"),
        ("vectors", "file.txt", "vectors.x: expected settings .name: value., found 'file.txt'"),
        ("weights", "{path: a.pth}", "weights.x: the setting 'backbone' is missing"),
        ("datasets", "{kind: coco, root: ., years: {tset: b}}", "datasets.x.years: 'tset'. Did you mean 'test'"),
        ("datasets", "{kind: coco, root: ., seen: person}", "datasets.x.seen: expected a list, found 'person'"),
        ("datasets", "{kind: coco, root: ., box_margin: 1}", "datasets.x.box_margin: expected less than 1, found '1'"),
        ("datasets", "{kind: nuswide, root: ., classes: all}", "datasets.x.classes: expected 'concepts', found 'all'"),
        ("datasets", "{kind: nuswide, root: ., validation: -1}", "datasets.x.validation: expected at least 0"),
        ("datasets", "{root: .}", "datasets.x: the setting 'kind' is missing"),
        ("datasets", "{kind: [table], root: .}", "no reader for kind"),
        ("recipes", "[a]", "recipes.x: expected settings .name: value., found a list .a."),
        ("recipes", "{c3: 5}", "recipes.x.c3: expected settings .name: value., found '5'"),
        ("recipes", "{c3: {lr: [1, 2]}}", "recipes.x.c3.lr: expected a number or a word, found a list .1, 2."),
    ],
)
def test_entries_of_every_section_are_checked(tmp_path: Path, section: str, entry: str, said: str) -> None:
    file = tmp_path / "catalog.yaml"
    file.write_text(f"version: 1\n{section}: {{x: {entry}}}\n")
    with pytest.raises(C3Error, match=said):
        {"vectors": Catalog.vectors, "weights": Catalog.weight}.get(section, Catalog.dataset)(Catalog(file), "x")


def test_names_stay_as_they_are_written(tmp_path: Path) -> None:
    for name in ("2024", "no", "1.10", "007", "2024-01-01", "~"):
        assert catalog(tmp_path, "table: 007", name).dataset(name).name == name
    spec = catalog(tmp_path, "table: 007, images: 2024").dataset("d")
    assert isinstance(spec, TableSpec)
    assert (spec.table, spec.images) == ("007", "2024")
    (tmp_path / "coco.yaml").write_text(
        "version: 1\ndatasets: {x: {kind: coco, root: ., seen: [no, 2024], drop_unseen_images: yes}}\n"
    )
    coco = Catalog(tmp_path / "coco.yaml").dataset("x")
    assert isinstance(coco, CocoSpec)
    assert (coco.seen, coco.drop_unseen_images) == (("no", "2024"), True)
    done = CliRunner().invoke(main, ["--catalog", str(tmp_path / "coco.yaml"), "catalog", "check", "2024"])
    assert done.exit_code == 2
    assert "unknown data set '2024'" in done.output


@pytest.mark.parametrize("name", ["my photos/2024", "../up", "' '", '"a\\nb"', "x" * 201])
def test_a_data_set_has_a_name_that_a_run_folder_can_bear(tmp_path: Path, name: str) -> None:
    found = catalog(tmp_path, "table: a.csv", name)
    with pytest.raises(C3Error, match=r"\.name: expected a name of 1 to 200 bytes without / and line breaks"):
        found.dataset(found.datasets[-1])
    assert catalog(tmp_path, "table: a.csv", "my 👨‍👩‍👧 (2024)").dataset("my 👨‍👩‍👧 (2024)")


def test_a_folder_in_the_place_of_a_file_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    (tmp_path / "photos.zip").touch()
    spec = dataset(tmp_path, "table: labels, images: photos.zip")
    with pytest.raises(C3Error, match=r"d: table file is a folder, expected a file: .*labels$"):
        spec.own("table", "labels")
    with pytest.raises(C3Error, match=r"images folder .*photos.zip is a file; "):
        spec.images_folder()


def test_paths_mean_what_a_shell_makes_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PICTURES", str(tmp_path / "pictures"))
    (tmp_path / "catalog.yaml").write_text(
        "version: 1\n"
        "datasets: {d: {kind: table, root: ~/data, images: $PICTURES/2024, table: '${PICTURES}.csv', vectors: g}}\n"
        "vectors: {g: {path: ~/glove.txt, names: ~/names.txt}}\n"
        "weights: {w: {backbone: vgg19, path: ~/w.pth}}\n"
    )
    found = Catalog(tmp_path / "catalog.yaml")
    spec = found.dataset("d")
    assert isinstance(spec, TableSpec)
    assert spec.vectors is not None
    assert spec.root == tmp_path / "home/data"
    assert spec.root / spec.images == tmp_path / "pictures/2024"
    assert spec.table == f"{tmp_path}/pictures.csv"
    assert (spec.vectors.path, spec.vectors.names) == (tmp_path / "home/glove.txt", (tmp_path / "home/names.txt",))
    with pytest.raises(C3Error, match=f"weights w not found: expected {tmp_path}/home/w.pth"):
        found.weight("w")
    monkeypatch.setenv("C3_DATA", "~/sets")
    assert Catalog().dataset("coco").root == tmp_path / "home/sets/coco"


def test_anchors_and_merges_work_and_settings_of_the_entry_win(tmp_path: Path) -> None:
    (tmp_path / "catalog.yaml").write_text(
        "version: 1\n"
        "datasets:\n"
        "  a: &a {kind: table, root: ., table: a.csv, title: one}\n"
        "  b: {<<: *a, table: b.csv}\n"
        "recipes: {a: {c3: {lr: 1e-3, source: here}}}\n"
    )
    spec = Catalog(tmp_path / "catalog.yaml").dataset("b")
    assert isinstance(spec, TableSpec)
    assert (spec.table, spec.title) == ("b.csv", "one")
    assert read_catalog(tmp_path / "catalog.yaml").recipes["a"] == {"c3": {"lr": "1e-3", "source": "here"}}
    many = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))
    (tmp_path / "catalog.yaml").write_text(f"version: 1\ndatasets:\n  a0: &a0 [x]\n{many}")
    with pytest.raises(C3Error, match=r"catalog\.yaml: its aliases repeat more than 1,000,000 settings"):
        Catalog(tmp_path / "catalog.yaml")
    (tmp_path / "catalog.yaml").write_text("version: 1\ndatasets: &a {d: *a}\n")
    with pytest.raises(C3Error, match="an alias in it refers to itself"):
        Catalog(tmp_path / "catalog.yaml")


@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("asked", ["Pl\u00e4tze", "Pla\u0308tze"])
def test_names_are_found_in_every_unicode_form_and_encoding(tmp_path: Path, code: str, asked: str) -> None:
    text = "version: 1\r\ndatasets:\r\n  Pla\u0308tze: {kind: coco, root: ., seen: [cafe\u0301]}\r\n"
    (tmp_path / "c.yaml").write_bytes(text.encode(code))
    spec = Catalog(tmp_path / "c.yaml").dataset(asked)
    assert isinstance(spec, CocoSpec)
    assert (spec.name, spec.seen) == ("Pl\u00e4tze", ("caf\u00e9",))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"version: 1\ndatasets:\n\td: {}\n", "line 3 is not valid YAML"),
        (b"version: 1\ntitle: caf\xe9\n", "not a text file in UTF-8 .line 2, byte 0xe9"),
        (b"version: 1\ndatasets: {d: \0}", "line 2 holds a NUL"),
        (b"PK\3\4", "is a zip archive"),
        (b"<!DOCTYPE html><p>", "is an HTML page"),
        (b"", "expected `version: 1` at the top, found nothing"),
        (b"version: 1\ndatasets: {d: " + b"[" * 9000, "is nested too deeply|is not valid YAML"),
        (b'version: 1\ndatasets: {d: {kind: coco, root: ., seen: ["\\ud800"]}}', "is not valid YAML|no text"),
    ],
)
def test_a_file_that_is_no_catalog_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(C3Error, match=said) as caught:
        Catalog(tmp_path / "c.yaml").dataset("d")
    assert str(tmp_path / "c.yaml") in str(caught.value)
