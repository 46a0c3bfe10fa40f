"""What every request passes: host name, token, size and kind of its body; and what every answer gets: headers, a count."""

import hmac
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from kjcm.run_folder.failures import tell
from kjcm.serving.metrics import Metrics
from kjcm.web.checks import HOST, body_refusal

Message = Mapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
OPEN = ("/", "/health", "/health/live")  # paths that need no token
HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store"}


class Guard:
    """An ASGI app that refuses requests before another app sees them, and keeps the messages of its errors to itself.

    Args:
        app: the other app.
        metrics: counts the answers.
        token: that requests need; None: none.
        hosts: names under which the server answers; None: any.
        most_bytes: of a body.
    """

    def __init__(
        self, app: Any, metrics: Metrics, token: str | None, hosts: Collection[str] | None, most_bytes: int
    ) -> None:
        self.app, self.metrics, self.token, self.hosts, self.most_bytes = app, metrics, token, hosts, most_bytes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a request."""
        status: list[int] = []

        async def counted(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])
                headers = MutableHeaders(raw=message["headers"])
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refused = self._refused(scope["method"], scope["path"], Headers(scope=scope))
        try:
            await (refused or self.app)(scope, receive, counted)
        except Exception as error:  # its message, which may contain a text, must not reach uvicorn's log
            tell("kjcm serve", error)
        finally:
            self.metrics.answered(status[0] if status else 500)

    def _refused(self, method: str, path: str, headers: Headers) -> JSONResponse | None:
        """Return the answer to a request that is not allowed."""
        named = HOST.fullmatch(headers.get("host", "").lower())
        if self.hosts is not None and (not named or named["name"].strip("[]") not in self.hosts):
            return refusal(403, "This host name is not served without a token.")
        if self.token is not None and path not in OPEN:
            kind, _, given = headers.get("authorization", "").partition(" ")
            # the comparison takes the same time whichever character differs
            if not hmac.compare_digest(given.strip().encode(), self.token.encode()) or kind.lower() != "bearer":
                return refusal(401, "Send the header Authorization: Bearer TOKEN.", {"WWW-Authenticate": "Bearer"})
        refused = body_refusal(headers, self.most_bytes) if method == "POST" else None
        return refusal(*refused) if refused else None


def refusal(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an error's answer."""
    return JSONResponse({"detail": detail}, status, headers)
