"""Figures: the numbers behind them, the exactness of response maps, the files, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.evaluate.report import explain, series
from c3.evaluate.report.figures import draw_examples, heat
from c3.evaluate.report.pages import FigureOptions, draw
from c3.evaluate.run import evaluate
from c3.evaluate.sweep import sweep_summary
from c3.extract.store.cache import FeatureCache
from c3.extract.store.tables import unknown_paths
from c3.train.models.base import Inputs
from c3.train.models.c3 import C3, C3Options
from c3.train.models.c3_ablations import C3b, C3c, C3d
from c3.train.models.c3_released import C3Released
from c3.train.models.fast0tag import Fast0Tag, Fast0TagOptions
from c3.train.run import TrainOptions, train
from c3.train.run_folder import Run, list_runs
from PIL import Image
from torch.nn.functional import normalize

TINY = {"epochs": 2, "batch_size": 8, "lr": 1e-3}


@pytest.fixture
def trained(make_cache: Callable[..., FeatureCache], tmp_path: Path) -> Callable[..., Run]:
    """trained(method, ...) -> an evaluated run on one small store."""
    cache = make_cache(d_w=6)

    def make(method: str = "c3", **settings: float) -> Run:
        if method == "fast0tag":
            settings |= {"hidden1": 8, "hidden2": 8}
        run = train(TrainOptions(cache.path, method, tmp_path / "runs", TINY | settings, device="cpu"))
        return evaluate(run.path, device="cpu")

    return make


def photographs(root: Path, cache_split: int = 10) -> Path:
    root.mkdir()
    for number in range(cache_split):
        pixels = np.full((30, 40, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(root / f"test{number}.png")  # the path in the store
    return root


@pytest.mark.parametrize("kind", [C3, C3Released, C3b, C3c, C3d])
def test_the_shares_of_the_positions_sum_to_the_score(kind: type[C3]) -> None:
    torch.manual_seed(0)
    model = kind(Inputs({"p8": 5, "p16": 4, "p32": 3}, 12, 5), C3Options(groups=3)).double().eval()
    levels = {name: torch.rand(4, count, 7, 7, dtype=torch.float64) for name, count in model.inputs.channels.items()}
    vectors = normalize(torch.randn(6, 12, dtype=torch.float64), dim=1)
    with torch.no_grad():
        shares = model.responses(levels, vectors)
        scores = model.scores(model(levels), vectors)
    assert shares.shape == (4, 6, 7, 7)
    torch.testing.assert_close(shares.sum(dim=(2, 3)), scores)
    assert (shares.flatten(2) != 0).sum(dim=2).float().mean() > 5  # spread over positions, not one number


def test_the_share_of_a_position_is_what_its_maxima_contribute() -> None:
    """A slow loop over groups and dimensions, from eq. 6-8."""
    torch.manual_seed(1)
    model = C3(Inputs({"p8": 3}, 4, 5), C3Options(groups=2)).double().eval()
    levels = {"p8": torch.rand(1, 3, 7, 7, dtype=torch.float64)}
    vectors = torch.randn(2, 4, dtype=torch.float64)
    with torch.no_grad():
        cells = model.encoder.cells(model.projection(levels))[0]
        x = model.group_vectors(levels)[0]
        mixing = model.group_attention.query(x) @ model.group_attention.key(x).T
        expected = torch.zeros(2, 49, dtype=torch.float64)
        for c, vector in enumerate(vectors):
            winner = max(range(2), key=lambda group: float((mixing @ x)[group] @ vector))
            for group in range(2):
                for d in range(4):
                    place = int(cells[group, :, d].argmax())
                    expected[c, place] += mixing[winner, group] * x[group, d] * vector[d]
        torch.testing.assert_close(model.responses(levels, vectors)[0].flatten(1), expected)


def test_a_method_without_positions_or_encoder_says_so() -> None:
    model = Fast0Tag(Inputs({"p8": 3}, 4, 5), Fast0TagOptions(hidden1=8, hidden2=8)).eval()
    levels = {"p8": torch.rand(1, 3, 7, 7)}
    assert model.responses(levels, torch.randn(2, 4)) is None
    assert model.stages(levels) == {}


def test_examples_show_true_and_predicted_labels_of_either_kind(trained: Callable[..., Run], tmp_path: Path) -> None:
    run = trained()
    found = explain.examples(run, 3, "cpu", photographs(tmp_path / "photographs"))
    assert len(found) == 3
    truth = {f"test{row}": ({row % 5, (row + 1) % 5}) for row in range(10)}
    for example in found:
        names = "abcde"
        positive = {names[index] for index in truth[example.image_id]}
        assert set(example.true_seen) | set(example.true_unseen) == positive
        assert set(example.true_unseen) <= {"a", "b"}
        assert {label.name for label in example.unseen} == {"a", "b"}
        for label in (*example.unseen, *example.seen):
            assert label.correct == (label.name in positive)
            assert label.response.shape == (7, 7)
        assert [label.score for label in example.unseen] == sorted(
            (label.score for label in example.unseen), reverse=True
        )
        assert example.pixels.shape == (224, 224, 3)
        assert example.pixels.mean() == pytest.approx(20 * int(example.image_id[4:]), abs=2)
    (shared, *_) = explain.examples(run, 3, "cpu", maps="shares")
    assert shared.pixels is None
    for label in (*shared.unseen, *shared.seen):
        assert label.response.sum() == pytest.approx(label.score, rel=1e-4, abs=1e-4)


def test_photographs_are_found_by_the_path_in_the_store_and_no_other_is_shown_in_their_place(
    trained: Callable[..., Run], tmp_path: Path
) -> None:
    run, folder = trained(), photographs(tmp_path / "photographs")
    for row in range(10):
        Image.new("RGB", (32, 32), "white").save(folder / f"test{row}.jpg")  # what an id suggests
    for example in explain.examples(run, 3, "cpu", folder):
        assert example.pixels is not None
        assert example.pixels.mean() == pytest.approx(20 * int(example.image_id[4:]), abs=2)
    for path in folder.glob("*.png"):
        path.unlink()
    assert all(example.pixels is None for example in explain.examples(run, 3, "cpu", folder))


def test_photographs_of_a_store_without_paths_are_found_by_their_ids(
    trained: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, folder = trained(), photographs(tmp_path / "photographs")
    for path in folder.iterdir():
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    monkeypatch.setattr(FeatureCache, "image_paths", lambda cache, split: unknown_paths(cache.rows(split)))
    for example in explain.examples(run, 3, "cpu", folder):
        assert example.pixels is not None
        assert example.pixels.mean() == pytest.approx(20 * int(example.image_id[4:]), abs=2)


def test_an_embedding_tells_images_with_exactly_one_of_its_classes_apart(
    trained: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "TOO_COMMON", 1.0)
    monkeypatch.setattr(explain, "SHOWN_CLASSES", 2)
    run = trained()
    with pytest.raises(C3Error, match="it needs 30 images of test with exactly one of the frequent"):
        explain.embedding(run, "cpu")
    monkeypatch.setattr(explain, "LEAST_POINTS", 10)
    shown = explain.embedding(run, "cpu", split="train")
    assert list(shown.points) == ["without the encoder", "with the encoder"]
    # rows 0..39 have classes row % 5 and row % 5 + 1; a and b are first among equals: one of the two is in
    # three of five rows, both in one
    assert shown.names == ("a", "b")
    assert len(shown.classes) == 16
    assert all(points.shape == (16, 2) for points in shown.points.values())
    assert all(-1 <= value <= 1 for value in shown.silhouette.values())


def test_curves_keep_the_setting_with_most_points(trained: Callable[..., Run]) -> None:
    runs = [trained(groups=g, lambda_reg=0.4, seed=seed) for g in (1, 2, 3) for seed in (0, 1)]
    runs += [trained(groups=2, lambda_reg=0.0), trained(groups=1, lambda_reg=0.1, epochs=1)]
    over_g, over_lambda = series.curves(runs)
    assert (over_g.setting, over_g.kept, over_g.x) == ("groups", {"lambda_reg": 0.4}, (1, 2, 3))
    assert (over_lambda.kept, over_lambda.x) == ({"groups": 2}, (0.0, 0.4))
    mine = [run.metrics.protocols["table"].tasks["zsl"]["mAP"] for run in runs[2:4]]
    assert over_g.values["zsl"][1] == (pytest.approx(np.mean(mine)), pytest.approx(np.std(mine, ddof=1)))
    assert over_lambda.values["zsl"][0][1] == 0.0
    with pytest.raises(C3Error, match="c3 sweep --cache"):
        series.curves(runs[:1])


def test_costs_have_a_row_for_every_method(trained: Callable[..., Run]) -> None:
    shown = series.costs([trained(), trained("fast0tag"), trained("c3", seed=1)])
    assert {cost.title for cost in shown} == {"C3-MLZSL", "Fast0Tag"}
    assert all(cost.ms > 0 and cost.gflops > 0 for cost in shown)
    # the network of Fast0Tag is 24 x 8, 8 x 8, 8 x 6, and 6 x 5 classes, 2 operations each
    (fast,) = [cost for cost in shown if cost.title == "Fast0Tag"]
    assert fast.gflops == pytest.approx(2 * (24 * 8 + 8 * 8 + 8 * 6 + 6 * 5) / 1e9)


def test_a_method_stands_by_seeds_and_epochs_and_never_by_its_test_score(trained: Callable[..., Run]) -> None:
    short = trained(groups=1, epochs=1)
    first, second, more = trained(groups=1), trained(groups=2), trained(groups=3, seed=4)
    assert series.leading([short, first, second])["c3"].runs == (first,)
    assert series.chosen_run([short, first, second, more, trained("fast0tag")]) == first
    again = trained(groups=2, seed=1)
    assert series.leading([short, first, second, again])["c3"].runs == (second, again)


def test_heat_is_clear_where_nothing_speaks_for_a_label() -> None:
    shown = heat(np.array([[-3.0, 0.0], [1.0, 2.0]]))
    assert shown[0, 0, 3] == shown[0, 1, 3] == 0
    assert 0 < shown[1, 0, 3] < shown[1, 1, 3]
    assert heat(np.full((7, 7), -1.0))[..., 3].max() == 0


def test_every_figure_is_written_as_png_and_svg(
    trained: Callable[..., Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explain, "TOO_COMMON", 1.0)
    monkeypatch.setattr(explain, "SHOWN_CLASSES", 3)
    monkeypatch.setattr(explain, "LEAST_POINTS", 10)
    for run in (trained(groups=1), trained(groups=2), trained("fast0tag")):
        assert run.metrics is not None
    out = tmp_path / "figures"
    options = FigureOptions(
        tmp_path / "runs", out, photographs(tmp_path / "photographs"), "cpu", classes=("a", "c", "d")
    )
    monkeypatch.setattr(explain.embedding, "__defaults__", ("auto", "train"))
    assert len(list(draw((1, 3, 4, 5, 6), options))) == 6
    drawn = [f"figure-{number}-tiny.{kind}" for number in ("1", "3", "4", "5", "6", "6b") for kind in ("png", "svg")]
    assert sorted(path.name for path in out.iterdir()) == sorted(
        [*drawn, "figure-1-tiny.csv", "figure-1-tiny-pairs.csv"]
    )
    for path in out.glob("*.png"):
        pixels = np.asarray(Image.open(path).convert("L"))
        assert pixels.shape[1] > 600 and pixels.std() > 5
    assert "<text" in (out / "figure-4-tiny.svg").read_text()
    lines = (out / "figure-1-tiny.csv").read_text().splitlines()
    assert lines[0] == "part,channel,class,kind,images,mean,spread"
    assert len(lines) == 1 + 3 * (5 + 4 + 3 + 6)  # classes x (levels and one group of X)
    assert len((out / "figure-1-tiny-pairs.csv").read_text().splitlines()) == 1 + 3


def test_figures_without_runs_or_photographs_are_refused(trained: Callable[..., Run], tmp_path: Path) -> None:
    with pytest.raises(C3Error, match=r"no evaluated run below .*none; train one with: c3 train"):
        list(draw((5,), FigureOptions(tmp_path / "none", tmp_path / "out")))
    run, _ = trained(), trained("fast0tag")  # two methods: figure 6b would be drawn too
    options = FigureOptions(run.path.parent, tmp_path / "out", tmp_path / "nowhere", "cpu")
    with pytest.raises(C3Error, match=r"figure 6 .*the photograph test\d was not found; say where they are: --images"):
        list(draw((6,), options))
    assert not list(tmp_path.glob("out/*"))


def test_a_figure_that_cannot_be_drawn_is_a_warning_and_the_others_are_drawn(
    trained: Callable[..., Run], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = trained()
    drawn = list(draw((3, 4, 5), FigureOptions(run.path.parent, tmp_path / "out", device="cpu")))
    assert [line[:16] for line in drawn] == ["figure 5 of tiny"]
    first, second = (record.getMessage() for record in caplog.records if record.name.endswith("pages"))
    assert "figure 3 of tiny is not drawn" in first and "30 images of test" in first
    assert f"c3 sweep --cache {run.record.features.path} --method c3 --runs {run.path.parent} --groups" in second


def test_a_sweep_promises_figure_4_only_for_the_settings_that_it_shows(trained: Callable[..., Run]) -> None:
    run = trained()
    assert "--figures 4" in sweep_summary([run], ["seed", "lambda_reg"])
    assert sweep_summary([run], ["seed", "lr"]).endswith(f"c3 report --runs {run.path.parent} prints them.")


def test_the_picture_of_examples_keeps_its_title(trained: Callable[..., Run], tmp_path: Path) -> None:
    found = explain.examples(trained(), 2, "cpu", photographs(tmp_path / "photographs"))
    assert draw_examples(found, "the title").get_suptitle() == "the title"


def test_a_run_whose_store_has_gone_is_named(trained: Callable[..., Run], tmp_path: Path) -> None:
    run = trained()
    record = json.loads((run.path / "run.json").read_text())
    record["cache"]["path"] = str(tmp_path / "gone.zarr")
    (run.path / "run.json").write_text(json.dumps(record))
    (run,) = list_runs(run.path.parent)
    with pytest.raises(C3Error, match=r"feature store .*gone\.zarr is missing"):
        explain.embedding(run, "cpu")
