"""A stand-in for the Hugging Face hub on the loopback: repositories with branches and commits, files by Git and by LFS.

Files of `*.safetensors`, `*.bin` and `*.model` are LFS files. They are stored under another host name, as on the hub's
CDN, which must never see the token.
"""

import base64
import hashlib
import http.server
import json
import re
import socket
import struct
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

LFS = (".safetensors", ".bin", ".model")
MADE = "1" * 40  # first commit of every repository

Files = dict[str, bytes]


@dataclass
class Repository:
    """A repository: branch -> its commits' ids, the latest last; and commit -> files."""

    private: bool = False
    branches: dict[str, list[str]] = field(default_factory=lambda: {"main": [MADE]})
    commits: dict[str, Files] = field(default_factory=lambda: {MADE: {".gitattributes": b"*.bin filter=lfs\n"}})
    messages: list[str] = field(default_factory=list)

    def commit_of(self, revision: str) -> str | None:
        if revision in self.branches:
            return self.branches[revision][-1]
        return next((commit for commit in self.commits if commit.startswith(revision)), None)

    def add(self, branch: str, files: Files, message: str) -> str:
        commit = hashlib.sha1(f"{message}{len(self.commits)}".encode()).hexdigest()
        self.commits[commit] = files
        self.branches[branch].append(commit)
        self.messages.append(message)
        return commit


