"""Runs that are killed, stopped and damaged, and go on."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import several_commands
import torch
from conftest import Called, Died, wait_until
from torch import Tensor

import wkdc
from wkdc.checkpoints.checkpoint import load_generator
from wkdc.data.folders import Data, ImageFolder
from wkdc.distill import FAITHFUL, StepReport
from wkdc.errors import (
    CheckpointError,
    DeviceError,
    ImageError,
    OptionError,
    OutputError,
    WkdcError,
)
from wkdc.training.distributed import Processes
from wkdc.training.loop import Deferred
from wkdc.training.recipe import CYCLEGAN
from wkdc.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("small_validation")

Call = Callable[..., Called]

STEPS = 9

ALONE = Processes(0, 1, torch.device("cpu"))

# With a discriminator and its pool of old fakes, whose state is part of what has to come back.
SETTINGS = (
    *("--recipe", "paper", "--pixel", 1, "--crop", 32, "--load-size", 40, "--ndf", 4),
    *("--precision", "float32", "--batch", 2),
)


def weights_of(path: Path) -> list[Tensor]:
    return list(load_generator(path).network.state_dict().values())


def start_and_kill(
    arguments: tuple[object, ...], folder: Path, environment: dict[str, str]
) -> None:
    """Start a process, and kill it after some more steps than the run had before."""
    metrics = folder / "runs" / "distill-001" / "metrics.jsonl"
    before = steps_in(metrics)
    wanted = before + random.Random(before).randint(1, 6)
    commands = json.dumps([["distill", *map(str, arguments)]])
    process = subprocess.Popen(
        [sys.executable, several_commands.__file__, commands],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # A resumed run first drops the steps after its last state, which it then repeats.
    wait_until(lambda: steps_in(metrics) >= wanted or process.poll() is not None)
    process.kill()
    process.communicate()


def steps_in(metrics: Path) -> int:
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def check_killed(
    kills: int, folder: Path, environment: dict[str, str], call: Call, steps: int
) -> None:
    """The student of a run that was killed so often is the one of a run that was not."""
    settings = (*SETTINGS, "--steps", steps)
    done = call("distill", "--data", "photos", "--output", "whole.pth", *settings, "--runs", "w")
    assert done.code == 0, done.stderr
    first = ("--data", "photos", "--output", "killed.pth", *settings, "--save-every", 1e-9)
    resumed = ("--resume", "runs/distill-001")
    for kill in range(kills):
        start_and_kill(resumed if kill else first, folder, environment)
        assert not (folder / "killed.pth").exists()
    assert 0 < steps_in(folder / "runs" / "distill-001" / "metrics.jsonl") < steps
    done = call("distill", *resumed, "--json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)["steps"] == steps
    whole, killed = weights_of(folder / "whole.pth"), weights_of(folder / "killed.pth")
    assert all(torch.equal(a, b) for a, b in zip(whole, killed, strict=True))
    lines = (folder / "runs" / "distill-001" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, steps + 1))
    assert not list((folder / "runs" / "distill-001" / "checkpoints").glob("*.state"))


@pytest.mark.usefixtures("student", "photos")
def test_a_killed_run_goes_on_bit_for_bit(
    tmp_path: Path, environment: dict[str, str], call_wkdc: Call
) -> None:
    check_killed(2, tmp_path, environment, call_wkdc, steps=30)


@pytest.mark.slow
@pytest.mark.usefixtures("student", "photos")
def test_a_run_that_is_killed_twenty_times(
    tmp_path: Path, environment: dict[str, str], call_wkdc: Call
) -> None:
    check_killed(20, tmp_path, environment, call_wkdc, steps=160)


@pytest.mark.usefixtures("student", "photos")
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, call_wkdc: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C keeps what was learned, and a state of the very step that it came at."""
    settings = ("--precision", "float32", "--crop", 32, "--steps", STEPS)
    call_wkdc("distill", "--data", "photos", "--output", "whole.pth", *settings, "--runs", "w")

    def stop(_: object, report: StepReport) -> None:
        if report.phase == "train" and report.step == 4:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with monkeypatch.context() as patch:
        patch.setattr("wkdc.cli.training.show_step", stop)
        done = call_wkdc("distill", "--data", "photos", "--output", "stopped.pth", *settings)
    signal.signal(signal.SIGINT, before)
    assert (done.code, done.errors) == (130, [])
    assert "to go on: wkdc distill --resume runs/distill-001" in done.stdout
    learned = load_generator(tmp_path / "stopped.pth").card
    assert learned is not None
    steps = learned["history"][-1]["options"]["steps"]
    state = max((tmp_path / "runs" / "distill-001" / "checkpoints").glob("*.state"))
    assert steps == 5  # the one after which it came, and the next, which had to end
    assert state.name == f"step-{steps:06d}.state"
    done = call_wkdc("distill", "--resume", "runs/distill-001")
    assert done.code == 0, done.stderr
    whole, stopped = weights_of(tmp_path / "whole.pth"), weights_of(tmp_path / "stopped.pth")
    assert all(torch.equal(a, b) for a, b in zip(whole, stopped, strict=True))
    card = load_generator(tmp_path / "stopped.pth").card
    assert card is not None
    assert [entry["command"] for entry in card["history"]] == ["prune", "distill"]


