"""The requests: answers, limits, token, errors; nothing of the texts in errors and logs."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("prometheus_client")
import kjcm
from kjcm.keys.commands.serving import Batching
from kjcm.serving.schemas import Answer
from tests.serving.conftest import LIMITS, Echo, Served, service_of, serving

SECRET = "홍길동비밀"


def test_rows_and_texts_get_their_codes(served: Served) -> None:
    found = served.code({"rows": [{"하는 일": "용접", "age": 30}, {"일터": "은행"}, {"하는 일": None}], "top_k": 2})
    assert found.status_code == 200
    Answer.model_validate(found.json(), strict=True)
    first, second, third = found.json()["rows"]
    assert first["codes"] == [
        {"code": "용접", "title": "접용", "prob": 1.0},
        {"code": "용접", "title": "접용", "prob": 0.5},
    ]
    assert first["decision"] == "accept" and first["decision_code"] == "용접" and first["pick_list"] == ["용접"]
    assert first["index_codes"] == []
    assert second["codes"] == third["codes"] == [] and second["decision"] == "invalid"
    texts = served.code({"texts": ["택시", "용접"]}).json()["rows"]
    assert [[one["code"] for one in row["codes"]] for row in texts] == [["택시"] * 3, ["용접"] * 3]


@pytest.mark.parametrize("rules", [{}, {"target_error": 0.4, "back_off": [2, 1]}])
def test_a_row_gets_the_codes_that_python_gives_it(calibrated: Path, rules: dict[str, Any]) -> None:
    """Batches change the last digits of a probability, so each row alone and all rows together are compared."""
    tasks = [
        "예금 상담",
        "택시 운전",
        "학생 가르침",
        None,
        "벼농사",
        "용접",
        "123",
        "택시 운전",
        "머리 손질",
        "건물 청소",
    ]
    places = ["은행", "", None, "", "논", "조선소", "", "", "미용실", "회사"]
    coder = kjcm.load(calibrated, accelerator="cpu", precision="32-true", triage=rules)
    rows = [{"workplace": place, "task": task} for place, task in zip(places, tasks, strict=True)]
    table = pd.DataFrame(rows).assign(position="")
    coded = coder.code(table, top_k=4)
    limits = replace(LIMITS, bytes=20_000)
    with serving(service_of(coder, top_k=5, limits=limits, batching=Batching(rows=64, wait_ms=20))) as served:
        together = served.code({"rows": rows, "top_k": 4}).json()["rows"]
        alone: list[Any] = [None] * len(rows)

        def ask(number: int) -> None:
            alone[number] = served.code({"rows": [rows[number]], "top_k": 4}).json()["rows"][0]

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(len(rows))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for found in (together, alone):
        for row, (_, expected) in zip(found, coded.iterrows(), strict=True):
            codes = [] if expected["decision"] == "invalid" else [1, 2, 3, 4]
            assert [one["code"] for one in row["codes"]] == [expected[f"code_{rank}"] for rank in codes]
            assert [one["title"] for one in row["codes"]] == [expected[f"title_{rank}"] for rank in codes]
            probs = [one["prob"] for one in row["codes"]]
            assert probs == pytest.approx([expected[f"prob_{rank}"] for rank in codes], abs=1e-5)
            for name in ("decision", "decision_code", "decision_title", "reason"):
                assert row[name] == expected[name]
            assert " ".join(row["pick_list"]) == expected["pick_list"]
    exact = np.float32([one["prob"] for row in together for one in row["codes"]])
    valid = coded[coded["decision"] != "invalid"]
    assert np.array_equal(exact, valid[[f"prob_{rank}" for rank in (1, 2, 3, 4)]].to_numpy(np.float32).ravel())


@pytest.mark.parametrize(
    "body",
    [
        {}, {"texts": [SECRET], "rows": [{"하는 일": SECRET}]}, {"texts": []}, {"texts": SECRET}, {"texts": [1]},
        {"texts": [SECRET * 5]}, {"texts": [SECRET] * 11}, {"rows": [{"하는 일": SECRET * 5}]}, {"rows": [{SECRET: "x"}]},
        {"rows": [{"하는 일": {SECRET: 1}}]}, {"rows": [SECRET]}, {"rows": [{"age": SECRET * 5}]}, {"rows": [{"age": [SECRET]}]},
        {"texts": [SECRET], "top_k": 4}, {"texts": [SECRET], "top_k": 0}, {"texts": [SECRET], "top_k": SECRET},
        {"texts": [SECRET], SECRET: 1}, [SECRET], SECRET, {"texts": ["\ud800" + SECRET]},
    ],
)  # fmt: skip
def test_a_wrong_body_is_refused_without_repeating_it(body: Any, served: Served, logged: Callable[[], str]) -> None:
    text = json.dumps(body)
    found = served.client.post("/code", content=text, headers={"Content-Type": "application/json"})
    assert found.status_code == 422 and found.json()["detail"]
    assert SECRET[:3] not in found.text and SECRET[:3] not in json.dumps(found.json(), ensure_ascii=False)
    assert SECRET[:3] not in logged() and ascii(SECRET)[1:-1] not in found.text


@pytest.mark.parametrize("body", [b"{" + SECRET.encode(), b"\xff\xfe{}", b'{"texts": [' + b"[" * 1500, b""])
def test_a_body_that_is_no_json_is_refused(body: bytes, served: Served, logged: Callable[[], str]) -> None:
    found = served.client.post("/code", content=body, headers={"Content-Type": "application/json"})
    assert found.status_code in (400, 422) and SECRET[:3] not in found.text + logged()


def test_a_refusal_names_row_and_field(served: Served) -> None:
    for body, said in (
        ({"rows": [{"하는 일": "용접"}, {"하는 일": "가" * 21}]}, "body.rows.1.하는 일: String should have at most 20"),
        ({"rows": [{SECRET: "x"}]}, "body.rows.0: Extra inputs"),
        ({"texts": ["용접"], "top_k": 9}, "body.top_k: Input should be less than or equal to 3"),
        ({"texts": []}, "body.texts: List should have at least 1"),
    ):
        assert served.code(body).json()["detail"].startswith(said)


def test_sizes_and_kinds_of_bodies_are_limited(served: Served) -> None:
    json_kind = {"Content-Type": "application/json"}
    assert served.code({"texts": ["가" * 20] * 10}).status_code == 200
    assert served.client.post("/code", content=b"x" * 2001, headers=json_kind).status_code == 413
    assert served.client.post("/code", content=b"x" * 5_000_000, headers=json_kind).status_code == 413
    assert served.client.post("/code", content=iter([b"{}"]), headers=json_kind).status_code == 411
    assert served.client.post("/code", data={"texts": "x"}).status_code == 415
    assert served.client.get("/code").status_code == 405 and served.client.get("/nothing").status_code == 404
    assert served.code({"texts": ["x"]}).status_code == 200


def test_a_token_is_needed(echo: Echo, logged: Callable[[], str]) -> None:
    token = "correct-horse"
    with serving(service_of(echo, token=token, hosts=None)) as served:
        for given in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": token}, {"Authorization": f"Basic {token}"},
                      {"Authorization": "Bearer 한글".encode()}):  # fmt: skip
            for found in (
                served.client.post("/code", json={"texts": ["x"]}, headers=given),
                served.client.get("/metrics", headers=given),
                served.client.get("/model", headers=given),
                served.client.get("/openapi.json", headers=given),
            ):
                assert found.status_code == 401 and found.headers["www-authenticate"] == "Bearer"
        right = {"Authorization": f"bearer {token}", "Host": "codes.example.org"}
        assert served.code({"texts": ["x"]}, **right).status_code == 200
        schemes = served.client.get("/openapi.json", headers=right).json()["components"]["securitySchemes"]
        assert [one["scheme"] for one in schemes.values()] == ["bearer"]
        assert [served.client.get(path).status_code for path in ("/", "/health", "/health/live")] == [200] * 3
    assert token not in logged() and not echo.batches[1:]


def test_without_a_token_only_this_machines_names_are_served(served: Served) -> None:
    assert served.client.get("/health", headers={"Host": "evil.example.org"}).status_code == 403
    assert served.client.get("/health", headers={"Host": f"localhost:{served.port}"}).status_code == 200


def test_the_document_describes_the_request(served: Served) -> None:
    document = served.client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert (
        list(schemas["Row"]["properties"]) == ["일터", "하는 일", "age"]
        and schemas["Row"]["additionalProperties"] is False
    )
    assert set(schemas["Asked"]["properties"]) == {"texts", "rows", "top_k"}
    answers = document["paths"]["/code"]["post"]["responses"]
    assert {"200", "401", "413", "422", "503", "504"} <= set(answers)
    schema = answers["422"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert schemas[schema]["properties"]["detail"]["type"] == "string"
    about = served.client.get("/model").json()
    assert about["fields"] == {"workplace": "일터", "task": "하는 일", "covariates.age": "age"} and about["top_k"] == 3


def test_too_many_rows_wait_for_nobody(echo: Echo, logged: Callable[[], str]) -> None:
    limits = replace(LIMITS, waiting=2, seconds=0.5)
    with serving(service_of(echo, limits=limits)) as served:
        echo.gate.clear()
        answers: list[httpx.Response] = []
        for _ in range(3):
            time.sleep(0.1)
            threading.Thread(target=lambda: answers.append(served.code({"texts": ["용접"]}))).start()
        time.sleep(0.1)
        full = served.code({"texts": [SECRET[:5]]})
        assert full.status_code == 503 and int(full.headers["retry-after"]) > 0
        assert served.client.get("/health").status_code == 503
        assert served.client.get("/health/live").status_code == 200
        while len(answers) < 3:
            time.sleep(0.01)
        assert {found.status_code for found in answers} == {504} and "retry-after" in answers[0].headers
        echo.gate.set()
        time.sleep(0.2)
        assert served.code({"texts": ["용접"]}).status_code == 200 and served.client.get("/health").json() == {
            "ready": True
        }
        assert echo.batches == [1, 1]  # requests that nobody waits for any more are not coded
        figures = served.client.get("/metrics").text
        assert 'kjcm_requests_total{status="504"} 3.0' in figures and 'kjcm_requests_total{status="503"} 2.0' in figures
    assert SECRET[:3] not in logged()


def test_a_fault_of_the_model_shows_no_text(served: Served, logged: Callable[[], str]) -> None:
    found = served.code({"texts": ["고장", SECRET]})
    assert found.status_code == 500 and "RuntimeError" in found.json()["detail"]
    said = logged()
    assert "RuntimeError" in said and "conftest" in said  # where it happened
    assert SECRET not in found.text + said
    assert served.code({"texts": ["용접"]}).status_code == 200


def test_figures_for_prometheus(served: Served, logged: Callable[[], str]) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    assert served.code({"texts": [SECRET, "", "용접"]}).status_code == 200
    served.code({})
    answer = served.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }
    assert found["kjcm_requests_total", "200"] == found["kjcm_requests_total", "422"] == 1
    assert found["kjcm_rows_total", "accept"] == 2 and found["kjcm_rows_total", "invalid"] == 1
    assert found["kjcm_batch_rows_sum",] == 3 and found["kjcm_batch_seconds_count",] == 1
    assert found["kjcm_code_seconds_count",] == 1 and found["kjcm_waiting_rows",] == 0
    assert SECRET not in answer.text + logged()


def test_every_answer_has_the_headers_of_a_private_page(served: Served) -> None:
    page = served.client.get("/")
    assert (
        "script-src 'sha256-" in page.headers["content-security-policy"]
        and "http" not in page.text.split("<script>")[1]
    )
    for found in (page, served.code({"texts": ["x"]}), served.code({}), served.client.get("/nothing")):
        assert found.headers["cache-control"] == "no-store" and found.headers["x-content-type-options"] == "nosniff"