@dataclass
class Hub:
    """The server and what it was sent.

    Attributes:
        token: of the user, who may write everywhere; any other token is refused.
        repositories: ORG/NAME -> repository.
        stored: SHA-256 -> LFS file.
        faults: end of a file's name -> what goes wrong when it is fetched: `drop` (the connection is reset in the middle),
            `half` (it is closed early, though Content-Length says more), or an HTTP status.
        asked: method and path of each request.
        tokens: tokens seen by the hub, and by its CDN.
    """

    token: str = "hf_secret"
    repositories: dict[str, Repository] = field(default_factory=dict)
    stored: Files = field(default_factory=dict)
    faults: dict[str, str | int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    tokens: dict[str, set[str | None]] = field(default_factory=lambda: {"hub": set(), "cdn": set()})

    def start(self) -> None:
        hub = self

        class Handler(_Handler):
            server_of = hub

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        port = self._http.server_port
        self.address, self.cdn = f"http://127.0.0.1:{port}", f"http://localhost:{port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be there no more."""
        self._http.shutdown()
        self._http.server_close()

    def publish(self, name: str, folder: Path, *, private: bool = False) -> Repository:
        """Put the files of a folder into a new repository."""
        made = self.repositories[name] = Repository(private)
        files = {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        made.add("main", files, "published")
        return made

    def files(self, name: str, revision: str = "main") -> Files:
        """Return the files of a repository."""
        repository = self.repositories[name]
        commit = repository.commit_of(revision)
        assert commit
        return repository.commits[commit]


class Refused(Exception):
    """An answer with a status of 400 or more.

    Args:
        status: HTTP status.
        code: the hub's own word for it.
        message: what it says.
    """

    def __init__(self, status: int, code: str = "", message: str = "") -> None:
        super().__init__(status, code, message)
        self.status, self.headers = status, {"X-Error-Code": code, "X-Error-Message": message}


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers a request by the first of `ROUTES` whose pattern is its method and path."""

    server_of: Hub
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            while size := int(self.rfile.readline(), 16):
                self.body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        hub, url = self.server_of, urlsplit(self.path)
        self.query = parse_qs(url.query)
        asked = f"{self.command} {url.path}"
        hub.asked.append(asked)
        self.token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        hub.tokens["cdn" if self.headers["Host"].startswith("localhost") else "hub"].add(self.token)
        try:
            if self.token not in (None, hub.token):
                raise Refused(401, message="Invalid credentials in Authorization header")
            for pattern, answer in ROUTES:
                if found := re.fullmatch(pattern, asked):
                    return answer(self, *map(unquote, found.groups()))
            raise Refused(404)
        except Refused as refused:
            self.reply(b"{}", refused.status, refused.headers)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def reply(
        self, data: bytes, status: int = 200, headers: Mapping[str, str] | None = None, fault: Any = None
    ) -> None:
        """Send an answer, or what a fault leaves of it."""
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), "Connection": "close", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        if self.command == "HEAD":
            return
        self.wfile.write(data[: len(data) // 2] if fault else data)
        if fault == "drop":
            self.wfile.flush()
            self.connection.setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
            )  # reset, no goodbye
            self.connection.close()

    def reply_json(self, value: Any) -> None:
        self.reply(json.dumps(value).encode(), headers={"Content-Type": "application/json"})

    def log_message(self, *_: object) -> None:
        pass

    def repository(self, name: str) -> Repository:
        """Return a repository that the user may read."""
        found = self.server_of.repositories.get(name)
        if found is None or (found.private and not self.token):
            raise Refused(404, "RepoNotFound") if self.token else Refused(401, message="Invalid username or password.")
        return found

    def require_writer(self) -> None:
        if not self.token:
            raise Refused(401, message="Invalid username or password.")

    def commit(self, name: str, revision: str) -> tuple[Repository, str]:
        found = self.repository(name)
        commit = found.commit_of(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound")
        return found, commit

    def info(self, name: str, revision: str = "main") -> None:
        found, commit = self.commit(name, revision)
        names = [{"rfilename": file} for file in found.commits[commit]]
        self.reply_json({"id": name, "modelId": name, "sha": commit, "private": found.private, "siblings": names})

    def tree(self, name: str, revision: str) -> None:
        found, commit = self.commit(name, revision)
        self.reply_json([_entry(file, data) for file, data in found.commits[commit].items()])

    def resolve(self, name: str, revision: str, file: str) -> None:
        found, commit = self.commit(name, revision)
        data = found.commits[commit].get(file)
        headers = {"X-Repo-Commit": commit}
        if data is None:
            raise Refused(404, "EntryNotFound")
        if isinstance(status := self.fault(file), int):
            raise Refused(status)
        entry = _entry(file, data)
        if "lfs" in entry:
            headers |= {"X-Linked-Etag": f'"{entry["lfs"]["oid"]}"', "X-Linked-Size": str(len(data))}
            self.server_of.stored[entry["lfs"]["oid"]] = data
            location = f"{self.server_of.cdn}/cdn/{entry['lfs']['oid']}/{file}"
            return self.reply(b"", 302, {**headers, "Location": location})
        self.send_file(file, data, {**headers, "ETag": f'"{entry["oid"]}"'})

    def from_cdn(self, oid: str, file: str) -> None:
        self.send_file(file, self.server_of.stored[oid], {})

    def send_file(self, file: str, data: bytes, headers: Mapping[str, str]) -> None:
        fault = self.fault(file)
        if begin := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(begin[1])
            about = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
            return self.reply(data[start:], 206, {**headers, **about}, fault)
        self.reply(data, 200, headers, fault)

    def fault(self, file: str) -> str | int | None:
        return next((fault for end, fault in self.server_of.faults.items() if file.endswith(end)), None)

    def create(self) -> None:
        self.require_writer()
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.server_of.repositories:
            raise Refused(409, message="You already created this model repo")
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server_of.repositories[name] = Repository(private)
        self.reply_json({"url": f"{self.server_of.address}/{name}", "name": name})

    def branch(self, name: str, branch: str) -> None:
        self.require_writer()
        found, commit = self.commit(name, json.loads(self.body or b"{}").get("startingPoint", "main"))
        found.branches[branch] = [commit]
        self.reply_json({})

    def preupload(self, name: str, revision: str) -> None:
        self.require_writer()
        found, commit = self.commit(name, revision)
        there = {file: _entry(file, data) for file, data in found.commits[commit].items()}
        files = [
            {
                "path": one["path"],
                "uploadMode": "lfs" if one["path"].endswith(LFS) else "regular",
                "shouldIgnore": False,
                "oid": (entry := there.get(one["path"], {})).get("lfs", entry).get("oid"),
            }
            for one in json.loads(self.body)["files"]
        ]
        self.reply_json({"files": files})

    def batch(self, name: str) -> None:
        self.require_writer()
        self.repository(name)
        objects = []
        for one in json.loads(self.body)["objects"]:
            actions = {
                "upload": {"href": f"{self.server_of.cdn}/lfs/{one['oid']}", "header": {}},
                "verify": {"href": f"{self.server_of.address}/verify", "header": {}},
            }
            objects.append(one if one["oid"] in self.server_of.stored else {**one, "actions": actions})
        self.reply_json({"transfer": "basic", "objects": objects})

    def put(self, oid: str) -> None:
        if isinstance(status := self.fault("upload"), int):
            raise Refused(status)
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server_of.stored[oid] = self.body
        self.reply(b"")

    def verify(self) -> None:
        self.require_writer()
        asked = json.loads(self.body)
        if len(self.server_of.stored.get(asked["oid"], b"")) != asked["size"]:
            raise Refused(404)
        self.reply_json({})

    def receive(self, name: str, branch: str) -> None:
        self.require_writer()
        found, parent = self.commit(name, branch)
        header, *lines = [json.loads(line) for line in self.body.splitlines()]
        if header["value"].get("parentCommit") not in (None, parent):
            raise Refused(412, message="A commit has happened since")
        files = dict(found.commits[parent])
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server_of.stored[value["oid"]]
            else:
                assert line["key"] == "deletedFile"
                del files[value["path"]]
        made = found.add(branch, files, header["value"]["summary"])
        address = f"{self.server_of.address}/{name}/commit/{made}"
        self.reply_json({"success": True, "commitOid": made, "commitUrl": address})

    def validate(self) -> None:
        assert json.loads(self.body)["content"].startswith("---\n")
        self.reply_json({"errors": [], "warnings": []})


def _entry(file: str, data: bytes) -> dict[str, Any]:
    """Return a file's entry in the tree: Git's own id, which is of the pointer for an LFS file."""
    entry: dict[str, Any] = {"type": "file", "path": file, "size": len(data)}
    if file.endswith(LFS):
        oid = hashlib.sha256(data).hexdigest()
        entry["lfs"] = {"oid": oid, "size": len(data), "pointerSize": 134}
        data = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(data)}\n".encode()
    return {**entry, "oid": hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()}


NAMED = r"([^/]+/[^/]+)"
ROUTES = [
    (rf"GET /api/models/{NAMED}", _Handler.info),
    (rf"GET /api/models/{NAMED}/revision/([^/]+)", _Handler.info),
    (rf"GET /api/models/{NAMED}/tree/([^/]+)", _Handler.tree),
    (rf"(?:GET|HEAD) /{NAMED}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (r"(?:GET|HEAD) /cdn/([0-9a-f]+)/(.+)", _Handler.from_cdn),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.validate),
    (rf"POST /api/models/{NAMED}/branch/([^/]+)", _Handler.branch),
    (rf"POST /api/models/{NAMED}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST /{NAMED}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /lfs/([0-9a-f]+)", _Handler.put),
    (r"POST /verify", _Handler.verify),
    (rf"POST /api/models/{NAMED}/commit/([^/]+)", _Handler.receive),
]  # fmt: skip
