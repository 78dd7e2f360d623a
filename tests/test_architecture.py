"""What the import-linter contracts of pyproject.toml cannot say: lazy imports, calls, size and packaging."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("common", "extract", "train", "evaluate", "predict")
FILES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
# the source modules of the contract "Models, metrics, pooling and layout do no input or output"
PURE = [
    ROOT / "common/average_precision.py",
    ROOT / "extract/backbone/pooling.py",
    ROOT / "extract/store/layout.py",
    ROOT / "extract/store/quantise.py",
    ROOT / "evaluate/metrics.py",
    ROOT / "train/distributed/rank_rows.py",
    *(ROOT / "train/models").glob("*.py"),
]
# what a user waits for without computing anything: the program, both contracts, all commands and all of the report
TORCH_FREE = sorted(
    {
        *(ROOT / "extract/store").glob("*.py"),
        *(ROOT / "extract/catalog").glob("*.py"),
        *(ROOT / "train/run_folder").glob("*.py"),
        *(ROOT / "evaluate/report").glob("*.py"),
        *(ROOT / "common").glob("*.py"),
        *(path for path in FILES if path.name.endswith(("cli.py", "commands.py", "names.py", "options.py"))),
        *(
            ROOT / "evaluate" / f"{name}.py"
            for name in ("fit_probabilities", "metrics", "probabilities", "protocol", "run", "thresholds")
        ),
        *(ROOT / "predict" / f"{name}.py" for name in ("card", "label_tree", "results", "sidecars")),
    }
    - {ROOT / "evaluate/report/explain.py", ROOT / "common/devices.py"}  # run the trained head; choose its device
)
# Who may look into the JSON of the two contracts; all others use the dataclasses.
CONTRACT_OWNERS = (
    "extract/store/",
    "extract/options.py",  # writes and reads the request that a store keeps
    "train/run_folder",
)
CONTRACT_NAMES = {"attrs", "config", "metrics", "provenance", "record"}


# Who moves a finished file or folder to its place; all others call common/files.py.
MOVERS = {
    "common/files.py",
    "extract/datasets/demo/data_set.py",  # a folder
    "extract/download/downloader.py",  # a download resumes in its part file
    "extract/store/create.py",  # a folder
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("c3", *(part for part in parts if part != "__init__")))


def test_only_the_program_lies_loose_at_the_root() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


@pytest.mark.parametrize("path", PURE, ids=relative)
def test_pure_modules_open_and_print_nothing(path: Path) -> None:
    names = {node.id for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "Path", "input"}


def test_what_only_reads_or_prints_loads_no_torch() -> None:
    """One process imports them one after the other, and ends at the first that loads torch."""
    modules = [module_name(path) for path in TORCH_FREE]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        "    if 'torch' in sys.modules: sys.exit(f'{name} loads torch')\n"
    )
    done = subprocess.run([sys.executable, "-c", code, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_package_itself_loads_nothing_heavy() -> None:
    code = "import sys, c3; sys.exit(', '.join({'torch', 'zarr', 'numpy', 'pandas', 'click'} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def keyed_reads(tree: ast.AST) -> Iterator[str]:
    """The names of CONTRACT_NAMES that are read by a string key: `record["id"]`, `cache.config.get("taps")`."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=owner, slice=ast.Constant(value=str())):
                pass
            case ast.Call(func=ast.Attribute(value=owner, attr="get"), args=[ast.Constant(value=str()), *_]):
                pass
            case _:
                continue
        while isinstance(owner, ast.Subscript):
            owner = owner.value
        name = getattr(owner, "attr", None) or getattr(owner, "id", "")
        if name in CONTRACT_NAMES:
            yield name


def test_the_contracts_are_read_through_their_types() -> None:
    found = {relative(path) for path in FILES if any(keyed_reads(ast.parse(path.read_text())))}
    assert {path for path in found if not path.startswith(CONTRACT_OWNERS)} == set()


def test_a_read_by_key_is_noticed() -> None:
    source = "run.record['a']['b'], metrics.get('c'), record[0], other['d'], record.get(key)"
    assert sorted(set(keyed_reads(ast.parse(source)))) == ["metrics", "record"]


def moves_files(tree: ast.AST) -> bool:
    """Whether `path.replace(target)` or `path.rename(target)` is called; str.replace has two arguments."""
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("replace", "rename")
        and len(node.args) == 1
        and not node.keywords
        for node in ast.walk(tree)
    )


def test_one_function_replaces_files() -> None:
    found = {relative(path) for path in FILES if moves_files(ast.parse(path.read_text()))}
    assert found <= MOVERS


def test_files_hold_one_idea_each() -> None:
    long = {relative(path): lines for path in FILES if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_the_package_lists_all_its_folders() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {path.parent.relative_to(ROOT) for path in FILES}:
        assert f'"{".".join(("c3", *folder.parts))}"' in text
