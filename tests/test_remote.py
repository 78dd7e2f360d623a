"""Stores behind URLs: memory:// and a real S3 server on loopback, with connections that drop."""

from __future__ import annotations

import asyncio
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from c3.cli import main
from c3.common.errors import C3Error
from c3.extract.merge import merge
from c3.extract.options import ExtractOptions
from c3.extract.run import extract
from c3.extract.store.cache import FeatureCache
from c3.extract.verify import verify
from click.testing import CliRunner


@pytest.fixture
def options(tmp_path: Path, small_extraction: Callable[..., ExtractOptions]) -> ExtractOptions:
    return small_extraction(tmp_path, 8)


class Flaky(socketserver.ThreadingTCPServer):
    """Forwards to a server and cuts the first `cuts` connections after the client has spoken."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, target: int, cuts: int) -> None:
        self.target, self.left, self.cut = target, cuts, 0
        super().__init__(("127.0.0.1", 0), _Forward)


class _Forward(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        spoken = self.request.recv(65536)
        if self.server.left > 0:
            self.server.left -= 1
            self.server.cut += 1
            self.request.close()
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as upstream:
            upstream.sendall(spoken)
            back = threading.Thread(target=_pump, args=(upstream, self.request), daemon=True)
            back.start()
            _pump(self.request, upstream)
            back.join()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Flaky]]:
    """serve(cuts) -> the proxy before an S3 server with a bucket `features`; the environment holds the credentials."""
    pytest.importorskip("s3fs")
    server_module = pytest.importorskip("moto.server")
    import s3fs

    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]
    proxies = []

    def serve(cuts: int) -> Flaky:
        proxy = Flaky(port, cuts)
        proxies.append(proxy)
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{proxy.server_address[1]}")
        return proxy

    for name, value in (("AWS_ACCESS_KEY_ID", "someone"), ("AWS_SECRET_ACCESS_KEY", "secret"),
                        ("AWS_DEFAULT_REGION", "us-east-1"), ("AWS_MAX_ATTEMPTS", "5")):  # fmt: skip
        monkeypatch.setenv(name, value)
    serve(0)
    _forget_connections()
    files = s3fs.S3FileSystem()
    if not files.exists("features"):  # the server keeps its contents for the next test
        files.mkdir("features")
    yield serve
    _forget_connections()
    for proxy in proxies:
        proxy.shutdown()
        proxy.server_close()
    server.stop()


def _forget_connections() -> None:
    """Close every S3 session; fsspec keeps one for each loop, and leaves them to the interpreter's end."""
    import s3fs
    from zarr.core.sync import _get_loop

    for files in list(s3fs.S3FileSystem._cache.values()):
        if files._s3 is not None:
            loop = _get_loop() if files.asynchronous else files.loop
            asyncio.run_coroutine_threadsafe(files._s3.__aexit__(None, None, None), loop).result(120)
            files._s3 = files._s3creator = None
    s3fs.S3FileSystem.clear_instance_cache()


def assert_same(found: str, expected: Path) -> None:
    one, other = FeatureCache.open(found), FeatureCache.open(expected)
    one.require_complete()
    assert one.digest == other.digest
    for split in other.splits:
        assert one.image_ids(split).tolist() == other.image_ids(split).tolist()
        for level in other.levels:
            np.testing.assert_array_equal(one.maps(split, level.name)[:], other.maps(split, level.name)[:])


def walk(options: ExtractOptions, url: str) -> None:
    """Everything one does with a store, at a URL."""
    extract(options)
    remote = replace(options, out=url)
    assert "shards pending" in extract(replace(remote, part=(1, 2)))
    assert "is complete" in extract(remote)
    assert "Nothing to do" in extract(remote)
    assert_same(url, options.out)
    assert "is sound" in verify(url)
    cache = FeatureCache.open(url, mode="r+")
    cache.storage.write("train/pyramid/p8/c/1/0/0/0", b"damaged in transit")
    with pytest.raises(C3Error, match="shard 1 of train/pyramid/p8 is damaged"):
        FeatureCache.open(url).read("train", "p8", 2, 4)
    cache.storage.delete("val/pyramid/p4/c/0/0/0/0")
    with pytest.raises(C3Error, match="shard 0 of val/pyramid/p4 is missing"):
        FeatureCache.open(url).read("val", "p4", 0, 1)
    assert "2 shards made again" in verify(url, repair=True)
    assert_same(url, options.out)
    shown = CliRunner().invoke(main, ["inspect", url, "--json"])
    assert shown.exit_code == 0, shown.output
    merge([url], f"{url}-copy")
    assert_same(f"{url}-copy", options.out)
    with pytest.raises(C3Error, match="was made by another request"):
        extract(replace(remote, weights="random:1"))
    assert "is complete" in extract(replace(remote, overwrite=True, limit=1))


def test_a_store_in_memory(options: ExtractOptions) -> None:
    walk(options, "memory://test/features.zarr")


def test_a_file_url_is_a_path(options: ExtractOptions, tmp_path: Path) -> None:
    extract(replace(options, out=f"file://{tmp_path}/u.zarr"))
    assert FeatureCache.open(tmp_path / "u.zarr").pending("train") == []


@pytest.mark.slow
def test_a_store_on_s3(options: ExtractOptions, s3: Callable[[int], Flaky]) -> None:
    walk(options, "s3://features/a/features.zarr")


@pytest.mark.slow
def test_dropped_connections_are_tried_again(options: ExtractOptions, s3: Callable[[int], Flaky]) -> None:
    extract(options)
    _forget_connections()
    proxy = s3(3)
    url = "s3://features/b/features.zarr"
    assert "is complete" in extract(replace(options, out=url))
    assert proxy.cut == 3
    assert_same(url, options.out)
    _forget_connections()
    proxy.left = 2
    assert_same(url, options.out)
    assert proxy.cut == 5


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("memory://nothing/here.zarr", "no feature store at memory://nothing/here.zarr"),
        ("nonsense://x/y.zarr", "nonsense"),
    ],
)
def test_urls_without_a_store_are_one_line(url: str, said: str) -> None:
    done = CliRunner().invoke(main, ["inspect", url])
    assert done.exit_code == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
