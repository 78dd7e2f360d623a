"""Tables as spreadsheets, annotation tools and other systems write them: read right, or refused with their line."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from c3.common.errors import C3Error
from c3.extract.catalog.specs import TableSpec
from c3.extract.datasets.manifest import Manifest
from c3.extract.datasets.table import table_manifest

HEADER = "image_path,labels,split\n"
NFC, NFD = (normalize(form, "café") for form in ("NFC", "NFD"))


def read(root: Path, table: str | bytes, **settings: str) -> Manifest:
    """Read a table whose files lie in `root`; `classes` and `unseen` are given by their content."""
    (root / "labels.csv").write_bytes(table.encode() if isinstance(table, str) else table)
    for name in {"classes", "unseen"} & settings.keys():
        (root / f"{name}.txt").write_text(settings[name], "utf-8")
        settings[name] = f"{name}.txt"
    return table_manifest(
        TableSpec.model_validate({"name": "d", "kind": "table", "root": root, "table": "labels.csv"} | settings)
    )


def labels(found: Manifest, split: str = "train") -> dict[str, list[str]]:
    """Return image -> names of its positive labels."""
    rows = found.splits[split]
    dense = rows.labels.dense(len(found.classes), absent=0)
    return {
        image: [found.classes.names[c] for c in np.flatnonzero(values > 0)]
        for image, values in zip(rows.path.tolist(), dense, strict=True)
    }


ROWS = ["image_path,labels,split,negatives", "a.jpg,dog|new york,train,cat", '"b, c.jpg",cat,train,', "é.jpg,,train,"]
EXPECTED = {"a.jpg": ["dog", "new york"], "b, c.jpg": ["cat"], "é.jpg": []}


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("code", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encodings_and_line_ends(tmp_path: Path, code: str, end: str) -> None:
    assert labels(read(tmp_path, end.join([*ROWS, ""]).encode(code))) == EXPECTED


@pytest.mark.parametrize("code", ["utf-16-le", "utf-16-be"])
def test_utf16_with_a_mark_in_either_order(tmp_path: Path, code: str) -> None:
    assert labels(read(tmp_path, ("\ufeff" + "\n".join(ROWS)).encode(code))) == EXPECTED


@pytest.mark.parametrize("start", ["", "sep={}\r\n", '"sep={}"\n', "SEP={}\r", "\n\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_of_spreadsheets(tmp_path: Path, delimiter: str, start: str) -> None:
    rows = [row.replace(",", delimiter) for row in ROWS if not row.startswith('"')] + [
        f'"b, c.jpg"{delimiter}cat{delimiter}train{delimiter}'
    ]
    assert labels(read(tmp_path, start.format(delimiter) + "\n".join(rows))) == EXPECTED


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (",image_path,labels,split\n0,a.jpg,dog,train\n", {"a.jpg": ["dog"]}),  # the index of pandas
        ("\ufeff\ufeff" + HEADER + "a.jpg,dog,train\n", {"a.jpg": ["dog"]}),  # two programs wrote a mark
        ("split,note,labels,image_path\ntrain,x,dog,a.jpg\n", {"a.jpg": ["dog"]}),
        ('"image_path","labels","split"\n"a.jpg","dog","train"\n', {"a.jpg": ["dog"]}),
        ("image_path,labels,split,\na.jpg,dog,train,\n", {"a.jpg": ["dog"]}),
        ("image_path,labels,split,,\na.jpg,dog,train,,\n", {"a.jpg": ["dog"]}),
        ('image_path,labels,split,note\na.jpg,dog,train,"two\nlines, and ""quotes"""\n', {"a.jpg": ["dog"]}),
        ("image_path,label,labels,split\na.jpg,cat,dog,train\n", {"a.jpg": ["dog"]}),
        ('image_path,labels,split,words\na.jpg,dog,train,"sky\ntrain"\n', {"a.jpg": ["dog"]}),
        ('image_path,labels,split,caption\na.jpg,dog,train,"seen:\na car,train"\n', {"a.jpg": ["dog"]}),
        (HEADER + "a.jpg,nan|null|NA,train\n", {"a.jpg": ["NA", "nan", "null"]}),
        (HEADER + "\n  \na.jpg,dog| dog |  |cat,train\n\n", {"a.jpg": ["cat", "dog"]}),
        (HEADER + "./x//y/./a.jpg,dog,train\n", {"x/y/a.jpg": ["dog"]}),
        (HEADER + "a.jpg,dark\u00a0red|dark  red|\ufeffdog|do\u200bg,train\n", {"a.jpg": ["dark red", "dog"]}),
    ],
)  # fmt: skip
def test_what_is_read(tmp_path: Path, table: str, expected: dict[str, list[str]]) -> None:
    assert labels(read(tmp_path, table)) == expected


