"""The server: what it answers, and to whom it does not."""

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pytest

pytest.importorskip("fastapi")
from starlette.testclient import TestClient

from kjcm.ksco.classification import Classification, load_classification
from kjcm.ksco.title_index import IndexTitle
from kjcm.review.app import PAGE, make_app
from kjcm.review.desk import Review, _pace
from kjcm.review.files import opened, read_further
from kjcm.run_folder.model_folder import load_settings
from kjcm.search.engine import Search

HERE = "http://127.0.0.1:8765"
KSCO = load_classification("ksco7")


def client(coded: Path, finished: Path, db: Path, ksco: Classification, **more: str) -> TestClient:
    opened(coded, db, KSCO, load_settings(finished / "model")).close()
    host, token = more.get("host", "127.0.0.1"), more.get("token")
    search = Search(ksco, [IndexTitle("빌딩 미화원", "9411")], 3)
    review = Review(
        coded,
        db,
        ksco,
        search,
        lambda query: [("320", 0.5), ("941", 0.25)],
        ("choose", "search"),
        "kim",
        "ko",
        host,
        token,
    )
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
    assert page.get("/api/next").json()["state"]["settled"] == 1


def test_codes_of_an_index_have_titles_and_can_be_chosen_without_a_classification(
    coded: Path, finished: Path, tmp_path: Path
) -> None:
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    classes = load_settings(finished / "model").classes
    other = next(code for code in KSCO.codes(3) if code not in classes)
    frame.loc[0, "pick_list"] = f"{other} {frame.loc[0, 'pick_list']}"
    frame.to_csv(tmp_path / "coded.csv", index=False)
    shutil.copy(f"{coded}.json", tmp_path / "coded.csv.json")
    few = replace(KSCO, titles={code: KSCO.title(code) for code in classes})
    page = client(tmp_path / "coded.csv", finished, tmp_path / "db", few)
    first = page.get("/api/next").json()
    assert (other, KSCO.title(other)) in [(one["code"], one["title"]) for one in first["item"]["further"]]
    assert first["state"]["from_titles"] is False
    assert page.post("/api/rows/1", json={"code": other, "who": "lee"}).status_code == 422
    assert page.post("/api/rows/0", json={"code": other, "who": "lee"}).json()["kept"]["code"] == other


def test_the_search_answers_with_codes_at_the_models_level(page: TestClient, ksco: Classification) -> None:
    found = page.get("/api/search", params={"query": "빌딩미"}).json()
    first = found["hits"][0]
    assert (first["code"], first["why"], first["title"]) == ("941", "TITLE_BEGINS", ksco.title("941"))
    assert first["english"] == ksco.title("941", "en") and first["prob"] is None
    assert first["matched"] == {"title": "빌딩 미화원", "code": "9411", "parts": [["빌딩 미", True], ["화원", False]]}
    assert found["may_ask_model"] and found["count"] == len(found["hits"])
    asked = page.get("/api/search", params={"query": "빌딩미", "model": True}).json()
    assert [hit["code"] for hit in asked["hits"]] == [*(hit["code"] for hit in found["hits"]), "320"]
    last = asked["hits"][-1]
    assert (last["why"], last["prob"], last["matched"]) == ("MODEL", 0.5, None) and not asked["may_ask_model"]
    found = page.get("/api/search", params={"query": "94"}).json()
    assert [hit["code"] for hit in found["hits"]] == ["94", "941", "942"] and not found["may_ask_model"]
    assert page.get("/api/search", params={"query": "?"}).json()["hits"] == []
    assert page.get("/api/search", params={"query": "x" * 201}).status_code == 422


def test_it_goes_around_and_ends(page: TestClient) -> None:
    for row in (7, 5, 4, 3, 2, 1, 0):
        found = page.post(f"/api/rows/{row}", json={"code": "111", "who": "kim"}).json()
    assert found["item"] is None and found["state"]["settled"] == found["state"]["rows"] == 7
    assert page.get("/api/next?after=5&back=true").json()["item"] is None


