"""The exact spellings, one clean line for bad input, and the whole walk from pictures to a table row."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from c3.cli import PAGES, main
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result


def c3(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def store(table_dataset: Path, tmp_path: Path) -> Path:
    out = tmp_path / "features.zarr"
    done = c3("--catalog", table_dataset / "catalog.yaml", "extract", "--dataset", "tiny", "--backbone",
              "squeezenet1_1", "--weights", "random:0", "--out", out, "--batch-size", 4, "--device", "cpu")  # fmt: skip
    assert done.exit_code == 0, done.output
    return out


def test_the_walk_from_pictures_to_a_table_row_with_a_known_answer(store: Path, tmp_path: Path) -> None:
    """Red, blue and dark red pictures: plain colours that any network separates, so the answer is known."""
    runs = tmp_path / "runs"
    trained = c3("train", "--cache", store, "--method", "fast0tag", "--objective", "ranknet", "--runs", runs,
                 "--epochs", 12, "--batch-size", 4, "--lr", "1e-3", "--weight-decay", 0, "--seed", 3,
                 "--set", "vectors=l2", "--set", "hidden1=32", "--set", "hidden2=16", "--set", "dropout=0")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    (run,) = runs.iterdir()
    scored = c3("evaluate", "--run", run, "--device", "cpu")
    assert scored.exit_code == 0, scored.output
    results = json.loads((run / "metrics.json").read_text())["protocols"]["table"]
    metrics = results["tasks"]
    # plain colours are separable: the seen classes are ranked perfectly
    assert metrics["seen"]["mAP"] == pytest.approx(100)
    assert results["random"]["zsl"]["mAP"] == pytest.approx(
        100 * (1 + 1 / 2 + 1 / 3) / 3
    )  # one positive among three rows
    identity = (2 * metrics["seen"]["mAP"] + metrics["zsl"]["mAP"]) / 3
    assert metrics["gzsl"]["mAP"] == pytest.approx(identity)
    table = c3("report", "--tables", 1, 2, "--runs", runs)
    assert table.exit_code == 0, table.output
    assert "Fast0Tag" in table.stdout
    assert f"{metrics['gzsl']['mAP']:.1f}" in table.stdout
    assert run.name in table.stdout


def test_the_issue_spellings_are_understood(store: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    trained = c3("train", "--cache", store, "--method", "c3", "--runs", runs, "--epochs", 1, "--batch-size", 4,
                 "--lr", "1e-4", "--weight-decay", "4e-3", "--groups", 2, "--lambda", 0.3, "--seed", 1,
                 "--device", "cpu")  # fmt: skip
    assert trained.exit_code == 0, trained.output
    (run,) = runs.iterdir()
    config = json.loads((run / "run.json").read_text())["config"]
    assert (config["groups"], config["lambda_reg"], config["seed"], config["weight_decay"]) == (2, 0.3, 1, 4e-3)
    assert c3("evaluate", "--run", run, "--split", "val").exit_code == 0
    assert (run / "metrics-val.json").exists()
    for form in ("text", "markdown", "csv", "latex", "json"):
        assert c3("report", "--tables", 1, "--runs", runs, "--format", form).exit_code == 0
    compared = c3("compare", run, run, "--resamples", 100, "--device", "cpu")
    assert compared.exit_code == 0, compared.output
    assert "[+0.00, +0.00]" in compared.stdout
    drawn = c3("report", "--figures", 5, "--runs", runs, "--out", tmp_path / "figures")
    assert drawn.exit_code == 0, drawn.output
    assert str(tmp_path / "figures/figure-5-tiny.png") in drawn.stdout
    described = json.loads(c3("inspect", store, "--json").stdout)
    assert described["splits"]["train"]["status"] == {"ok": 6}
    assert described["classes"] == {
        "seen": 2,
        "unseen": 1,
        "d_w": 4,
        "mean_vector_norm": pytest.approx(0.9024, abs=1e-4),
        "vectors": None,
    }
    assert "2 seen + 1 unseen" in c3("inspect", store).stdout


def test_the_demo_shows_the_whole_idea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from c3.extract.datasets import kinds
    from c3.extract.datasets.demo.data_set import DemoSpec, write_demo

    small = DemoSpec(train=60, val=20, test=60, side=64)  # the same classes, fewer and smaller pictures
    monkeypatch.setattr(kinds, "write_demo", lambda root: write_demo(root, small))
    monkeypatch.setenv("C3_DATA", str(tmp_path))
    shown = c3("demo", "--out", tmp_path / "demo", "--seeds", 1, "--device", "cpu")
    assert shown.exit_code == 0, shown.output
    for part in ("measured on demo", "random scores", "Fast0Tag", "C3-MLZSL", "seeded random weights (random:0)"):
        assert part in shown.stdout
    assert len(list((tmp_path / "demo/runs").iterdir())) == 2
    again = c3("demo", "--out", tmp_path / "demo", "--seeds", 1, "--device", "cpu")
    assert "Nothing to do" in again.stdout
    assert again.stdout.splitlines()[1:] == shown.stdout.splitlines()[1:]


def test_the_catalog_commands(table_dataset: Path) -> None:
    own = ("--catalog", table_dataset / "catalog.yaml", "catalog")
    listed = c3(*own, "list")
    assert {"demo", "nuswide", "openimages", "tiny"} <= set(listed.stdout.split())
    assert "labels.csv" in c3(*own, "show", "tiny").stdout
    assert c3(*own, "check", "tiny").exit_code == 0
    (table_dataset / "unseen.txt").unlink()
    incomplete = c3(*own, "check", "tiny")
    assert incomplete.exit_code == 2
    assert "missing" in incomplete.stdout


def test_tables_without_runs_show_what_was_published(tmp_path: Path) -> None:
    shown = c3("report", "--published", "--tables", 1, 2, "--runs", tmp_path / "none")
    assert shown.exit_code == 0
    assert "29.4" in shown.stdout and "79.9" in shown.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "--cache", "absent.zarr"), "no feature store at absent.zarr"),
        (("inspect", "absent.zarr"), "c3 extract"),
        (("extract", "--dataset", "nothing"), "unknown data set 'nothing'. Known: demo"),
        (("extract", "--dataset", "demo", "--backbone", "vgg18"), "Did you mean 'vgg19'"),
        (("extract", "--dataset", "demo", "--device", "cuda:99"), "cuda:99"),
        (("extract", "--dataset", "nuswide", "--weights", "random:0"), "Concepts81.txt; see: c3 catalog check nuswide"),
        (("--catalog", "absent.yaml", "catalog", "list"), "absent.yaml cannot be read"),
        (("evaluate", "--run", "absent"), "not a run folder"),
        (("report", "1", "2"), "--tables 1 2"),
        (("report", "--figures", "3", "--runs", "absent"), "no evaluated run below absent"),
        (("report", "--html", "page.html", "--runs", "absent"), "c3 train --cache"),
        (("compare", "absent", "absent"), "not a run folder"),
        (("sweep", "--cache", "absent.zarr", "--groups", "1", "2"), "no feature store at absent.zarr"),
        (("sweep", "--cache", "absent.zarr", "--set", "x"), "NAME=VALUE"),
        (("train", "--cache", "absent.zarr", "--set", "x"), "NAME=VALUE"),
        (("train", "--end-to-end", "--dataset", "demo", "--from", "runs/x"), "c3 finetune [RUN] --dataset NAME"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = c3(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_click_refuses_what_it_can_before_anything_is_imported() -> None:
    for arguments in (
        ("extract",),
        ("report", "--tables", "9"),
        ("report", "--format", "xml"),
        ("extract", "--dataset", "demo", "--limit", "0"),
    ):
        assert c3(*arguments).exit_code == 2


def test_help_does_not_import_torch() -> None:
    code = (
        "import sys; sys.argv = ['c3', '--help']\n"
        "try:\n    from c3.cli import main; main()\n"
        "except SystemExit:\n    sys.exit(bool({'torch', 'zarr'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_python_dash_m_works() -> None:
    done = subprocess.run([sys.executable, "-m", "c3", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("c3, version ")


def test_the_page_of_commands_names_every_option() -> None:
    page = (Path(__file__).parents[1] / "docs" / "commands.md").read_text(encoding="utf-8").split("```")[1]
    entries = dict(re.findall(r"^c3 (\S+)(.*?)(?=^c3 |\Z)", page, re.MULTILINE | re.DOTALL))
    assert entries.keys() == main.commands.keys()
    for name, text in entries.items():
        known = [option.opts for option in main.commands[name].params if isinstance(option, click.Option)]
        named = set(re.findall(r"--[a-z-]+", text))
        assert named <= {opt for opts in known for opt in opts}, name
        assert [opts for opts in known if not named.intersection(opts)] == [], name


def test_arguments_are_checked_before_torch_is_imported(tmp_path: Path) -> None:
    """Importing torch takes seconds, which a mistyped path must not cost."""
    wrong = [
        ["train", "--cache", "absent"], ["sweep", "--cache", "absent"], ["finetune", "absent", "--dataset", "demo"],
        ["verify", "absent"], ["merge", "absent", "absent", "--out", "new"], ["inspect", "absent"],
        ["migrate", "absent"], ["extract", "--dataset", "absent"], ["predict", "a.jpg", "--run", "absent"],
        ["search", "absent", "sea"], ["search", "absent", ""],
        ["export", "absent", "--onnx", "a.onnx"], ["evaluate", "--run", "absent"], ["compare", "absent", "absent"],
    ]  # fmt: skip
    script = f"""
