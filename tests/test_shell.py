"""A printed command comes back word for word from the shells that people paste it into."""

import shutil
import subprocess

import pytest

from kjcm.shell import command_line, quote

WORDS = [
    "kjcm", "optim.lr=0.001", "models=[k_jcm,svm]", "runs=~/runs", "~space.optim.lr", "data.path=조사(5차).csv", "name='a, b'",
    "where={state: failed}", "output=*.csv", "run=a?b", "#no", "a#b", "=ls", "out==ls", "a=b:=ls", "^x", "!1", "a!b", "$HOME",
    "`id`", "a b", "", "a\\b", 'say "x"', "'", "''", "it's", "tab\there", "line\nend", "|", "&&", "<in", ">out", ";", "%1", "-m",
    "{a,b}", "+x=${model.lr}", "a@(b|c)",
]  # fmt: skip
OPTIONS = "setopt magic_equal_subst extended_glob rc_quotes interactive_comments"


@pytest.mark.parametrize("shell", ["sh", "bash", "zsh"])
def test_a_shell_reads_every_word_back(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    flags, setting = (["-f"], f"{OPTIONS}; ") if shell == "zsh" else ([], "")
    command = [shell, *flags, "-c", f"{setting}printf '%s\\0' {command_line(WORDS)}"]
    read = subprocess.run(
        command, capture_output=True, text=True, check=True, env={"HOME": "/nowhere", "PATH": "/bin:/usr/bin"}
    )
    assert read.stdout.split("\0")[:-1] == WORDS


def test_plain_words_stay_plain() -> None:
    assert [quote(word) for word in WORDS[:2]] == WORDS[:2]
