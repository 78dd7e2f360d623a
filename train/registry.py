"""METHODS = {name: class}, in table order, and what a store offers them."""

from __future__ import annotations

from ..common.errors import C3Error, unknown_name
from ..extract.store.cache import FeatureCache
from ..extract.store.layout import GLOBAL_VECTOR, REGIONS
from .models.base import Inputs, Method
from .models.biam import BiAM
from .models.bilinear import Kim
from .models.c3 import C3
from .models.c3_ablations import C3a, C3b, C3c, C3d
from .models.c3_plus import C3Plus
from .models.c3_released import C3Released
from .models.clip import Clip, ClipAdapter
from .models.cnn_rnn import CNNRNN
from .models.conse import Conse
from .models.fast0tag import Fast0Tag
from .models.labelem import LabelEM
from .models.lesa import Lesa
from .models.lesa_apc import AttentionPerCluster
from .models.logistic import Logistic
from .models.ml_decoder import MLDecoder
from .models.warp import Warp
from .models.wsabie import Wsabie
from .names import GROUPS

METHODS: dict[str, type[Method]] = {
    "conse": Conse,
    "labelem": LabelEM,
    "fast0tag": Fast0Tag,
    "kim": Kim,
    "lesa-apc": AttentionPerCluster,
    "lesa": Lesa,
    "biam": BiAM,
    "c3": C3,
    "c3-released": C3Released,
    "ml-decoder": MLDecoder,
    "c3-plus": C3Plus,
    "c3-a": C3a,
    "c3-b": C3b,
    "c3-c": C3c,
    "c3-d": C3d,
    "logistic": Logistic,
    "warp": Warp,
    "wsabie": Wsabie,
    "cnn-rnn": CNNRNN,
    "clip": Clip,
    "clip-adapter": ClipAdapter,
}

EXTRACT_OPTIONS = {REGIONS: "--regions", GLOBAL_VECTOR: "--global"}  # of c3 extract, by the optional array


def methods_named(name: str) -> tuple[str, ...]:
    """Return the methods that a name stands for: itself, or those of a group such as `table1`.

    >>> methods_named("table3")
    ('c3-a', 'c3-b', 'c3-c', 'c3-d', 'c3')
    """
    if name not in METHODS and name not in GROUPS:
        raise unknown_name("method", name, [*METHODS, *GROUPS])
    return GROUPS.get(name, (name,))


def method_class(name: str) -> type[Method]:
    """Return the class of a method. Raises C3Error for an unknown name, with the known ones."""
    if name not in METHODS:
        raise unknown_name("method", name, METHODS)
    return METHODS[name]


def inputs_of(cache: FeatureCache) -> Inputs:
    """Return what a method is built for on this store."""
    channels = {level.name: level.channels for level in cache.levels}
    extras = {array.name: array.channels for array in cache.extras}
    classes = int(cache.classes.seen.sum())
    return Inputs(channels, cache.classes.d_w, classes, extras.get(REGIONS, 0), extras.get(GLOBAL_VECTOR, 0))


def require_seen_classes(cache: FeatureCache) -> None:
    """Refuse to train on a store without a seen class."""
    if not cache.classes.seen.any():
        raise C3Error(
            f"{cache.location} has {len(cache.classes)} classes and none of them is seen, so nothing can be trained; "
            "label images of train with classes that are not in the list of unseen ones, and extract again"
        )


def require_one_space(method: str, cache: FeatureCache) -> None:
    """Refuse a store whose classes another tower read than saw its images, for a method that compares the two."""
    vectors, backbone = cache.notes.vectors, cache.origin.backbone
    if method_class(method).image_text and (vectors is None or vectors.sha256 != cache.origin.weights_sha256):
        found = f"those of {vectors.title}" if vectors else "vectors of no known tower"
        raise C3Error(
            f"method {method} compares images with class vectors of the same model: {cache.location} has images by "
            f"{backbone} (sha256 {cache.origin.weights_sha256[:12]}) and {found}; write those of its text tower with "
            "c3 vectors --tower open_clip:ARCH:WEIGHTS, and give them to the store with c3 revector"
        )
