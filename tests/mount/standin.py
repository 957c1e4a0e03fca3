"""A stand-in for the proxy: does to its files what the proxy does, believes what it would.

    python -m tests.mount.standin CONFIG AUTHDIR

Commands are JSON lines on stdin, one JSON line answers each. The command loop runs in the main
thread; `standin_watch` has its own. Like the proxy it changes its memory first and the file second,
and no failed write takes that back. `standin_client` drives it.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import re
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tests.mount.standin_belief import Belief, digest, document_of, loads_as_config
from tests.mount.standin_files import (
    GoFile,
    create,
    create_temp,
    marshal,
    mkdir_all,
    overwrite,
    read_file,
    remove,
    rename,
    same_value,
    write_file,
)
from tests.mount.standin_watch import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable

_REGISTER_DELAY = 0.0015


class StandIn:
    """Every public method is a command; its keyword arguments are the command's other keys."""

    def __init__(self, config: str, auths: str) -> None:
        self._config, self._auths = config, auths
        self._belief = Belief()
        self._watcher = Watcher(config, auths, self._belief)
        self._watcher.start()

    def belief(self) -> dict[str, Any]:
        return self._belief.report()

    def wait(self, version: int, timeout: float) -> dict[str, Any]:
        """Answers when the belief is newer than `version`, at the latest after `timeout`."""
        condition = self._belief.condition
        with condition:
            condition.wait_for(lambda: self._belief.version > version, timeout)
            return self._belief.report()

    def settle(self, timeout: float) -> dict[str, Any]:
        return {"idle": self._watcher.settle(timeout)}

    def save_token(self, name: str, metadata: dict[str, Any]) -> None:
        """FileTokenStore.Save of a credential that is in memory only."""
        path = self._path(name)
        document = {**metadata, "disabled": bool(metadata.get("disabled", False))}
        data = marshal(document)
        self._believe(name, data, document)
        if document["disabled"] and not os.path.exists(path):
            return
        mkdir_all(os.path.dirname(path), 0o700)
        try:
            existing = read_file(path)
        except FileNotFoundError:
            write_file(path, data, 0o600)
            return
        known = document_of(existing)
        if known is not None and same_value(known, document):
            self._believe(name, existing, document)
        else:
            overwrite(path, data, os.O_WRONLY | os.O_TRUNC)

    def save_from_memory(self, name: str, change: dict[str, Any]) -> None:
        """The save after a refresh or a request: all of what is remembered, `change` applied."""
        with self._belief.condition:
            metadata = self._belief.credentials[name][1]
        self.save_token(name, {**metadata, **change})

    def login(self, name: str, metadata: dict[str, Any]) -> None:
        """SaveTokenToFile: keys in the order given; extra fields of an older file are kept."""
        path = self._path(name)
        try:
            extra = document_of(read_file(path)) or {}
        except FileNotFoundError:
            extra = {}
        document = metadata | {key: extra[key] for key in extra if key not in metadata}
        data = marshal(document, sort=False) + b"\n"
        self._believe(name, data, document)
        mkdir_all(os.path.dirname(path), 0o700)
        create(path, data)

    def upload(self, name: str, data: str) -> dict[str, Any]:
        """The client's bytes (base64) as they are, then at once the canonical save of an object."""
        raw = base64.b64decode(data)
        write_file(self._path(name), raw, 0o600)
        document = document_of(raw)
        if document is None:
            return {"registered": False}
        time.sleep(_REGISTER_DELAY)
        self.save_token(name, document)
        return {"registered": True}

    def delete(self, name: str) -> None:
        """Unlinks twice, as the handler and then the store do; memory follows by event only."""
        remove(self._path(name))
        with suppress(FileNotFoundError):
            remove(self._path(name))

    def save_config(self, field: str, value: str) -> None:
        """A single-field change of the text that is in the file now."""
        self._store_config(_with_field(read_file(self._config), field, value))

    def save_config_from_memory(self, field: str | None, value: str) -> None:
        """The same as the proxy truly does it: reads the file, but writes what it remembers."""
        read_file(self._config)
        with self._belief.condition:
            text = self._belief.config
        self._store_config(_with_field(text, field, value) if field else text)

    def put_config(self, text: str) -> None:
        """PUT config.yaml: validated in a temporary file, written in place, fsynced, read back."""
        data = text.encode()
        directory = os.path.dirname(self._config)
        temporary = create_temp(directory, "config-validate-", ".yaml", data)
        try:
            if not loads_as_config(read_file(temporary)):
                raise OSError(errno.EINVAL, "the config does not parse")
            write_file(self._config, data, 0o644, sync=True)
            data = read_file(self._config)
            with self._belief.change():
                self._belief.config = data
        finally:
            remove(temporary)

    def cooldown(self, name: str, record: dict[str, Any]) -> dict[str, Any]:
        """The `.cds` file beside a credential, by temporary file and rename."""
        path = self._path(name).removesuffix(".json")
        directory, base = os.path.split(path)
        target = re.sub(r"[^A-Za-z0-9._-]+", "_", base) + ".cds"
        temporary = create_temp(directory, f"{target}.", ".tmp", marshal(record))
        rename(temporary, os.path.join(directory, target))
        return {"name": target}

    def oauth(self, provider: str, state: str, payload: str) -> dict[str, Any]:
        """One hand-over: a poll that finds nothing, the callback's file, the poll that takes it."""
        path = self._path(f".oauth-{provider}-{state}.oauth")
        try:
            read_file(path)
        except FileNotFoundError:
            write_file(path, payload.encode(), 0o600)
        data = read_file(path)
        remove(path)
        return {"payload": data.decode()}

    def append_log(self, lines: list[str]) -> None:
        """Small writes to logs/main.log: O_TRUNC when it is new, O_APPEND when it is there."""
        mkdir_all(self._path("logs"), 0o755)
        log = self._path("logs/main.log")
        there = os.path.exists(log)
        flags = os.O_APPEND if there else os.O_CREAT | os.O_TRUNC
        with GoFile(log, os.O_WRONLY | flags, 0o644 if there else 0o600) as file:
            for line in lines:
                file.write(line.encode())

    def rotate_log(self) -> dict[str, Any]:
        """logs/main.log moves aside and begins anew with the same mode."""
        log = self._path("logs/main.log")
        mode = os.stat(log).st_mode & 0o7777
        backup = f"main-{time.strftime('%Y-%m-%dT%H-%M-%S')}-{time.time_ns() % 1000:03}.log"
        rename(log, self._path(f"logs/{backup}"))
        write_file(log, b"", mode)
        return {"backup": backup}

    def read(self, path: str) -> dict[str, Any]:
        """One read as Go reads; a relative path lies below the auth directory."""
        data = read_file(self._path(path))
        return {"data": base64.b64encode(data).decode(), "sha256": digest(data)}

    def _path(self, name: str) -> str:
        return os.path.join(self._auths, name)

    def _believe(self, name: str, data: bytes, document: dict[str, Any]) -> None:
        with self._belief.change():
            self._belief.credentials[name] = (digest(data), document)

    def _store_config(self, data: bytes) -> None:
        with self._belief.change():
            self._belief.config = data
        create(self._config, data)


