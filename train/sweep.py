"""Train many settings on one store: every combination is an ordinary run, one by one or in processes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch

from ..common.catalog_file import read_yaml
from ..common.devices import nth_device, resolve_device
from ..common.errors import C3Error, unknown_name
from ..common.signals import terminated_like_interrupted
from ..extract.store.cache import FeatureCache
from .data.batches import BatchStream
from .data.placement import Placement
from .data.shared_arrays import SharedArrays
from .processes import outcomes
from .recipes import settings_of
from .registry import inputs_of, method_class
from .run import TrainOptions, planned, train
from .run_folder import RECORD, Run, open_run

LOG = logging.getLogger(__name__)
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Swept:
    """The runs of a sweep in the order of the combinations, and the failed ones as (settings, reason)."""

    runs: tuple[Run, ...]
    failures: tuple[tuple[Settings, str], ...]

    def first_failure(self) -> str:
        """Describe the first failure in one line."""
        settings, reason = self.failures[0]
        return f"{in_words(settings)}: {reason}"


def combinations(grid: Mapping[str, Sequence[Any]], entries: Iterable[Settings] = ({},)) -> list[Settings]:
    """Combine every entry with every combination of the values of the grid; the last name varies fastest.

    >>> combinations({"groups": (3, 5), "seed": (0, 1)})
    [{'groups': 3, 'seed': 0}, {'groups': 3, 'seed': 1}, {'groups': 5, 'seed': 0}, {'groups': 5, 'seed': 1}]
    """
    return [
        dict(entry) | dict(zip(grid, values, strict=True)) for entry in entries for values in product(*grid.values())
    ]


def for_methods(methods: Sequence[str], asked: Sequence[Settings]) -> list[Settings]:
    """Give every method every combination of those settings that it has, each once, with its name as `method`.

    Raises C3Error for a setting that none of the methods has.

    >>> for_methods(("conse", "c3"), [{"groups": 3, "seed": 0}, {"groups": 5, "seed": 0}])[:2]
    [{'method': 'conse', 'seed': 0}, {'method': 'c3', 'groups': 3, 'seed': 0}]
    """
    takes = {method: settings_of(method_class(method).Options) for method in methods}
    known = {name for settings in takes.values() for name in settings}
    for name in {name for settings in asked for name in settings} - known:
        raise unknown_name(f"setting of method {', '.join(methods)}", name, sorted(known))
    return [
        {"method": method, **settings}
        for method in methods
        for settings in _unique([{name: s[name] for name in s if name in takes[method]} for s in asked])
    ]


def _unique(asked: Sequence[Settings]) -> list[Settings]:
    return list({str(settings): settings for settings in asked}.values())


def varied(asked: Sequence[Settings]) -> list[str]:
    """Return the names, in order, whose values differ between combinations."""
    names = list(dict.fromkeys(name for settings in asked for name in settings))
    return [name for name in names if len({str(settings.get(name)) for settings in asked}) > 1]


def in_words(settings: Settings) -> str:
    """Write names and values in a line: `groups 3, lr 0.001`."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def read_list(path: Path, methods: Sequence[str], grid: Iterable[str] = ()) -> list[Settings]:
    """Return the entries of a YAML list of settings: `- {groups: 5, lr: 1e-4}`.

    Raises C3Error with the number of the entry if it is not a mapping, if none of the methods has a name or the grid
    has it too, and if a value is not a single value.
    """
    content, kind = read_yaml(path, "list"), f"setting of method {', '.join(methods)}"
    known = {name for method in methods for name in settings_of(method_class(method).Options)}
    if not isinstance(content, list) or not content:
        found = "nothing" if not content else type(content).__name__
        raise C3Error(f"list {path}: expected entries such as `- {{groups: 5, lr: 1e-4}}`, found {found}")
    for number, entry in enumerate(content, 1):
        where = f"list {path}, entry {number}"
        if not isinstance(entry, dict):
            raise C3Error(f"{where}: expected names and values of settings, found {entry!r}")
        for name, value in entry.items():
            if name not in known:
                raise C3Error(f"{where}: {unknown_name(kind, str(name), sorted(known))}")
            if name in grid:
                raise C3Error(f"{where}: {name} is given on the command line too; give it in one place")
            if not isinstance(value, str | int | float):
                raise C3Error(f"{where}: setting {name}: expected one value, found {value!r}")
    return content


