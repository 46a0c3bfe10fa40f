"""A stand-in for W&B's server, as far as `wandb sweep` and `wandb agent` ask it: it keeps a sweep and gives out trials."""

import http.server
import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

VIEWER = {"id": "1", "entity": "me", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []}}
PROJECT = {"id": "1", "name": "kjcm", "entity": {"id": "1", "name": "me"}}
OF_A_SWEEP = ("bestLoss", "updatedAt", "description", "displayName", "priorRuns", "controller", "scheduler")


class Sweeps:
    """What the server knows.

    Attributes:
        config: of the sweep that was made, as YAML.
        trials: parameters of the trials given out.
    """

    def __init__(self, wanted: int) -> None:
        self.wanted, self.config, self.trials = wanted, "", []  # type: ignore[var-annotated]

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertSweep" in query:
            self.config = variables["config"]
            return {"upsertSweep": {"sweep": {"name": "abcd1234", "project": PROJECT}, "configValidationWarnings": []}}
        if "createAgent" in query:
            return {"createAgent": {"agent": {"id": "agent"}}}
        if "agentHeartbeat" in query:
            return {"agentHeartbeat": {"agent": {"id": "agent"}, "commands": json.dumps(self._commands(variables))}}
        if "sweep(" in query:
            sweep = {
                "id": "s", "name": "abcd1234", "method": "random", "state": "RUNNING", "config": self.config, "runCount": 0,
                "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00", "earlyStopJobRunning": False,
                "runs": {"edges": []}, **dict.fromkeys(OF_A_SWEEP),
            }  # fmt: skip
            return {"project": {**PROJECT, "sweep": sweep}}
        return {"viewer": VIEWER, "serverInfo": {"cliVersionInfo": {"max_cli_version": "9.9.9"}, "features": []}}

    def _commands(self, variables: dict[str, Any]) -> list[dict[str, Any]]:
        if len(self.trials) < self.wanted:
            chance = random.Random(len(self.trials))
            parameters = yaml.safe_load(self.config)["parameters"]
            drawn = {key: chance.choice(node.get("values", [node.get("value")])) for key, node in parameters.items()}
            self.trials.append(drawn)
            args = {key: {"value": value} for key, value in drawn.items()}
            return [{"type": "run", "run_id": f"trial{len(self.trials)}", "program": "kjcm", "args": args}]
        return [] if any(json.loads(variables["runState"]).values()) else [{"type": "exit"}]


@contextmanager
def server(wanted: int) -> Iterator[tuple[str, Sweeps]]:
    """Give the address of a server of `wanted` trials, and what it knows."""
    sweeps = Sweeps(wanted)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = {}
            if self.path == "/graphql":
                found = json.loads(asked)
                said = {"data": sweeps.answer(found["query"], found.get("variables") or {})}
            body = json.dumps(said).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    found = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=found.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{found.server_port}", sweeps
    finally:
        found.shutdown()