def test_two_people_get_different_rows_and_none_settles_over_another(page: TestClient) -> None:
    rows = [page.get("/api/next", params={"who": who}).json()["item"]["row"] for who in ("kim", "lee", "kim")]
    assert rows == [0, 1, 0]
    assert page.post("/api/rows/0", json={"code": "111", "who": "kim"}).json()["item"]["row"] == 2
    late = page.post("/api/rows/0", json={"code": "320", "who": "lee"})
    assert late.status_code == 409
    seen = page.post("/api/undo", json={"who": "lee"}).json()["item"]
    assert seen is None
    chosen = page.post("/api/undo", json={"who": "kim"}).json()["item"]
    assert chosen["row"] == 0 and chosen["chosen"] is None
    for row in (0, 2, 3, 4, 5, 7):
        assert page.post(f"/api/rows/{row}", json={"code": "111", "who": "kim"}).status_code == 200
    assert page.get("/api/next", params={"who": "kim"}).json()["item"]["row"] == 1  # lee is at it, but it is the last


def test_a_file_that_has_changed_is_not_exported(
    coded: Path, finished: Path, tmp_path: Path, ksco: Classification
) -> None:
    import tempfile

    copy = tmp_path / "coded.csv"
    copy.write_bytes(coded.read_bytes())
    page = client(copy, finished, tmp_path / "db", ksco)
    before = set(Path(tempfile.gettempdir()).iterdir())
    copy.write_bytes(coded.read_bytes().replace("벼농사".encode(), "밭농사".encode()))
    answer = page.get("/api/export")
    assert answer.status_code == 409 and "has changed" in answer.json()["detail"]
    copy.unlink()
    assert page.get("/api/export").status_code == 409
    assert {
        path for path in set(Path(tempfile.gettempdir()).iterdir()) - before if any(path.glob("*_reviewed.csv"))
    } == set()


def test_rows_beyond_counting_are_no_rows(page: TestClient) -> None:
    for path in (f"/api/next?after={10**30}", "/api/next?after=-2", f"/api/next?who={'x' * 65}"):
        assert page.get(path).status_code == 422
    assert page.post(f"/api/rows/{10**30}", json={"code": "111", "who": "kim"}).status_code == 422
    assert (
        page.post("/api/undo", content=iter([b"{}"]), headers={"content-type": "application/json"}).status_code == 411
    )


def test_codes_without_titles_can_be_chosen(coded: Path, finished: Path, tmp_path: Path) -> None:
    opened(coded, tmp_path / "db", KSCO, load_settings(finished / "model")).close()
    named = Classification("from_data", {"A1": ""})
    page = TestClient(
        make_app(
            Review(coded, tmp_path / "db", named, Search(named), None, ("choose",), "kim", "ko", "127.0.0.1", None)
        ),
        base_url=HERE,
        headers={"origin": HERE},
    )
    assert page.post("/api/rows/0", json={"code": "A1", "who": "kim"}).status_code == 200


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
    assert page.get("/api/next").json()["state"]["settled"] == 0
    for path in ("/docs", "/openapi.json", "/static/../review.py", "/static/%2e%2e%2freview.py", "/static/store.py"):
        assert page.get(path).status_code == 404


def test_the_page_loads_nothing_from_elsewhere(page: TestClient) -> None:
    for path in ("/", "/api/next", *(f"/static/{name}" for name in PAGE)):
        answer = page.get(path)
        policy = answer.headers["content-security-policy"]
        assert answer.status_code == 200 and "default-src 'none'" in policy and "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy and answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["cache-control"] == "no-store"
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


def desk(coded: Path, finished: Path, db: Path, ksco: Classification, *, once: bool = True) -> TestClient:
    """Return a page of a file of which rows 0, 2 and 3 have the same texts, with ages and ids."""
    frame = pd.read_csv(coded, dtype=str, keep_default_na=False)
    frame.loc[[2, 3], ["task", "pick_list"]] = list(frame.loc[0, ["task", "pick_list"]])
    frame.assign(age=range(20, 28), pid=[f"p{n}" for n in range(6)] + ["3", "p1"]).to_csv(
        db.with_suffix(".csv"), index=False
    )
    file, settings = db.with_suffix(".csv"), load_settings(finished / "model")
    opened(file, db, KSCO, settings).close()
    index = [IndexTitle("빌딩 미화원", "9411"), IndexTitle("예금 창구 직원", "3201")]
    review = Review(
        file, db, ksco, Search(ksco, index, 3), None, ("choose",), "kim", "ko", "127.0.0.1", None, index,
        read_further(file, ["age"], "pid"), once,
    )  # fmt: skip
    return TestClient(make_app(review), base_url=HERE, headers={"origin": HERE})


