"""Where training end to end begins: the run, its settings and its data set, and what is refused."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from c3.common.errors import C3Error
from c3.extract.options import ExtractOptions
from c3.train.finetune.run import finetune
from c3.train.run_folder import open_run, write_record
from finetune_setup import Placement, c3, joined, made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, draw_table: Callable[[Path, int], Path]) -> Placement:
    return made(tmp_path_factory.mktemp("place"), draw_table)


@pytest.fixture
def place_copy(place: Placement, tmp_path: Path) -> Placement:
    return place.copied(tmp_path)


def test_the_newest_run_is_found_where_none_is_named(place: Placement, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    asked = ("--catalog", place.catalog, "finetune", "--dataset", "tiny", "--method", "fast0tag",
             "--runs", runs, "--device", "cpu", "--epochs", 1)  # fmt: skip
    none = c3(*asked)
    assert (none.exit_code, none.stderr.count("\n")) == (2, 1)
    assert "has no finished run of fast0tag on tiny to start from; train one with: c3 train --cache" in none.stderr
    assert not runs.exists()
    shutil.copytree(place.start, runs / place.start.name)
    assert "on tiny with seed 4 to start from" in c3(*asked, "--seed", 4).stderr
    done = c3(*asked)
    assert done.exit_code == 0, done.output
    assert f"starting from {runs / place.start.name}, the newest run that fits" in done.stderr
    (path,) = runs.glob("*-e2e-*")
    run = open_run(path)
    values = "{start:.2f} -> {best:.2f} %".format(**{k: 100 * v for k, v in asdict(run.record.validation).items()})
    assert f"validation mAP {values}" in done.stdout
    assert f"Next: {run.record.tuned_from.extract}\nthen: c3 evaluate --run {path}" in done.stdout
    defaults = {name: run.record.settings[name] for name in ("lr", "weight_decay", "schedule", "warmup", "seed")}
    assert defaults == {"lr": pytest.approx(1e-6), "weight_decay": 0, "schedule": "cosine", "warmup": 10, "seed": 5}
    assert run.record.settings["backbone_lr"] == 0.1


def changed(place: Placement, name: str, old: str, new: str) -> None:
    path = place.root / name
    path.write_text(path.read_text().replace(old, new))


def unfinished(place: Placement) -> None:
    write_record(place.start, replace(open_run(place.start).record, status="training"))


def imported(place: Placement) -> None:
    record = open_run(place.start).record
    write_record(place.start, replace(record, features=replace(record.features, request=None)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda place: changed(place, "vectors.txt", "blue 0", "blue 3"), "other word vectors (digest"),
        (lambda place: changed(place, "unseen.txt", "dark red", "blue"), "other classes (digest"),
        (lambda place: changed(place, "labels.csv", "00.png,red", "00.png,blue"), "other labels or images (digest"),
        (lambda place: changed(place, "labels.csv", "00.png,red,train\n", ""), "other numbers of rows (digest"),
        (lambda place: changed(place, "labels.csv", "00.png,red,train", "00.png,pink,train"), "pink"),
        (unfinished, "is not finished (status training)"),
        (imported, "were not extracted from images by c3"),
        (lambda place: shutil.rmtree(place.start), "is not a run folder"),
        (lambda place: (place.start / "weights.safetensors").unlink(), "is missing or damaged"),
        (lambda place: shutil.rmtree(place.root / "images"), "images folder"),
    ],
)
def test_another_data_set_or_run_is_refused_in_one_line(
    place_copy: Placement, tmp_path: Path, change: Callable[[Placement], object], said: str
) -> None:
    change(place_copy)
    runs = tmp_path / "runs"
    shown = c3("--catalog", place_copy.catalog, "finetune", place_copy.start, "--dataset", "tiny",
               "--runs", runs, "--device", "cpu")  # fmt: skip
    assert (shown.exit_code, shown.stdout) == (2, ""), shown.output
    last = shown.stderr.splitlines()[-1]
    assert last.startswith("c3: ") and said in last
    assert not runs.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN", "--dataset", "tiny", "--method", "c3"), "leave it out to start from"),
        (("RUN", "--dataset", "other"), "is a run on tiny; expected one on other"),
        (("RUN", "--dataset", "tiny", "--set", "hidden1=8"), "belongs to the head"),
        (("RUN", "--dataset", "tiny", "--set", "vectors=raw"), "belongs to the head"),
        (("RUN", "--dataset", "tiny", "--set", "backbone_lr=-1"), "backbone_lr: expected 0"),
        (("RUN", "--dataset", "tiny", "--set", "bacbone_lr=1"), "Did you mean 'backbone_lr'"),
        (("RUN", "--dataset", "tiny", "--epochs", "0"), "epochs: expected at least 1"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    place: Placement, tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    given = [place.start if argument == "RUN" else argument for argument in arguments]
    shown = c3("--catalog", place.catalog, "finetune", *given, "--runs", tmp_path / "runs", "--device", "cpu")
    assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert said in shown.stderr
    assert not (tmp_path / "runs").exists()


def test_a_catalog_that_is_gone_is_asked_for(place_copy: Placement, tmp_path: Path) -> None:
    record = open_run(place_copy.start).record
    request = dict(record.features.request or {}) | {"catalog": str(tmp_path / "gone.yaml")}
    write_record(place_copy.start, replace(record, features=replace(record.features, request=request)))
    shown = c3("finetune", place_copy.start, "--dataset", "tiny", "--runs", tmp_path / "runs", "--device", "cpu")
    assert (shown.exit_code, shown.stdout, shown.stderr.count("\n")) == (2, "", 1)
    assert (
        f"{tmp_path / 'gone.yaml'}, is gone; name the one that has it now: c3 --catalog FILE finetune" in shown.stderr
    )


def test_processes_of_torchrun_are_refused(place: Placement, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(C3Error, match="started training end to end in several processes"):
        finetune(place.asked(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


def test_the_store_tells_a_run_of_an_older_c3_how_it_was_made(place_copy: Placement, tmp_path: Path) -> None:
    record = open_run(place_copy.start).record
    write_record(place_copy.start, replace(record, features=replace(record.features, request_recorded=False)))
    assert "request" not in json.loads((place_copy.start / "run.json").read_text())["cache"]
    model, _ = joined(place_copy)
    assert model.backbone.weights_sha256 == record.features.weights_sha256


def test_how_many_processes_trained_the_start_is_not_taken_over(place_copy: Placement, tmp_path: Path) -> None:
    write_record(place_copy.start, replace(open_run(place_copy.start).record, ranks=2))
    assert finetune(place_copy.asked(tmp_path / "runs", epochs=1)).record.ranks == 1


def test_every_setting_of_extraction_is_in_the_command(tmp_path: Path) -> None:
    options = ExtractOptions(
        "tiny", "vgg19", "random:1", tmp_path / "f.zarr", tmp_path / "my catalog.yaml", ("train", "val"), 5,
        precision="bf16", dtype="int8", crops="five", label_source="human+machine", drop_unknown_classes=True,
        regions=True, global_vector=True,
    )  # fmt: skip
    entry = "{kind: table, root: ., images: ., table: t.csv, vectors: demo, labels: complete}"
    (tmp_path / "my catalog.yaml").write_text(f"version: 1\ndatasets: {{tiny: {entry}}}\n")
    seen: list[ExtractOptions] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c3.extract.run.extract", lambda asked: seen.append(asked) or "done")
        shown = c3(*shlex.split(options.command())[1:])
    assert shown.exit_code == 0, shown.output
    assert seen[0].record() == options.record()
    assert str(seen[0].out) == str(options.out)