def begun(student: Path, photos: Data, at: int = 6, **options: Any) -> Path:
    """The folder of a run that died in step `at`, with the states of the two steps before."""

    def die(report: StepReport) -> None:
        if report.phase == "train" and report.step == at:
            raise Died

    with pytest.raises(Died):
        run(student, photos, "died.pth", save_every=1e-9, on_step=die, **options)
    return student.parent / "runs" / "distill-001"


def run(
    student: Path,
    photos: Data,
    output: str,
    *,
    steps: int = 8,
    rate: float | None = None,
    **options: Any,
) -> list[Tensor]:
    """The weights of a whole run."""
    recipe = dataclasses.replace(FAITHFUL, crop=32, load_size=48, learning_rate=rate)
    path = student.parent / output
    wkdc.distill(
        photos,
        student=student,
        output=path,
        recipe=recipe,
        steps=steps,
        precision="float32",
        runs=student.parent / "runs",
        **options,
    )
    return weights_of(path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [cut, turn_a_bit])
def test_a_broken_state_is_left_out(
    damage: Callable[[Path], None], student: Path, photos: Path
) -> None:
    folder = begun(student, photos)
    states = sorted((folder / "checkpoints").glob("*.state"))
    assert [path.name for path in states] == ["step-000004.state", "step-000005.state"]
    damage(states[-1])
    notices: list[str] = []
    seen: list[int] = []

    def step(report: StepReport) -> None:
        if report.phase == "train":
            seen.append(report.step)
            # The broken ones do not push out those that are made now.
            whole = {f"step-{n:06d}.state" for n in seen[:-1][-2:]}
            there = {path.name for path in (folder / "checkpoints").glob("*.state")}
            assert whole <= there

    result = wkdc.resume(folder, on_notice=notices.append, on_step=step)
    assert notices == [f"{states[-1]} is broken and left out"]
    assert seen == list(range(5, 9))
    whole = run(student, photos, "whole.pth")
    assert all(torch.equal(a, b) for a, b in zip(weights_of(result.output), whole, strict=True))


def test_where_no_state_is_whole_the_students_stay(student: Path, photos: Path) -> None:
    folder = begun(student, photos)
    for path in (folder / "checkpoints").glob("*.state"):
        cut(path)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    latest = folder / "checkpoints" / "step-000005.pth"
    with pytest.raises(CheckpointError, match=f"another run with --student {latest}"):
        wkdc.resume(folder)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    wkdc.load_generator(latest)


def test_a_run_with_a_range_goes_on(student: Path) -> None:
    scenes = student.parent / "scenes"
    scenes.mkdir()
    values = np.random.default_rng(0).uniform(0, 4000, (4, 64, 72, 3)).astype(np.float32)
    for number, scene in enumerate(values):
        np.save(scenes / f"{number}.npy", scene)
    data = ImageFolder(scenes, (0.0, 4000.0))
    resumed = wkdc.resume(begun(student, data))
    whole = run(student, data, "whole.pth")
    assert all(torch.equal(a, b) for a, b in zip(weights_of(resumed.output), whole, strict=True))