import sys
from c3.cli import main
from click.testing import CliRunner
for arguments in {wrong}:
    done = CliRunner().invoke(main, arguments)
    assert (done.exit_code, "torch" in sys.modules) == (2, False), (arguments, done.exit_code, done.output)
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)


@pytest.mark.parametrize("name", main.commands)
def test_the_help_of_every_command_has_its_place_and_examples_that_parse(name: str) -> None:
    pages = {command: page for commands in PAGES.values() for command, page in commands.items()}
    assert set(pages) == set(main.commands)
    line, *examples = pages[name]
    assert len(line) <= 62 and line.endswith(".")  # whole in a terminal of 80 columns
    shown = CliRunner().invoke(main, [name, "--help"]).stdout
    for example in examples:
        assert example in shown
        program, *words = example.split()
        assert (program, name) == ("c3", words[2] if words[0] == "--catalog" else words[0])
        main.make_context("c3", list(words), resilient_parsing=True)
        arguments = words[words.index(name) + 1 :]
        main.commands[name].make_context(name, arguments, resilient_parsing=True)


def every_command(command: click.Command = main, name: str = "c3") -> Iterator[tuple[str, click.Command]]:
    yield name, command
    for part, inner in getattr(command, "commands", {}).items():
        yield from every_command(inner, f"{name} {part}")


