"""The import rules of the design, read from the source with ast."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# leaves that every part may use
SHARED = ("errors", "progress", "signals", "devices", "catalog_file", "command_options")

# Inside a folder a file imports only files that stand further down in its list.
ORDER = {
    "extract": ["commands", "verify", "run", "cluster", "grow", "plan", "spotcheck", "request", "biam", "fetch", "urls",
                "download", "check", "datasets", "inspect", "shard", "pictures", "cropping", "vocabulary",
                "wordvectors", "vectorfiles", "lists", "safepickle", "catalog", "leaks", "manifest", "crops",
                "backbones", "pyramid", "taps", "cache", "shards", "skeleton", "maps", "reader", "quantise", "layout",
                "rows", "storage"],
    "extract/datasets": ["__init__", "demo", "scenes", "table", "nuswide", "nuswide_labels", "bits", "openimages",
                         "openimages_classes", "openimages_csv", "coco", "boxes"],
    "train": ["commands", "sweep", "jobs", "run", "loop", "state", "checkpoint", "board", "schedule", "averaging",
              "validation", "batches", "division", "pools", "residency", "held", "replica", "world", "registry",
              "recipes", "methods", "objectives", "encoder", "attention", "losses", "classes", "runs"],
    "train/methods": ["__init__", "cnn_rnn", "wsabie", "warp", "logistic", "c3_plus", "c3_ablations", "c3_released",
                      "c3", "ml_decoder", "biam", "lesa_apc", "lesa", "bilinear", "fast0tag", "labelem", "conse",
                      "regions", "pooling", "base"],
    "evaluate": ["commands", "pages", "page", "figures", "explain", "series", "run", "tables", "notes", "groups",
                 "published", "render", "record", "compare", "calibrate", "thresholds", "bootstrap", "measure", "score",
                 "protocol", "evidence", "truth", "metrics"],
}  # fmt: skip

# What a command may call: the front doors, and the tools that are complete in one file.
DOORS = ("extract.run", "extract.request", "extract.plan", "extract.verify", "extract.grow", "extract.spotcheck",
         "extract.inspect", "extract.catalog", "extract.check", "extract.download", "extract.fetch", "extract.biam",
         "train.run", "train.sweep", "evaluate.run", "evaluate.pages", "finetune")  # fmt: skip


def modules() -> dict[str, Path]:
    """Dotted name below c3 -> file, for every module of the package."""
    files = [*ROOT.glob("*.py"), *(path for folder in ORDER for path in (ROOT / folder).glob("*.py"))]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def imports(name: str, path: Path) -> set[str]:
    """The dotted names that a module imports: project modules without the leading c3, others as they are."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    if path.name == "__init__.py":
        package = package[:-1]
    known = modules()
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
                for alias in node.names:
                    whole = ".".join([*base, alias.name])
                    found.add(whole if whole in known else ".".join(base))
            elif node.module:
                found.add(node.module)
    return found


def project_imports(prefix: str) -> list[tuple[str, str]]:
    known = modules()
    roots = {name.split(".")[0] for name in known}
    return [
        (name, target)
        for name, path in known.items()
        if name.split(".")[0] == prefix
        for target in imports(name, path)
        if target.split(".")[0] in roots and not (target in sys.stdlib_module_names and target not in known)
    ]


def violations(prefix: str, allowed: tuple[str, ...]) -> list[str]:
    return [
        f"{name} imports {target}"
        for name, target in project_imports(prefix)
        if not any(target == rule or target.startswith(f"{rule}.") for rule in (*allowed, *SHARED))
    ]


def test_every_module_has_its_place_in_the_order() -> None:
    for folder, order in ORDER.items():
        files = {path.stem for path in (ROOT / folder).glob("*.py")} - {"__init__"}
        assert files <= set(order), f"{folder}: give {files - set(order)} a place"


def test_extract_imports_neither_of_the_others() -> None:
    assert violations("extract", ("extract",)) == []


def test_train_imports_from_extract_only_the_cache() -> None:
    found = violations("train", ("train", "extract.cache"))
    assert [line for line in found if not line.startswith("train.commands ")] == []  # a command may call front doors


def test_evaluate_imports_only_the_contracts_and_the_registry() -> None:
    contracts = ("extract.cache", "extract.crops", "train.runs", "train.registry")  # crops: the one that opens an image
    assert violations("evaluate", ("evaluate", *contracts)) == []


