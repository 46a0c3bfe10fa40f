"""Requests that no browser sends: each is answered in JSON, none changes anything, and none keeps a reviewer waiting."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from kjcm.ksco.classification import Classification, load_classification
from kjcm.review.app import make_app
from kjcm.review.desk import Review
from kjcm.review.files import opened
from kjcm.review.store import Store
from kjcm.run_folder.model_folder import load_settings
from kjcm.search.engine import Search
from kjcm.web import server

KSCO = load_classification("ksco7")
GOOD = '{"code": "111", "who": "kim", "seen": null}'


class Server:
    """A server on a port of its own, spoken to by bytes."""

    def __init__(self, port: int, db: Path) -> None:
        self.port, self.db = port, db

    def connected(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def raw(self, request: bytes) -> bytes:
        """Return all that is answered."""
        with self.connected() as line:
            line.sendall(request)
            return b"".join(iter(lambda: line.recv(65536), b""))

    def ask(self, start: str, body: str | bytes = b"", host: str | None = None, **headers: str) -> tuple[int, str]:
        """Return status and what the JSON answer says."""
        host = f"127.0.0.1:{self.port}" if host is None else host
        body = body if isinstance(body, bytes) else body.encode()
        given = {
            "Host": host, "Origin": f"http://127.0.0.1:{self.port}", "Content-Type": "application/json",
            "Content-Length": str(len(body)), "Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()},
        }  # fmt: skip
        lines = [f"{start} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
        return parsed(self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body))

    def settled(self) -> int:
        store = Store(self.db)
        found = len(list(store.choices()))
        store.close()
        return found


def parsed(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head.lower(), answer
    found = json.loads(body)
    return int(head.split()[1]), str(found["detail"]) if "detail" in found else ""


@pytest.fixture(scope="module")
def served(
    coded: Path, finished: Path, tmp_path_factory: pytest.TempPathFactory, ksco: Classification
) -> Iterator[Server]:
    db = tmp_path_factory.mktemp("hostile") / "db"
    opened(coded, db, KSCO, load_settings(finished / "model")).close()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    app = make_app(
        Review(coded, db, ksco, Search(ksco, (), 3), None, ("choose", "search"), "kim", "ko", "127.0.0.1", None)
    )
    running = server.server_of(app, "127.0.0.1", port)
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started and thread.is_alive():
        time.sleep(0.01)
    yield Server(port, db)
    running.should_exit = True
    thread.join(20)


@pytest.mark.parametrize(
    "body",
    [
        '{"code": "\\ud800", "who": "kim"}', '{"code": "111", "who": "\\udfff"}', '{"code": "111", "who": "kim\\u0000"}',
        '{"code": "111", "who": "a\\nb"}', '{"code": "111", "who": ""}', '{"code": "111", "who": " "}',
        '{"code": "111", "who": "=1+1"}', '{"code": "111", "who": "\\uff1d1"}', '{"code": "111", "who": "\\tkim"}',
        '{"code": "111", "who": "-kim"}', '{"code": "111", "who": "@kim"}', '{"code": "111", "who": "\\u200bkim"}',
        json.dumps({"code": "111", "who": "x" * 65}), '{"code": "111", "who": 5}', '{"code": "111", "who": ["kim"]}',
        '{"code": 111, "who": "kim"}', '{"code": null, "who": "kim"}', '{"code": true, "who": "kim"}', '{"who": "kim"}',
        *(f'{{"code": "111", "who": "kim", "seen": {seen}}}' for seen in (
            "1e400", "-1e400", "NaN", "Infinity", "-1", "0", "1.5", "true", '"1"', str(2**63), "9" * 3000, "[]", "{}")),
        "", "null", "[]", "1", '"x"', "{", "[" * 2000, "[" * 2000 + "]" * 2000, '{"a":' * 600 + "1" + "}" * 600, "\ufeff{}",
        b"\xff\xfe{}", b"{\"code\": \"\xed\xa0\x80\", \"who\": \"kim\"}", "NaN", "9" * 4000, "code=111&who=kim",
    ],
)  # fmt: skip
def test_a_body_that_is_no_decision_is_refused(served: Server, body: str | bytes) -> None:
    status, said = served.ask("POST /api/rows/0", body)
    assert status in (400, 422) and said and served.settled() == 0
    assert served.ask("POST /api/undo", body)[0] in (200, 400, 422)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("", 400), ("[::1", 400), ("::1", 400), ("127.0.0.1:abc", 400), ("127.0.0.1:99999", 400), ("a b", 400),
        ("127.0.0.1:8765:1", 400), ("127.0.0.1/x", 400), ("user@127.0.0.1", 400), ("[127.0.0.1", 400), ("127.0.0.1:", 400),
        ("\xff", 400), ("127.0.0.1,evil.example", 400), ("x" * 5000, 403), ("evil.example", 403), ("127.0.0.1.", 403),
        ("[::ffff:127.0.0.1]", 403), ("127.0.0.1.evil.example", 403), ("LOCALHOST", 200), ("[::1]:80", 200),
    ],
)  # fmt: skip
def test_a_host_that_is_malformed_or_anothers_is_refused(served: Server, host: str, status: int) -> None:
    assert served.ask("GET /api/next", host=host)[0] == status
    assert served.ask("POST /api/rows/0", GOOD, host=host)[0] in (400, 403) and served.settled() == 0


@pytest.mark.parametrize(
    ("start", "headers", "status"),
    [
        *((f"{method} /api/rows/0", {}, 405) for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "QUERY")),
        ("POST /api/next", {}, 405), ("GET /api/rows/0", {}, 405), ("POST /", {}, 405), ("CONNECT x:1", {}, 405),
        ("OPTIONS *", {}, 405), ("GET /nothing", {}, 404), ("GET //evil.example/", {}, 404), ("GET http://x.example/", {}, 404),
        ("GET /static/..%2fapp.py", {}, 404), ("GET /%ed%a0%80", {}, 404), ("GET /static/%00", {}, 404),
        ("GET /api/next?after=1e400", {}, 422), ("GET /api/next?after=%ff", {}, 422), ("GET /api/next?back=perhaps", {}, 422),
        ("POST /api/rows/x", {}, 422), ("POST /api/rows/-1", {}, 422), (f"POST /api/rows/{10**400}", {}, 422),
        ("POST /api/rows/99", {}, 422), ("POST /api/rows/0", {"Origin": "http://evil.example"}, 403),
        ("POST /api/rows/0", {"Origin": "null"}, 403), ("POST /api/rows/0", {"Content_Type": "text/plain"}, 415),
        ("POST /api/rows/0", {"Content_Type": "multipart/form-data"}, 415), ("POST /api/rows/0", {"Content_Type": ""}, 415),
        ("POST /api/rows/0", {"Content_Length": "5000"}, 413), ("POST /api/rows/0", {"Content_Length": "9" * 19}, 413),
        ("POST /api/rows/0", {"Content_Length": "-1"}, 400), ("POST /api/rows/0", {"Content_Length": "\xb2"}, 400),
        ("POST /api/rows/0", {"Transfer_Encoding": "gzip"}, 400),
        ("GET /" + "x" * 20000, {}, 404), ("GET /a b", {}, 400), ("\x00", {}, 400),
        ("GET /api/nothing", {"Upgrade": "websocket", "Connection": "upgrade, close"}, 404),
    ],
)  # fmt: skip
def test_other_requests_are_refused(served: Server, start: str, headers: dict[str, str], status: int) -> None:
    assert served.ask(start, GOOD if start.startswith("POST") else "", **headers)[0] == status
    assert served.settled() == 0


def test_bytes_that_are_no_request_are_refused(
    served: Server, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    state = f"GET /api/next HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
    for request in (
        b"\r\n\r\n\r\nx", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n", (state + "Host: x\r\n\r\n").encode(), b"PRI * HTTP/2.0\r\nConnection: close\r\n\r\n",
        f"POST /api/rows/0 HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".encode(),
        (state + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n").encode(), b"GET / HTTP/1.0\r\n\r\n",
    ):  # fmt: skip
        status, said = parsed(served.raw(request))
        assert status in (400, 403) and said, request
    begun = (state + "Connection: close\r\n\r\n").encode()
    assert served.raw(begun + begun).startswith(b"HTTP/1.1 200")
    assert "Traceback" not in capfd.readouterr().err + caplog.text


def test_half_a_request_ends_in_time_and_keeps_nobody_waiting(
    served: Server, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    assert server.PATIENCE == 10
    monkeypatch.setattr(server, "PATIENCE", 1.0)
    head = f"POST /api/rows/0 HTTP/1.1\r\nHost: 127.0.0.1:{served.port}\r\n"
    body = f"{head}Origin: http://127.0.0.1:{served.port}\r\nContent-Type: application/json\r\nContent-Length: 40\r\n\r\n{{"
    for begun in (b"", b"GET / HT", head.encode(), body.encode()):
        with served.connected() as line:
            since = time.monotonic()
            line.sendall(begun)
            assert parsed(b"".join(iter(lambda: line.recv(65536), b"")))[0] == 408
            assert 0.9 < time.monotonic() - since < 4
    with served.connected() as line:  # a byte now and then buys no more time
        since = time.monotonic()
        with pytest.raises(OSError):
            while time.monotonic() - since < 5:
                line.sendall(b"G")
                time.sleep(0.2)
        assert time.monotonic() - since < 4
    monkeypatch.setattr(server, "PATIENCE", 60.0)
    held = [served.connected() for _ in range(3 * server.WAITING)]
    for line in held[::2]:
        line.sendall(b"GET / HTTP/1.1\r\n")
    since = time.monotonic()
    assert served.ask("GET /api/next")[0] == 200 and time.monotonic() - since < 3
    for line in held:
        line.close()
    assert "Traceback" not in capfd.readouterr().err + caplog.text and served.settled() == 0
