"""Every command that README and docs show is run, or composed where it needs files or hardware of the reader's own."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests import forking
from tests.conftest import FEW_STEPS, LINEAR, ROOT, SMALL, command

PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("experiments/*.md")])
LITTLE = {
    "benchmarks.train": (*FEW_STEPS, "steps=2", "warmup=1"),
    "benchmarks.predict": ("rows=20",),
    "benchmarks.serve": ("requests=20", "clients=4"),
    "benchmarks.prepare": FEW_STEPS[:1],
}
# a sweep as the page has it is only listed; this much of it is run
SEARCH = ("data.batch_size=128", "optim.lr=0.001,0.002")
RESAMPLED = ("replicates=20",)
OWN = "# with your own files"  # the first line of a block whose files or devices the reader must have


def blocks(page: Path) -> list[list[str]]:
    """Return the lines of each sh block, continued lines joined."""
    found = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [block.replace("\\\n", " ").splitlines() for block in found]


def part_of(words: list[str]) -> list[str]:
    """Return a multirun's words with two values of each key that has more."""
    short = [",".join(word.split(",")[:2]) if re.fullmatch(r"[\w.]+=[^\[('\"]+", word) else word for word in words]
    short = [re.sub(r"=range\(0,\d+\)$", "=range(0,2)", word) for word in short]
    return [*short, *(SEARCH if "experiment=search" in words else ())]


def little(words: list[str]) -> list[str]:
    """Return what makes a study of `kjcm tune` small: one trial of two epochs, whether epochs are searched or not."""
    searches = not any(word.startswith(("tune=", "~space.trainer")) for word in words)
    return [*FEW_STEPS, "trials=1", "space.trainer.max_epochs=[2]" if searches else "trainer.max_epochs=2"]


def arguments_of(line: str) -> list[str]:
    """Return a command's name and what follows it, for `kjcm NAME ...` and `python -m benchmarks.NAME ...`; else nothing."""
    words = shlex.split(line, comments=True)
    if words[:2] == ["python", "-m"] and words[2].startswith("benchmarks."):
        return words[2:]
    return words[1:] if words[:1] == ["kjcm"] else []


OWN_TEST = "extending.md"  # its recipes need files of their own: tests/test_extending.py
PAGES_WITH_COMMANDS = [
    page for page in PAGES
    if page.name != OWN_TEST and any(arguments_of(line) for block in blocks(page) for line in block)
]  # fmt: skip


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_works(
    page: Path, here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    forking.fork_further(monkeypatch.setattr)
    for block in blocks(page):
        for line in block:
            words = arguments_of(line)
            if not words:
                continue
            name = words[0]
            trains = name in ("train", "reproduce")
            encodes = trains and not LINEAR.intersection(words)
            small = [word for word in SMALL if encodes or word.startswith("data.scale")]
            if any(word.startswith("model.pretrained=") for word in words):
                small = [word for word in small if not word.startswith("model.shape")]
            once = ["trainer.max_epochs=1"] if encodes else []
            if block[0].startswith(OWN):
                code = command(*words, *(["sweep.dry_run=true"] if "-m" in words else ["--cfg", "job"]))
            elif trains and "-m" in words and part_of(words) != words:
                code = command(*words, *small, "sweep.dry_run=true")
                if "sweep.dry_run=true" not in words:
                    code = code or command(*part_of(words), *small, *once)
            elif trains:
                code = command(*words, *small, *RESAMPLED[: name == "reproduce"], *once)
            elif name == "tune":
                code = command(*words, *little(words))
            elif name == "report":
                code = command(*words, *RESAMPLED)
            elif name == "baseline" or (name == "prepare" and "data=kwcs" not in words):
                code = command(*words, *small)
            elif name in LITTLE:
                code = command(*words, *LITTLE[name], "repeats=1")
            elif name == "doctor":
                code = command(*words, "hub=false")
            else:
                code = command(*words)
            out, error = capfd.readouterr()
            assert code == 0, f"{line}\n{out}\n{error}"


def gpu_commands(folder: Path) -> list[list[str]]:
    """Return the arguments of each command that experiments/one_gpu.sh runs, the name of the command first."""
    said, program = folder / "said", folder / "program"
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" END >> {said}\n')
    program.chmod(0o755)
    parts = ["bench", "train", "predict", "seeds", "reproduce", "trials"]
    script = subprocess.run(
        ["bash", ROOT / "experiments" / "one_gpu.sh", folder / "out", *parts],
        env={**os.environ, "KJCM": program, "PYTHON": program, "KOBERT": "kobert", "WORDS": "trainer=cpu"},
        capture_output=True, check=True,
    )  # fmt: skip
    lines = [words.removeprefix("-m\n").split("\n") for words in said.read_text().split("\nEND\n")[:-1]]
    assert len(lines) == 18 == script.stdout.count(b"\t0\t")
    return lines


def test_every_command_of_the_gpu_script_composes(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in gpu_commands(here):
        code = command(*words, *(["sweep.dry_run=true"] if "-m" in words else ["--cfg", "job"]))
        out, error = capfd.readouterr()
        assert code == 0, f"{words}\n{out}\n{error}"
