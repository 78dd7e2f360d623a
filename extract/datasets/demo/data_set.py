"""Write the demo data set to disk: drawn scenes, labels and synthetic word vectors, as a data set of kind `table`.

It lets a small method succeed for the right reason. Pictures show several things in front of a landscape. Classes are
words (`red`, `star`, `striped`, `large`, `sea`, `night`) and two-word phrases of them (`red star`, `night sea`). The
vector of a phrase is the mean of the vectors of its words, and every word of an unseen phrase also occurs in seen
classes, so that unseen classes can be predicted from seen ones and from nothing else.

It has no photographs and no word vectors learnt from text. The vectors are random numbers from a seed: the words of a
family (colours, shapes ...) share a direction, and each word has one of its own. Labels say only what a picture shows.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ....common.errors import C3Error
from .drawing import SIZES, Scene, Thing, draw_scene

VERSION = 1
SPLITS = ("train", "val", "test")

# ordered by frequency: the first word of a family is the most frequent
FAMILIES = {
    "colour": ("red", "blue", "yellow", "green", "orange", "pink", "purple"),
    "shape": ("circle", "square", "star", "triangle", "heart", "cross", "crescent", "ring"),
    "texture": ("plain", "striped", "dotted", "checkered"),
    "size": ("medium", "small", "large"),
    "place": ("sky", "grass", "sea", "sand", "snow"),
    "light": ("day", "sunset", "night", "misty"),
}
SILENT = ("plain", "small", "medium", "day")  # not classes: no one tags a picture with them
SEEN_PHRASES = (
    "red circle", "blue circle", "yellow circle", "purple circle", "red square", "green square", "purple square",
    "red star", "yellow star", "blue triangle", "green triangle", "red heart", "pink heart",
    "orange cross", "yellow crescent", "red ring", "blue ring", "pink ring",
    "striped circle", "dotted square", "checkered circle", "large circle", "large star",
    "sunset sky", "night sky", "misty sky", "sunset sea", "misty sea", "night grass", "misty grass",
)  # fmt: skip
UNSEEN = (
    "purple", "ring", "misty",
    "green circle", "orange circle", "pink square", "blue star", "yellow triangle", "orange heart",
    "checkered square", "dotted star", "large square",
    "night sea", "sunset grass", "sunset sand", "night snow",
)  # fmt: skip
SEEN = tuple(w for words in FAMILIES.values() for w in words if w not in SILENT + UNSEEN) + SEEN_PHRASES
CLASSES = SEEN + UNSEEN


@dataclass(frozen=True)
class DemoSpec:
    """What to draw: the seed, pictures in each split, side in pixels, and length of the word vectors.

    `verified` holds the shares of the present and of the absent classes of a picture that `labels-verified.csv` lists.
    """

    seed: int = 0
    train: int = 1200
    val: int = 200
    test: int = 400
    side: int = 224
    d_w: int = 64
    verified: tuple[float, float] = (0.7, 0.3)

    def __post_init__(self) -> None:
        wrong = [name for name, least in (("seed", 0), ("train", 1), ("val", 1), ("test", 1), ("side", 32), ("d_w", 2))
                 if getattr(self, name) < least]  # fmt: skip
        if wrong or not all(0 < share <= 1 for share in self.verified):
            raise C3Error(f"demo data set: {wrong[0] if wrong else 'verified'} is out of range in {self}")


def write_demo(root: Path, spec: DemoSpec = DemoSpec()) -> None:
    """Write the demo data set to the folder `root`, unless it already holds one of the same spec.

    Files: images/NNNNN.jpg, labels.csv (complete labels), labels-verified.csv (+1 / 0 / -1), unseen.txt, classes.txt,
    vectors.txt (GloVe text) and demo.json (the spec). Image paths in the tables are relative to images/. The same spec
    gives the same bytes with the same numpy and Pillow. The folder appears whole or not at all. Raises C3Error when
    `root` holds anything else or cannot be written.
    """
    root = Path(root).absolute()
    if _present(root, spec):
        return
    draft = root.with_name(f".{root.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        (draft / "images").mkdir(parents=True)
        _write_files(draft, spec)
        draft.replace(root)
    except OSError as error:
        # another process may have written the same data set in the meantime
        if not _present(root, spec):
            raise C3Error(f"cannot write the demo data set to {root}: {error}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def plan_scenes(spec: DemoSpec) -> dict[str, list[Scene]]:
    """Return the scenes of each split, in the order of the pictures of the data set."""
    rng = np.random.default_rng([spec.seed, 1])
    return {split: _plan_split(getattr(spec, split), rng) for split in SPLITS}


def labels_of(scene: Scene) -> tuple[str, ...]:
    """Return every class that a scene shows, in the order of CLASSES."""
    shown = {scene.place, scene.light, f"{scene.light} {scene.place}"}
    for thing in scene.things:
        words = (thing.colour, thing.texture, thing.size)
        shown.update((*words, thing.shape), (f"{word} {thing.shape}" for word in words))
    return tuple(name for name in CLASSES if name in shown)


def word_vectors(spec: DemoSpec) -> dict[str, np.ndarray]:
    """Return a synthetic vector (d_w,) float32 of length 1 for each word.

    It points half as much in the direction of the word's family as in the word's own.
    """
    rng = np.random.default_rng([spec.seed, 2])
    vectors = {}
    for words in FAMILIES.values():
        family = _unit(rng.standard_normal(spec.d_w))
        for word in words:
            vectors[word] = _unit(0.5 * family + _unit(rng.standard_normal(spec.d_w))).astype(np.float32)
    return {word: vector for word, vector in vectors.items() if word not in SILENT}


def _unit(vector: np.ndarray) -> np.ndarray:
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


def _present(root: Path, spec: DemoSpec) -> bool:
    """Return whether `root` holds this data set; raise C3Error when it holds anything else."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / "demo.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict) or found.get("format") != "c3-demo":
        raise C3Error(f"{root} exists and is not a demo data set; name another folder")
    wanted = json.loads(_spec_json(spec))
    differs = [f"{key} is {found.get(key)}, expected {wanted[key]}" for key in wanted if found.get(key) != wanted[key]]
    if differs:
        raise C3Error(f"{root} holds another demo data set: {'; '.join(differs)}; name another folder")
    return True