@pytest.mark.parametrize("rate", [0.05, 1e-3])
def test_the_best_so_far_outlives_the_process(rate: float, student: Path, photos: Path) -> None:
    """Whether the best comes before the state (at an absurd rate) or after it."""
    folder = begun(student, photos, at=17, steps=25, select="best", rate=rate)
    resumed = wkdc.resume(folder)
    whole = run(student, photos, "whole.pth", steps=25, select="best", rate=rate)
    assert all(torch.equal(a, b) for a, b in zip(weights_of(resumed.output), whole, strict=True))
    first, second = (
        [json.loads(line) for line in (path / "validation.jsonl").read_text().splitlines()]
        for path in (folder, folder.with_name("distill-002"))
    )
    assert first == second
    best = (folder / "checkpoints").glob("best-*.pth")
    again = (folder.with_name("distill-002") / "checkpoints").glob("best-*.pth")
    assert [path.name for path in best] == [path.name for path in again]


def test_a_run_goes_on_with_the_files_that_it_began_with(student: Path, photos: Path) -> None:
    folder = begun(student, photos, at=1)
    image = next(photos.iterdir())
    for path, what in {
        image: "training images",
        student.parent / "teacher.pth": "teacher",
        folder / "checkpoints" / "start.pth": "student",
    }.items():
        content = path.read_bytes()
        if path.suffix == ".pth":
            stored = torch.load(path, weights_only=True)
            weights = stored.get("state_dict", stored)
            weights["model.1.bias"] = weights["model.1.bias"] + 1
            torch.save(stored, path)
        else:
            path.write_bytes(content + b" ")
        with pytest.raises(CheckpointError, match=f"the {what}.* changed since the run began"):
            wkdc.resume(folder)
        path.write_bytes(content)
    assert wkdc.resume(folder).steps == 8
    with pytest.raises(OptionError, match="came to its end"):
        wkdc.resume(folder)


def at_step(step: int, act: Callable[[], object]) -> Callable[[StepReport], None]:
    """Does something after a step, while the run goes on."""

    def told(report: StepReport) -> None:
        if (report.phase, report.step) == ("train", step):
            act()

    return told


QUICK = dataclasses.replace(FAITHFUL, crop=32, load_size=40)


@pytest.mark.parametrize("lost", ["folder", "folder and output"])
def test_a_run_whose_folder_vanishes(lost: str, student: Path, photos: Path) -> None:
    """What was learned is in the output, as after Ctrl-C, or said to be lost."""
    runs, output = student.parent / "runs", student.parent / "out" / "new.pth"
    output.parent.mkdir()
    gone = [runs] if lost == "folder" else [runs, output.parent]
    with pytest.raises(OutputError) as caught:
        wkdc.distill(
            photos,
            student=student,
            output=output,
            runs=runs,
            steps=40,
            recipe=QUICK,
            on_step=at_step(3, lambda: [shutil.rmtree(path) for path in gone]),
        )
    said = str(caught.value)
    assert "metrics.jsonl: No such file or directory; leave the run's folder in its place" in said
    assert "; stopped after step 4; " in said
    if lost == "folder":
        assert said.endswith(f"what was learned is in {output}")
        learned = load_generator(output).card
        assert learned is not None
        assert learned["history"][-1]["options"]["steps"] == 4
        assert any(
            not torch.equal(a, b)
            for a, b in zip(weights_of(output), weights_of(student), strict=True)
        )
    else:
        assert said.endswith("what was learned since it was last saved is lost")
        assert not output.exists()


def test_a_run_whose_images_vanish_goes_on_bit_for_bit(photos: Path) -> None:
    folder, data, away = photos.parent, photos.parent / "data", photos.parent / "away"
    for part in ("trainA", "trainB"):
        shutil.copytree(photos, data / part)

    def learn(output: str, **more: Any) -> Path:
        made, runs = folder / output, folder / f"runs-{output}"
        recipe = dataclasses.replace(CYCLEGAN, crop=32, load_size=40, ndf=4)
        small = {"ngf": 4, "blocks": 1, "recipe": recipe, "precision": "float32"}
        wkdc.train(data, output=made, runs=runs, steps=5, **small, **more)
        return made

    whole = learn("whole.pth")
    with pytest.raises(WkdcError) as caught:
        learn("new.pth", on_step=at_step(3, lambda: data.rename(away)))
    run = folder / "runs-new.pth" / "train-001"
    said = str(caught.value)
    assert str(data) in said
    assert said.endswith(f"; stopped after step 3; to go on: wkdc train --resume {run}")
    away.rename(data)
    wkdc.resume_training(run)
    found = zip(weights_of(whole), weights_of(folder / "new.pth"), strict=True)
    assert all(torch.equal(a, b) for a, b in found)