@pytest.mark.parametrize(
    ("table", "said"),
    [
        # more or fewer fields than the header
        (HEADER + "a.jpg,dog,cat,train\nb.jpg,car,x,train\n", "line 2: expected 3 fields .*, found 4: 'a.jpg,dog,cat"),
        (HEADER + "a.jpg,dog,train\nb.jpg,car,tree,train\n", "line 3: expected 3 fields .*, found 4"),
        (HEADER + "a.jpg,dog,train,\nb.jpg,car,train,\n", "line 2: expected 3 fields .*, found 4"),
        (HEADER + "a.jpg,dog,train\n\n\nb.jpg,train\n", "line 5: expected 3 fields .*, found 2: 'b.jpg,train'"),
        (HEADER + "a.jpg\n", "line 2: expected 3 fields .*, found 1"),
        (HEADER + '"a.jpg,dog,train"\n', "line 2: expected 3 fields .*, found 1"),
        ("image_path,labels,split,,\na.jpg,dog,train,cat,\n", "line 2: the column of the value 'cat' has no name"),
        # quotes
        (HEADER + 'a.jpg,"dog,train\nb.jpg,car,train\nc.jpg,tree",test\n', "line 2: a quote opens here .* line 4"),
        (HEADER + '"a.jpg,dog,train\nb.jpg",car,train\n', "line 2: a quote opens here and closes in line 3"),
        (HEADER + f'"{"a" * 300}\nb.jpg",dog,train\n', "line 2: a quote opens here and closes in line 3"),
        (HEADER + 'a.jpg,"dog\ncat",train\n', r"line 2: label 'dog\\ncat' holds '\\n'"),
        ('image_path,note,labels,split\na.jpg,"x,dog,train\nb.jpg,y",car,test\n', "line 2: a quote opens here"),
        (HEADER + 'z.jpg,dog,train\n\na.jpg,"dog,train\nb.jpg,car,train\n', "line 4 cannot be read as csv"),
        (HEADER + 'a.jpg,"dog"|"cat",train\n', "line 2 cannot be read as csv: a quote is open or does not"),
        (HEADER + 'a.jpg,dog",train\n', "line 2: label 'dog\"' holds a quote"),
        (HEADER + 'a.jpg, "dog|cat",train\n', "line 2: label '\"dog' holds a quote"),
        # columns
        ("image_path,labels,split,labels\na.jpg,dog,train,cat\n", "line 1: .* found 'labels' twice"),
        ("image_path,labels,split,Labels\na.jpg,dog,train,cat\n", "column 'Labels' is not read. Did you mean 'labels'"),
        ("image_path,labels,split, negatives\na.jpg,dog,train,cat\n", "column ' negatives' is not read"),
        ("image_path,labels,split,negative\na.jpg,dog,train,cat\n", "column 'negative' .* Did you mean"),
        ("Image_Path,labels,split\na.jpg,dog,train\n", "found Image_Path, labels, split; missing image_path"),
        ("image_path|labels|split\na.jpg|dog|train\n", "found image_path.labels.split; missing image_path"),
        ("sep=|\nimage_path,labels,split\na.jpg,dog,train\n", "line 2: expected the columns"),
        ("\n\n", "has no header"),
        ("sep=;\n", "has no header"),
        # what is no text
        (HEADER.encode() + b"a.jpg,dog,train\n\xe9.jpg,dog,train\n", "not a text file in UTF-8 .line 3, byte 0xe9"),
        ((HEADER + "a.jpg,dog,train\n").encode("utf-16-le"), "line 1 holds a NUL .* save it as UTF-8"),
        (HEADER + "b.jpg,dog,train\na\0.jpg,dog,train\n", "line 3 holds a NUL character"),
        (HEADER.encode("utf-16") + b"a", "is not a text file in UTF-16"),
        (b"PK\3\4" + bytes(20), "is a zip archive, or an Excel workbook"),
        (b"\x1f\x8b\x08" + bytes(20), "is a gzip archive"),
        # lines as an editor counts them
        ("image_path,labels,split\n\n\na.jpg,dog,train\n\nb.jpg,car,vall\n", "line 6: split must .* found 'vall'"),
        ('image_path,labels,split,note\na.jpg,dog,train,"1\n2\r\n3"\nb.jpg,car,vall,\n', "line 5: split"),
        ("sep=,\n" + HEADER + "a.jpg,dog,vall\n", "line 3: split"),
        ("\n" + HEADER + "a.jpg,dog,vall\n", "line 3: split"),
        (HEADER.replace("\n", "\r") + "a.jpg,dog,train\r\rb.jpg,dog,vall\r", "line 4: split"),
        (HEADER + "a.jpg,dog\u2028cat\x85x,train\nb.jpg,dog,vall\n", "line 3: split"),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, table: str | bytes, said: str) -> None:
    with pytest.raises(C3Error, match=said) as caught:
        read(tmp_path, table)
    assert str(tmp_path / "labels.csv") in str(caught.value)


@pytest.mark.parametrize(
    ("cell", "separator", "expected"),
    [
        ("dog;cat", ";", ["cat", "dog"]),
        ("dog; cat", "; ", ["cat", "dog"]),
        ('"dog, cat"', ",", ["cat", "dog"]),
        ("dog cat", " ", ["cat", "dog"]),
        ("dog\tcat", "\t", ["cat", "dog"]),
        ("dog && cat", "&&", ["cat", "dog"]),
        ('"[""dog"", ""new york""]"', "|", ["dog", "new york"]),
        ("\"['dog', 'cat']\"", "|", ["cat", "dog"]),
        ("\"['dog',\n 'cat']\"", "|", ["cat", "dog"]),
        ("\"('dog', 'cat')\"", "|", ["cat", "dog"]),
        ("\"{'dog', 'cat'}\"", "|", ["cat", "dog"]),
        ('"[""caf\\u00e9"", ""cafe\\u0301""]"', "|", [NFC]),
        ("['it\\'s']", "|", ["it's"]),
        ("[]", "|", []),
        ("set()", "|", []),
        ("(red)", "|", ["(red)"]),
    ],
)
def test_labels_in_a_cell(tmp_path: Path, cell: str, separator: str, expected: list[str]) -> None:
    assert labels(read(tmp_path, f"{HEADER}a.jpg,{cell},train\n", label_separator=separator)) == {"a.jpg": expected}


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("dog;car", "label 'dog;car' holds ';'; expected names joined by '|'.* label_separator: \";\" in datasets.d"),
        ('"dog, cat"', "label 'dog, cat' holds ','.*set label_separator: \",\""),
        ("dog\tcat", r'set label_separator: \"\\t\" in datasets.d'),
        ("dog、cat", "label 'dog、cat' holds '、'"),
        ("dog｜cat", "label 'dog｜cat' holds '｜'"),
        ("dog¦cat", "label 'dog¦cat' holds '¦'"),
        ("tree|dog;cat", "label 'dog;cat' holds ';'"),
        ('"[""dog;cat""]"', "label 'dog;cat' holds ';'"),
        ("[dog]", r"expected a list of texts, such as \[\"dog\", \"cat\"\], found '\[dog\]'"),
        ("\"['dog' 'cat']\"", "expected a list of texts"),  # numpy; Python would read one text
        ('"[1, 2]"', "expected a list of texts"),
        ('"[[""dog""]]"', "expected a list of texts"),
        ('"[""dog"""', "expected a list of texts"),
        ('"[""\\ud800""]"', "is no text that a file can hold"),
        ("\"{'dog': 1, 'cat': 2}\"", "expected a list of texts"),
        ("{dog}", r"expected a list of texts, such as \[\"dog\", \"cat\"\], found '{dog}'"),  # an array of PostgreSQL
    ],
)  # fmt: skip
def test_labels_that_are_refused(tmp_path: Path, cell: str, said: str) -> None:
    with pytest.raises(C3Error, match=said.replace("|", r"\|")) as caught:
        read(tmp_path, f"{HEADER}b.jpg,dog,train\na.jpg,{cell},train\n")
    assert "labels.csv line 3: " in str(caught.value)


