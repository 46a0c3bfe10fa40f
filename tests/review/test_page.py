"""The page in Chromium, as a person uses it: choose, search, undo, a server that is killed, export."""

import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import unicodedata
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from kjcm.review.store import Store
from tests.conftest import ROOT, command
from tests.forking import Forked

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

CHROMIUM = shutil.which("chromium")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run"]  # fmt: skip
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not on this machine")


@contextmanager
def server(port: int, *words: object, host: str = "127.0.0.1") -> Iterator["subprocess.Popen[str]"]:
    child = Forked(
        [sys.executable, "-m", "kjcm", "review", f"port={port}", f"host={host}", "who=kim", *map(str, words)], text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert child.poll() is None, child.communicate()
            try:
                urllib.request.urlopen(f"http://{host}:{port}/api/next", timeout=5).read()
                break
            except urllib.error.HTTPError:
                break
            except OSError:
                time.sleep(0.05)
        yield child
    finally:
        child.kill()
        child.communicate()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_the_server_demands_a_token_on_any_other_host(coded: Path, finished: Path, tmp_path: Path) -> None:
    port, host = free_port(), "127.0.0.2"
    with server(port, f"run={finished}", f"input={coded}", f"db={tmp_path / 'db'}", host=host) as child:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"http://{host}:{port}/api/next", timeout=5)
        child.send_signal(signal.SIGTERM)
        said, _ = child.communicate(timeout=30)
    assert "not encrypted" in said and f"http://{host}:{port}/?token=" in said


