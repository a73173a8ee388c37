"""A hub on 127.0.0.1 that speaks as much of the API as the client asks for."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Hub:
    """One repository and what was asked of it. `cut` drops one response of that file half-way, and where it
    `breaks` all later ones are refused while `broken`."""

    repository: str
    files: dict[str, bytes]
    revisions: tuple[str, ...] = ("main", COMMIT)
    refusal: tuple[int, str] | None = None
    cut: str | None = None
    breaks: bool = True
    broken: bool = False
    endpoint: str = ""
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    def fetched(self, name: str) -> list[str | None]:
        """The Range headers of the requests for a file's bytes."""
        return [span for method, path, span in self.requests if method == "GET" and path.endswith("/" + name)]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        hub, path = self.hub, self.path.split("?")[0]
        hub.requests.append((self.command, path, self.headers.get("Range")))
        api, resolve = f"/api/models/{hub.repository}/", f"/{hub.repository}/resolve/"
        if not path.startswith((api, resolve)):
            self.reply(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif hub.refusal:
            status, code = hub.refusal
            self.reply(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})
        elif path.startswith(api):
            kind, revision = path.removeprefix(api).split("/", 1)
            if revision not in hub.revisions:
                self.reply(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            else:
                self.reply_json(self.tree() if kind == "tree" else {"id": hub.repository, "sha": COMMIT})
        else:
            self.file(path.removeprefix(resolve).split("/", 1)[1])

    def tree(self) -> list[dict[str, Any]]:
        return [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.hub.files.items()
        ]

    def file(self, name: str) -> None:
        data = self.hub.files[name]
        headers = {
            "ETag": f'"{hashlib.sha256(data).hexdigest()}"',
            "X-Repo-Commit": COMMIT,
            "Accept-Ranges": "bytes",
        }
        if self.command == "GET" and self.hub.broken:
            self.reply(500, b"", {})
            return
        start = 0
        if span := self.headers.get("Range"):
            start = int(span.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        if self.command == "GET" and self.hub.cut == name:
            self.hub.cut, self.hub.broken = None, self.hub.breaks
            self.reply(200, data, headers, sent=len(data) // 2)
            self.close_connection = True
            return
        self.reply(206 if start else 200, data[start:], headers)

    def reply_json(self, value: Any) -> None:
        self.reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def reply(self, status: int, body: bytes, headers: dict[str, str], sent: int | None = None) -> None:
        self.send_response(status)
        for item in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(*item)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:sent])


@contextmanager
def serve(repository: str, folder: Path, **options: Any) -> Iterator[Hub]:
    """A hub with one repository that holds the files of `folder`."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    hub = Hub(repository, files, **options)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