def sweep(
    base: TrainOptions, asked: Sequence[Settings], measure: Callable[[Run], Run], jobs: int = 1, tolerant: bool = False
) -> Swept:
    """Train and measure every combination of settings, at most `jobs` at a time, each in a process of its own.

    A combination may name its `method`; otherwise it is that of `base`. The training arrays are read once if they fit
    in memory. A finished combination is not trained again, so the same call continues a stopped sweep. A combination
    that fails (a loss that diverges, a process that dies) is noted and the others go on. Raises C3Error if the first
    combination fails in training, unless the call is `tolerant`, and for an impossible first request and an unknown
    setting before anything is trained. Several jobs pickle `measure`.
    """
    requests = [request_of(base, settings) for settings in asked]
    resolve_device(base.device)
    cache = FeatureCache.open(base.cache)
    cache.require_complete()
    runs: dict[int, Run] = {}
    failures: dict[int, str] = {}

    def fail(number: int, error: C3Error, tolerant: bool = False) -> None:
        if number == 0 and not tolerant:  # the request is most likely wrong
            raise error
        LOG.warning("failed: %s: %s", in_words(asked[number]), error)
        failures[number] = str(error)

    with terminated_like_interrupted(), SharedArrays() as shared:
        requests = [replace(request, shared=shared) for request in requests]
        todo = _folders(requests, cache, fail)
        jobs, numbers, threads = min(jobs, len(todo)), list(todo.values()), 0
        if jobs > 1:
            if not all(map(_finished, todo)):
                residency = _load(requests, cache, shared)
                requests = [replace(request, residency=residency) for request in requests]
            threads = max(torch.get_num_threads() // jobs, 1)
            LOG.info("%d processes, threads in each: %d", jobs, threads)
        task = partial(_train_one, measure=measure, threads=threads)
        modules = ("c3.train.run", "torch._dynamo", measure.__module__)  # the first optimiser imports torch._dynamo
        try:
            with closing(outcomes(task, [requests[number] for number in numbers], jobs, modules)) as ended:
                for place, result in ended:
                    if isinstance(result, C3Error):
                        fail(numbers[place], result, tolerant)
                    else:
                        runs[numbers[place]] = open_run(result)
                        LOG.info("%d of %d is done: %s", place + 1, len(todo), result)
        except KeyboardInterrupt as stop:
            progress = f"{len(runs)} of {len(todo)} are done; the same command continues with the others"
            raise KeyboardInterrupt(str(stop) or progress) from None
    return Swept(
        tuple(runs[number] for number in sorted(runs)),
        tuple((asked[number], failures[number]) for number in sorted(failures)),
    )


def request_of(base: TrainOptions, settings: Settings) -> TrainOptions:
    """Return the request of one combination. Raises C3Error for a setting that its method does not have."""
    method = str(settings.get("method", base.method))
    own = {name: value for name, value in settings.items() if name != "method"}
    known = settings_of(method_class(method).Options)
    for name in own.keys() - known.keys():
        raise unknown_name(f"setting of method {method}", name, known)
    return replace(base, method=method, settings={**base.settings, **own})


def _folders(
    requests: Sequence[TrainOptions], cache: FeatureCache, fail: Callable[[int, C3Error], None]
) -> dict[Path, int]:
    """Return run folder -> number of the request: equal settings share a folder, impossible ones have none."""
    folders: dict[Path, int] = {}
    for number, request in enumerate(requests):
        try:
            _, _, path = planned(request, cache)
        except C3Error as error:
            fail(number, error)
            continue
        if folders.setdefault(path, number) != number:
            LOG.info("%s is requested twice and trained once", path)
    return folders


def _finished(folder: Path) -> bool:
    return (folder / RECORD).exists() and open_run(folder).finished


def _load(requests: Sequence[TrainOptions], cache: FeatureCache, shared: SharedArrays) -> str:
    """Read the training arrays of all methods into shared memory; return the residency for all processes."""
    base, inputs = requests[0], inputs_of(cache)
    if base.residency == "device":
        raise C3Error("--residency device: processes share the memory of the machine; use --residency ram, or --jobs 1")
    methods = dict.fromkeys(request.method for request in requests)
    reads = list(dict.fromkeys(name for method in methods for name in method_class(method).reads(inputs)))
    BatchStream(cache, "train", reads, batch_size=2, seed=0, place=Placement(base.residency, shared=shared))
    if not shared.size:
        LOG.info("every process reads the arrays itself, in every epoch")
        return "stream"
    LOG.info("the processes share %.2f GB of arrays, which are read once", shared.size / 1e9)
    return "ram"


def _train_one(request: TrainOptions, slot: int, measure: Callable[[Run], Run], threads: int) -> Path:
    """Train and measure one request, beside others with `threads` threads and a device by `slot`; 0 is alone."""
    if threads:
        torch.set_num_threads(threads)
        request = replace(request, device=nth_device(request.device, slot))
    return measure(train(request)).path
