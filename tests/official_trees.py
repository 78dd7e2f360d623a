"""Small data sets in the exact official layouts, with every trap of the real files: what the readers are tested on.

Run as a script it writes one: python tests/official_trees.py nuswide | openimages | coco FOLDER
"""

from __future__ import annotations

import csv
import json
import pickle
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from c3.extract.store.tables import Rows
from PIL import Image

PAINTS = {"red": (200, 30, 30), "blue": (30, 30, 200), "green": (30, 160, 30), "dark": (40, 40, 40)}
WORDS = (
    "red",
    "blue",
    "green",
    "dark",
    "boat",
    "boats",
    "sky",
    "night",
    "tree",
    "dog",
    "cat",
    "ice",
    "skating",
    "rink",
)
# images of one class folder of Flickr/ have names of their own
FOLDERS = ("actor", "zoo", "night_sky")


@dataclass(frozen=True)
class Tree:
    """A data set on disk: its catalog, and the label of every (image id, class name) that is known, +1 or -1."""

    root: Path
    catalog: Path
    truth: dict[str, dict[tuple[str, str], int]]


def labels_of(split: Rows, names: tuple[str, ...]) -> dict[tuple[str, str], int]:
    """Every listed label of a manifest's split as (image id, class name): value, entry by entry, as in `Tree.truth`."""
    labels, found = split.labels, {}
    for row, image in enumerate(split.image_id.tolist()):
        for entry in range(labels.indptr[row], labels.indptr[row + 1]):
            found[image, names[labels.indices[entry]]] = int(labels.value[entry])
    return found


def write_nuswide(root: Path, train: int = 36, test: int = 20) -> Tree:
    """NUS-WIDE: 10 tags of which 3 are concepts, 5 concepts; backslashes, CRLF, trailing tabs, BOM, a missing image."""
    rng = np.random.default_rng(3)
    data = root / "nuswide"
    tags = ["red", "boats", "sky", "night", "blue", "tree", "dark", "ice", "dog", "interestingness"]
    concepts = ["boat", "cat", "dog", "green", "tree", "sky"]
    images = [f"{FOLDERS[n % 3]}/{n:04d}_{2124494179 + 7 * n}.jpg" for n in range(train + test)]
    shown = {image: list(PAINTS)[n % 4] for n, image in enumerate(images)}
    for number, image in enumerate(images):
        if number != 5:  # photographs are lost: the row stays
            _paint(data / "Flickr" / image, PAINTS[shown[image]], rng)
    tag_bits = (rng.random((len(images), len(tags))) < 0.3).astype(int)
    bits = (rng.random((len(images), len(concepts))) < 0.3).astype(int)
    for n, image in enumerate(images):
        for names, table in ((tags, tag_bits), (concepts, bits)):
            for c, name in enumerate(names):
                table[n, c] = int(name == shown[image]) if name in PAINTS else table[n, c]
    parts = {"Train": images[:train], "Test": images[train:], "": [images[i] for i in rng.permutation(len(images))]}
    place = {image: n for n, image in enumerate(images)}
    for part, listed in parts.items():
        lines = [image.replace("/", "\\") for image in listed]
        _write(data / f"ImageList/{part}Imagelist.txt", "\r\n".join(lines) + "\r\n")
        rows = [place[image] for image in listed]
        folder = "TrainTestLabels" if part else "AllLabels"
        for c, concept in enumerate(concepts):
            name = f"Labels_{concept}_{part}.txt" if part else f"Labels_{concept}.txt"
            bom = "\ufeff" if concept == "cat" else ""
            _write(data / "Groundtruth" / folder / name, bom + "".join(f"{bit}\n" for bit in bits[rows, c]))
        name = f"{part}_Tags1k.dat" if part else "AllTags1k.txt"
        lines = ["".join(f"{bit}\t" for bit in tag_bits[row]) for row in rows]
        _write(data / "NUS_WID_Tags" / name, "\r\n".join(lines) + "\r\n")
    _write(data / "NUS_WID_Tags/TagList1k.txt", "\ufeff" + "\r\n".join(tags) + "\r\n")
    _write(data / "ConceptsList/Concepts81.txt", "\r\n".join(concepts) + "\r\n")
    truth = {
        split: {
            (image, name): 1
            for image in parts[part]
            for names, table in ((tags, tag_bits), (concepts, bits))
            for c, name in enumerate(names)
            if table[place[image], c] and not (names is tags and name in concepts)
        }
        for split, part in (("train", "Train"), ("test", "Test"))
    }
    entry = {"kind": "nuswide", "root": "nuswide", "vectors": "words", "labels": "complete"}
    return _tree(root, truth, nuswide=entry | {"leak_cosine": 0.8}, **{"nuswide-81": entry | {"classes": "concepts"}})