def _spec_json(spec: DemoSpec) -> str:
    return json.dumps({"format": "c3-demo", "version": VERSION, **asdict(spec)}, indent=1)


def _zipf(words: Sequence[str]) -> np.ndarray:
    weights: np.ndarray = 1 / np.arange(1, len(words) + 1)
    share: np.ndarray = weights / weights.sum()
    return share


def _deal(weights: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return `count` indices in random order whose frequencies follow `weights` as closely as whole numbers can."""
    weights = np.maximum(weights / weights.sum(), 0.018)  # 7 of 400: every class has several test pictures
    quota = weights / weights.sum() * count
    dealt = np.floor(quota).astype(int)
    dealt[np.argsort(dealt - quota, kind="stable")[: count - dealt.sum()]] += 1
    return rng.permutation(np.repeat(np.arange(len(weights)), dealt))


def _plan_split(count: int, rng: np.random.Generator) -> list[Scene]:
    """Plan scenes whose first thing shows a dealt phrase, so that every class occurs; everything else is random."""
    themes = [name.split() for name in CLASSES if name.split()[-1] in FAMILIES["shape"] and " " in name]
    theme_of = _deal(np.array([0.5 if " ".join(theme) in UNSEEN else 1.0 for theme in themes]), count, rng)
    landscapes = [(light, place) for light in FAMILIES["light"] for place in FAMILIES["place"]]
    landscape_of = _deal(np.outer(_zipf(FAMILIES["light"]), _zipf(FAMILIES["place"])).ravel(), count, rng)
    scenes = []
    for theme, landscape in zip(theme_of, landscape_of, strict=True):
        things: list[Thing] = []
        for number in range(rng.choice(4, p=(0.58, 0.30, 0.09, 0.03)) + 1):
            _add_thing(things, themes[theme] if number == 0 else (), rng)
        # draw large things first, behind small ones
        things.sort(key=lambda thing: -thing.radius)
        scenes.append(Scene(landscapes[landscape][1], landscapes[landscape][0], tuple(things)))
    return scenes


def _add_thing(things: list[Thing], fixed: Sequence[str], rng: np.random.Generator) -> None:
    """Append a thing with the fixed words, and random other words, where it hides others as little as possible."""
    words = {}
    for family in ("colour", "shape", "texture", "size"):
        drawn = rng.choice(FAMILIES[family], p=_zipf(FAMILIES[family]))
        words[family] = next((word for word in fixed if word in FAMILIES[family]), str(drawn))
    if words["size"] == "large" and things:
        words["size"] = "medium"  # two large things would cover one another
    radius = float(rng.uniform(*SIZES[words["size"]]))
    places = rng.uniform(radius + 0.04, 0.96 - radius, (60, 2))
    clear = [min((np.hypot(x - t.x, y - t.y) - radius - t.radius for t in things), default=1.0) for x, y in places]
    # the first free place, else the least crowded: always taking the emptiest would push things into the corners
    best = next((n for n, gap in enumerate(clear) if gap > 0.01), int(np.argmax(clear)))
    things.append(Thing(**words, x=float(places[best, 0]), y=float(places[best, 1]), radius=radius,
                        angle=float(rng.uniform(-0.3, 0.3))))  # fmt: skip


def _write_files(root: Path, spec: DemoSpec) -> None:
    rows, verified = [], []
    choose = np.random.default_rng([spec.seed, 3])
    scenes = [(split, scene) for split, planned in plan_scenes(spec).items() for scene in planned]
    for number, (split, scene) in enumerate(scenes):
        path = f"{number:05d}.jpg"
        # one generator per picture: its pixels do not depend on the pictures before it
        pixels = draw_scene(scene, spec.side, np.random.default_rng([spec.seed, 4, number]))
        Image.fromarray(pixels).save(root / "images" / path, quality=90)
        present = labels_of(scene)
        absent = [name for name in CLASSES if name not in present]
        rows.append((path, "|".join(present), split))
        confirmed = _some(present, spec.verified[0], choose)
        verified.append((path, confirmed, _some(absent, spec.verified[1], choose), split))
    for name, columns, lines in (
        ("labels.csv", ["image_path", "labels", "split"], rows),
        ("labels-verified.csv", ["image_path", "labels", "negatives", "split"], verified),
    ):
        pd.DataFrame(lines, columns=columns).to_csv(root / name, index=False, lineterminator="\n")
    vectors = word_vectors(spec).items()
    _write_lines(root / "vectors.txt", [f"{word} {' '.join(f'{x:.6f}' for x in vector)}" for word, vector in vectors])
    _write_lines(root / "classes.txt", CLASSES)
    _write_lines(root / "unseen.txt", UNSEEN)
    _write_lines(root / "demo.json", [_spec_json(spec)])


def _some(names: Sequence[str], share: float, rng: np.random.Generator) -> str:
    """Choose a random share of the names, at least one, and join them by `|` in their order."""
    kept = rng.choice(len(names), max(1, round(share * len(names))), replace=False)
    return "|".join(names[n] for n in sorted(kept))


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