def test_images_that_vanish_before_the_next_step_leave_the_state(
    student: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = begun(student, photos, at=3)
    states = {path: path.read_bytes() for path in (folder / "checkpoints").glob("*.state")}
    assert states

    def lose(*_: Any, **__: Any) -> int:
        raise ImageError("a.png cannot be read")

    monkeypatch.setattr("wkdc.training.session.compute_ahead", lose)
    with pytest.raises(ImageError, match="after step 2; to go on: wkdc distill --resume"):
        wkdc.resume(folder)
    assert {path: path.read_bytes() for path in states} == states


def test_other_threads_are_said(student: Path, photos: Path) -> None:
    folder = begun(student, photos, at=2)
    notices: list[str] = []

    def die(_: StepReport) -> None:
        raise Died

    torch.set_num_threads(2)
    try:
        with pytest.raises(Died):
            wkdc.resume(folder, on_notice=notices.append, on_step=die)
    finally:
        torch.set_num_threads(1)
    assert notices == [
        "threads 2 instead of the 1 that the run began with: its numbers will differ in the last "
        "digits"
    ]


def test_a_folder_in_use_is_refused(student: Path, photos: Path) -> None:
    folder = begun(student, photos, at=1)
    with RunFolder(folder, ALONE), pytest.raises(OptionError, match="in use by another process"):
        wkdc.resume(folder)


def test_what_is_no_run(tmp_path: Path, student: Path, photos: Path) -> None:
    for path in (tmp_path / "nowhere", photos):
        with pytest.raises(OptionError, match="is no run folder"):
            wkdc.resume(path)
    folder = begun(student, photos, at=1)
    for text in ("{", "{}", '{"request": {"seed": 0}}'):
        (folder / "options.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"options.json is broken"):
            wkdc.resume(folder)


def test_a_run_folder_names_no_code_that_runs(student: Path, photos: Path) -> None:
    folder = begun(student, photos, at=1)
    options = json.loads((folder / "options.json").read_text())
    options["request"]["arch"] = "no_such_module:make"
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(OptionError, match="begun with --arch no_such_module:make; give the same"):
        wkdc.resume(folder)


def test_a_run_of_a_machine_with_more_gpus_is_told(student: Path, photos: Path) -> None:
    folder = begun(student, photos, at=1)
    options = json.loads((folder / "options.json").read_text())
    options["request"]["device"] = "cuda:99"
    (folder / "options.json").write_text(json.dumps(options))
    with pytest.raises(DeviceError, match=r"distill-001 was begun on cuda:99, .*; go on where"):
        wkdc.resume(folder)


def test_the_latest_of_many_steps_is_the_largest_number(tmp_path: Path) -> None:
    with RunFolder.new(tmp_path, "distill", ALONE) as run:
        for step in (999_998, 999_999, 1_000_000):
            run.save_state(step, {})
        state = run.load_state(pytest.fail)
    assert state is not None
    assert state["step"] == 1_000_000


def test_settings_beside_resume_are_refused(call_wkdc: Call) -> None:
    done = call_wkdc("distill", "--resume", "runs/distill-001", "--seed", 1, "--steps", 4)
    assert done.code == 2
    assert "--steps, --seed cannot be given with --resume" in done.errors[0]
    done = call_wkdc("distill", "--steps", 4)
    assert done.code == 2
    assert "give --data FOLDER, or --resume RUN" in done.errors[0]


def test_a_signal_waits_for_the_end_of_a_step() -> None:
    # Whoever started the tests may have told this process to ignore Ctrl-C.
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        with Deferred() as signals:
            assert not signals.caught
            signal.raise_signal(signal.SIGTERM)
            assert signals.caught
            with pytest.raises(KeyboardInterrupt):  # the second does not wait
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
