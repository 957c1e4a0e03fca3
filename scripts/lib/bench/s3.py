"""Object storage: storefs, rclone mount and, where it is installed, s3fs, over one S3 server.

Reading is measured on `rclone serve s3`, which is fast; writing on moto where that is installed,
because it honours conditions as the large services do. Each server is the same for all. Latency
and counts come from a proxy in this process.
"""

from __future__ import annotations

import os
import re
import shutil
import statistics
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from bench import candidates
from bench.calls import body
from bench.candidates import BIN, Broken, Mounted
from bench.figures import Figure, Goal
from bench.samples import Samples
from tests.servers.s3_proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from bench.stages import Scale

_KEY, _SECRET, _BUCKET = "bench-access-key", "bench-secret-key", "bench-bucket"
_DELAY = 0.02
_POLL = 1.0
_PATIENCE = 30.0


def run(base: Path, scale: Scale) -> Iterator[Figure]:
    """Every figure of object storage. Raises Broken, OSError."""
    base.mkdir(parents=True, exist_ok=True)
    with _rclone_server(base) as url:
        candidates.fill(base / "served" / _BUCKET / "auths", scale.few)
        for delay, limit in ((_DELAY, 0.2), (0.0, 0.7)):
            yield _cold(base, url, scale, delay, limit)
        yield _warm(base, url, scale)
    with writing_server(base) as url:
        yield _write(base, url, scale)
        yield from _changes(base, url, scale)
        yield _event(base, url, scale)


@contextmanager
def _rclone_server(base: Path) -> Iterator[str]:
    """rclone's S3 server over a directory of buckets, with our bucket."""
    store = base / "served"
    (store / _BUCKET).mkdir(parents=True, exist_ok=True)
    words = ["serve", "s3", str(store), "--addr", "127.0.0.1:0", "--auth-key", f"{_KEY},{_SECRET}"]
    with _serving(base / "rclone.log", str(BIN / "rclone"), *words) as url:
        yield url


@contextmanager
def writing_server(base: Path) -> Iterator[str]:
    """moto where it is installed, with ten documents; else rclone."""
    if not (BIN / "moto_server").exists():
        with _rclone_server(base) as url:
            yield url
        return
    with _serving(base / "moto.log", str(BIN / "moto_server"), "-H", "127.0.0.1", "-p", "0") as url:
        client = _client(url)
        client.create_bucket(Bucket=_BUCKET)  # type: ignore[attr-defined]
        for number in range(10):
            _put(client, f"auths/{name_of(number)}", body(number))
        yield url


@contextmanager
def _serving(log: Path, *command: str) -> Iterator[str]:
    """Run a server until the end of the block; yields the URL that it says it serves."""
    with open(log, "wb") as out:
        server = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *command],
            env={"PATH": os.environ["PATH"], "HOME": str(log.parent)},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )
    try:
        end = time.monotonic() + _PATIENCE
        while not (said := re.search(rb"http://127\.0\.0\.1:(\d+)", log.read_bytes())):
            if server.poll() is not None or time.monotonic() > end:
                raise Broken(f"the S3 server did not start:\n{log.read_text()}")
            time.sleep(0.01)
        yield f"http://127.0.0.1:{int(said[1])}"
    finally:
        server.kill()
        server.wait()


def name_of(number: int) -> str:
    """The names that `candidates.fill` gives."""
    return f"user-{number:06d}@example.com.json"


def storefs(base: Path, url: str) -> Mounted:
    """storefs over the bucket."""
    words = ["mount", str(base / "mnt"), "--foreground", "--mirror", str(base / "root")]
    variables = {
        "OBJECTSTORE_ENDPOINT": url,
        "OBJECTSTORE_BUCKET": _BUCKET,
        "OBJECTSTORE_ACCESS_KEY": _KEY,
        "OBJECTSTORE_SECRET_KEY": _SECRET,
        "STOREFS_POLL_INTERVAL": str(_POLL),
    }
    return Mounted("storefs", base, [str(BIN / "storefs"), *words], "auths", **variables)


