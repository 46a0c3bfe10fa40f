"""The server: what it answers, and to whom it does not."""

from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from kjcm.ksco.classification import Classification
from kjcm.review.app import Review, make_app
from kjcm.review.files import opened
from kjcm.study.model_folder import load_settings

HERE = "http://127.0.0.1:8765"


def client(coded: Path, finished: Path, db: Path, ksco: Classification, **more: str) -> TestClient:
    opened(coded, db, load_settings(finished / "model")).close()
    host, token = more.get("host", "127.0.0.1"), more.get("token")
    review = Review(coded, db, ksco, 3, ("choose", "search"), "kim", "ko", host, token)
    base = HERE.replace("127.0.0.1", host)
    return TestClient(make_app(review), base_url=base, headers={"origin": base}, follow_redirects=False)


@pytest.fixture
def page(coded: Path, finished: Path, tmp_path: Path, ksco: Classification) -> TestClient:
    return client(coded, finished, tmp_path / "db", ksco)


def test_rows_are_settled_undone_and_exported(page: TestClient, tmp_path: Path, ksco: Classification) -> None:
    found = page.get("/api/next").json()
    assert found["item"]["row"] == 0 and found["state"]["rows"] == 7 and found["state"]["settled"] == 0
    found = page.post("/api/rows/0", json={"code": "3202", "who": "lee"}).json()  # finer than the model's
    assert found["item"]["row"] == 1 and found["state"]["settled"] == 1
    assert page.post("/api/rows/1", json={"code": "2", "who": "lee"}).json()["item"]["row"] == 2  # who cannot say more
    export = page.get("/api/export")
    assert "coded_reviewed.csv" in export.headers["content-disposition"]
    (tmp_path / "out.csv").write_bytes(export.content)
    codes = pd.read_csv(tmp_path / "out.csv", dtype=str)["reviewed_code"].tolist()
    assert codes[:2] == ["320", "2"]
    assert page.post("/api/undo", json={"who": "kim"}).json()["item"] is None
    assert page.post("/api/undo", json={"who": " lee "}).json()["item"]["row"] == 1  # as `choose` reads a name
    for row, code in ((0, "no code"), (99, "320"), (0, "320' OR 1=1")):
        assert page.post(f"/api/rows/{row}", json={"code": code, "who": "lee"}).status_code == 422
    assert page.get("/api/state").json()["settled"] == 1
    titles = page.get("/api/titles").json()
    assert len(titles) == len(ksco.titles) and ["111", ksco.title("111"), ksco.title("111", "en")] in titles


def test_it_goes_around_and_ends(page: TestClient) -> None:
    for row in (7, 5, 4, 3, 2, 1, 0):
        found = page.post(f"/api/rows/{row}", json={"code": "111", "who": "kim"}).json()
    assert found["item"] is None and found["state"]["settled"] == found["state"]["rows"] == 7
    assert page.get("/api/next?after=5&back=true").json()["item"] is None


def test_only_its_own_page_may_change_anything(page: TestClient) -> None:
    body = {"code": "111", "who": "kim"}
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"host": "evil.example:8765"},
    ):
        assert page.post("/api/rows/0", json=body, headers=headers).status_code == 403
    assert page.get("/api/next", headers={"host": "evil.example"}).status_code == 403
    assert (
        page.post("/api/rows/0", content=b"code=111&who=kim", headers={"content-type": "text/plain"}).status_code == 415
    )
    assert page.post("/api/rows/0", json={**body, "who": "x" * 5000}).status_code == 413
    assert page.get("/api/state").json()["settled"] == 0
    for path in ("/docs", "/openapi.json", "/static/../review.py", "/static/%2e%2e%2freview.py", "/static/store.py"):
        assert page.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere(page: TestClient) -> None:
    for path in ("/", "/static/page.css", "/static/page.js", "/api/state"):
        answer = page.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert "http://" not in answer.text and "https://" not in answer.text and "innerHTML" not in answer.text
    assert page.get("/").headers["content-type"].startswith("text/html")


def test_another_host_demands_a_token(coded: Path, finished: Path, tmp_path: Path, ksco: Classification) -> None:
    page = client(coded, finished, tmp_path / "db", ksco, host="192.168.0.7", token="s3cret")
    for path in ("/", "/api/next", "/static/page.js", "/?token=wrong", "/api/next?token=s3cre"):
        assert page.get(path).status_code == 401
    first = page.get("/?token=s3cret")
    assert first.status_code == 303 and first.headers["location"] == "/"
    assert (
        "httponly" in first.headers["set-cookie"].lower() and "samesite=strict" in first.headers["set-cookie"].lower()
    )
    assert page.get("/api/next").status_code == 200
    assert page.post("/api/rows/0", json={"code": "111", "who": "kim"}).status_code == 200