def test_the_command_line_imports_only_commands_and_front_doors() -> None:
    folders = ("extract", "train", "evaluate")
    doors = [f"{folder}.{door}" for folder in folders for door in ("commands", "run")]
    assert violations("cli", ("__init__", "tagging_commands", *doors)) == []
    commands = {f"{folder}.commands" for folder in folders}
    wrong = [line for folder in folders for line in violations(folder, DOORS) if line.split()[0] in commands]
    assert wrong == []


def test_tagging_stands_above_the_folders_and_uses_named_parts_of_them() -> None:
    trained = ("train.runs", "train.classes", "train.registry", "train.methods.base")
    features = ("extract.backbones", "extract.cache", "extract.catalog", "extract.cropping", "extract.pictures")
    assert violations("tagging_commands", ("tagger", "tags", "export", "extract.lists", "extract.pictures")) == []
    assert violations("export", ("tagger", *trained, *features)) == []
    assert violations("tagger", ("tags", "evaluate.thresholds", "extract.vocabulary", *trained, *features)) == []
    assert violations("tags", ("evaluate.figures",)) == []
    users = [name for name in modules() for target in imports(name, modules()[name]) if target in ("tagger", "export")]
    assert set(users) <= {"__init__", "tagging_commands", "export"}


def test_training_end_to_end_stands_above_the_folders_and_its_files_point_down() -> None:
    allowed = {
        "finetune": ("warmstart", "endtoend", "images", "extract.backbones", "extract.request", "train"),
        "warmstart": ("endtoend", "extract.cache", "extract.request", "train.runs", "train.classes", "train.recipes",
                      "train.schedule"),
        "endtoend": ("images", "extract.backbones", "train.methods.base"),
        "images": ("extract.cache", "extract.crops", "extract.manifest", "extract.rows", "extract.taps",
                   "train.batches", "train.pools", "train.residency"),
    }  # fmt: skip
    for name, parts in allowed.items():
        assert violations(name, parts) == []
    users = {name for name in modules() for target in imports(name, modules()[name]) if target in allowed}
    assert users <= {*allowed, "train.commands"}


@pytest.mark.parametrize("folder", ORDER)
def test_imports_inside_a_folder_only_point_down(folder: str) -> None:
    order = ORDER[folder]
    prefix = folder.replace("/", ".")
    wrong = []
    for name, target in project_imports(prefix.split(".")[0]):
        if not (name.startswith(f"{prefix}.") and target.startswith(f"{prefix}.")):
            continue
        here, there = (dotted.removeprefix(f"{prefix}.").split(".")[0] for dotted in (name, target))
        if here != there and order.index(here) >= order.index(there):
            wrong.append(f"{name} imports {target}")
    assert wrong == []


@pytest.mark.parametrize("module", ["pyramid", "losses", "encoder", "attention", "metrics"])
def test_pure_modules_do_no_input_or_output(module: str) -> None:
    (path,) = [path for path in modules().values() if path.stem == module]
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "Path", "input"}
    assert not {target.split(".")[0] for target in imports(f"x.{module}", path)} & {
        "os",
        "pathlib",
        "io",
        "shutil",
        "zarr",
    }


def test_only_the_cluster_and_inspection_may_import_dask() -> None:
    users = [
        name
        for name, path in modules().items()
        if any(target.split(".")[0] in ("dask", "distributed") for target in imports(name, path))
    ]
    assert set(users) <= {"extract.cluster", "extract.inspect"}


@pytest.mark.parametrize(
    "module",
    ["evaluate.tables", "evaluate.figures", "evaluate.page", "evaluate.pages", "evaluate.series", "evaluate.render",
     "evaluate.published", "evaluate.metrics", "evaluate.protocol", "evaluate.run", "extract.cache", "train.runs",
     "evaluate.thresholds", "train.classes", "tags", "tagging_commands"],
)  # fmt: skip
def test_torch_is_not_loaded_by(module: str) -> None:
    code = f"import sys, c3.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_hold_one_idea_each() -> None:
    long = {name: lines for name, path in modules().items() if (lines := len(path.read_text().splitlines())) > 300}
    assert long == {}


def test_the_package_lists_all_its_folders() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in ORDER:
        assert f'"c3.{folder.replace("/", ".")}"' in text
