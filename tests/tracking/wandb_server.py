"""A stand-in for W&B's server on the loopback: runs, their points and files, saved views, and one sweep with its agents."""

import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

PROJECT = {"id": "project", "name": "kjcm", "entity": {"id": "entity", "name": "me"}}
PATIENCE = 300  # seconds that W&B's own process may take to start and to reach the server
VIEWER = {"id": "user", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}


@dataclass
class Server:
    """What the server was told.

    Attributes:
        trials: keys and values of the trials that an agent is given, one after the other.
        status: HTTP status of every answer, or of those whose path `fails` matches.
        fails: pattern of the paths that get `status`.
        projects: names of the projects of the entity `me`.
        views: saved views as sent, each with its id.
        runs: id -> what the run said when it began (its latest upsertBucket).
        points: id -> points of its history, as sent.
        exits: id -> exit code.
        sweep: the sweep's config as YAML.
        asked: names of the operations asked for.
        artifacts: what was said of each.
    """

    trials: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200
    fails: str = ""
    projects: list[str] = field(default_factory=lambda: ["kjcm"])
    views: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    points: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    exits: dict[str, int] = field(default_factory=dict)
    sweep: str = ""
    asked: list[str] = field(default_factory=list)
    artifacts: list[dict[str, Any]] = field(default_factory=list)
    given: int = 0

    def start(self) -> None:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status = server.status if re.search(server.fails, self.path) else 200
                denied = {"errors": [{"message": "permission denied"}]}
                data = json.dumps(denied if status != 200 else server.answer(self.path, body)).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST

            def log_message(self, *_: object) -> None:
                pass

        class Listening(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128  # of the default 5 a busy machine drops connections

        self._http = Listening(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Be there no more."""
        self._http.shutdown()
        self._http.server_close()

    def answer(self, path: str, body: bytes) -> dict[str, Any]:
        if path == "/graphql":
            asked = json.loads(body)
            name = re.match(r"\s*\w+\s+(\w+)", asked["query"])
            assert name
            self.asked.append(name[1])
            answer = getattr(self, f"_{name[1]}", None)
            return {"data": answer(asked.get("variables") or {}) if answer else {}}
        if stream := re.fullmatch(r"/files/me/kjcm/(\w+)/file_stream", path):
            told = json.loads(body)
            history = told.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
            lines = [json.loads(line) for line in history["content"]]
            self.points.setdefault(stream[1], [])[history["offset"] : history["offset"] + len(lines)] = lines
            if told.get("complete"):
                self.exits[stream[1]] = told["exitcode"]
        return {}

    def _Viewer(self, _: Any) -> Any:
        return {"viewer": VIEWER}

    def _GetDefaultEntity(self, _: Any) -> Any:
        return {"viewer": VIEWER}

    def _ServerFeaturesQuery(self, _: Any) -> Any:
        return {"serverInfo": {"features": []}}

    def _GetProjects(self, _: Any) -> Any:
        nodes = [{"__typename": "Project", "id": name, "name": name, "entityName": "me", "createdAt": "2026-01-01T00:00:00",
                  "isBenchmark": False, "user": None} for name in self.projects]  # fmt: skip
        page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
        return {"models": {"pageInfo": page, "edges": [{"node": node} for node in nodes]}}

    def _ProjectViews(self, asked: Any) -> Any:
        """Answer with one view per page."""
        if asked["entity"] != "me" or asked["project"] not in self.projects:
            return {"project": None}
        own = [view for view in self.views if view["type"] == asked["type"] and view["projectName"] == asked["project"]]
        at = int(asked["after"] or 0)
        edges = [{"node": {key: view[key] for key in ("id", "name", "displayName")}} for view in own[at : at + 1]]
        page = {"endCursor": str(at + 1), "hasNextPage": at + 1 < len(own)}
        return {"project": {"allViews": {"edges": edges, "pageInfo": page}}}

    def _upsertView(self, asked: Any) -> Any:
        known = {view["id"]: view for view in self.views}
        view = known.get(asked.get("id"))
        if view is None:
            self.views.append(view := {"id": f"view{len(self.views)}"})
        view.update({key: value for key, value in asked.items() if key != "id"})
        project = {"id": view["projectName"], "name": view["projectName"], "entityName": view["entityName"]}
        answer = {**view, "project": project, "updatedAt": "2026-01-01T00:00:00"}
        return {"upsertView": {"view": answer, "inserted": view["id"] not in known}}

    _UpsertView2 = _upsertView

    def _RunResumeStatus(self, asked: Any) -> Any:
        if asked["name"] not in self.runs:
            return {"model": {**PROJECT, "bucket": None}}
        points, run = self.points.get(asked["name"], []), self.runs[asked["name"]]
        bucket = {
            "id": "run", "name": asked["name"], "displayName": run["displayName"], "summaryMetrics": "{}", "logLineCount": 0,
            "historyLineCount": len(points), "eventsLineCount": 0, "eventsTail": "[]", "config": run["config"], "tags": [],
            "historyTail": json.dumps([json.dumps(point) for point in points[-1:]]), "notes": "",
            "wandbConfig": json.dumps({"t": 1}),  # without it the run counts as never begun
        }  # fmt: skip
        return {"model": {**PROJECT, "bucket": bucket}}

    def _UpsertBucket(self, asked: Any) -> Any:
        self.runs.setdefault(asked["name"], {}).update(
            {key: value for key, value in asked.items() if value is not None}
        )
        bucket = {
            "id": "run", "name": asked["name"], "displayName": asked["displayName"], "description": None, "config": "{}",
            "sweepName": asked.get("sweep"), "project": PROJECT, "historyLineCount": 0,
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def _CreateRunFiles(self, asked: Any) -> Any:
        files = [{"name": name, "uploadUrl": f"{self.address}/upload/{name}"} for name in asked["files"]]
        return {"createRunFiles": {"runID": "run", "uploadHeaders": [], "files": files}}

    def _ArtifactType(self, _: Any) -> Any:
        return {"project": {"artifact": None}}

    def _CreateArtifact(self, asked: Any) -> Any:
        self.artifacts.append(asked.get("input", asked))
        sequence = {"id": "sequence", "latestArtifact": None}
        return {"createArtifact": {"artifact": {"id": "artifact", "state": "COMMITTED", "artifactSequence": sequence}}}

    def _UseArtifact(self, _: Any) -> Any:
        return {"useArtifact": {"artifact": {"id": "artifact"}}}

    def _UpsertSweep(self, asked: Any) -> Any:
        self.sweep = asked["config"]
        return {"upsertSweep": {"sweep": {"name": "abcd1234", "project": PROJECT}, "configValidationWarnings": []}}

    def _SweepWithRuns(self, _: Any) -> Any:
        sweep = {"id": "sweep", "name": "abcd1234", "method": "grid", "state": "RUNNING", "config": self.sweep}
        return {"project": {"sweep": {**sweep, "runs": {"edges": []}}}}

    def _CreateAgent(self, _: Any) -> Any:
        return {"createAgent": {"agent": {"id": "agent"}}}

    def _Heartbeat(self, asked: Any) -> Any:
        commands: list[dict[str, Any]] = []
        if not json.loads(asked["runState"]):
            if self.given < len(self.trials):
                args = {key: {"value": value} for key, value in self.trials[self.given].items()}
                self.given += 1
                commands = [{"type": "run", "run_id": f"trial{self.given}", "program": "kjcm", "args": args}]
            else:
                commands = [{"type": "exit"}]
        return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(commands)}}


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Yield a server to which W&B in this process sends, with a key that it accepts.

    W&B's own process may start slowly on a busy machine. Without a longer wait the run would be offline.
    """
    import wandb

    found = Server()
    found.start()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", found.address)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_X_SERVICE_WAIT", str(PATIENCE))
    monkeypatch.setattr("kjcm.tracking.wandb_run.CONNECT", PATIENCE)
    wandb.teardown()  # what an earlier test made W&B believe of its server
    yield found
    found.stop()
    wandb.teardown()