@pytest.mark.parametrize(("name", "command"), [pytest.param(*pair, id=pair[0]) for pair in every_command()])
def test_every_option_is_explained_with_its_default(name: str, command: click.Command) -> None:
    """An option with a value says its default, or when it is required."""
    sections = getattr(command, "sections", {})
    placed = [param for params in sections.values() for param in params]
    options = [option for option in command.params if isinstance(option, click.Option)]
    shown = " ".join(CliRunner().invoke(main, [*name.split()[1:], "--help"]).stdout.split())
    for option in options:
        assert f"{option.opts[0]} " in shown
        assert option.help and option.help[0].isupper() and option.help[-1] in ".)", option.opts
        said = option.get_help_record(click.Context(command))
        assert said and (option.is_flag or re.search(r"\b([Dd]efault: |required\b|Required with)", said[1])), (
            option.opts
        )
    if sections:  # headings for all of the options, each under one
        assert sorted(placed) == sorted({str(option.name) for option in options})


def test_defaults_in_words_are_those_of_the_code() -> None:
    from c3.predict.tagger import TOP
    from c3.train.finetune.start import EPOCHS

    said = {
        ("finetune", "epochs"): f"Default: {EPOCHS}.",
        ("predict", "top"): f"Default: {TOP},",
    }
    for (command, name), default in said.items():
        (found,) = [option.help for option in main.commands[command].params if option.name == name]
        assert default in found


def test_a_shell_completes_data_sets_methods_and_runs(
    table_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/c3-tiny-s0").mkdir(parents=True)
    (tmp_path / "runs/c3-tiny-s0/run.json").touch()

    def completed(*words: str) -> list[str]:
        *before, last = words
        return [item.value for item in ShellComplete(main, {}, "c3", "_C3_COMPLETE").get_completions(before, last)]

    assert completed("--catalog", str(table_dataset / "catalog.yaml"), "extract", "--dataset", "ti") == ["tiny"]
    assert completed("catalog", "check", "nus") == ["nuswide", "nuswide-81"]
    assert completed("train", "--method", "c3-p") == ["c3-plus"]
    assert completed("evaluate", "--run", "runs/c") == ["runs/c3-tiny-s0"]
    assert completed("predict", "--run", "") == ["runs/c3-tiny-s0"]