def write_openimages(root: Path, train: int = 32, validation: int = 8, test: int = 24) -> Tree:
    """Open Images: 6 seen and 3 unseen classes; repeated rows, a name with a comma, two of one name, CVDF shards."""
    rng = np.random.default_rng(4)
    data = root / "openimages"
    names = {
        "/m/01red": "Red", "/m/0blu": "Blue", "/m/02grn": "Green", "/m/0drk": "Dark", "/m/0sky": "Sky, night",
        "/m/0boat": "Boat", "/m/09bt": "Boats", "/m/0cat": "Cat", "/m/0dog": "Dog", "/m/0tree": "Tree",
        "/m/0ice": "Ice skating rink", "/m/0tr2": "Tree", "/m/0rare": "Rare thing",
    }  # fmt: skip
    seen = ["/m/0drk", "/m/01red", "/m/0tree", "/m/0boat", "/m/0blu", "/m/0sky"]  # in an order of its own
    test_only = np.array(["/m/02grn", "/m/09bt", "/m/0cat", "/m/0dog", "/m/0tr2"], dtype=object)
    unseen = ["/m/09bt", "/m/02grn", "/m/0tr2"]
    _write(data / "class-descriptions.csv", "".join(
        f'{mid},"{name}"\r\n' if "," in name else f"{mid},{name}\r\n" for mid, name in names.items()))  # fmt: skip
    _write(data / "classes-trainable.txt", "".join(f"{mid}\n" for mid in seen))
    (data / "unseen_labels.pkl").write_bytes(pickle.dumps(test_only, protocol=2))
    _write(data / "top_400_unseen.csv", "\ufeff1\r\n0\r\n4")
    shown_names = {mid: f"{names[mid]} ({mid})" if names[mid] == "Tree" else names[mid] for mid in seen + unseen}
    truth: dict[str, dict[tuple[str, str], int]] = {}
    for split, word, count in (("train", "train", train), ("val", "validation", validation), ("test", "test", test)):
        ids = sorted(f"{value:016x}" for value in rng.integers(0, 2**62, count, dtype=np.uint64) * np.uint64(4))
        rows, boxes, known = [], [], {}
        for number, image in enumerate(ids):
            paint = list(PAINTS)[number % 4]
            if number != 3:
                folder = f"train_{image[0]}" if split == "train" else word
                _paint(data / "images" / folder / f"{image}.jpg", PAINTS[paint], rng)
            for mid in names:
                colour = {"/m/01red": "red", "/m/0blu": "blue", "/m/02grn": "green", "/m/0drk": "dark"}.get(mid)
                value = int(colour == paint) if colour else int(rng.random() < 0.4)
                if colour is None and rng.random() < 0.5:
                    continue  # not verified
                rows.append((image, "verification", mid, value))
                if mid in shown_names:
                    known[image, shown_names[mid]] = 1 if value else -1
                if value and rng.random() < 0.3:
                    rows.append((image, "crowdsource-verification", mid, int(rng.random() < 0.5)))  # +1 stays
                if value:
                    boxes.append((image, "xclick", mid, 1, "0.1", "0.6", "0.2", "0.9", 0, 0, 0, 0, 0))
        if split == "train":  # rows of train need a label of a seen class
            rows.append(("ffffffffffffffff", "verification", "/m/0rare", 1))
        _csv(data / f"{word}-annotations-human-imagelabels.csv", "ImageID,Source,LabelName,Confidence", rows)
        box_header = ("ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,"
                      "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside")  # fmt: skip
        _csv(data / f"{word}-annotations-bbox.csv", box_header, boxes)
        truth[split] = known
    entry = {"kind": "openimages", "root": "openimages", "vectors": "words", "labels": "verified", "leak_cosine": 0.8}
    return _tree(root, truth, openimages=entry)


