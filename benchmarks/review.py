"""`benchmarks.review`: a scripted coder at the page of `kjcm review`, whose server is killed in the middle."""

import logging
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from omegaconf import DictConfig

from benchmarks.command import ReviewConfig
from kjcm.errors import ConfigError, KjcmError, counted, some
from kjcm.files import require_file
from kjcm.keys.composition import typed
from kjcm.read.cells import code_texts
from kjcm.read.columns import meant_columns
from kjcm.read.table import read_table
from kjcm.review.store import Store
from kjcm.run_folder.model_folder import finished_run, load_settings
from kjcm.search.sources import titles_of_run

if TYPE_CHECKING:
    from playwright.sync_api import Page

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--no-first-run", "--enable-precise-memory-info"]  # fmt: skip
HOST = "127.0.0.1"
START = 60.0  # most seconds until the server answers
AGAIN = 0.32  # seconds after which the page takes the same key again
WARM_UP = 10  # decisions before memory is measured
CODES = "[...document.querySelectorAll('#codes button')].map(one => one.dataset.code)"
ROW = "document.getElementById('answer').dataset.row"
ON_ANOTHER_ROW = f"row => {ROW} !== row"
MEASURED = ("JSHeapUsedSize", "Nodes")

log = logging.getLogger("kjcm")


class Decision(NamedTuple):
    """A decision that the page has acknowledged: row, code, keys pressed, and seconds from the first key to the next row."""

    row: int
    code: str
    keys: int
    seconds: float


def measure(cfg: DictConfig) -> None:
    """Let a scripted coder decide the rows of a coded file with known codes, and log keys, times, memory and losses.

    Raises:
        KjcmError: a file or the run is not usable, the server does not start, or a decision was lost.
        ConfigError: there is no browser or Playwright.
    """
    config = typed(cfg, ReviewConfig)
    run, coded = finished_run(config.run), require_file(config.input, "coded file")
    right = _right_codes(run, coded, config.code)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise ConfigError("benchmarks.review needs Playwright: pip install playwright.") from None
    browser = config.browser or shutil.which("chromium")
    if browser is None:
        raise ConfigError(
            "browser=null: there is no chromium on the PATH. Name the browser's program with browser=FILE."
        )
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        db, port = Path(folder) / "review.sqlite", _free_port()
        words = [f"run={run}", f"input={coded}", f"db={db}", f"port={port}", "who=coder"]
        words.append("decisions=[accept,choose,search,back off]")
        chromium = playwright.chromium.launch(executable_path=browser, args=FLAGS)
        page = chromium.new_page(viewport={"width": 1400, "height": 900})
        _work(page, config, right, words, db, port)
        chromium.close()


def _work(page: "Page", config: ReviewConfig, right: Mapping[int, str], words: list[str], db: Path, port: int) -> None:
    """Decide half of the rows, kill the server at a keypress, start it again, and decide the others on the same page."""
    first, most = config.rows // 2, config.rows
    with _server(words, port) as server:
        page.goto(f"http://{HOST}:{port}/")
        page.wait_for_function(f"() => {ROW} !== undefined")
        if config.order != "file":  # the page's first order
            with page.expect_response("**/api/next*"):
                page.locator("#order").select_option(config.order)
        coder = Coder(page, right)
        done = coder.decide(min(WARM_UP, first))
        memory = [_memory(page)]
        done += coder.decide(first - len(done))
        memory.append(_memory(page))
        coder.press("1")  # the server may or may not have stored it
        server.kill()
        server.wait()
    kept = _settled(db)
    lost = [one for one in done if kept.get(one.row) != one.code]
    begin = time.perf_counter()
    with _server(words, port):
        back = time.perf_counter() - begin
        done += coder.decide(most - len(done))
        memory.append(_memory(page))
    kept = _settled(db)
    lost += [one for one in done if kept.get(one.row) != one.code]
    if lost or not done:
        raise KjcmError(
            f"{len(lost)} of {counted(len(done), 'decision')} lost: rows {some(one.row + 1 for one in lost)}."
        )
    _report(done, memory, back)


