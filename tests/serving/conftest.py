"""A service in a thread, and a model that answers with the text that it is asked."""

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pandas as pd
import pytest

from kjcm.keys.commands.serving import Batching, Limits

LIMITS = Limits(rows=10, characters=20, bytes=2000, waiting=20, seconds=20)


class Echo:
    """A model that gives each text itself as its code; it waits while `gate` is closed."""

    def __init__(self, seconds: float = 0) -> None:
        self.columns = {"workplace": "일터", "task": "하는 일", "covariates.age": "age"}
        self.seconds, self.batches = seconds, list[int]()
        self.gate = threading.Event()
        self.gate.set()

    def code(self, texts: pd.DataFrame, top_k: int) -> pd.DataFrame:
        self.gate.wait(30)
        time.sleep(self.seconds)
        self.batches.append(len(texts))
        own = texts["하는 일"].fillna("")
        if own.eq("고장").any():
            raise RuntimeError(" ".join(own))
        added: dict[str, Any] = {f"code_{rank}": own for rank in range(1, top_k + 1)}
        added |= {f"title_{rank}": own.str[::-1] for rank in range(1, top_k + 1)}
        added |= {f"prob_{rank}": pd.Series(1 / rank, own.index, "float32") for rank in range(1, top_k + 1)}
        decision = own.ne("").map({True: "accept", False: "invalid"})
        rest = {"decision": decision, "decision_code": own, "decision_title": own, "pick_list": own, "reason": ""}
        return texts.assign(**added, **rest)


@dataclass(frozen=True)
class Served:
    """A running service and a client of it."""

    port: int
    client: httpx.Client
    running: Any

    def code(self, body: Any, **headers: str) -> httpx.Response:
        return self.client.post("/code", json=body, headers=headers)


def service_of(coder: Any, **changes: Any) -> Any:
    from kjcm.serving.app import Service

    made = Service(coder, {"model": "x"}, 3, Batching(rows=8, wait_ms=0), LIMITS, None, ("127.0.0.1", "localhost"))
    return replace(made, **changes)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def serving(service: Any) -> Iterator[Served]:
    from kjcm.serving.app import make_app
    from kjcm.serving.connection import ClientConnection
    from kjcm.web.server import listening, server_of

    app, batcher = make_app(service)
    port = free_port()
    running = server_of(app, "127.0.0.1", port, ClientConnection)
    line = listening("127.0.0.1", port)
    thread = threading.Thread(target=running.run, args=([line],))
    thread.start()
    try:
        while not running.started and thread.is_alive():
            time.sleep(0.01)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield Served(port, client, running)
    finally:
        running.should_exit = True
        thread.join(30)
        batcher.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    made = Echo()
    yield made
    made.gate.set()


@pytest.fixture
def served(echo: Echo) -> Iterator[Served]:
    with serving(service_of(echo)) as made:
        yield made


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Return all that was logged or printed so far."""
    caplog.set_level(logging.DEBUG)

    def found() -> str:
        shown = capfd.readouterr()
        return "".join(one for one in (caplog.text, shown.out, shown.err))

    return found
