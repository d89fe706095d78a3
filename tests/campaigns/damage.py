"""Damaged input of every kind by the thousand; one line for each kind counts what became of it.

    python tests/campaigns/damage.py [--kinds images,onnx] [--inputs 1000] [--seed 0] [--log FILE]

Each kind has a process of its own, which may take 4 GB beyond what its libraries take, and 5
seconds of the processor for an input; it is started again when it dies. What leaves wkdc but its
own errors, what runs, or is written outside the input's folder, is a fault, printed with the seed
that makes it again. With `--log`, a campaign goes on where it was stopped.
"""

import argparse
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import psutil
import torch
from damage import Whole
from damaged_files import KINDS, make_whole

MEMORY_BYTES = 4 * 2**30
LARGE_BYTES = 2**30
"""Of memory that was written to; small files need less."""

CPU_S = {"commands": 60.0, "runs": 20.0}
"""Beyond 5 seconds, where what is right trains or measures."""

SLEEP_S = 60.0
"""For a process that waits for something else than the processor."""

RUNS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "socket.connect")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options.worker[0], Whole(Path(options.worker[1])))
        return
    kinds = options.kinds.split(",")
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        make_whole(whole, tuple(kinds))
        for kind in kinds:
            log = options.log and options.log.with_suffix(f".{kind}.json")
            campaign(kind, whole, range(options.seed, options.seed + options.inputs), log)


def campaign(kind: str, whole: Path, seeds: range, log: Path | None) -> None:
    """Try all seeds of one kind."""
    counts: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    most, first = 0, seeds.start
    if log and log.is_file():
        kept = json.loads(log.read_text())
        counts, faults = Counter(kept["counts"]), Counter(kept["faults"])
        most, first = kept["most"], kept["next"]
    worker: Worker | None = None
    for seed in range(first, seeds.stop):
        worker = worker or Worker(kind, whole)
        said = worker.ask(seed, CPU_S.get(kind, 5.0))
        counts[said["outcome"]] += 1
        most = max(most, said.get("memory", 0))
        if said["outcome"] == "fault":
            faults[said["place"]] += 1
            if faults[said["place"]] == 1:
                print(f"{kind} {seed}: {said['place']}: {said['what']}", flush=True)
        if said["outcome"] in ("died", "hung"):
            print(f"{kind} {seed}: {said['outcome']}: {said['what']}", flush=True)
            worker = None
        if log and (seed % 50 == 49 or seed == seeds.stop - 1):
            plain = {"counts": counts, "faults": faults, "most": most, "next": seed + 1}
            log.write_text(json.dumps(plain))
    if worker:
        worker.end()
    bad = counts["fault"] + counts["died"] + counts["hung"]
    print(
        f"{kind}: inputs {counts.total()}, refused {counts['refused']}, taken {counts['taken']}, "
        f"faults {bad} (tracebacks {counts['fault']}, died {counts['died']}, hung "
        f"{counts['hung']}), most memory for one {most / 2**20:.0f} MiB"
        f"{f' {dict(faults)}' if faults else ''}",
        flush=True,
    )


class Worker:
    """A process that tries one input after the other."""

    def __init__(self, kind: str, whole: Path) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # as long as the process
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--worker", kind, str(whole)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "WKDC_DATA_URL": "http://127.0.0.1:9"},
        )
        ready = self._answer(120.0)  # once it has imported everything
        if ready["outcome"] != "ready":
            sys.exit(f"the process for {kind} did not start: {ready['what']}")

    def ask(self, seed: int, cpu_s: float) -> dict[str, Any]:
        """What became of an input."""
        assert self._process.stdin
        self._process.stdin.write(f"{seed}\n")
        self._process.stdin.flush()
        return self._answer(cpu_s)

    def _answer(self, cpu_s: float) -> dict[str, Any]:
        assert self._process.stdout
        used, slept = self._used(), 0.0
        while not select.select([self._process.stdout], [], [], 0.5)[0]:
            took, slept = self._used() - used, slept + 0.5 * self._sleeps()
            if took > cpu_s or slept > SLEEP_S:
                self._process.kill()
                self._process.wait()
                return {"outcome": "hung", "what": f"computed {took:.1f} s, slept {slept:.1f} s"}
        line = self._process.stdout.readline()
        if line:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        self._errors.seek(0)
        return {"outcome": "died", "what": f"{code} {self._errors.read()[-400:]!r}"}

    def _used(self) -> float:
        try:
            times = psutil.Process(self._process.pid).cpu_times()
        except psutil.Error:
            return 0.0
        return float(times.user + times.system)

    def _sleeps(self) -> bool:
        """Whether it neither computes nor waits for its turn."""
        try:
            return psutil.Process(self._process.pid).status() == psutil.STATUS_SLEEPING
        except psutil.Error:
            return False

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def work(kind: str, whole: Whole) -> None:
    """Try the seeds on stdin, and answer each in one line of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # what libraries print stays out of the answers
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        tempfile.tempdir = place
        watch = Watch(Path(place))
        warm(kind, whole, Path(place))
        now = psutil.Process().memory_info().vms
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
        print(json.dumps({"outcome": "ready"}), file=answers)
        for line in sys.stdin:
            with tempfile.TemporaryDirectory(dir=place) as folder:
                said = try_one(kind, int(line), Path(folder), whole, watch)
                print(json.dumps(said), file=answers)


def warm(kind: str, whole: Whole, place: Path) -> None:
    """Let libraries load what they load at the first use."""
    for seed in (-1, -2, -3):
        with tempfile.TemporaryDirectory(dir=place) as folder:
            try:
                KINDS[kind](seed, Path(folder), whole)
            except Exception:
                continue


class Watch:
    """Notes what runs, and what is opened for writing outside of a folder, while it is `on`."""

    def __init__(self, place: Path) -> None:
        self.on, self.seen, self._place = False, list[str](), str(place)
        sys.addaudithook(self._note)

    def _note(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on:
            return
        if event in RUNS:
            self.seen.append(f"{event} {str(arguments)[:200]}")
        elif event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES:
            path = os.fsdecode(arguments[0]) if not isinstance(arguments[0], int) else "/dev/fd"
            if not str(Path.cwd() / path).startswith((self._place, "/dev/", "/proc/self/")):
                self.seen.append(f"wrote {path!r}")


def try_one(kind: str, seed: int, folder: Path, whole: Whole, watch: Watch) -> dict[str, Any]:
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = psutil.Process().memory_info().rss
    watch.seen.clear()
    watch.on = kind != "commands"  # which write where they are told to, and may fetch and start npm
    try:
        taken = KINDS[kind](seed, folder, whole)
        said: dict[str, Any] = {"outcome": "taken" if taken else "refused"}
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        at = [f for f in frames if "/wkdc/" in f.filename or "damaged" in f.filename][-1]
        place = f"{Path(at.filename).name}:{at.lineno} {type(error).__name__}"
        said = {"outcome": "fault", "place": place, "what": str(error)[:300]}
    finally:
        watch.on = False
    said["memory"] = max(0, peak_bytes() - before)
    if watch.seen:
        said |= {"outcome": "fault", "place": "ran or wrote", "what": str(watch.seen[:3])}
    if said["memory"] > LARGE_BYTES:
        said |= {"outcome": "fault", "place": "memory", "what": f"{said['memory'] / 2**20:.0f} MiB"}
    return said


def peak_bytes() -> int:
    """The most memory that this process had since it was last asked to count anew."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


if __name__ == "__main__":
    main()