def test_a_list_of_classes_decides_what_is_a_name(tmp_path: Path) -> None:
    table = (
        f'{HEADER}a.jpg,"flowers, potted|dog;cat",train\nb.jpg,[x],train\nc.jpg,6" pipe|a|b,train\nd.jpg,[x]|a,train\n'
    )
    found = read(tmp_path, table, classes='flowers, potted\ndog;cat\n[x]\n6" pipe\na\nb\n')
    assert labels(found) == {
        "a.jpg": ["flowers, potted", "dog;cat"],
        "b.jpg": ["[x]"],
        "c.jpg": ['6" pipe', "a", "b"],
        "d.jpg": ["[x]", "a"],
    }
    with pytest.raises(C3Error, match="label 'dog;cat' is not in the list of classes; set label_separator: \";\""):
        read(tmp_path, f"{HEADER}a.jpg,dog;cat,train\n", classes="dog\ncat\n")
    with pytest.raises(C3Error, match=r"label 'dog;fox' is not in the list of classes$"):
        read(tmp_path, f"{HEADER}a.jpg,dog;fox,train\n", classes="dog\ncat\n")


def test_names_that_may_be_several_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read(tmp_path, f"{HEADER}a.jpg,dog cat,train\nb.jpg,dog|cat,train\nc.jpg,dog/cat,train\nd.jpg,hot dog,train\n")
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "labels that may be several labels in one: 'dog cat', 'dog/cat'; set label_separator" in warning
    assert str(tmp_path / "labels.csv") in warning


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("a.jpg", "./a.jpg"),
        ("x/a.jpg", "x//a.jpg"),
        ("x/a.jpg", "x/./a.jpg"),
        (f"{NFC}.jpg", f"{NFD}.jpg"),
        (f"{NFD}/a.jpg", f"{NFC}/./a.jpg"),
        ("real/a.jpg", "linked/a.jpg"),  # a linked folder
        ("real/a.jpg", "b.jpg"),  # a linked file
        ("real/A.jpg", "real/a.jpg"),  # as on a file system that folds case: one inode
    ],
)
@pytest.mark.parametrize("splits", [("train", "test"), ("train", "train")])
def test_one_file_has_one_row(tmp_path: Path, first: str, second: str, splits: tuple[str, str]) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/a.jpg").touch()
    os.link(tmp_path / "real/a.jpg", tmp_path / "real/A.jpg")
    (tmp_path / "linked").symlink_to("real")
    (tmp_path / "b.jpg").symlink_to("real/a.jpg")
    table = f"{HEADER}{first},dog,{splits[0]}\n\n{second},cat,{splits[1]}\n"
    if second in ("b.jpg", "linked/a.jpg") and splits[0] == splits[1]:  # copies are stored as links
        assert len(labels(read(tmp_path, table))) == 2
        return
    with pytest.raises(C3Error, match=r"line 4: .*line 2; an image has one row"):
        read(tmp_path, table)


