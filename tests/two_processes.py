"""What two gloo processes do together in the tests of training on several devices; `launch` starts them."""

from __future__ import annotations

import faulthandler
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from c3.common.errors import C3Error
from c3.extract.store.cache import FeatureCache
from c3.train import run as training
from c3.train.distributed.replica import replicate
from c3.train.distributed.world import World, launched
from c3.train.loop import batch_loss
from c3.train.recipes import settings_of
from c3.train.registry import METHODS
from c3.train.run import TrainOptions, train
from c3.train.validation import Validation
from forks import FORKS
from mid_training import after
from reference_methods import EVERYTHING, SEEN, build
from safetensors.torch import save_file
from torch import Tensor, nn

RANKS = 2
SECONDS = 120  # for everything that two processes do in one test; they need about ten on an idle machine
SMALL = {"groups": 2, "hidden1": 16, "hidden2": 8, "hidden": 8, "width": 16, "heads": 2, "clusters": 2, "d": 8,
         "label_width": 8, "top": 3}  # fmt: skip
TRAINED = ("c3", "c3-plus", "lesa")
# fast0tag is the training that is interrupted; two processes do not draw the dropout of one; squares counts labels
LOOPS = {
    "fast0tag": {"patience": 2, "ema": 0.9, "clip": 1.0, "objective": "squares"},
    "c3": {"channel_dropout": 0},
    "lesa": {"objective": "squares"},
}


def small(method: str) -> dict[str, int]:
    """The sizes among SMALL that a method has."""
    known = settings_of(METHODS[method].Options)
    return {name: value for name, value in SMALL.items() if name in known}


def launch(work: Callable[..., None], folder: Path, *arguments: object) -> list[int]:
    """Run work(world, folder, *arguments) in two processes as torchrun starts them; gives their exit codes.

    What one of them raises fails the test, and so does a process that does not end: it leaves the stacks of its threads
    and ends itself, because one that waits for the other heeds no signal but SIGKILL.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    folder.mkdir(exist_ok=True)
    processes = [
        FORKS.Process(target=_child, args=(rank, port, work, folder, arguments), daemon=True) for rank in range(RANKS)
    ]
    for process in processes:
        process.start()
    until = time.monotonic() + SECONDS + 30
    for process in processes:
        process.join(until - time.monotonic())
        process.kill()  # the last resort: pytest would wait for it at its own end
        process.join()
    said = [file.read_text() for file in sorted(folder.glob("said-*")) if file.stat().st_size]
    assert not said, "\n".join(said)
    return [process.exitcode for process in processes]


def _child(rank: int, port: int, work: Callable[..., None], folder: Path, arguments: tuple[object, ...]) -> None:
    os.environ |= {
        "TORCHELASTIC_RUN_ID": "test", "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(RANKS),
        "LOCAL_WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    torch.set_num_threads(1)
    with (folder / f"said-{rank}").open("w") as said:
        faulthandler.dump_traceback_later(SECONDS, exit=True, file=said)
        try:
            with launched("cpu") as world:
                work(world, folder, *arguments)
        except BaseException:
            said.write(f"rank {rank}: {traceback.format_exc()}")
        faulthandler.cancel_dump_traceback_later()


def compare_methods(world: World, folder: Path) -> None:
    """Every method: losses, gradients and buffers of two processes with 4 and 5 rows, and of one with all 9."""
    counts = [4, 5]
    own = slice(sum(counts[: world.rank]), sum(counts[: world.rank + 1]))
    for name in (name for name, kind in METHODS.items() if not kind.image_text):  # those: tests/test_clip_methods.py
        plain, _, vectors, _ = build(name, EVERYTHING, **small(name))  # float64
        plain.train().apply(_without_dropout)
        arrays = {key: 3 * torch.rand(9, *EVERYTHING.shape(key), dtype=torch.float64) for key in plain.inputs.names}
        labels = torch.randint(-1, 2, (9, SEEN), dtype=torch.int8)
        labels[:, 0] = 0  # the first class has no known label, the second none on the first rank
        labels[:4, 1] = 0
        shared = deepcopy(plain)
        replicate(shared, world, seed=0)
        expected = batch_loss(plain, arrays, labels, vectors)
        expected["loss"].backward()
        parts = {key: values[own] for key, values in arrays.items()}
        found = batch_loss(shared, parts, labels[own], vectors, gather=partial(world.gather, counts=counts))
        found["loss"].backward()
        gradients = {key: weight.grad for key, weight in shared.named_parameters() if weight.grad is not None}
        world.average(list(gradients.values()))
        _assert_close(name, found, expected)
        _assert_close(name, gradients, {key: w.grad for key, w in plain.named_parameters() if w.grad is not None})
        _assert_close(name, shared.state_dict(), plain.state_dict())  # running statistics, spreads, frequencies


def _assert_close(method: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        # a bias before a batch norm has a gradient of 0, but for the rounding
        error = (found[name] - value).abs().max() / value.abs().max().clamp(min=1e-2)
        assert error < 1e-8, f"{method}, {name}: {error}"


def _without_dropout(module: nn.Module) -> None:
    if isinstance(module, nn.Dropout):
        module.p = 0.0


def train_methods(world: World, folder: Path, store: Path) -> None:
    """Some methods with plain gradient descent; every rank keeps its weights and rows, the second must not write."""
    if world.rank:
        sys.addaudithook(partial(_refuse_writing, str(folder / "runs")))
    real_fit, stream = training.fit, training.BatchStream
    patch = pytest.MonkeyPatch()
    patch.setattr("torch.optim.Adam", descent)

    def fit(job: training.Job) -> dict[str, float]:
        timings = real_fit(job)
        state = {name: value.contiguous() for name, value in job.model.state_dict().items()}
        save_file(state, folder / f"{job.folder.name}-{world.rank}.safetensors")
        return timings

    class Noted(stream):
        def epoch(self, epoch: int, skip: int = 0) -> object:
            for number, batch in enumerate(super().epoch(epoch, skip)):
                np.save(folder / f"rows-{epoch}-{number}-{world.rank}.npy", batch.rows)
                yield batch

    patch.setattr(training, "fit", fit)
    patch.setattr(training, "BatchStream", Noted)
    for method in TRAINED:
        assert train(asked(store, folder, method), world).finished
    assert train(asked(store, folder, method), world).record.ranks == RANKS  # found again
    _compare_validation(world, store)


def asked(store: Path, folder: Path, method: str, **settings: object) -> TrainOptions:
    """Two epochs of small batches."""
    loop = {"epochs": 2, "batch_size": 7, "lr": 1e-3, "weight_decay": 0} | LOOPS.get(method, {})
    return TrainOptions(store, method, folder / "runs", loop | small(method) | settings, device="cpu")


def descent(weights: object, lr: float, weight_decay: float, fused: bool) -> torch.optim.Optimizer:
    """In Adam's place: its first steps have the size of lr whatever the gradient, and so show nothing of its size."""
    return torch.optim.SGD(weights, lr)


