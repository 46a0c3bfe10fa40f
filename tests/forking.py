"""Start Python processes without the seconds of their imports: they are forked from one that has imported everything.

`Forked` is a `subprocess.Popen` for `[sys.executable, "-m", MODULE, ...]` and `[sys.executable, "-c", CODE, ...]`. The
process has its own pid, streams, environment, signals and exit code, and ends as any interpreter does. The interpreters
that it starts itself (ranks of Lightning, workers of joblib, jobs of submitit) are forked from the same server, unless
it leads a session, which they could not join.
"""

import atexit
import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from joblib.externals.loky.backend import fork_exec as loky

HEAVY = (
    "lightning.pytorch", "transformers", "torchmetrics", "sklearn.svm", "pandas", "pyarrow.parquet", "optuna", "kjcm.cli",
    "kjcm.training.train", "kjcm.training.baseline", "kjcm.prediction.predict", "kjcm.tune.tune", "kjcm.sweeps.sweep",
    "hydra.main", "kjcm.keys.checks", "kjcm.keys.reference", "kjcm.keys.overrides",
)  # fmt: skip


Popen = subprocess.Popen  # starts an interpreter; `fork_further` replaces subprocess's own name for it


class Forked(Popen):  # type: ignore[type-arg]
    """A process that the server forks; the server tells its exit status through a socket."""

    def _execute_child(
        self, args: Sequence[Any], executable: Any, preexec_fn: Any, close_fds: Any, pass_fds: Any, cwd: Any, env: Any,
        startupinfo: Any, creationflags: Any, shell: Any, p2cread: int, p2cwrite: int, c2pread: int, c2pwrite: int,
        errread: int, errwrite: int, restore_signals: Any, gid: Any, gids: Any, uid: Any, umask: Any,
        start_new_session: bool, *rest: Any,
    ) -> None:  # fmt: skip
        numbers = enumerate((p2cread, c2pwrite, errwrite))
        files = {number: number if file == -1 else file for number, file in numbers}
        self.status, self.pid = fork(args, os.environ if env is None else env, files, cwd, start_new_session)
        self._child_created = True
        self._close_pipe_fds(p2cread, p2cwrite, c2pread, c2pwrite, errread, errwrite)

    def _try_wait(self, wait_flags: int) -> tuple[int, int]:
        if wait_flags == os.WNOHANG and not select.select([self.status], [], [], 0)[0]:
            return 0, 0
        return self.pid, int(self.status.recv(32))

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self._waitpid_lock.acquire(False):  # else another thread waits
            try:
                if self.returncode is None and (ended := self._try_wait(os.WNOHANG))[0]:
                    self._handle_exitstatus(ended[1])
            finally:
                self._waitpid_lock.release()
        return self.returncode


class Further(Popen):  # type: ignore[type-arg]
    """`Forked` for an interpreter of this Python, `Popen` for any other program."""

    def __new__(cls, args: Any, *rest: Any, **options: Any) -> Any:
        words = [] if isinstance(args, str | bytes | os.PathLike) else list(args)
        if words[1:2] == ["-u"]:
            del words[1]
        forks = words[:1] == [sys.executable] and words[1:2] in (["-c"], ["-m"]) and not options.get("pass_fds")
        return Forked(words, *rest, **options) if forks else Popen(args, *rest, **options)