@pytest.mark.parametrize(
    "path",
    ["../a.jpg", "x/../a.jpg", "/a.jpg", "", ".", "./", "x\\a.jpg", "C:/a.jpg", "http://x/a.jpg", "s3://b/a.jpg"],
)
def test_a_path_outside_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(C3Error, match=r"labels\.csv line 2: image_path: expected a path below the images folder"):
        read(tmp_path, f"{HEADER}{path},dog,train\n")


def test_rows_of_separators_alone_are_blank(tmp_path: Path) -> None:
    rows = "image_path,labels,split\na.jpg,dog,train\n,,\nb.jpg,cat,train\n , ,\n,,\n"
    assert labels(read(tmp_path, rows)) == {"a.jpg": ["dog"], "b.jpg": ["cat"]}


def test_a_header_may_have_thousands_of_columns(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    header = "image_path,labels," + "".join(f"embedding_{n}," for n in range(8192)) + "split\n"
    row = f"a.jpg,dog,{8192 * '0.5,'}train\n"
    assert labels(read(tmp_path, header + row)) == {"a.jpg": ["dog"]}
    with pytest.raises(
        C3Error, match=r"line 3: expected 8195 fields \(image_path, labels, embedding_0, .*found 3"
    ) as caught:
        read(tmp_path, header + row + "b.jpg,dog,train\n")
    assert max(map(len, [*caplog.messages, str(caught.value)])) < 1000


def test_a_long_column_is_passed_over(tmp_path: Path) -> None:
    table = f"image_path,labels,split,thumbnail\na.jpg,dog,train,{200_000 * 'A'}\n"
    assert labels(read(tmp_path, table)) == {"a.jpg": ["dog"]}


def test_a_path_may_have_a_line_break_where_the_file_has(tmp_path: Path) -> None:
    (tmp_path / "a\nb.jpg").touch()
    assert labels(read(tmp_path, f'{HEADER}"a\nb.jpg",dog,train\n')) == {"a\nb.jpg": ["dog"]}


@pytest.mark.parametrize("form", [NFC, NFD])
@pytest.mark.parametrize("other", [NFC, NFD])
def test_unicode_forms_make_one_class(tmp_path: Path, form: str, other: str) -> None:
    table = f"{HEADER}{form}.jpg,{form}|dog,train\nb.jpg,{other},train\nc.jpg,dog,test\n"
    found = read(tmp_path, table, unseen=f"{other}\n", classes=f"dog\n{form}\n")
    assert found.classes.names == ("dog", NFC)
    assert found.classes.seen.tolist() == [True, False]
    assert labels(found) == {"b.jpg": [NFC], f"{form}.jpg": ["dog", NFC]}
    assert found.splits["train"].image_id.tolist() == ["b.jpg", f"{NFC}.jpg"]
    assert found.digest() == read(tmp_path, normalize("NFD", table), unseen=NFC, classes=f"dog\n{NFC}\n").digest()
    with pytest.raises(C3Error, match="line 2: 'café' is already in line 1".replace("café", NFC)):
        read(tmp_path, table, classes=f"{NFC}\n{NFD}\n")
