"""`sweep.stop_after`, `sweep.on_failure` and `sweep.on_end`: what they get, and that they never fail a sweep."""

import http.server
import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from kjcm.run_folder.states import Entry
from kjcm.sweeps import hooks
from tests.conftest import command

TABLE = (
    "train", "-m", "model=linear", "data=table", "data.columns.code=code", "data.cutoff=0", "data.level=null", "logger=[]",
    "classification=from_data", "hydra.sweep.dir=swept",
)  # fmt: skip


@pytest.fixture
def table(here: Path) -> Path:
    """A working folder with rows.csv, which trains, and nothing else."""
    tasks = [f"{task} {number}호" for number in range(20) for task in ("예금 상담", "택시 운전", "벼농사")]
    codes = ["320", "873", "611"] * 20
    frame = pd.DataFrame({"id": range(60), "workplace": "회사", "position": "대표", "task": tasks, "code": codes})
    frame.to_csv("rows.csv", index=False)
    return here


@pytest.fixture
def writes(here: Path) -> str:
    """A hook that appends what it gets to heard.jsonl."""
    script = "import sys; open('heard.jsonl', 'ab').write(sys.stdin.buffer.read() + b'\\n')"
    (here / "hook.py").write_text(script)
    return f"{sys.executable} hook.py"


def heard() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("heard.jsonl").read_text(encoding="utf-8").splitlines()]


