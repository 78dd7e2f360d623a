"""What the import-linter contracts of pyproject.toml cannot say: purity, torch-free starts, size, packaging."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("common", "extract", "train", "evaluate", "predict")
FILES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]
# modules that compute and touch neither files nor terminals
PURE = [
    ROOT / "extract/backbone/pooling.py",
    ROOT / "extract/store/layout.py",
    ROOT / "extract/store/quantise.py",
    ROOT / "evaluate/metrics.py",
    ROOT / "train/distributed/rank_rows.py",
    *(ROOT / "train/models").glob("*.py"),
]
# what a user waits for without computing anything
TORCH_FREE = (
    "cli", "common.text_files", "extract.catalog.catalog", "extract.store.cache", "extract.store.inspect",
    "train.run_folder", "evaluate.metrics", "evaluate.protocol", "evaluate.run", "evaluate.thresholds",
    "evaluate.report.commands", "evaluate.report.figures", "evaluate.report.page", "evaluate.report.pages",
    "evaluate.report.published", "evaluate.report.render", "evaluate.report.run", "evaluate.report.series",
    "evaluate.report.tables", "predict.commands", "predict.results",
)  # fmt: skip


def test_only_the_program_lies_loose_at_the_root() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


@pytest.mark.parametrize("path", PURE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_pure_modules_do_no_input_or_output(path: Path) -> None:
    tree = ast.parse(path.read_text())
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & {"open", "print", "Path", "input"}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    assert not {name.split(".")[0] for name in imported} & {"os", "pathlib", "io", "shutil", "logging"}


@pytest.mark.parametrize("module", TORCH_FREE)
def test_torch_is_not_loaded_by(module: str) -> None:
    code = f"import sys, c3.{module}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_files_hold_one_idea_each() -> None:
    long = {str(path): lines for path in FILES if (lines := len(path.read_text().splitlines())) > 400}
    assert long == {}


def test_the_package_lists_all_its_folders() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for folder in {path.parent.relative_to(ROOT) for path in FILES}:
        assert f'"{".".join(("c3", *folder.parts))}"' in text
