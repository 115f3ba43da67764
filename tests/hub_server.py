"""A server on 127.0.0.1 that speaks the paths of the Hugging Face hub, and can fail in the ways that a hub fails."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Hub:
    """The repositories of a server, and what it does wrong."""

    url: str = ""
    large_files: str = ""  # the address of another server, which has the large files
    # repository: revision: commit, and commit: file: content
    revisions: dict[str, dict[str, str]] = field(default_factory=dict)
    files: dict[str, dict[str, bytes]] = field(default_factory=dict)
    large: tuple[str, ...] = ("model.safetensors", "pytorch_model.bin")  # kept elsewhere, and reached by a redirect
    token: str = ""  # that a gated repository wants
    absent: tuple[str, ...] = ()  # files that are listed, and not there
    damaged: tuple[str, ...] = ()  # files with another content than their checksum
    broken: tuple[str, ...] = ()  # files whose connection breaks off in the middle: twice, or always without `resumes`
    resumes: bool = True  # whether Range is understood
    status: int = 0  # of all answers
    requests: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, directory: Path, commit: str = FIRST, revision: str = "main", **more: bytes) -> None:
        """Publish the files of a directory as a commit."""
        content = {path.name: path.read_bytes() for path in sorted(directory.iterdir()) if path.is_file()}
        self.files[f"{name}@{commit}"] = {**content, **more}
        self.revisions.setdefault(name, {})[revision] = commit

    def downloaded(self) -> list[str]:
        """Return the names of the files that were downloaded."""
        return [
            path.rpartition("/")[2]
            for method, path in self.requests
            if method == "GET" and ("/resolve/" in path or path.startswith("/cdn/"))
        ]


def etag(name: str, content: bytes, hub: Hub) -> str:
    if name in hub.large:
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def _answer(self) -> None:
        hub, path = self.hub, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        if hub.status:
            return self._send(hub.status)
        parts = path.strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        name = "/".join(parts[2:4] if is_api else parts[1:3] if parts[0] == "cdn" else parts[:2])
        if name not in hub.revisions:
            return self._send(401, X_Error_Message="Invalid username or password.")
        if hub.token and self.headers.get("authorization") != f"Bearer {hub.token}" and parts[0] != "cdn":
            return self._send(401, X_Error_Code="GatedRepo", X_Error_Message="Access is restricted.")
        if is_api:
            return self._describe(name, "/".join(parts[5:]) or "main")
        if parts[0] == "cdn":
            return self._content(hub.files[f"{name}@{parts[3]}"][parts[4]], parts[4])
        return self._resolve(name, "/".join(parts[3:-1]), parts[-1])

    def _commit(self, name: str, revision: str) -> str | None:
        commits = self.hub.revisions[name]
        return commits.get(revision) or next((commit for commit in commits.values() if commit == revision), None)

    def _describe(self, name: str, revision: str) -> None:
        commit = self._commit(name, revision)
        if commit is None:
            return self._send(404, X_Error_Code="RevisionNotFound")
        files = self.hub.files[f"{name}@{commit}"]
        siblings = [{"rfilename": file, "size": len(content)} for file, content in files.items()]
        answer = {"id": name, "modelId": name, "sha": commit, "siblings": siblings}
        self._send(200, json.dumps(answer).encode(), Content_Type="application/json")

    def _resolve(self, name: str, revision: str, file: str) -> None:
        hub, commit = self.hub, self._commit(name, revision)
        if commit is None:
            return self._send(404, X_Error_Code="RevisionNotFound")
        content = hub.files[f"{name}@{commit}"].get(file)
        if content is None or file in hub.absent:
            return self._send(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        of_file = {"X_Repo_Commit": commit, "ETag": f'"{etag(file, content, hub)}"'}
        if file in hub.large:
            of_file |= {"X_Linked_Etag": of_file["ETag"], "X_Linked_Size": str(len(content))}
            return self._send(302, Location=f"{hub.large_files}/cdn/{name}/{commit}/{file}", **of_file)
        if self.command == "HEAD":
            return self._send(200, Content_Length=str(len(content)), **of_file)
        return self._content(content, file, **of_file)

    def _content(self, content: bytes, file: str, **headers: str) -> None:
        hub = self.hub
        if file in hub.damaged:
            content = content[:-1] + bytes([content[-1] ^ 1])
        start, size = 0, len(content)
        if hub.resumes and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").split("-")[0])
            headers["Content_Range"] = f"bytes {start}-{size - 1}/{size}"
        part = content[start:]
        headers["Content_Length"] = str(len(part))
        tries = sum(method == "GET" and path.endswith(f"/{file}") for method, path in hub.requests)
        if file in hub.broken and (not hub.resumes or tries <= 2):
            part = part[: len(part) // 2]
            self.close_connection = True
        self._send(206 if start else 200, part, **headers)


@contextmanager
def serve() -> Iterator[Hub]:
    """Run a server during the block."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.large_files = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True) for server in servers
    ]
    for server, thread in zip(servers, threads, strict=True):
        server.daemon_threads = True
        thread.start()
    try:
        yield hub
    finally:
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            server.server_close()
            thread.join()
