"""The review's server: the page and its requests, by default only for this machine."""

import shutil
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, RedirectResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask

from kjcm.errors import KjcmError, of_the_system
from kjcm.review.desk import Desk, Review, Way
from kjcm.review.files import export
from kjcm.review.guard import HEADERS, cookie, refused
from kjcm.review.names import LONGEST, LONGEST_COMMENT, comment, reviewer
from kjcm.review.store import Store

SCRIPT = "text/javascript"
PAGE = {
    "index.html": "text/html", "page.css": "text/css", "page.js": SCRIPT, "draw.js": SCRIPT, "search.js": SCRIPT,
    "server.js": SCRIPT, "words.js": SCRIPT,
}  # fmt: skip
MOST_QUERY = 200  # characters
MOST_PASSED = 12_000  # characters of the list of rows that a reviewer has passed
LAST = 2**63 - 1  # largest row number in SQLite


def _name(who: str | None) -> str | None:
    """Return a reviewer's name, None if it is not valid yet, as while somebody types."""
    try:
        return reviewer(who or "")
    except ValueError:
        return None


def _way(
    after: Annotated[int, Query(ge=-1, le=LAST)] = -1,
    back: bool = False,
    view: Literal["open", "skipped", "flagged", "settled"] = "open",
    order: Literal["file", "similar", "uncertain", "group"] = "file",
    passed: Annotated[str, Query(max_length=MOST_PASSED, pattern=r"^([0-9]{1,19}(,[0-9]{1,19})*)?$")] = "",
) -> Way:
    return Way(after, view, order, back, [int(row) for row in passed.split(",") if row])


Row = Annotated[int, InPath(ge=0, le=LAST)]
AnyRow = Annotated[int, Query(ge=0, le=LAST)]
Which = Annotated[Way, Depends(_way)]
Text = Annotated[str, Query(max_length=MOST_QUERY)]
Reviewer = Annotated[str, AfterValidator(reviewer)]
Who = Annotated[str | None, Query(max_length=LONGEST), AfterValidator(_name)]


class Person(BaseModel):
    """The reviewer who decides, marks or undoes."""

    model_config = ConfigDict(strict=True)
    who: Reviewer


class Chosen(Person):
    """A reviewer's decision."""

    code: str
    seen: int | None = Field(None, ge=1, le=LAST)  # number of the row's decision that the page shows


class Marked(Person):
    """A reviewer's mark on a row, or its end."""

    kind: Literal["flag", "skip", "comment"]
    on: bool
    note: Annotated[str, Field(max_length=LONGEST_COMMENT)] = ""


class Undone(Person):
    """The decision to undo: a row's, or the reviewer's last."""

    row: int | None = Field(None, ge=0, le=LAST)


def make_app(review: Review) -> FastAPI:
    """Return the server of a review."""
    app, desk = FastAPI(openapi_url=None), Desk(review)  # no documentation pages: they load scripts from elsewhere

    def store() -> Iterator[Store]:
        opened = Store(review.db)
        try:
            yield opened
        finally:
            opened.close()

    Opened = Annotated[Store, Depends(store)]
    _add_guard(app, review)
    _add_page(app, review)

    @app.get("/api/search")
    def search(query: Text, model: bool = False) -> dict[str, Any]:
        found = review.search(query, scorer=review.scorer if model else None)
        may_ask = found.may_ask_model and review.scorer is not None and not model
        return {"hits": list(map(desk.hit, found.hits)), "count": found.total, "may_ask_model": may_ask}

    @app.get("/api/codes")
    def about(code: Text, row: AnyRow, opened: Opened) -> dict[str, Any]:
        return desk.about(opened, code, row)

    @app.get("/api/next")
    def following(opened: Opened, way: Which, who: Who = None) -> dict[str, Any]:
        return desk.next(opened, way, who)

    @app.get("/api/find")
    def find(query: Text, opened: Opened, who: Who = None) -> dict[str, Any]:
        row = desk.find(query.strip())
        if row is None or row > LAST or opened.item(row) is None:
            raise HTTPException(404, "no such row")
        return desk.show(opened, row, who)

    @app.post("/api/rows/{row}")
    def choose(row: Row, chosen: Chosen, opened: Opened, way: Which) -> dict[str, Any]:
        item = opened.item(row)
        listed = item is not None and chosen.code in (*item["picks"], item["given"])  # an index has codes of its own
        code = chosen.code if listed else review.fitting(chosen.code)
        if item is None or code is None:
            raise HTTPException(422, "no such row or code")
        first, *copies = desk.queue.rows(row)
        if not (decided := opened.choose(first, code, chosen.who, chosen.seen, copies)):
            raise HTTPException(409, "settled meanwhile by another")
        named = review.classification
        kept = {"code": code, "title": named.title(code), "english": named.title(code, "en"), "rows": decided}
        return {**desk.next(opened, replace(way, after=first, back=False), chosen.who), "kept": kept}

    @app.post("/api/rows/{row}/mark")
    def mark(row: Row, marked: Marked, opened: Opened, way: Which) -> dict[str, Any]:
        rows = desk.queue.rows(row)
        if opened.item(row) is None:
            raise HTTPException(422, "no such row")
        note = "" if marked.kind != "comment" else _comment(marked.note) if marked.on else ""
        opened.mark(rows, marked.kind, note if marked.on else None, marked.who)
        if marked.kind == "skip" and marked.on:
            return desk.next(opened, replace(way, after=rows[0], back=False), marked.who)
        return desk.show(opened, row, marked.who)

    @app.post("/api/undo")
    def undo(undone: Undone, opened: Opened) -> dict[str, Any]:
        row = None if undone.row is None else desk.queue.rows(undone.row)[0]
        return desk.show(opened, opened.undo(undone.who, row), undone.who)

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

    return app


def _add_guard(app: FastAPI, review: Review) -> None:
    """Refuse requests of others, and answer every error in JSON."""

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        wrong = refused(request, review.host, review.token)
        response = _error(*wrong) if wrong else await go_on(request)
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


def _add_page(app: FastAPI, review: Review) -> None:
    """Serve the page's files."""

    @app.get("/")
    def index(request: Request) -> Response:
        if request.query_params.get("token"):  # in a cookie, so that the address does not show it
            answer = RedirectResponse("/", 303)
            answer.set_cookie(cookie(request.headers["host"]), review.token or "", httponly=True, samesite="strict")
            return answer
        return static("index.html")

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in PAGE:
            raise HTTPException(404)
        return Response((files("kjcm.review") / "page" / name).read_bytes(), media_type=PAGE[name])


def _comment(text: str) -> str:
    try:
        return comment(text)
    except ValueError as error:
        raise HTTPException(422, f"note: {error}") from None


def _remove(target: Path) -> None:
    target.unlink(missing_ok=True)
    target.parent.rmdir()


def _error(status: int, detail: str) -> Response:
    return JSONResponse({"detail": detail}, status)
