"""The review's server: a page, and what it asks for; for this machine alone unless it is told otherwise."""

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
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import BaseModel, Field, StringConstraints
from starlette.background import BackgroundTask

from kjcm.errors import KjcmError
from kjcm.ksco.classification import Classification
from kjcm.review import LOOPBACK
from kjcm.review.files import export
from kjcm.review.store import Store

PAGE = {
    "": ("index.html", "text/html"),
    "page.css": ("page.css", "text/css"),
    "page.js": ("page.js", "text/javascript"),
}
MOST_BYTES = 4096  # of a request's body
LAST = 2**63 - 1  # row that SQLite can count to
CLAIM = 600.0  # seconds for which a row that a person is shown is not shown to others
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Review:
    """What is reviewed, and how.

    Attributes:
        coded: the coded file.
        db: the review's file.
        classification: whose titles can be searched.
        level: digits of the model's codes, None as they stand.
        decisions: the model's decisions that a person is to settle.
        who: who decides, unless the page says otherwise.
        language: 'ko' or 'en'.
        host: where the server listens.
        token: that a visitor has to bring; None on loopback.
    """

    coded: Path
    db: Path
    classification: Classification
    level: int | None
    decisions: Sequence[str]
    who: str
    language: str
    host: str
    token: str | None

    def fitting(self, code: str) -> str | None:
        """Return a code at the model's level; one above it as it is; None where it is no code."""
        named = self.classification
        if code not in named.titles:
            return None
        return named.at_level(code, self.level) or code


class Person(BaseModel):
    """Who decides, or whose last decision is taken back."""

    who: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=60)]


class Chosen(Person):
    """A person's decision."""

    code: str = Field(max_length=20)
    seen: int | None = Field(None, le=LAST)  # number of the row's last decision that the page shows


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
    Who = Annotated[str, Query(max_length=60)]
    claims: dict[str, tuple[int, float]] = {}  # person -> the row that they were shown last, and when
    Opened = Annotated[Store, Depends(store)]

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        refused = _refused(request, review)
        response = refused or await go_on(request)
        response.headers.update(HEADERS)
        return response

    @app.get("/")
    def index(request: Request) -> Response:
        if request.query_params.get("token"):  # kept in a cookie, so that the address does not show it
            answer = RedirectResponse("/", 303)
            answer.set_cookie(_cookie(request), review.token or "", httponly=True, samesite="strict")
            return answer
        return _static("")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        return _static(name)

    @app.get("/api/state")
    def state(opened: Opened) -> dict[str, Any]:
        return _state(opened)

    @app.get("/api/titles")
    def titles() -> list[list[str]]:
        named = review.classification
        return [[code, title, named.title(code, "en")] for code, title in sorted(named.titles.items())]

    @app.get("/api/next")
    def following(opened: Opened, after: After = -1, back: bool = False, who: Who = "") -> dict[str, Any]:
        row = _open_row(opened, after, back, who.strip())
        if row is not None:
            claims[who.strip()] = (row, time.monotonic())
        return {"state": _state(opened), "item": None if row is None else opened.item(row)}

    def _open_row(opened: Store, after: int, back: bool, who: str) -> int | None:
        """Return the next open row that nobody else is at, once around; if there is none, one that somebody is at."""
        since = time.monotonic() - CLAIM
        taken = {row for other, (row, at) in claims.items() if other != who and at > since}
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
        return {**following(opened, after=row, who=chosen.who), "kept": code}

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
        except (KjcmError, OSError) as error:
            shutil.rmtree(folder)
            reason = str(error) if isinstance(error, KjcmError) else f"{review.coded}: cannot be read"
            raise HTTPException(409, reason) from None
        return FileResponse(target, filename=target.name, background=BackgroundTask(_remove, target))

    def _state(opened: Store) -> dict[str, Any]:
        counts = {name: count for name, count in opened.counts().items() if name in review.decisions}
        return {
            "counts": {decision: {"rows": rows, "settled": settled} for decision, (rows, settled) in counts.items()},
            "rows": sum(rows for rows, _ in counts.values()),
            "settled": sum(settled for _, settled in counts.values()),
            "who": review.who if review.token is None else "",  # who comes from elsewhere is somebody else
            "language": review.language,
            "file": review.coded.name,
        }

    return app


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    target.parent.rmdir()


def _cookie(request: Request) -> str:
    return f"kjcm_token_{request.url.port}"  # a host's cookies are those of all its ports


def _static(name: str) -> Response:
    if name not in PAGE:
        raise HTTPException(404)
    file, kind = PAGE[name]
    return Response((files("kjcm.review") / "page" / file).read_bytes(), media_type=kind)


def _refused(request: Request, review: Review) -> Response | None:
    """Return the answer to who may not ask: another site's page, another machine, or somebody without the token."""
    name = request.url.hostname or ""
    if name not in (review.host, *(LOOPBACK if review.host in LOOPBACK else ())):
        return Response("this host name is not served", 403)  # a site may have its name point here
    origin = request.headers.get("origin")
    if request.method != "GET" and origin != f"{request.url.scheme}://{request.url.netloc}":
        return Response("of another origin", 403)
    length = request.headers.get("content-length", "" if request.method == "POST" else "0")
    if not length.isdigit():
        return Response("how long is it?", 411)
    if int(length) > MOST_BYTES:
        return Response("too large", 413)
    if request.method == "POST" and request.headers.get("content-type", "").split(";")[0] != "application/json":
        return Response("JSON only", 415)
    if review.token is None:
        return None
    given = request.query_params.get("token") or request.cookies.get(_cookie(request)) or ""
    return None if hmac.compare_digest(given.encode(), review.token.encode()) else Response("give ?token=", 401)
