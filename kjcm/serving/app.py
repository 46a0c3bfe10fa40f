"""The service's requests: POST /code, GET /model, /health, /metrics, /openapi.json, and a page to try it."""

import asyncio
import base64
import hashlib
import re
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from typing import Any, Protocol

import pandas as pd
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST

from kjcm import __version__
from kjcm.errors import SHOWN, KjcmError
from kjcm.keys.commands.serving import Batching, Limits
from kjcm.run_folder.failures import tell
from kjcm.serving.batching import Batcher, Full
from kjcm.serving.guard import Guard, refusal
from kjcm.serving.metrics import Metrics
from kjcm.serving.schemas import Answer, Refusal, asked_model, coded_rows

RETRY = {"Retry-After": "1"}  # seconds
GONE = 499  # nobody receives this status: the client has closed the connection
INLINE = re.compile(r"<(script|style)>(.*?)</\1>", re.DOTALL)


class Coder(Protocol):
    """The part of `kjcm.load`'s coder that the service uses."""

    columns: dict[str, str]

    def code(self, texts: pd.DataFrame, top_k: int) -> pd.DataFrame:
        """Return a table with its codes."""


@dataclass(frozen=True)
class Service:
    """The settings of a service.

    Attributes:
        coder: the model.
        about: what `GET /model` answers, besides the request's fields.
        top_k: most codes of a row.
        batching: how requests share batches.
        limits: what is accepted.
        token: that requests need; None: none.
        hosts: names under which the server answers; None: any.
    """

    coder: Coder
    about: Mapping[str, Any]
    top_k: int
    batching: Batching
    limits: Limits
    token: str | None
    hosts: Collection[str] | None

    @property
    def names(self) -> list[str]:
        """The fields of a row."""
        return list(dict.fromkeys(self.coder.columns.values()))

    def coded(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return rows with their codes, as in the answer."""
        frame = pd.DataFrame(rows, columns=self.names, dtype=object)
        return coded_rows(self.coder.code(frame, self.top_k), self.names)

    def warm_up(self) -> None:
        """Code one row, because a device's first work is slow.

        Raises:
            KjcmError: the model's columns cannot be coded.
        """
        self.coded([{self.coder.columns.get("task", self.names[0]): "가"}])


def make_app(service: Service) -> tuple[Guard, Batcher[dict[str, Any], dict[str, Any]]]:
    """Return the service's app, and the batcher that codes its rows, which the caller closes."""
    limits, batching = service.limits, service.batching
    batcher: Batcher[dict[str, Any], dict[str, Any]] = Batcher(
        service.coded, batching.rows, batching.wait_ms / 1000, limits.waiting,
        lambda rows, seconds: metrics.batch(rows, seconds),
    )  # fmt: skip
    metrics = Metrics(lambda: batcher.waiting)
    # no documentation pages: they load scripts from elsewhere
    app = FastAPI(title="kjcm", version=__version__, docs_url=None, redoc_url=None)
    page = files("kjcm.serving") / "page.html"
    html = page.read_text(encoding="utf-8")
    Asked = asked_model(service.coder.columns, limits.rows, limits.characters, service.top_k)
    known = {*Asked.model_fields, *service.names, "body"}
    secured = [Depends(HTTPBearer(auto_error=False))] if service.token else []  # for the document: Guard checks it

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        # only known names and row numbers: pydantic's errors also contain the input and unknown names
        said = [
            f"{'.'.join(str(part) for part in one['loc'] if isinstance(part, int) or part in known)}: {one['msg']}"
            for one in error.errors()[:SHOWN]
        ]
        return refusal(422, "; ".join(said))

    refusals = (401, 403, 408, 411, 413, 415, 422, 500, 503, 504)

    @app.post("/code", dependencies=secured, responses={
        200: {"model": Answer}, **{status: {"model": Refusal} for status in refusals},
    })  # fmt: skip
    async def code(request: Request, asked: Asked) -> Response:  # type: ignore[valid-type]
        """Code texts or rows."""
        began = time.perf_counter()
        rows = _rows(asked, service.coder.columns)
        try:
            coming = asyncio.wrap_future(batcher.submit(rows))
        except Full:
            raise HTTPException(503, "Too many rows wait. Try again later.", RETRY) from None
        left = asyncio.ensure_future(_disconnected(request))
        try:
            either: set[asyncio.Future[Any]] = {coming, left}
            await asyncio.wait(either, timeout=limits.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.cancel()
            coming.cancel()  # its rows are not coded any more, unless it is done
        if coming.cancelled():
            if left.done() and not left.cancelled():
                return Response(status_code=GONE)
            raise HTTPException(504, f"No answer within {limits.seconds:g} seconds. Send fewer rows.", RETRY)
        try:
            found = coming.result()
        except KjcmError as error:
            raise HTTPException(422, str(error)) from None
        except Exception as error:
            tell("kjcm serve", error)
            return refusal(500, f"{type(error).__name__}: a fault of the server. Its log has the place.")
        metrics.coded((row["decision"] for row in found), time.perf_counter() - began)
        top_k: int = asked.top_k  # type: ignore[attr-defined]
        return JSONResponse({"rows": [{**row, "codes": row["codes"][:top_k]} for row in found]})

    @app.get("/model", dependencies=secured)
    async def model() -> dict[str, Any]:
        """Say which model codes, and the fields of a row: role -> field."""
        return {"kjcm": __version__, **service.about, "top_k": service.top_k, "fields": service.coder.columns}

    @app.get("/health", responses={503: {}})
    async def health(response: Response) -> dict[str, bool]:
        """Say whether the service accepts rows: 200 or 503."""
        response.status_code = 200 if batcher.is_ready else 503
        return {"ready": batcher.is_ready}

    @app.get("/health/live")
    async def live() -> dict[str, bool]:
        """Say that the process answers."""
        return {"live": True}

    @app.get(
        "/metrics", dependencies=secured, response_class=Response, responses={200: {"content": {"text/plain": {}}}}
    )
    async def figures() -> Response:
        """Return the figures for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    app.get("/", include_in_schema=False)(partial(_page, html, _policy(html)))
    return Guard(app, metrics, service.token, service.hosts, limits.bytes), batcher


def _rows(asked: Any, columns: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return the rows of a request's body; raise HTTPException if it has none, or a text has no field."""
    if (asked.texts is None) == (asked.rows is None):
        raise HTTPException(422, "Give either texts or rows.")
    if asked.rows is not None:
        return [row.model_dump(by_alias=True) for row in asked.rows]
    if "task" not in columns:
        raise HTTPException(422, "texts: the model reads no task. Give rows.")
    return [{columns["task"]: text} for text in asked.texts]


async def _disconnected(request: Request) -> None:
    """Return when the client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _page(html: str, policy: str) -> Response:
    return Response(html, media_type="text/html", headers={"Content-Security-Policy": policy})


def _policy(html: str) -> str:
    """Return a content security policy that allows the page's own script and style, and requests to its server."""
    own = {
        kind: base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for kind, text in INLINE.findall(html)
    }
    return (
        f"default-src 'none'; script-src 'sha256-{own['script']}'; style-src 'sha256-{own['style']}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