class Server(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted; answers /refuse with 500."""

    got: ClassVar[list[tuple[str, dict[str, Any]]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.got.append((self.path, body))
        self.send_response(500 if "refuse" in self.path else 302 if "moved" in self.path else 200)
        self.send_header("Location", "/elsewhere")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


class Garbage(socketserver.BaseRequestHandler):
    """Answers no HTTP."""

    def handle(self) -> None:
        self.request.recv(1000)
        self.request.sendall(b"garbage\r\n")


@pytest.fixture
def address() -> Iterator[str]:
    Server.got.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_command_hears_of_failures_and_of_the_end(table: Path, writes: str) -> None:
    own = (f"sweep.on_failure='{writes}'", f"sweep.on_end='{writes}'")
    assert command(*TABLE, "data.path=none.csv,rows.csv", *own) == 1
    failure, end = heard()
    assert (failure["event"], failure["command"], failure["sweep"]) == ("failure", "train", str(table / "swept"))
    assert (
        failure["job"]["number"] == 1 and failure["job"]["state"] == "failed" and "none.csv" in failure["job"]["reason"]
    )
    assert failure["job"]["overrides"]["data.path"] == "none.csv" and "none.csv" in failure["text"]
    assert end["event"] == "end" and end["states"] == {"failed": 1, "finished": 1} and end["exit_code"] == 1
    assert [job["number"] for job in end["jobs"]] == [1, 2]
    done = end["jobs"][1]
    assert done["metrics"]["accuracy"] >= 0 and Path(done["folder"], "DONE").exists() and done["seconds"] > 0
    assert "호" not in Path("heard.jsonl").read_text(encoding="utf-8")
    assert command(*TABLE, "data.path=none.csv,rows.csv", *own) == 1  # nothing runs: the end alone is told
    assert [one["event"] for one in heard()] == ["failure", "end", "end"]


def test_an_address_gets_the_same_and_is_kept_secret(
    table: Path, address: str, capfd: pytest.CaptureFixture[str]
) -> None:
    own = (f"sweep.on_failure={address}/hush", f"sweep.on_end={address}/refuse/hush")
    assert command(*TABLE, "data.path=none.csv,rows.csv", *own) == 1
    assert [(path, body["event"]) for path, body in Server.got] == [("/hush", "failure"), ("/refuse/hush", "end")]
    out, error = capfd.readouterr()
    assert "500" in out + error and address.removeprefix("http://") in out + error and "hush" not in out + error
    for file in Path("runs").rglob("*"):
        if file.is_file():
            assert b"hush" not in file.read_bytes(), file


@pytest.mark.parametrize(
    "hook", ["none-such --now", "false", f"'{sys.executable} -c 1/0'", "http://127.0.0.1:9/x", "http://[x"]
)
def test_a_hook_that_fails_changes_nothing(table: Path, hook: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert command(*TABLE, "data.path=rows.csv", "model.C=1,2", f"sweep.on_end={hook}") == 0
    out, error = capfd.readouterr()
    assert "sweep.on_end" in out + error and "2 finished" in out


def test_a_server_that_speaks_no_http_changes_nothing(table: Path, capfd: pytest.CaptureFixture[str]) -> None:
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Garbage)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}/hush"
    assert command(*TABLE, "data.path=none.csv,rows.csv", f"sweep.on_failure={address}", f"sweep.on_end={address}") == 1
    server.shutdown()
    server.server_close()
    out, error = capfd.readouterr()
    assert "1 failed, 1 finished" in out and "BadStatusLine" in out + error and "hush" not in out + error


def test_answers_in_a_reason_are_left_out(table: Path, writes: str) -> None:
    words = [word for word in TABLE if not word.startswith(("data.columns.code", "data.level", "classification"))]
    swapped = (*words, "data.columns.code=task", "data.path=rows.csv", "model.C=1,2")
    assert command(*swapped, f"sweep.on_failure='{writes}'", f"sweep.on_end='{writes}'") == 1
    text = Path("heard.jsonl").read_text(encoding="utf-8")
    assert len(heard()) == 3 and "task" in text and not any(answer in text for answer in ("예금", "택시", "벼농사"))


@pytest.mark.parametrize(
    "reason",
    ["rows.csv: the file's codes: '예금 상담', '택시'. Use its code column.", "levels \"it's 예금\", '택시' in 성별"],
)
def test_an_apostrophe_shows_no_answer(reason: str) -> None:
    told = hooks.job_record(1, Entry(Path("run"), "failed", reason))["reason"]
    assert "예금" not in told and "택시" not in told and told[:6] == reason[:6]


def test_a_redirect_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str
) -> None:
    hooks.call("sweep.on_end", f"{address}/moved", {"text": "x"})
    assert "302" in caplog.text and [path for path, _ in Server.got] == ["/moved"]


def test_a_hook_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(hooks, "SECONDS", 0.2)
    hooks.call("sweep.on_end", "sleep 60", {"text": "x", "value": float("nan")})
    assert "timed out" in caplog.text


def test_values_that_json_lacks_are_null(here: Path, writes: str) -> None:
    hooks.call("sweep.on_end", writes, {"text": "한글", "jobs": [{"loss": float("nan"), "f1": 0.5}]})
    assert heard() == [{"text": "한글", "jobs": [{"loss": None, "f1": 0.5}]}]


@pytest.mark.parametrize("launcher", [(), ("hydra/launcher=joblib", "hydra.launcher.n_jobs=2")])
def test_a_sweep_stops_after_so_many_failures(
    table: Path, writes: str, launcher: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    words = (*TABLE, "data.path=a.csv,b.csv,c.csv,rows.csv", f"sweep.on_failure='{writes}'", *launcher)
    assert command(*words, "sweep.stop_after=2") == 1
    out = capfd.readouterr().out
    if not launcher:  # two processes may begin a third job meanwhile
        assert "2 failed, 2 new" in out and sorted(one["job"]["number"] for one in heard()) == [1, 2]
    assert len(list((table / "swept" / "failed").iterdir())) == len(heard()) >= 2
    assert command(*words) == 1  # the same command runs those that did not start
    assert "3 failed, 1 finished" in capfd.readouterr().out and len(heard()) == 3


def test_what_a_stopped_sweep_left_does_not_stop_the_next(table: Path) -> None:
    assert command(*TABLE, "data.path=a.csv,b.csv", "sweep.stop_after=1") == 1
    assert (table / "swept" / "stop").read_text() == "failed"
    assert command(*TABLE, "data.path=rows.csv", "model.C=1,2", "sweep.stop_after=1") == 0
    assert command(*TABLE, "data.path=c.csv,rows.csv", "sweep.stop_after=2") == 1
    assert not (table / "swept" / "stop").exists()


@pytest.mark.parametrize("word", ["sweep.stop_after=0", "sweep.stop_after=many"])
def test_wrong_values_are_refused(here: Path, word: str) -> None:
    assert command("train", "-m", "seed=0,1", word) == 2
