"""The page in Chromium: its answer, both languages, a token, and the width of a telephone."""

import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
from tests.review.test_page import CHROMIUM, FLAGS
from tests.serving.conftest import Echo, service_of, serving

pytestmark = pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium, which is not on this machine")


@pytest.fixture
def browser() -> Any:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


def test_a_person_tries_the_service(browser: Any, echo: Echo, tmp_path: Path) -> None:
    with serving(service_of(echo, about={"synthetic": True}, token="correct-horse", hosts=None)) as served:
        page = browser.new_page(viewport={"width": 390, "height": 800}, color_scheme="dark")
        wrong: list[str] = []
        page.on(
            "console", lambda one: wrong.append(one.text) if one.type == "error" and "401" not in one.text else None
        )
        page.on("pageerror", lambda one: wrong.append(str(one)))
        page.goto(f"http://127.0.0.1:{served.port}/")
        page.wait_for_selector("#secret:not([hidden])")
        page.fill("#token", "correct-horse")
        page.click("#send")
        page.wait_for_selector("#synthetic:not([hidden])")
        assert page.locator("#fields input").count() == 3
        page.fill("input[name='하는 일']", "<b>용접</b>")
        page.click("#send")
        page.wait_for_selector("#codes li")
        assert page.locator("#codes li").count() == 3 and page.locator("#codes b").count() == 0
        assert "<b>용접</b>" in page.inner_text("#codes") and "수락" in page.inner_text("#decision")
        assert page.inner_text("#legend") == "파란 테두리: 후보. 막대: 확률."
        page.click("#language")
        assert "accept" in page.inner_text("#decision") and page.get_attribute("html", "lang") == "en"
        assert page.input_value("input[name='하는 일']") == "<b>용접</b>"
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        page.fill("input[name='하는 일']", "")
        page.keyboard.press("Enter")
        page.wait_for_selector("#decision .invalid")
        assert page.inner_text("#legend") == ""
        page.fill("input[name='하는 일']", "가" * 21)
        page.keyboard.press("Enter")
        page.get_by_role("alert").filter(has_text="20").wait_for()
        assert not [text for text in wrong if "422" not in text]