def fork_further(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let this process fork the interpreters that it starts."""

    def worker(args: Sequence[str], kept: Sequence[int], env: dict[str, str] | None = None) -> int:
        files = {number: number for number in (0, 1, 2, *kept)}
        return fork(args, {**os.environ, **(env or {})}, files)[1]

    setattr(loky, "fork_exec", worker)
    setattr(subprocess, "Popen", Further)


def run(
    args: Sequence[Any], timeout: float, start: "type[subprocess.Popen[str]]" = Forked, **options: Any
) -> "subprocess.CompletedProcess[str]":
    """Do as `subprocess.run`, with text from pipes where no other streams are given."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(list(map(str, args)), text=True, **{**pipes, **options}) as child:
        try:
            out, error = child.communicate(timeout=timeout)
        except BaseException:
            child.kill()
            raise
    return subprocess.CompletedProcess(args, child.returncode, out, error)


def fork(
    args: Sequence[Any], env: Mapping[str, str], files: dict[int, int], cwd: Any = None, apart: bool = False
) -> tuple[socket.socket, int]:
    """Fork a process with `files`, its numbers -> ours; return the socket that tells its exit status, and its pid."""
    own, theirs = socket.socketpair()
    request = {
        "args": [str(one) for one in args[1:]], "cwd": str(cwd or Path.cwd()), "apart": apart, "files": list(files),
        "env": {name: str(value) for name, value in env.items()},
    }  # fmt: skip
    sent = [*files.values(), server().fileno(), theirs.fileno()]
    socket.send_fds(server(), [json.dumps(request).encode()], sent)
    theirs.close()
    return own, int(own.recv(32))


inherited: list[socket.socket] = []  # the socket to the server, in a process that the server forked


@cache
def server() -> socket.socket:
    """Return the socket to this process's server, which ends with this process."""
    if inherited:
        return inherited[0]
    own, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = Popen(
        [sys.executable, "-m", "tests.forking", str(theirs.fileno())], pass_fds=[theirs.fileno()],
        cwd=Path(__file__).resolve().parents[1], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    theirs.close()
    atexit.register(lambda: (own.close(), child.terminate(), child.wait()))
    return own


def next_request(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork a process for each request, report its end, and return the request in the forked process alone."""
    children: dict[int, socket.socket] = {}
    while True:
        ready = select.select([control], [], [], 0.02 if children else None)[0]
        while children and (ended := os.waitpid(-1, os.WNOHANG))[0]:
            with children.pop(ended[0]) as status, contextlib.suppress(BrokenPipeError):  # who asked may be gone
                status.send(str(ended[1]).encode())
        if not ready:
            continue
        text, files, *_ = socket.recv_fds(control, 1 << 20, 64)
        if not text:
            sys.exit()
        if not (pid := os.fork()):
            return json.loads(text), files
        children[pid] = socket.socket(fileno=files.pop())
        with contextlib.suppress(BrokenPipeError):
            children[pid].send(str(pid).encode())
        for file in files:
            os.close(file)


def become(request: dict[str, Any], files: list[int]) -> None:
    """Take the streams, folder and environment of a request and run its module or code as this process's main one."""
    high = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, 500) for file in files[:-1]]
    for file in files:
        os.close(file)
    for number, file in zip(request["files"], high, strict=False):
        os.dup2(file, number)
        os.close(file)
    if request["apart"]:
        os.setsid()
    else:
        inherited.append(socket.socket(fileno=high[-1]))
        fork_further()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.path[0] = request["cwd"]
    kind, what, *words = request["args"]
    if kind == "-m":
        sys.argv = [what, *words]
        runpy.run_module(what, run_name="__main__", alter_sys=True)
    else:
        sys.argv = ["-c", *words]
        exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})


def check_svm_on_request() -> None:
    """Let a training be compared with an SVM only if its overrides set `svm_check`: a test rarely needs the time."""
    from hydra.core.hydra_config import HydraConfig

    from kjcm.training import baseline

    def due(config: Any, rows: Any, side: str) -> bool:
        words = HydraConfig.get().overrides.task
        return any(word.startswith("svm_check=") for word in words) and checked(config, rows, side)

    checked = baseline.check_is_due
    baseline.check_is_due = due


if __name__ == "__main__":
    for module in HEAVY:
        importlib.import_module(module)
    check_svm_on_request()
    gc.collect()
    gc.freeze()
    become(*next_request(socket.socket(fileno=int(sys.argv[1]))))