def _report(done: list[Decision], memory: list[dict[str, float]], back: float) -> None:
    keys, times = np.array([one.keys for one in done]), 1000 * np.array([one.seconds for one in done])
    log.info(
        "%s: %.2f keys each, %.0f %% with one key",
        counted(len(done), "decision"),
        keys.mean(),
        100 * (keys == 1).mean(),
    )
    log.info("milliseconds from the first key to the next row:")
    for name, those in (("one key", times[keys == 1]), ("a search", times[keys > 1])):
        if len(those):
            log.info("  %-8s median %.0f, 95th percentile %.0f", name, np.median(those), np.percentile(those, 95))
    when = (f"after {WARM_UP} decisions", "in the middle", "at the end")
    parts = [
        f"{one['JSHeapUsedSize'] / 1e6:.1f} MB, {one['Nodes']:.0f} nodes {at}"
        for one, at in zip(memory, when, strict=True)
    ]
    log.info("page: %s", "; ".join(parts))
    log.info("server killed in the middle, answered again after %.1f s; no acknowledged decision lost", back)


class Coder:
    """A coder at the page who knows the codes: presses a code's digit if the code is shown, else searches for the code.

    Args:
        page: the page.
        right: row -> code.
    """

    def __init__(self, page: "Page", right: Mapping[int, str]) -> None:
        self._page, self._right = page, right
        self._last = ("", 0.0)  # key and time

    def press(self, *keys: str) -> float:
        """Press keys, the first not before the page takes it; return the time of the first."""
        key, at = self._last
        if keys[0] == key:
            time.sleep(max(0.0, at + AGAIN - time.perf_counter()))
        begin = time.perf_counter()
        for key in keys:
            self._page.keyboard.press(key)
        self._last = (keys[-1], time.perf_counter())
        return begin

    def decide(self, count: int) -> list[Decision]:
        """Decide at most `count` rows, and return the decisions that the page acknowledged."""
        done: list[Decision] = []
        page = self._page
        while len(done) < count and (shown := page.evaluate(ROW)) != "":
            code, codes = self._right[int(shown)], page.evaluate(CODES)[:10]
            keys = [str((codes.index(code) + 1) % 10)] if code in codes else ["/", *code, "Enter"]
            begin = self.press(*keys)
            page.wait_for_function(ON_ANOTHER_ROW, arg=shown)
            seconds = time.perf_counter() - begin
            if page.locator("#kept").inner_text().startswith(f"#{int(shown) + 1} → {code} "):  # else the server refused
                done.append(Decision(int(shown), code, len(keys), seconds))
        return done


def _memory(page: "Page") -> dict[str, float]:
    """Return the page's bytes of JavaScript and nodes after a garbage collection."""
    session = page.context.new_cdp_session(page)
    for command in ("HeapProfiler.enable", "HeapProfiler.collectGarbage", "HeapProfiler.disable", "Performance.enable"):
        session.send(command)
    metrics = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
    session.detach()
    return {name: metrics[name] for name in MEASURED}


def _right_codes(run: Path, coded: Path, column: str) -> dict[int, str]:
    """Return row -> its right code at the model's level.

    Raises:
        KjcmError: there is no such column, or a cell has no code of the run's classification.
    """
    settings = load_settings(run / "model")
    named, _ = titles_of_run(run, settings, None)
    frame = read_table(coded)
    name = meant_columns(
        frame.columns, {"code": column}, str(coded), "Name the column with the right codes: code=NAME."
    )
    cells = code_texts(frame[name["code"]])
    meant = {cell: named.at_level(named.resolve(cell) or "", settings.level) for cell in set(cells)}
    if wrong := sorted(cell for cell, code in meant.items() if code not in named.titles):
        raise KjcmError(f"{coded}, column {column!r}: {some(wrong)} are no codes of {named.name} at the model's level.")
    return {row: str(meant[cell]) for row, cell in enumerate(cells)}


def _settled(db: Path) -> dict[int, str]:
    store = Store(db)
    try:
        return store.settled()
    finally:
        store.close()


@contextmanager
def _server(words: list[str], port: int) -> Iterator["subprocess.Popen[bytes]"]:
    """Start the server; it is killed at the end.

    Raises:
        KjcmError: it does not answer.
    """
    child = subprocess.Popen([sys.executable, "-m", "kjcm", "review", *words], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START
        while True:
            try:
                socket.create_connection((HOST, port), timeout=1).close()
                break
            except OSError:
                if child.poll() is not None or time.monotonic() > deadline:
                    raise KjcmError("kjcm review does not start: see its message above.") from None
                time.sleep(0.02)
        yield child
    finally:
        child.kill()
        child.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return int(free.getsockname()[1])


if __name__ == "__main__":
    from benchmarks.command import main

    main("benchmarks.review")
