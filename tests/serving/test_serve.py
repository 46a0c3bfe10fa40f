"""`kjcm serve` as a command: what it refuses, and how it stops."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
import kjcm
from tests.conftest import ROOT, command
from tests.forking import Forked
from tests.serving.conftest import LIMITS, free_port, service_of, serving

SECRET = "비밀스러운 용접"
WAIT = 120.0  # most seconds for a process that starts or ends on a busy machine


@contextmanager
def server(run: Path, port: int, *words: object, **env: str) -> Iterator["subprocess.Popen[str]"]:
    child = Forked(
        [sys.executable, "-m", "kjcm", "serve", f"run={run}", f"port={port}", "accelerator=cpu", *map(str, words)], text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        wait_until(lambda: child.poll() is not None or not is_refused(port))
        assert child.poll() is None, child.communicate()
        yield child
    finally:
        child.kill()
        child.wait(WAIT)


def wait_until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return True
    return False


def get(port: int, path: str) -> str:
    return str(urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=WAIT).read(), "utf-8")


def post(port: int, body: Any, **headers: str) -> Any:
    kind = {"Content-Type": "application/json", **headers}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/code", json.dumps(body).encode(), kind)
    return json.load(urllib.request.urlopen(request, timeout=WAIT))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_answers_the_requests_that_have_begun(calibrated: Path, number: int) -> None:
    port, answers = free_port(), list[Any]()
    with server(calibrated, port, "batching.wait_ms=3000", "batching.rows=1000") as child:
        with socket.create_connection(("127.0.0.1", port)) as unused:  # a connection without a request holds nothing up
            asking = threading.Thread(target=lambda: answers.append(post(port, {"texts": [SECRET]})))
            asking.start()
            wait_until(lambda: "kjcm_waiting_rows 1.0" in get(port, "metrics"))
            child.send_signal(number)
            wait_until(lambda: is_refused(port))
            asking.join(WAIT)
            assert unused.recv(1) == b""
        assert len(answers) == 1 and len(answers[0]["rows"][0]["codes"]) == 5
        assert child.wait(WAIT) == 0
        said = child.communicate()[0]
    assert "Traceback" not in said and SECRET not in said and f":{port}/" in said


def test_the_command_passes_its_keys_to_the_model(calibrated: Path) -> None:
    port = free_port()
    words = ("triage.target_error=0.4", "triage.managers=words", "columns.task=일", "top_k=2", "precision=32-true")
    with server(calibrated, port, *words, KJCM_TOKEN="from-the-environment") as child:
        with pytest.raises(urllib.error.HTTPError) as refused:
            post(port, {"texts": ["용접"]})
        assert refused.value.code == 401
        rows = [{"workplace": "회사", "일": "용접"}]
        found = post(port, {"rows": rows}, Authorization="Bearer from-the-environment")["rows"][0]
        child.terminate()
        assert child.wait(WAIT) == 0 and "from-the-environment" not in child.communicate()[0]
    rules = {"target_error": 0.4, "managers": "words"}
    coder = kjcm.load(calibrated, triage=rules, columns={"task": "일"}, accelerator="cpu", precision="32-true")
    coded = coder.code(pd.DataFrame(rows).assign(position=""), top_k=2).iloc[0]
    assert [one["code"] for one in found["codes"]] == [coded["code_1"], coded["code_2"]]
    assert found["decision"] == coded["decision"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("host=0.0.0.0",), 2, "KJCM_TOKEN"),
        (("host=0.0.0.0", "token=short"), 2, "token"),
        (("token=secret-token", "without_token=true"), 2, "without_token"),
        (("host=192.0.2.1", "without_token=true"), 1, "192.0.2.1"),
        (("run=nowhere",), 1, "nowhere"),
        (("triage.target_error=0.1", "triage.threshold=0.5"), 2, "triage.threshold"),
        (("limits.rows=0",), 2, "limits.rows"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(
    words: tuple[str, ...], code: int, said: str, calibrated: Path, here: Path, capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.delenv("KJCM_TOKEN", raising=False)
    run = () if any(word.startswith("run=") for word in words) else (f"run={calibrated}",)
    assert command("serve", *run, *words) == code
    error = capfd.readouterr().err
    assert said in error and len(error.splitlines()) == 1 and "short" not in error and "secret-token" not in error


def test_a_taken_port_is_reported(calibrated: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert command("serve", f"run={calibrated}", f"port={port}") == 1
    assert f"127.0.0.1:{port}" in capfd.readouterr().err


def test_without_the_extra_the_message_names_it(
    calibrated: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from importlib import util

    found = util.find_spec
    monkeypatch.setattr(
        "kjcm.serving.serve.find_spec", lambda name: None if name == "prometheus_client" else found(name)
    )
    assert command("serve", f"run={calibrated}") == 2
    assert "kjcm[serve]" in capfd.readouterr().err


def test_the_examples_of_the_page_work(calibrated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page's first command for curl, and its Python, against a service on another port."""
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    coder = kjcm.load(calibrated, accelerator="cpu")
    found = dict(reversed(re.findall(r"^```(bash|json)\n(.*?)^```", page, re.MULTILINE | re.DOTALL)))
    with serving(service_of(coder, limits=replace(LIMITS, characters=100))) as served:
        blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
        names: dict[str, Any] = {}
        for block in blocks:
            exec(
                block.replace(":8766/", f":{served.port}/").replace("out/calibrated", str(calibrated)), names
            )  # our own page
        row = names["answer"]["rows"][0]
        assert row["codes"][0]["code"] == names["coded"]["code_1"].iloc[0] and len(row["codes"]) == 2
        assert row.keys() == json.loads(found["json"])["rows"][0].keys()
        if shutil.which("curl"):
            command = ["bash", "-c", found["bash"].replace(":8766/", f":{served.port}/")]
            answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT).stdout
            assert json.loads(answer) == names["answer"]
    assert "code_1" in capsys.readouterr().out