def _rclone(base: Path, url: str) -> Mounted:
    """Its cache off: a write is in the store when `close` returns, as with storefs."""
    remote = f":s3,provider=Other,env_auth=false,force_path_style=true,endpoint='{url}',"
    remote += f"access_key_id={_KEY},secret_access_key={_SECRET}:{_BUCKET}"
    words = ["mount", remote, str(base / "mnt"), "--vfs-cache-mode", "off"]
    config = str(base / "rclone.conf")
    return Mounted("rclone", base, [str(BIN / "rclone"), *words], "auths", RCLONE_CONFIG=config)


def _s3fs(base: Path, url: str) -> Mounted:
    password = base / "password"
    base.mkdir(parents=True, exist_ok=True)
    password.write_text(f"{_KEY}:{_SECRET}")
    password.chmod(0o600)
    options = f"url={url},use_path_request_style,passwd_file={password},complement_stat"
    words = [_BUCKET, str(base / "mnt"), "-f", "-o", options]
    return Mounted("s3fs", base, ["s3fs", *words], "auths")


def _everybody() -> dict[str, Callable[[Path, str], Mounted]]:
    made: dict[str, Callable[[Path, str], Mounted]] = {"storefs": storefs, "rclone": _rclone}
    if shutil.which("s3fs"):
        made["s3fs"] = _s3fs
    return made


def _goals(found: dict[str, list[float]], limit: float) -> list[Goal]:
    """storefs against each of the others, median against median."""
    middle = {name: statistics.median(times) for name, times in found.items()}
    return [
        Goal(f"storefs / {name}", middle["storefs"] / middle[name], limit, "x")
        for name in middle
        if name != "storefs"
    ]


def _figure(
    key: str,
    what: str,
    scale: Scale,
    goals: list[Goal],
    found: dict[str, list[float]],
    **more: float,
) -> Figure:
    times = {
        name: Samples([[seconds * 1e6 for seconds in values]]).summary()
        for name, values in found.items()
    }
    return Figure(key, what, scale.few, goals, times, more=more)


