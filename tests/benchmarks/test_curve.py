"""The learning curve end to end, on a classification of three groups."""

from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import command

GROUPS = {"873": "택시 운전", "743": "용접", "252": "초등학교 교사"}


def test_every_rule_learns_from_the_pool_alone(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    titles = [("code", "title_ko"), *GROUPS.items()]
    Path("codes.tsv").write_text("".join(f"{code}\t{title}\n" for code, title in titles), encoding="utf-8")
    rows = [
        ("", f"{title}{number}원", f"{number}번 {title}", code) for code, title in GROUPS.items() for number in range(8)
    ]
    table = pd.DataFrame(rows, columns=["workplace", "position", "task", "ksco7"])
    table.to_csv("coded.tsv", sep="\t", index=False)
    index = pd.DataFrame({"title": [*table["position"], "운전사"], "code": [*table["ksco7"], "873"]})
    index.to_csv("index.tsv", sep="\t", index=False)
    words = ("test_rows=6", "sizes=[3,9]", "rules=[random,order,steps,margin]", "splits=1")
    files = ("input=coded.tsv", "classification.path=codes.tsv", "classification.index=index.tsv")
    assert command("benchmarks.curve", *files, *words) == 0
    said = capfd.readouterr().out.splitlines()
    assert "split 0: 6 of 25 titles of the index are test positions" in said
    lines = [line.split() for line in said if line.startswith("    0")]
    rules = [("start", "0"), *((rule, rows) for rule in ("random", "order", "steps", "margin") for rows in ("3", "9"))]
    assert [(line[1], line[2]) for line in lines] == rules
    assert all(0.5 < float(line[3]) <= float(line[4]) == 1 for line in lines)  # Top-5 of three groups
    assert sorted(path.name for path in here.iterdir()) == ["coded.tsv", "codes.tsv", "index.tsv"]
