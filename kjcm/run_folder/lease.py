"""Let only one process run a run: a lease in the run folder that works on shared file systems and does not outlive a crash.

The folder `.lease` contains a file named by a number. A process takes the lease by creating the next number, which only one
process can do. A holder on this machine is checked by its process id, a holder elsewhere by its heartbeats. Clocks of
different machines are never compared.
"""

import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from kjcm.errors import KjcmError
from kjcm.records import read_bytes, read_json

LEASE = ".lease"
BEAT = 5.0  # seconds between heartbeats
LENGTH = 1000  # bytes of a lease
SILENCE = 30.0  # seconds without a heartbeat; then a holder on another machine counts as dead


class Busy(KjcmError):
    """Another process is running the run."""


class FinishedMeanwhile(Busy):
    """Another process has finished the run since this process checked its state."""

    exit_code = 0


@dataclass(frozen=True)
class Holder:
    """The process that has, or had, a lease.

    Attributes:
        machine: identifies the machine, its boot and the container.
        host: the machine's name, for messages.
        pid: the process id there.
        started: start time as the system reports it, because process ids are reused.
        beat: number of heartbeats so far.
        released: whether the lease was released.
    """

    machine: str
    host: str
    pid: int
    started: str
    beat: int = 0
    released: bool = False

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


HOLDER = {"machine": str, "host": str, "pid": int, "started": str, "beat": int, "released": bool}


class Lease:
    """A lease that this process has on a folder.

    Attributes:
        holder: this process.
    """

    def __init__(self, place: Path, number: int) -> None:
        self._file, self._number, self._lost = place / str(number), number, False
        self.holder = Holder(machine(), socket.gethostname(), os.getpid(), _started(os.getpid()) or "")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="kjcm-lease", daemon=True)

    def require_held(self) -> None:
        """Raise KjcmError if another process took over the lease, as happens when this process was long suspended."""
        if self._lost or _numbers(self._file.parent)[-1:] != [self._number]:
            raise KjcmError(
                f"{self._file.parents[1]}: another process took over this run because this process stopped sending heartbeats. "
                "This process stops; the other process continues."
            )

    def _keep(self) -> None:
        beat = 0
        while not self._stop.wait(BEAT):
            beat += 1
            with suppress(OSError):  # a full disk or an absent server: the next beat may get through
                if _numbers(self._file.parent)[-1:] != [self._number]:
                    self._lost = True
                    return
                self._write(beat)

    def _write(self, beat: int, released: bool = False) -> None:
        whole = json.dumps({**asdict(self.holder), "beat": beat, "released": released}).encode()
        with self._file.open("r+b") as stream:  # in place, of fixed length: safe on a full disk
            stream.write(whole.ljust(LENGTH) + b"\n")

    def begin(self) -> None:
        """Write the holder to the lease, and start sending heartbeats.

        Raises:
            OSError: the lease cannot be written; then its file is removed.
        """
        try:
            self._write(0)
        except OSError:
            self._file.unlink(missing_ok=True)
            raise
        self._thread.start()

    def end(self) -> None:
        """Release the lease."""
        self._stop.set()
        self._thread.join()
        with suppress(OSError):
            if not self._lost and self._file.exists():
                self._write(0, released=True)


@contextmanager
def leased(folder: Path) -> Iterator[Lease]:
    """Hold the lease of an existing folder while the context lasts.

    Raises:
        Busy: another process has the lease.
        OSError: the folder cannot be written.
    """
    lease = _take(folder)
    lease.begin()
    try:
        yield lease
    finally:
        lease.end()


def _take(folder: Path) -> Lease:
    place = folder / LEASE
    while True:
        place.mkdir(exist_ok=True)
        last = max(_numbers(place), default=0)
        if last and _lives(place / str(last)):
            holder = holder_of(folder) or "another process"
            raise Busy(f"{folder}: {holder} is running this run. Wait for that process, or stop it.")
        mine = place / str(last + 1)
        try:
            os.close(os.open(mine, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        except FileExistsError:
            continue
        # Another process may have taken a later number between the listing above and the creation of this number.
        if max(_numbers(place)) > last + 1:
            mine.unlink(missing_ok=True)
            continue
        for number in range(1, last + 1):
            (place / str(number)).unlink(missing_ok=True)
        return Lease(place, last + 1)


def holder_of(folder: Path) -> Holder | None:
    """Return the last holder of a folder's lease; None if it is unknown."""
    numbers = _numbers(folder / LEASE)
    return _read(folder / LEASE / str(numbers[-1])) if numbers else None


def seems_held(folder: Path) -> bool:
    """Return without waiting whether a folder's lease is held; a holder elsewhere counts as alive until it releases the lease."""
    numbers = _numbers(folder / LEASE)
    return bool(numbers) and _here(folder / LEASE / str(numbers[-1])) is not False


def silent_for(folder: Path) -> float:
    """Return the seconds since the holder's last heartbeat, 0 without a holder; for display only, because clocks may differ."""
    numbers = _numbers(folder / LEASE)
    with suppress(OSError):
        return time.time() - (folder / LEASE / str(numbers[-1])).stat().st_mtime if numbers else 0.0
    return 0.0


def is_held(folder: Path) -> bool:
    """Return whether a folder's lease is held; wait at most SILENCE seconds for the heartbeat of a holder elsewhere."""
    while numbers := _numbers(folder / LEASE):
        file = folder / LEASE / str(numbers[-1])
        alive = _lives(file)
        if alive or file.exists():  # else a later holder replaced it
            return alive
    return False


def _lives(file: Path) -> bool:
    """Return whether the holder named in `file` is alive; wait for a heartbeat if the holder is elsewhere."""
    here = _here(file)
    if here is not None:
        return here
    before, end = _bytes(file), time.monotonic() + SILENCE
    while time.monotonic() < end and file.exists():  # a later holder removes it
        time.sleep(min(BEAT, SILENCE) / 10)
        if _bytes(file) not in (before, b""):
            return _here(file) is not False
    return False


def _here(file: Path) -> bool | None:
    """Return whether a holder is alive, None if unknown: the holder is elsewhere, or still writing its name."""
    holder = _read(file)
    if holder is None:
        return None
    if holder.released:
        return False
    return _started(holder.pid) == holder.started if holder.machine == machine() else None


def _bytes(file: Path) -> bytes:
    try:
        return read_bytes(file)
    except KjcmError:
        return b""


def _read(file: Path) -> Holder | None:
    try:
        found = read_json(file, HOLDER)
    except KjcmError:
        return None
    return Holder(**{name: found[name] for name in HOLDER})


def _numbers(place: Path) -> list[int]:
    try:
        return sorted(int(entry.name) for entry in place.iterdir() if re.fullmatch("[1-9][0-9]{0,17}", entry.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def machine() -> str:
    """Return an identifier of this machine, its current boot and this container."""
    found = [socket.gethostname()]
    with suppress(OSError):
        found.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
    with suppress(OSError):
        found.append(str(Path("/proc/self/ns/pid").readlink()))
    return " ".join(found)


def _started(pid: int) -> str | None:
    """Return when a process of this machine started; None if it has exited or is a zombie."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else fields[19]
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.strip() or None