def _refuse_writing(folder: str, event: str, arguments: tuple[object, ...]) -> None:
    if event == "open":
        path, _, flags = arguments
        wrong = str(path).startswith(folder) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        wrong = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir") and str(arguments[0]).startswith(folder)
    if wrong:
        raise AssertionError(f"rank 1: {event} {arguments}")


def _compare_validation(world: World, store: Path) -> None:
    cache = FeatureCache.open(store)
    inputs = training.inputs_of(cache)
    vectors = training.word_form(cache.classes, "l2").trained
    torch.manual_seed(0)
    model = METHODS["labelem"](inputs, METHODS["labelem"].Options())
    shared, alone = (Validation(cache, model.reads(inputs), "train", world=w) for w in (world, World()))
    assert shared.score(model, vectors) == pytest.approx(alone.score(model, vectors), abs=1e-6)


def ends(world: World, folder: Path, store: Path) -> None:
    """A training that goes through, and the ways to end one early: each ends both processes alike."""
    options = replace(asked(store, folder, "fast0tag"), residency="stream")

    def ended(expected: type[BaseException], rank: int, said: str, other: str, **changes: object) -> None:
        with pytest.raises(expected, match=said if world.rank == rank else other):
            train(replace(options, **changes), world)

    train(options, world)
    stopped = folder / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        after(3, lambda: os.kill(os.getpid(), signal.SIGTERM) if world.rank else None, patch)
        said = f"{stopped}/.* keeps the training up to step 3; the same command continues"
        ended(KeyboardInterrupt, 1, said, said, runs=stopped)
    said = r"loss is (nan|inf) at step \d+ of epoch \d \(rows (\d+, ){6}\d+ of train"  # those of both
    ended(C3Error, 1, said, said, settings=options.settings | {"lr": 1e30})
    shard = damaged_shard(store)
    whole = shard.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        after(3, lambda: shard.write_bytes(bytes([whole[0] ^ 1]) + whole[1:]), patch)
        other = "rank 1 of the training failed and says why; rank 0 ends with it"
        ended(C3Error, 1, "is damaged .*c3 verify", other, runs=folder / "damaged")
        world.maximum(0)
        shard.write_bytes(whole)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("c3.train.run.write_classes", lambda *_: (_ for _ in ()).throw(C3Error("the disk is full")))
        ended(C3Error, 0, "disk is full", "rank 0 of the training failed", runs=folder / "full")
    said = "compile: several processes cannot"
    ended(C3Error, 0, said, said, settings=options.settings | {"compile": "true"})
    said = "the ranks disagree about method, settings and store"
    ended(C3Error, 0, said, said, settings=options.settings | {"hidden1": 16 + world.rank})


def damaged_shard(store: Path) -> Path:
    """A shard that the second rank reads and the first does not."""
    cache = FeatureCache.open(store)
    streams = [training.BatchStream(cache, "train", ["p16"], 7, 0, world=World(rank=r, size=RANKS)) for r in (0, 1)]
    first, second = (
        {int(row) // cache.layout.shard_rows for batch in stream.epoch(0) for row in batch.rows} for stream in streams
    )
    return store / f"train/pyramid/p16/c/{min(second - first)}/0/0/0"


def go_on_and_die(world: World, folder: Path, store: Path) -> None:
    """Both are killed in the middle of the second epoch; checkpoints are written at every step."""
    after(7, lambda: os.kill(os.getpid(), signal.SIGKILL), pytest.MonkeyPatch())
    train(replace(asked(store, folder, "fast0tag"), runs=folder / "stopped", checkpoint_steps=1), world)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    """Whether two sets of weights are equal bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