def write_coco(root: Path, train: int = 12, val: int = 8) -> Tree:
    """COCO: 4 categories with gaps in their ids, an image without an object, segmentations that do not matter."""
    rng = np.random.default_rng(5)
    data = root / "coco"
    categories = {1: "red", 3: "blue", 18: "dog", 90: "tree"}
    truth: dict[str, dict[tuple[str, str], int]] = {}
    for split, year, count in (("train", "train2017", train), ("test", "val2017", val)):
        images, objects, known = [], [], {}
        for number in range(count):
            file = f"{100 + number:012d}.jpg"
            _paint(data / year / file, PAINTS[("red", "blue")[number % 2]], rng)
            images.append({"id": 100 + number, "file_name": file, "width": 48, "height": 40})
            shown = [1 if number % 2 == 0 else 3] + [18] * (number % 3 == 0) + [18, 90] * (number == 4)
            for category in shown if number != 7 else ():
                box = {"bbox": [4.0, 5.0, 20.0, 30.0], "area": 9.0, "iscrowd": 0, "segmentation": [[1, 1, 2, 2, 3, 3]]}
                objects.append({"id": len(objects), "image_id": 100 + number, "category_id": category} | box)
                known[f"{year}/{file}", categories[category]] = 1
        content = {
            "info": {}, "images": images[::-1], "annotations": objects,
            "categories": [{"id": i, "name": name, "supercategory": "x"} for i, name in categories.items()],
        }  # fmt: skip
        _write(data / f"annotations/instances_{year}.json", json.dumps(content))
        truth[split] = known
    entry = {"kind": "coco", "root": "coco", "vectors": "words", "labels": "complete"}
    zero_shot = entry | {"seen": ["blue", "red"], "unseen": ["dog"], "drop_unseen_images": True}
    return _tree(root, truth, coco=entry, **{"coco-2-1": zero_shot})


def _tree(root: Path, truth: dict[str, dict[tuple[str, str], int]], **datasets: dict[str, object]) -> Tree:
    rng = np.random.default_rng(6)
    vectors = {word: rng.normal(size=8) for word in (*WORDS, "interestingness")}
    vectors["boats"] = vectors["boat"] + 0.1 * rng.normal(size=8)
    lines = [f"{word} {' '.join(f'{value:.5f}' for value in vector)}\n" for word, vector in vectors.items()]
    _write(root / "vectors.txt", "".join(lines))
    catalog = {"version": 1, "datasets": datasets, "vectors": {"words": {"kind": "text", "path": "vectors.txt"}}}
    _write(root / "catalog.yaml", json.dumps(catalog))  # json is yaml
    return Tree(root, root / "catalog.yaml", truth)


def _paint(path: Path, colour: tuple[int, int, int], rng: np.random.Generator) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.clip(np.array(colour) + rng.integers(-20, 20, (40, 48, 3)), 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def _csv(path: Path, header: str, rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header.split(","))
        writer.writerows(rows)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


if __name__ == "__main__":
    kind, folder = sys.argv[1:]
    {"nuswide": write_nuswide, "openimages": write_openimages, "coco": write_coco}[kind](Path(folder))