def _with_field(config: bytes, field: str, value: str) -> bytes:
    """The text with one top-level field set, the lines indented below the old value dropped."""
    line = f"{field}: {value}"
    old = re.compile(rf"^{re.escape(field)}:.*(?:\n[ \t-].*)*", re.MULTILINE)
    text = config.decode("utf-8", "surrogateescape")
    text, found = old.subn(lambda _: line, text, count=1)
    if not found:
        text = text.rstrip("\n") + f"\n{line}\n"
    return text.encode("utf-8", "surrogateescape")


def _answer(act: Callable[..., dict[str, Any] | None], /, **arguments: Any) -> dict[str, Any]:
    try:
        return {"ok": True, "error": None, **(act(**arguments) or {})}
    except OSError as error:
        name = errno.errorcode.get(error.errno or 0)
        return {"ok": False, "error": name, "message": str(error)}
    except (KeyError, TypeError, ValueError) as mistake:
        return {"ok": False, "error": None, "message": repr(mistake)}


def _die(failed: threading.ExceptHookArgs) -> None:
    """A watcher that died unseen would believe old things for ever."""
    sys.excepthook(failed.exc_type, failed.exc_value or failed.exc_type(), failed.exc_traceback)
    sys.stderr.flush()
    os._exit(70)


def _serve(standin: StandIn) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        if do == "quit":
            print(json.dumps({"ok": True, "error": None}), flush=True)
            return
        print(json.dumps(_answer(getattr(standin, do), **command)), flush=True)


def main() -> None:
    threading.excepthook = _die
    started: list[StandIn] = []
    ready = _answer(lambda: started.append(StandIn(*map(os.path.abspath, sys.argv[1:3]))))
    print(json.dumps(ready), flush=True)
    if started:
        _serve(started[0])


if __name__ == "__main__":
    main()
