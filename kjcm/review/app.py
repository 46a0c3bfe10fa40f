"""The review's server: the page and its requests, by default only for this machine."""

import hmac
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from kjcm.errors import KjcmError, of_the_system
from kjcm.ksco.classification import Classification
from kjcm.review.files import export
from kjcm.review.names import LONGEST, reviewer
from kjcm.review.store import Store
from kjcm.search.engine import Hit, Scorer, Search
from kjcm.web.checks import HOST, LOOPBACK, body_refusal

PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
MOST_QUERY = 200  # characters
MOST_BYTES = 4096  # of a request's body
MOST_PORT = 65535
LAST = 2**63 - 1  # largest row number in SQLite
CLAIM = 600.0  # seconds for which one reviewer's row is not shown to others
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Review:
    """The settings of a review.

    Attributes:
        coded: the coded file.
        db: the review's file.
        classification: its codes can be chosen.
        search: finds codes, cut to the model's level.
        scorer: the model, which finds codes for texts; None: it is not asked.
        decisions: the model's decisions that reviewers check.
        who: the reviewer, unless the page names another.
        language: 'ko' or 'en'.
        host: where the server listens.
        token: that visitors need; None on loopback.
    """

    coded: Path
    db: Path
    classification: Classification
    search: Search
    scorer: Scorer | None
    decisions: Sequence[str]
    who: str
    language: str
    host: str
    token: str | None

    def fitting(self, code: str) -> str | None:
        """Return a code cut to the model's level, a shorter code unchanged, None if it is not a code."""
        return self.search.group(code) if code in self.classification.titles else None


Reviewer = Annotated[str, AfterValidator(reviewer)]


class Person(BaseModel):
    """The reviewer who decides or undoes."""

    model_config = ConfigDict(strict=True)
    who: Reviewer


class Chosen(Person):
    """A reviewer's decision."""

    code: str
    seen: int | None = Field(None, ge=1, le=LAST)  # number of the row's decision that the page shows