def test_a_row_comes_with_what_helps_to_code_it(
    coded: Path, finished: Path, tmp_path: Path, ksco: Classification
) -> None:
    page = desk(coded, finished, tmp_path / "db", ksco)
    item = page.get("/api/next").json()["item"]
    assert (item["row"], item["id"], item["columns"], item["same"], item["similar"]) == (
        0,
        "p0",
        [["age", "20"]],
        3,
        [],
    )
    code = item["first"][0]["code"]
    assert item["first"][0]["english"] == ksco.title(code, "en")
    assert [one["code"] for one in item["about"][code]["above"]] == list(ksco.ancestors(code))
    about = page.get("/api/codes", params={"code": "320", "row": 0}).json()
    assert about["titles"] == ["예금 창구 직원"] and {one["code"] for one in about["below"]} == set(
        ksco.below("320")
    ) - {"320"}
    found = page.post("/api/rows/2", json={"code": "320", "who": "kim"}).json()  # as row 0, the first of the three
    assert found["kept"]["rows"] == 3 and found["state"]["settled"] == 3 and found["item"]["row"] == 1
    assert found["state"]["views"] == {"open": 4, "skipped": 0, "flagged": 0, "settled": 1}
    again = page.get("/api/find", params={"query": "p3"}).json()["item"]
    assert again["row"] == 0 and again["chosen"]["code"] == "320"
    assert page.post("/api/undo", json={"who": "lee", "row": 3}).json()["item"] is None  # kim's
    assert page.post("/api/undo", json={"who": "kim", "row": 3}).json()["state"]["settled"] == 0


def test_a_row_is_found_by_id_and_number(coded: Path, finished: Path, tmp_path: Path, ksco: Classification) -> None:
    page = desk(coded, finished, tmp_path / "db", ksco, once=False)
    for query, row in (("p1", 1), ("3", 6), ("#3", 2), (" 4 ", 3), ("7", 6)):
        assert page.get("/api/find", params={"query": query}).json()["item"]["row"] == row
    for query in ("p9", "#9", "0", "#", "", "-1", "9" * 30, "²"):
        assert page.get("/api/find", params={"query": query}).status_code == 404


def test_marks_stay_and_have_their_views(page: TestClient) -> None:
    mark = {"who": "lee", "on": True}
    found = page.post("/api/rows/0/mark", json={**mark, "kind": "skip"}).json()
    assert found["item"]["row"] == 1 and found["state"]["views"]["skipped"] == 1
    assert page.get("/api/next", params={"who": "lee"}).json()["item"]["row"] == 1  # also after a reload
    assert page.get("/api/next", params={"view": "skipped"}).json()["item"]["row"] == 0
    found = page.post("/api/rows/5/mark", json={**mark, "kind": "comment", "note": " 다시 "}).json()
    assert found["item"]["marks"] == {"comment": {"note": "다시", "who": "lee"}}
    page.post("/api/rows/5/mark", json={**mark, "kind": "flag"})
    assert page.get("/api/next", params={"view": "flagged"}).json()["item"]["row"] == 5
    page.post("/api/rows/5/mark", json={**mark, "kind": "flag", "on": False})
    assert page.get("/api/next", params={"view": "flagged"}).json()["item"] is None
    for wrong in ({"note": "=1+1"}, {"note": " "}, {"note": "x" * 501}, {"note": "a\nb"}, {"kind": "star"}):
        assert page.post("/api/rows/5/mark", json={**mark, "kind": "comment", **wrong}).status_code == 422
    assert page.post("/api/rows/99/mark", json={**mark, "kind": "flag"}).status_code == 422
    assert page.get("/api/next", params={"order": "alphabet"}).status_code == 422


def test_rows_passed_are_numbers_and_come_last(page: TestClient) -> None:
    way = {"after": 0, "order": "similar"}
    near = page.get("/api/next", params=way).json()["item"]["row"]
    other = page.get("/api/next", params={**way, "passed": f"5,{near}"}).json()["item"]["row"]
    assert other not in (0, 5, near)
    query = f"/api/rows/0?order=similar&passed=5,{near}"
    assert page.post(query, json={"code": "320", "who": "kim"}).json()["item"]["row"] == other
    for wrong in ("a", "1,", ",", "-1", "1;2", "1 ", "9" * 20, ",".join(["12345"] * 2001)):
        assert page.get("/api/next", params={**way, "passed": wrong}).status_code == 422


def test_the_pace_leaves_breaks_out() -> None:
    class Times:
        def times(self, who: str, count: int) -> list[datetime]:
            return [datetime.fromtimestamp(second, UTC) for second in (2020, 2010, 2004, 100, 90)]

    assert _pace(Times(), "kim") == pytest.approx((10 + 6 + 10) / 3)  # type: ignore[arg-type]