def _cold(base: Path, url: str, scale: Scale, delay: float, limit: float) -> Figure:
    """Mount with nothing here, and read every document once."""
    found: dict[str, list[float]] = {}
    more: dict[str, float] = {}
    for number in range(max(1, scale.rounds // 2)):
        for name, make in _everybody().items():
            place = base / f"cold-{name}-{delay}-{number}"
            with Proxy(url, delay) as proxy:
                begun = time.perf_counter()
                with make(place, proxy.url if delay else url) as mounted:
                    count = _read_all(mounted.documents)
                    found.setdefault(name, []).append(time.perf_counter() - begun)
                if count != scale.few:
                    raise Broken(f"{name} shows {count} documents of {scale.few}")
                if delay:
                    more[f"{name}_requests"] = len(proxy.log)
    what = f"mount and read all, +{delay * 1000:g} ms" if delay else "mount and read all, S3"
    key = "s3_cold_far" if delay else "s3_cold"
    return _figure(key, what, scale, _goals(found, limit), found, **more)


def _read_all(directory: Path) -> int:
    names = os.listdir(directory)
    for name in names:
        with open(directory / name, "rb") as file:
            file.read()
    return len([name for name in names if name.endswith(".json")])


def _warm(base: Path, url: str, scale: Scale) -> Figure:
    """The requests of a restart with a full mirror."""
    with Proxy(url) as proxy:
        mounted = storefs(base / "warm", proxy.url)
        with mounted:
            pass
        proxy.forget()
        begun = time.perf_counter()
        with mounted:
            _read_all(mounted.documents)
            took = time.perf_counter() - begun
        below = [one for one in proxy.log if one.key.startswith(("auths/user", "config/"))]
        gets = sum(request.method == "GET" and not request.is_listing for request in below)
    goals = [Goal("GETs", gets, 0, "")]
    return _figure("s3_warm", "restart, mirror warm, S3", scale, goals, {"storefs": [took]})


def _write(base: Path, url: str, scale: Scale) -> Figure:
    """A document rewritten, against the same on memory plus a plain put in a thread."""
    found: dict[str, list[float]] = {}
    memory = candidates.memory(base / "write-memory")
    with storefs(base / "write", url) as mounted, memory:
        candidates.fill(memory.documents, 10)
        client = _client(url)
        for number in range(scale.writes):
            name = name_of(number % 10)
            data = body(time.time_ns())
            found.setdefault("storefs", []).append(
                _timed(lambda: _rewrite(mounted.documents / name, data))  # noqa: B023
            )
            plain = _timed(lambda: _rewrite(memory.documents / name, data))  # noqa: B023
            put = _timed(lambda: _in_thread(lambda: _put(client, f"plain/{name}", data)))  # noqa: B023
            found.setdefault("memory + put", []).append(plain + put)
    return _figure("s3_write", "O_TRUNC, write, close, S3", scale, _goals(found, 1.3), found)


def _put(client: object, key: str, data: bytes) -> None:
    client.put_object(  # type: ignore[attr-defined]
        Bucket=_BUCKET, Key=key, Body=data, ContentType="application/json"
    )


def _client(url: str) -> object:
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=_KEY,
        aws_secret_access_key=_SECRET,
        config=Config(s3={"addressing_style": "path"}),
    )


def _in_thread(call: Callable[[], None]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def _rewrite(path: Path, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(fd, data)
    os.close(fd)


def _timed(call: Callable[[], object]) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


def _changes(base: Path, url: str, scale: Scale) -> Iterator[Figure]:
    """Write, rename and unlink of one document, with the requests of each beside."""
    found: dict[str, dict[str, list[float]]] = {}
    requests: dict[str, dict[str, float]] = {}
    with ExitStack() as stack:
        mounts = {
            name: stack.enter_context(make(base / f"changes-{name}", url))
            for name, make in _everybody().items()
        }
        # One document after the other, each on every mount: what disturbs meets all of them.
        for number in range(scale.writes):
            for name, mounted in mounts.items():
                for operation, seconds in _operations(mounted.documents, name, number):
                    found.setdefault(operation, {}).setdefault(name, []).append(seconds)
    for name, make in _everybody().items():
        with Proxy(url) as proxy, make(base / f"count-{name}", proxy.url) as mounted:
            for operation, _ in _operations(mounted.documents, name, 0, proxy):
                sent = len([one for one in proxy.log if "bench-" in str(one)])
                requests.setdefault(operation, {})[f"{name}_requests"] = sent
    for operation, times in found.items():
        goals = _goals(times, 1.2)
        yield _figure(
            f"s3_{operation}", f"{operation}, S3", scale, goals, times, **requests[operation]
        )


def _operations(
    directory: Path, who: str, number: int, proxy: Proxy | None = None
) -> Iterator[tuple[str, float]]:
    """The changes of one document, and the seconds of each."""
    one, other = (directory / f"bench-{who}-{part}{number}.json" for part in ("", "to-"))
    steps: dict[str, Callable[[], object]] = {
        "create": lambda: _rewrite(one, body(number)),
        "rewrite": lambda: _rewrite(one, body(number + 1)),
        "rename": lambda: os.rename(one, other),
        "unlink": lambda: os.unlink(other),
    }
    for operation, call in steps.items():
        if proxy is not None:
            proxy.forget()
        yield operation, _timed(call)


def _event(base: Path, url: str, scale: Scale) -> Figure:
    """A change by another writer, until an inotify watch says so; the worst of all."""
    from inotify_simple import INotify, flags  # type: ignore[import-untyped, unused-ignore]

    times: list[float] = []
    client = _client(url)
    with storefs(base / "event", url) as mounted, INotify() as inotify:
        inotify.add_watch(mounted.documents, flags.MODIFY)
        for number in range(max(3, scale.changes // 5)):
            time.sleep((number * 0.37) % _POLL)  # at every phase of the poll
            begun = time.perf_counter()
            _put(client, f"auths/{name_of(1)}", body(time.time_ns()))
            if not inotify.read(timeout=int(_PATIENCE * 1000)):
                raise Broken("no event of a change by another writer")
            times.append(time.perf_counter() - begun)
            inotify.read(timeout=50)
    goal = Goal("longest", max(times) * 1e3, _POLL * 1e3 + 100, "ms")
    return _figure("s3_change", "change to event, S3", scale, [goal], {"storefs": times})
