"""Every command that README and docs show is run, or composed where it needs files or hardware of the reader's own."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.conftest import FEW_STEPS, ROOT, SMALL, command

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*.md")])
OWN = "# with your own files"  # the first line of a block whose files or devices the reader must have


def blocks(page: Path) -> list[list[str]]:
    """Return the lines of each sh block, continued lines joined."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ").splitlines() for block in found]


def words_of(line: str) -> list[str]:
    return shlex.split(line, comments=True)


PAGES_WITH_COMMANDS = [page for page in PAGES if any("kjcm " in line for block in blocks(page) for line in block)]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_works(page: Path, here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for block in blocks(page):
        for line in block:
            words = words_of(line)
            if not words or words[0] != "kjcm":
                continue
            trains = words[1] in ("train", "reproduce")
            small = [word for word in SMALL if trains or word.startswith("data.scale")]
            if block[0].startswith(OWN):
                code = command(*words[1:], *(["sweep.dry_run=true"] if "-m" in words else ["--cfg", "job"]))
            elif trains:
                code = command(*words[1:], *small, "trainer.max_epochs=1")
            elif words[1] == "tune":
                code = command(*words[1:], *FEW_STEPS, "trials=1")
            elif words[1] == "baseline" or (words[1] == "prepare" and "data=kwcs" not in words):
                code = command(*words[1:], *small)
            elif words[1] == "bench":
                few = {"train": [*FEW_STEPS, "steps=2", "warmup=1"], "predict": ["rows=20"], "prepare": FEW_STEPS[:1]}
                code = command(*words[1:], *few[words[2]], "repeats=1")
            elif words[1] == "doctor":
                code = command(*words[1:], "hub=false")
            else:
                code = command(*words[1:])
            out, error = capfd.readouterr()
            assert code == 0, f"{line}\n{out}\n{error}"


def gpu_commands(folder: Path) -> list[list[str]]:
    """Return the words of each command that experiments/one_gpu.sh runs, `kjcm` left out."""
    said, kjcm = folder / "said", folder / "kjcm"
    kjcm.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" END >> {said}\n')
    kjcm.chmod(0o755)
    parts = ["bench", "train", "predict", "seeds", "reproduce", "trials"]
    script = subprocess.run(
        ["bash", ROOT / "experiments" / "one_gpu.sh", folder / "out", *parts],
        env={**os.environ, "KJCM": str(kjcm), "KOBERT": "kobert", "WORDS": "trainer=cpu"}, capture_output=True, check=True,
    )  # fmt: skip
    lines = [words.split("\n") for words in said.read_text().split("\nEND\n")[:-1]]
    assert len(lines) == 18 == script.stdout.count(b"\t0\t")
    return lines


def test_every_command_of_the_gpu_script_composes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in gpu_commands(here):
        code = command(*words, *(["sweep.dry_run=true"] if "-m" in words else ["--cfg", "job"]))
        out, error = capfd.readouterr()
        assert code == 0, f"{words}\n{out}\n{error}"