def make_app(review: Review) -> FastAPI:
    """Return the server of a review."""
    app = FastAPI(openapi_url=None)  # no documentation pages: they load scripts from elsewhere

    def store() -> Iterator[Store]:
        opened = Store(review.db)
        try:
            yield opened
        finally:
            opened.close()

    Row = Annotated[int, InPath(ge=0, le=LAST)]
    After = Annotated[int, Query(ge=-1, le=LAST)]
    claims: dict[str, tuple[int, float]] = {}  # reviewer -> the row that they see, and since when
    Who = Annotated[str | None, Query(max_length=LONGEST), AfterValidator(_name)]
    Opened = Annotated[Store, Depends(store)]

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refused(request, review)
        response = _error(*refused) if refused else await go_on(request)
        response.headers.update(HEADERS)
        return response

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        said = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()]
        return _error(422, "; ".join(said))  # the input is not repeated: it may not be text

    @app.exception_handler(KjcmError)
    @app.exception_handler(OSError)
    async def unkept(request: Request, error: KjcmError | OSError) -> Response:
        return _error(503, str(of_the_system(error) if isinstance(error, OSError) else error))

    @app.get("/")
    def index(request: Request) -> Response:
        if request.query_params.get("token"):  # in a cookie, so that the address does not show it
            answer = RedirectResponse("/", 303)
            answer.set_cookie(_cookie(request.headers["host"]), review.token or "", httponly=True, samesite="strict")
            return answer
        return _static("")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        return _static(name)

    @app.get("/api/state")
    def state(opened: Opened) -> dict[str, Any]:
        return _state(opened)

    @app.get("/api/search")
    def search(query: Annotated[str, Query(max_length=MOST_QUERY)], model: bool = False) -> dict[str, Any]:
        found = review.search(query, scorer=review.scorer if model else None)
        may_ask = found.may_ask_model and review.scorer is not None and not model
        return {"hits": list(map(_hit, found.hits)), "count": found.total, "may_ask_model": may_ask}

    def _hit(hit: Hit) -> dict[str, Any]:
        title, entry = review.classification.title(hit.code), hit.entry
        matched = {"title": entry.title, "code": entry.code, "parts": [*hit.parts]} if entry else None
        return {
            "code": hit.code, "title": title, "english": review.classification.title(hit.code, "en"), "why": hit.why.name,
            "matched": matched, "prob": hit.probability,
        }  # fmt: skip

    @app.get("/api/next")
    def following(opened: Opened, after: After = -1, back: bool = False, who: Who = None) -> dict[str, Any]:
        row = _open_row(opened, after, back, who)
        if row is not None and who is not None:
            claims[who] = (row, time.monotonic())
        return {"state": _state(opened), "item": None if row is None else opened.item(row)}

    def _open_row(opened: Store, after: int, back: bool, who: str | None) -> int | None:
        """Return the next open row that no other reviewer sees, in a cycle; without one, any open row."""
        since = time.monotonic() - CLAIM
        for other in [other for other, (_, at) in list(claims.items()) if at <= since]:
            claims.pop(other, None)
        taken = {row for other, (row, _) in list(claims.items()) if other != who}
        at_all = None
        for row in (after, LAST if back else -1):
            found = opened.next_row(row, review.decisions, back=back)
            while found is not None:
                if found not in taken:
                    return found
                at_all, found = found, opened.next_row(found, review.decisions, back=back)
        return at_all

    @app.post("/api/rows/{row}")
    def choose(row: Row, chosen: Chosen, opened: Opened) -> dict[str, Any]:
        code = review.fitting(chosen.code)
        if opened.item(row) is None or code is None:
            raise HTTPException(422, "no such row or code")
        if not opened.choose(row, code, chosen.who, chosen.seen):
            raise HTTPException(409, "settled meanwhile by another")
        return {
            **following(opened, after=row, who=chosen.who),
            "kept": {"code": code, "title": review.classification.title(code)},
        }

    @app.post("/api/undo")
    def undo(whose: Person, opened: Opened) -> dict[str, Any]:
        row = opened.undo(whose.who)
        return {"state": _state(opened), "item": None if row is None else opened.item(row)}

    @app.get("/api/export")
    def exported(opened: Opened) -> Response:
        folder = Path(tempfile.mkdtemp())
        target = folder / f"{review.coded.stem}_reviewed.csv"
        try:
            export(review.coded, target, opened, review.classification, overwrite=False)
        except KjcmError as error:
            shutil.rmtree(folder)
            raise HTTPException(409, str(error)) from None
        except OSError:
            shutil.rmtree(folder)
            raise
        return FileResponse(target, filename=target.name, background=BackgroundTask(_remove, target))

    def _state(opened: Store) -> dict[str, Any]:
        counts = {name: count for name, count in opened.counts().items() if name in review.decisions}
        return {
            "counts": {decision: {"rows": rows, "settled": settled} for decision, (rows, settled) in counts.items()},
            "rows": sum(rows for rows, _ in counts.values()),
            "settled": sum(settled for _, settled in counts.values()),
            "who": review.who if review.token is None else "",  # another address is another reviewer
            "language": review.language,
            "file": review.coded.name,
        }

    return app


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    target.parent.rmdir()


def _name(who: str | None) -> str | None:
    """Return a reviewer's name, None if it is not valid yet, as while somebody types."""
    try:
        return reviewer(who or "")
    except ValueError:
        return None


def _error(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)


def _cookie(host: str) -> str:
    return f"kjcm_token_{host.rpartition(':')[2]}"  # all ports of a host share its cookies


def _static(name: str) -> Response:
    if name not in PAGE:
        raise HTTPException(404)
    file, kind = PAGE[name]
    return Response((files("kjcm.review") / "page" / file).read_bytes(), media_type=kind)


def _refused(request: Request, review: Review) -> tuple[int, str] | None:
    """Return the error for a forbidden request: from another site's page or host name, or without the token."""
    host = request.headers.get("host", "").lower()
    named = HOST.fullmatch(host)
    if not named or int(named["port"] or 80) > MOST_PORT:
        return 400, "The Host header is malformed."
    if named["name"].strip("[]") not in (review.host, *(LOOPBACK if review.host in LOOPBACK else ())):
        return 403, "This host name is not served."  # another site's name may point to this machine
    if request.method not in ("GET", "POST"):
        return 405, "Method not allowed."
    if request.method == "POST" and (refused := _refused_body(request, host)):
        return refused
    if review.token is None:
        return None
    given = request.query_params.get("token") or request.cookies.get(_cookie(host)) or ""
    return None if hmac.compare_digest(given.encode(), review.token.encode()) else (401, "Give ?token=.")


def _refused_body(request: Request, host: str) -> tuple[int, str] | None:
    """Return the error for a change that is not from the page, or whose body is not small JSON."""
    if request.headers.get("origin", "").lower() != f"{request.scope['scheme']}://{host}":
        return 403, "Only the page of this server may change anything."
    return body_refusal(request.headers, MOST_BYTES)