@pytest.mark.slow
def test_a_person_works_through_a_file(coded: Path, finished: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    port = free_port()
    words = (f"run={finished}", f"input={coded}", f"db={tmp_path / 'db'}")
    asked: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        with server(port, *words):
            page.goto(f"http://127.0.0.1:{port}/")
            page.locator("#answer").get_by_text("예금 상담").wait_for()
            assert page.locator("#codes button").count() == 5 and page.locator("#codes .listed").count() == 5
            first = page.locator("#codes button b").nth(1).inner_text()
            page.keyboard.press("2")
            page.locator("#answer").get_by_text("택시 운전").wait_for()
            page.keyboard.press("/")
            page.keyboard.type("택시")
            page.locator("#found li").first.wait_for()
            wanted = page.locator("#found li").first.get_attribute("data-code")
            page.keyboard.press("Enter")
            page.locator("#answer").get_by_text("<script>window.hacked=1</script> 용접").wait_for()  # as text
            assert page.evaluate("window.hacked") is None
            page.keyboard.press("1")
            page.locator("#answer").get_by_text("벼농사").wait_for()
            page.keyboard.press("u")
            page.locator("#answer").get_by_text("<script>").wait_for()
            page.wait_for_timeout(400)
            for _ in range(5):  # a key that is held settles one row
                page.keyboard.down("1")
            page.keyboard.up("1")
            page.locator("#answer").get_by_text("벼농사").wait_for()
            page.keyboard.press("u")
            page.locator("#answer").get_by_text("<script>").wait_for()
            page.evaluate(
                "document.body.dispatchEvent(new KeyboardEvent('keydown', {key: 'ㅜ', code: 'KeyN', bubbles: true}))"
            )
            page.locator("#answer").get_by_text("벼농사").wait_for()
            page.locator("#who").fill("lee")
            page.reload()
            page.get_by_text("7행 중 2행 처리 · 남음: 고르기 5").wait_for()
            assert page.locator("#who").input_value() == "lee"
            page.locator("#who").fill("kim")
            page.get_by_role("button", name="English").click()
            page.get_by_text("2 of 7 decided").wait_for()
        page.keyboard.press("1")  # the server has been killed
        page.get_by_text("No answer").wait_for()
        with server(port, *words) as child:
            page.reload()
            page.get_by_text("2 of 7 decided").wait_for()  # the language is kept
            page.locator("#answer").get_by_text("<script>").wait_for()
            with page.expect_download() as download:
                page.get_by_role("button", name="Export").click()
            download.value.save_as(tmp_path / "out.csv")
            child.send_signal(signal.SIGTERM)
            said, _ = child.communicate(timeout=30)
            assert child.returncode == 0 and "2 decided; left: choose 5" in said and "예금" not in said
        browser.close()
    out = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert out["reviewed_code"].tolist() == [first, wanted[:3] if wanted else "", "", "", "", "", "", ""]
    assert out["reviewed_by"].tolist()[:3] == ["kim", "kim", ""]
    assert asked and all(url.startswith((f"http://127.0.0.1:{port}/", "data:")) for url in asked) and not problems


def last_choice(db: Path) -> tuple[int, str] | None:
    with closing(sqlite3.connect(db)) as base:
        row: tuple[int, str] | None = base.execute(
            "SELECT row, code FROM choice WHERE undone IS NULL ORDER BY id DESC LIMIT 1"
        ).fetchone()
    return row


@pytest.mark.slow
def test_what_is_typed_is_what_is_stored(coded: Path, finished: Path, tmp_path: Path) -> None:
    from playwright.sync_api import Page, Route, sync_playwright

    port, db = free_port(), tmp_path / "db"

    def search(page: Page, text: str, key: str = "Enter") -> None:
        page.keyboard.press("/")
        page.keyboard.type(text)
        page.keyboard.press(key)

    def listed(page: Page, text: str) -> list[str | None]:
        with page.expect_response("**/api/search*model=false"):
            page.locator("#query").fill(text)
        page.wait_for_timeout(50)
        return [line.get_attribute("data-code") for line in page.locator("#found li").all()]

    with sync_playwright() as playwright, server(port, f"run={finished}", f"input={coded}", f"db={db}"):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page()
        waiting: list[Route] = []
        held = ["api/search"]  # requests that wait

        def hold(route: Route) -> None:
            if any(path in route.request.url for path in held):
                waiting.append(route)
            else:
                route.continue_()

        page.route("**/api/**", hold)  # throughout: Chromium may send requests past a route that begins later
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#answer").get_by_text("예금 상담").wait_for()
        search(page, "941", "1")  # its answer is late: the text has changed
        page.wait_for_timeout(300)
        page.keyboard.press("Backspace")
        page.keyboard.press("Backspace")
        page.keyboard.press("Enter")
        page.wait_for_timeout(300)
        assert last_choice(db) is None and len(waiting) > 1
        waiting.pop().continue_()  # the last
        page.locator("#kept").filter(has_text="→ 94").wait_for()
        held.clear()
        while waiting:
            waiting.pop().continue_()
        page.wait_for_timeout(100)
        assert page.locator("#found li").count() == 0 and page.locator("#query").input_value() == ""
        for row, (typed, stored) in enumerate(
            [("94", "94"), ("311", "311"), ("９ ４", "94"), (" a01", "A01"), ("9421", "942")]
        ):
            if row:
                search(page, typed)
            page.locator("#kept", has_text=f"#{row + 1} → {stored}").wait_for()
            assert last_choice(db) == (row, stored)
        codes = listed(page, "11")
        assert codes == ["11", "111", "112"]
        assert listed(page, unicodedata.normalize("NFD", "청소")) == listed(page, "청소")
        assert page.locator("#found li mark").first.inner_text() == "청소"
        assert listed(page, "００００００００") == [] and "없습니다" in page.locator("#many").inner_text()
        assert listed(page, "정소언")  # a guess is chosen only if an arrow marks it
        page.keyboard.press("Enter")
        assert page.locator("#found li[aria-selected=true]").count() == 0 and last_choice(db) == (4, "942")
        page.keyboard.press("Escape")

        held.append("api/rows/")
        page.keyboard.press("1")  # its answer is late, and the page moves on while a code is typed
        page.keyboard.press("/")
        page.keyboard.type("9")
        for _ in range(1000):
            if waiting:
                break
            page.wait_for_timeout(20)
        held.clear()
        assert waiting, "the page sent no decision"
        waiting.pop().continue_()
        page.locator("#kept", has_text="#6").wait_for()
        page.keyboard.type("4")
        page.keyboard.press("Enter")
        page.get_by_text("다른 행으로 넘어갔습니다").wait_for()
        assert last_choice(db)[0] == 5 and page.locator("#query").input_value() == "94"  # type: ignore[index]
        page.keyboard.press("Enter")
        page.locator("#answer").get_by_text("남은 행이 없습니다").wait_for()
        assert last_choice(db) == (7, "94")
        browser.close()
    assert command("review", f"run={finished}", f"input={coded}", f"db={db}", f"export={tmp_path / 'out.csv'}") == 0
    out = pd.read_csv(tmp_path / "out.csv", dtype=str, keep_default_na=False)
    assert out["reviewed_code"].tolist()[:5] == ["94", "311", "94", "A01", "942"]


@pytest.mark.slow
def test_a_coder_who_knows_the_codes_loses_nothing_when_the_server_is_killed(
    coded: Path, finished: Path, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The short form of the benchmark, which fails if a decision is lost."""
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    frame.assign(right=["3201", "873", "792", "611", "422", "941", "111", "25"]).to_csv("coded.csv", index=False)
    words = ("benchmarks.review", f"run={finished}", "input=coded.csv", "code=right", "rows=8")
    assert command(*words) == 1 and "'25'" in capfd.readouterr().err  # no code of three digits
    frame.assign(right=["3201", "873", "792", "611", "422", "941", "111", "252"]).to_csv("coded.csv", index=False)
    assert command(*words) == 0
    assert "no acknowledged decision lost" in capfd.readouterr().out


@pytest.mark.slow
def test_the_page_tells_and_keeps(coded: Path, finished: Path, tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    port = free_port()
    words = (f"run={finished}", f"input={coded}", f"db={tmp_path / 'db'}", "show=[n]")
    with sync_playwright() as playwright, server(port, *words):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.goto(f"http://127.0.0.1:{port}/")
        answer, message = page.locator("#answer"), page.locator("#message")

        def on(row: int) -> None:
            page.wait_for_function("row => document.getElementById('answer').dataset.row === String(row)", arg=row)

        on(0)
        assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
        page.locator("#who").fill("")
        page.keyboard.press("Escape")
        page.keyboard.press("1")
        message.filter(has_text="이름을 먼저").wait_for()
        page.locator("#who").fill("kim")
        page.keyboard.press("Enter")
        page.keyboard.press("f")
        page.locator("#flag[aria-pressed=true]").wait_for()
        page.keyboard.press("c")
        page.keyboard.type("물어보기")
        page.keyboard.press("Enter")
        answer.get_by_text("물어보기").wait_for()
        page.keyboard.press("s")
        on(1)
        page.keyboard.press("ArrowDown")
        second = page.locator("#codes button").nth(1).get_attribute("data-code")
        page.locator("#about h2").filter(has_text=str(second)).wait_for()
        page.keyboard.press("Enter")
        on(2)
        page.reload()  # row 0 stays skipped, flagged and commented on
        on(2)
        page.keyboard.press("g")
        page.keyboard.type("99")
        page.keyboard.press("Enter")
        message.filter(has_text="행이 없습니다").wait_for()
        page.keyboard.press("Escape")
        page.keyboard.press("v")
        on(0)
        page.locator("#codes button").first.click()
        answer.get_by_text("건너뛴 행이 없습니다").wait_for()
        page.locator("#view").select_option("settled")
        on(0)
        page.keyboard.press("n")
        on(1)
        page.keyboard.press("x")  # not the last decision
        page.wait_for_function("() => !document.querySelector('#codes .chosen')")
        page.locator("#view").select_option("flagged")
        on(0)
        page.get_by_role("button", name="English").click()
        assert page.locator("#codes .chosen").count() == 1 and page.locator("#progress").inner_text().startswith(
            "1 of 7"
        )
        browser.close()


@contextmanager
def shown(width: int, height: int, *words: object) -> Iterator["Page"]:
    """Yield the page of a review in a window of some size."""
    from playwright.sync_api import sync_playwright

    port = free_port()
    with sync_playwright() as playwright, server(port, *words):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(f"http://127.0.0.1:{port}/")
        page.locator("#answer p").wait_for()
        yield page
        browser.close()


def point(page: "Page", place: "Locator") -> None:
    """Move the mouse to an element, as a hand does: in several steps."""
    box = place.bounding_box()
    assert box
    page.mouse.move(box["x"] + 20, box["y"] + box["height"] / 2, steps=5)


def on_row(page: "Page", row: int) -> None:
    page.wait_for_function("row => document.getElementById('answer').dataset.row === String(row)", arg=row)


@pytest.mark.slow
def test_a_resting_mouse_marks_nothing(coded: Path, finished: Path, tmp_path: Path) -> None:
    with shown(1400, 900, f"run={finished}", f"input={coded}", f"db={tmp_path / 'db'}") as page:
        marked, third = page.locator("#codes .marked kbd"), page.locator("#codes button").nth(2)
        point(page, third)
        marked.filter(has_text="3").wait_for()
        page.keyboard.press("n")
        on_row(page, 1)
        page.wait_for_timeout(300)
        assert marked.inner_text() == "1"
        first = page.locator("#codes button").first.get_attribute("data-code")
        page.keyboard.press("Enter")
        on_row(page, 2)
        assert last_choice(tmp_path / "db") == (1, first)
        page.keyboard.press("/")
        with page.expect_response("**/api/search*model=false"):
            page.keyboard.type("11")
        page.wait_for_timeout(100)
        point(page, page.locator("#found li").nth(1))
        page.wait_for_function("() => document.querySelector('#about h2').textContent.startsWith('111')")
        with page.expect_response("**/api/search*model=false"):
            page.keyboard.type("2")
        page.locator("#about h2", has_text="112").wait_for()  # not the line that is now under the mouse
        page.wait_for_timeout(300)
        assert "112" in page.locator("#about h2").inner_text()


def changed(coded: Path, target: Path, row: int, **cells: str) -> Path:
    """Write a coded file with other cells in a row, and its record."""
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    for name, cell in cells.items():
        frame.loc[row, name] = cell
    frame.fillna("").to_csv(target, index=False)
    shutil.copy(f"{coded}.json", f"{target}.json")
    return target


@pytest.mark.slow
def test_long_texts_can_be_read_in_every_window(coded: Path, finished: Path, tmp_path: Path) -> None:
    long = changed(coded, tmp_path / "long.csv", 0, task="생산 설비를 점검하고 이상이 있으면 보고한다. " * 40)
    with shown(1366, 768, f"run={finished}", f"input={long}") as page:
        for width, height in ((1366, 768), (1000, 650), (1280, 720), (390, 844)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate(
                "() => { const text = document.querySelector('#answer dl'), all = document.documentElement;"
                " return getComputedStyle(document.body).overflow !== 'hidden' && (text.scrollHeight <= text.clientHeight"
                " || all.scrollHeight > innerHeight); }"
            ), (width, height)
        for width, height in ((1400, 900), (1366, 768)):
            page.set_viewport_size({"width": width, "height": height})
            page.keyboard.press("/")
            with page.expect_response("**/api/search*model=false"):
                page.locator("#query").fill("원")
            page.locator("#found li").nth(20).wait_for()
            bottom = "document.getElementById('results').getBoundingClientRect().bottom"
            space = "document.getElementById('query').getBoundingClientRect().bottom + 150"
            assert page.evaluate(f"{bottom} <= Math.max(innerHeight, {space})"), (width, height)
            if height == 900:
                assert page.evaluate(f"{bottom} <= innerHeight")
                assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
            page.keyboard.press("Escape")


@pytest.mark.slow
def test_the_page_says_what_happened(coded: Path, finished: Path, tmp_path: Path) -> None:
    own, db = changed(coded, tmp_path / "own.csv", 0, task="은행 예금"), tmp_path / "db"
    with shown(1400, 900, f"run={finished}", f"input={own}", f"db={db}") as page:
        message, kept = page.locator("#message"), page.locator("#kept")
        page.keyboard.press("2")  # row 0
        on_row(page, 1)
        page.locator("#view").select_option("settled")
        on_row(page, 0)
        assert page.locator("#codes .marked").evaluate("one => one.classList.contains('chosen')")
        page.keyboard.press("/")
        page.keyboard.press("Escape")
        assert page.locator("#codes .marked kbd").inner_text() == "2"
        assert kept.inner_text().startswith("#1 → ")
        with page.expect_response("**/api/search*model=false"):
            page.locator("#query").fill("원")
        page.locator("#many", has_text=re.compile("^[0-9]+개 중 처음 50개$")).wait_for()
        page.get_by_role("button", name="English").click()
        page.locator("#many", has_text=re.compile("^[0-9]+ found, the first 50 shown$")).wait_for()
        assert kept.inner_text() == ""
        page.locator("#query").press("Escape")

        store = Store(db)
        first = store.choice(0)
        assert first and store.choose(0, "111", "lee", first.id)
        store.close()
        page.keyboard.press("u")
        message.filter(has_text="Another reviewer's decision").wait_for()
        page.locator("#answer", has_text="111 (lee)").wait_for()

        def titles_only(route: "Route") -> None:
            answer = route.fetch()
            found = answer.json()
            route.fulfill(response=answer, json={**found, "state": {**found["state"], "from_titles": True}})

        page.route("**/api/next*", titles_only)
        page.locator("#view").select_option("open")
        on_row(page, 1)
        page.locator("#unvalidated").wait_for()
        assert page.locator("#answer p").inner_text() == "#2"

        changed(coded, own, 3, task="밭농사")
        page.get_by_role("button", name="Export").click()
        message.filter(has_text="has changed since").wait_for()
        page.route("**/api/export", lambda route: route.abort())
        page.get_by_role("button", name="Export").click()
        message.filter(has_text="The export failed").wait_for()


@pytest.mark.slow
def test_n_reaches_every_similar_row_and_an_adjudicator_sees_the_coders_codes(
    coded: Path, finished: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    both = [frame.loc[0, "code_2"], frame.loc[0, "code_4"]]
    own = changed(coded, tmp_path / "own.csv", 0, pick_list=" ".join(both), coders_comments="두 일을 한다")
    words = (f"run={finished}", f"input={own}", f"db={tmp_path / 'db'}", "show=[coders_comments]")
    with shown(1400, 900, *words) as page:
        page.get_by_text("코더들의 코드가 서로 다릅니다.").wait_for()
        page.locator("#answer dd", has_text="두 일을 한다").wait_for()
        listed = [one.get_attribute("data-code") for one in page.locator("#codes .listed").all()]
        assert listed == both
        with page.expect_response("**/api/next*") as answer:
            page.locator("#order").select_option("similar")
        answer.value.finished()
        page.wait_for_timeout(200)  # the page ignores n until it has read the answer
        rows: list[str | None] = []
        for _ in range(7):
            rows.append(page.locator("#answer").get_attribute("data-row"))
            with page.expect_response("**/api/next*"):
                page.keyboard.press("n")
            page.wait_for_function("row => document.getElementById('answer').dataset.row !== row", arg=rows[-1])
        assert sorted(map(str, rows)) == ["0", "1", "2", "3", "4", "5", "7"]
        page.keyboard.press("p")
        on_row(page, int(str(rows[-1])))
