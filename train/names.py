"""The names of methods, tables, objectives and residencies on the command line. Data only; nothing is imported.

registry.py and models/objectives.py say what stands behind the names; a test compares them with these.
"""

from __future__ import annotations

DEFAULT_METHOD = "c3-plus"  # the best mAP on the photographs that were measured (docs/results.md)
PAPER_DATASETS = ("nuswide", "nuswide-81", "openimages")
# In table order; what the paper's tables do not have comes last in its group.
METHODS = (
    "conse", "labelem", "fast0tag", "kim", "lesa-apc", "lesa", "biam", "c3", "c3-released", "ml-decoder", "c3-plus",
    "c3-a", "c3-b", "c3-c", "c3-d", "logistic", "warp", "wsabie", "cnn-rnn", "clip",
    "clip-adapter",
)  # fmt: skip
GROUPS = {
    "table1": ("conse", "labelem", "fast0tag", "kim", "lesa-apc", "lesa", "biam", "c3", "c3-released", "ml-decoder",
               "c3-plus"),
    "table3": ("c3-a", "c3-b", "c3-c", "c3-d", "c3"),
    "table5": ("logistic", "warp", "wsabie", "fast0tag", "cnn-rnn", "kim", "lesa-apc", "lesa", "biam", "c3",
               "c3-plus"),
}  # fmt: skip
ABLATED = dict.fromkeys(("c3-a", "c3-b", "c3-c", "c3-d"), "c3")  # the method whose recipe is theirs
OBJECTIVES = ("ranknet", "sdl", "hinge", "warp", "bce", "asl", "across", "both", "squares")
WORD_FORMS = ("l2", "raw", "whitened", "interpolated")  # of word vectors (models/word_forms.py)
RESIDENCIES = ("auto", "stream", "ram", "device")  # where the arrays are during training (data/placement.py)
# Where a label comes from: the fall of its score when a place is hidden, or the shares of the positions in the score.
LABEL_MAPS = ("occlusion", "shares")


def default_method(dataset: str) -> str:
    """Return the method that a data set is trained with when none is named: the paper's on the paper's data sets.

    >>> default_method("openimages"), default_method("holiday-photos")
    ('c3', 'c3-plus')
    """
    return "c3" if dataset in PAPER_DATASETS else DEFAULT_METHOD
