"""uvicorn's HTTP/1.1 with limits on the time until a request has arrived, and on waiting connections."""

import asyncio
import json
import signal
import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from kjcm.errors import KjcmError

PATIENCE = 10.0  # seconds for a request to arrive
MOST_HEADERS = 16384  # bytes of a request before its body
WAITING = 100  # connections that may wait for one


def listening(host: str, port: int) -> socket.socket:
    """Return a socket that listens on a host's first address.

    Raises:
        KjcmError: the host is unknown, or the port is taken.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=512)
    except OSError as error:
        raise KjcmError(
            f"{host}:{port}: the server cannot listen here ({error.strerror}). Check host, or choose another port=NUMBER."
        ) from None


def run(server: uvicorn.Server, line: socket.socket) -> None:
    """Serve until SIGINT or SIGTERM; requests that have begun are answered first."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)  # uvicorn raises them again after it has stopped
    with line:
        server.run([line])


def server_of(app: Any, host: str, port: int, kind: "type[Connection] | None" = None, **options: Any) -> uvicorn.Server:
    """Return the server of an ASGI app, without a log of requests.

    Args:
        app: the app.
        host: where it listens.
        port: likewise.
        kind: of its connections; None: `Connection`.
        options: further ones of uvicorn.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=kind or Connection,
        ws="none",
        lifespan="off",
        log_level="error",
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=MOST_HEADERS,
        **options,
    )
    return uvicorn.Server(config)


class Connection(H11Protocol):
    """A connection that answers in JSON, even if a request is malformed or late."""

    most_waiting = WAITING
    _late: asyncio.TimerHandle | None = None
    _since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request; close the oldest of too many waiting connections."""
        super().connection_made(transport)
        self._watch()
        waiting = [one for one in self.connections if isinstance(one, Connection) and one._waits()]
        if len(waiting) > self.most_waiting:
            min(waiting, key=lambda one: one._since)._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the clock runs until the request is complete."""
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer a request that is not HTTP."""
        self._refuse(400, msg)

    def _waits(self) -> bool:
        return not self.transport.is_closing() and self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def _watch(self) -> None:
        if not self._waits():
            self._stop()
        elif self._late is None:
            self._since = self.loop.time()
            self._late = self.loop.call_later(PATIENCE, self._end)

    def _stop(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _end(self) -> None:
        self._refuse(408, "The request did not arrive in time.")

    def _refuse(self, status: int, text: str) -> None:
        """Answer with an error, unless an answer has begun, and close."""
        if self.transport.is_closing():
            return
        if self.cycle is not None:  # the handler that is answering must not answer too
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        body = json.dumps({"detail": text}).encode()
        headers = [
            ("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close"),
        ]  # fmt: skip
        try:
            answer = h11.Response(status_code=status, headers=headers, reason="Refused")
            for event in (answer, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        except h11.LocalProtocolError:
            pass  # its answer has begun
        self.transport.close()
