"""A video comes back translated: same size, same moments, same sound, in a whole file or none."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import Called, check_pace
from moving import SIZE, decoded, make_video, moments, photo_frames, sound_packets, spoil
from PIL import Image
from torch import Tensor

import wkdc
from wkdc.cli import render
from wkdc.data.video_writing import choose_encoder
from wkdc.errors import ImageError, OptionError, OutputError
from wkdc.inference.video import count_frames, translate_video

Call = Callable[..., Called]

# Each frame is another photo, so that H.264 has nothing to go by: at the quality that is written,
# it keeps these at 32 dB and more. Any other frame, or one turned, is below 20.
SAME_DB = 28.0


def same(pixels: Tensor) -> Tensor:
    return pixels


def psnr(left: np.ndarray, right: np.ndarray) -> float:
    error = float(np.mean((left.astype(float) - right) ** 2))
    return 10 * np.log10(255**2 / max(error, 1e-9))


def assert_alike(left: list[np.ndarray], right: list[np.ndarray]) -> None:
    assert len(left) == len(right)
    assert min(map(psnr, left, right)) > SAME_DB


# --- What stays --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".mp4", ".mov", ".mkv"])
def test_frames_rate_and_sound_stay(tmp_path: Path, ending: str) -> None:
    frames = photo_frames(30)
    source = make_video(tmp_path / f"in{ending}", frames, rate=Fraction(30000, 1001), sound="aac")
    seen: list[int] = []
    result = translate_video(
        source, tmp_path / f"out{ending}", same, on_frame=lambda: seen.append(1)
    )
    assert (result.frames, result.sounds, result.encoder, result.problems) == (30, 1, "libx264", ())
    assert len(seen) == 30
    assert_alike(decoded(source), decoded(result.path))
    assert moments(result.path) == moments(source)
    assert sound_packets(result.path) == sound_packets(source)
    with av.open(str(source)) as before, av.open(str(result.path)) as after:
        assert after.streams.video[0].average_rate == before.streams.video[0].average_rate
        assert after.duration == before.duration
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"in{ending}", f"out{ending}"]


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
def test_frames_of_uneven_times_keep_them(tmp_path: Path, ending: str) -> None:
    times = list(np.cumsum([20, 50, 80] * 6))
    source = make_video(tmp_path / f"in{ending}", photo_frames(18), milliseconds=times)
    result = translate_video(source, tmp_path / f"out{ending}", same)
    assert moments(result.path) == moments(source)
    assert_alike(decoded(source), decoded(result.path))


@pytest.mark.parametrize("turned", [90, 180, -90])
def test_a_turned_video_is_translated_upright_and_turned_once(tmp_path: Path, turned: int) -> None:
    frames = photo_frames(5)
    source = make_video(tmp_path / "in.mp4", frames, turned=turned)
    shapes = set()

    def look(pixels: Tensor) -> Tensor:
        shapes.add(tuple(pixels.shape))
        return pixels

    translate_video(source, tmp_path / "out.mp4", look)
    upright = [np.rot90(frame, turned // 90) for frame in decoded(source)]
    assert shapes == {(3, *upright[0].shape[:2])}
    assert_alike(upright, decoded(tmp_path / "out.mp4"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert next(container.decode(video=0)).rotation == 0  # or players would turn it once more


@pytest.mark.parametrize("size", [(63, 48), (64, 47), (63, 47), (17, 9)], ids=str)
@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_odd_sizes_stay(tmp_path: Path, size: tuple[int, int], ending: str) -> None:
    frames = photo_frames(4, size)
    source = make_video(tmp_path / "in.mkv", frames, codec="ffv1", pixels="bgr0")
    translate_video(source, tmp_path / f"out{ending}", same)
    translated = decoded(tmp_path / f"out{ending}")
    assert translated[0].shape == frames[0].shape
    # VP9 halves the chroma, of which images so small have much; other frames are below 20 dB.
    assert min(map(psnr, frames, translated)) > (SAME_DB if ending == ".mp4" else 22)


@pytest.mark.parametrize("height", [48, 720])
def test_colours_stay_and_are_named(tmp_path: Path, height: int) -> None:
    """Whether they are those of television or of high definition, which players guess by size."""
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (128, 128, 128)]
    frames = [np.full((height, 64, 3), colour, np.uint8) for colour in colours]
    source = make_video(tmp_path / "in.mkv", frames, codec="ffv1", pixels="bgr0")
    translate_video(source, tmp_path / "out.mp4", same)
    with av.open(str(tmp_path / "out.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.colorspace == (1 if height == 720 else 6)
    for before, after in zip(frames, decoded(tmp_path / "out.mp4"), strict=True):
        # A step in 8-bit YUV is up to 2 of RGB.
        assert np.abs(before.astype(int) - after).max() <= 4


def test_an_image_of_wide_pixels_keeps_them(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 11)
        for array in photo_frames(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(array)))
        container.mux(stream.encode(None))
    translate_video(path, tmp_path / "out.mp4", same)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)


@pytest.mark.parametrize("missing", [{"libx264"}, {"libx264", "libopenh264"}])
def test_other_encoders_where_x264_is_not(
    tmp_path: Path, missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_video(tmp_path / "in.mp4", photo_frames(6), milliseconds=range(0, 300, 50))
    monkeypatch.setattr(av, "codecs_available", av.codecs_available - missing)
    result = translate_video(source, tmp_path / "out.mp4", same)
    assert result.encoder == (
        "mpeg4" if "libopenh264" not in av.codecs_available else "libopenh264"
    )
    # MPEG-4 Part 2 rounds to 1/65535 s.
    assert moments(result.path) == pytest.approx(moments(source), abs=1 / 65535)
    assert_alike(decoded(source), decoded(result.path))
    monkeypatch.setattr(av, "codecs_available", frozenset[str]())
    with pytest.raises(OutputError, match=r"out\.webm.*encoder"):
        choose_encoder(tmp_path / "out.webm")


# --- What is broken ----------------------------------------------------------------------------


def test_broken_frames_are_named_and_left_out(tmp_path: Path) -> None:
    # Each frame stands for itself, so that a broken one takes no other with it.
    source = make_video(tmp_path / "in.avi", photo_frames(12), codec="mjpeg", pixels="yuvj420p")
    whole = moments(source)
    before = decoded(source)
    spoil(source, [3, 7])
    result = translate_video(source, tmp_path / "out.mp4", same)
    assert result.problems == (f"{source}: 2 broken frames, at second 0.12, 0.29",)
    left = [n for n in range(12) if n not in (3, 7)]
    assert moments(result.path) == [whole[n] for n in left]  # nothing slides to an earlier time
    assert_alike([before[n] for n in left], decoded(result.path))
    spoil(source, range(12))
    with pytest.raises(ImageError, match=r"in\.avi.*no frame"):
        translate_video(source, tmp_path / "none.mp4", same)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.avi", "out.mp4"]


def test_a_video_that_ends_in_its_middle(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", photo_frames(40))
    source.write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    result = translate_video(source, tmp_path / "out.mkv", same)
    assert 0 < result.frames < 40
    assert_alike(decoded(source), decoded(result.path))


def not_videos(folder: Path) -> dict[str, str]:
    """Files that are called videos, and what is said of each."""
    (folder / "text.mp4").write_text("no video")
    (folder / "empty.mov").touch()
    half = make_video(folder / "half.mp4", photo_frames(8))
    half.write_bytes(half.read_bytes()[:1000])
    with av.open(str(folder / "sound.mkv"), "w") as container:
        stream = container.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.sample_rate = 44100
        container.mux([*stream.encode(frame), *stream.encode(None)])
    return {
        "text.mp4": "cannot be read as a video",
        "empty.mov": "cannot be read as a video",
        "half.mp4": "cannot be read as a video",
        "sound.mkv": "has no video stream",
    }


def test_files_that_are_no_videos(call_wkdc: Call, teacher: Path, tmp_path: Path) -> None:
    for name, said in not_videos(tmp_path).items():
        called = call_wkdc("translate", teacher, name, "-o", "out")
        assert called.code == 1
        (error,) = called.errors
        assert name in error
        assert said in error
        assert not (tmp_path / "out").exists()
    make_video(tmp_path / "good.mp4", photo_frames(4))
    called = call_wkdc("translate", teacher, tmp_path, "-o", "out", "--json")
    assert (called.code, called.errors) == (0, [])
    assert json.loads(called.stdout)["outputs"] == ["out/good.mp4"]
    assert len(json.loads(called.stdout)["skipped"]) == 4


def test_a_playlist_reaches_for_nothing(tmp_path: Path) -> None:
    """FFmpeg plays lists of addresses, too; a file called video must not send it to the net."""
    path = tmp_path / "list.mp4"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp4\n")
    with pytest.raises(ImageError, match=r"list\.mp4"):
        translate_video(path, tmp_path / "out.mp4", same)


def test_without_pyav(
    call_wkdc: Call, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "in.mp4", photo_frames(2))
    monkeypatch.setitem(sys.modules, "av", None)  # how Python marks what is not to be had
    called = call_wkdc("translate", teacher, "in.mp4", "-o", "out")
    assert called.code == 1
    (error,) = called.errors
    assert "in.mp4 is a video" in error
    assert "pip install 'wkdc[video]'" in error


def test_sound_that_a_file_cannot_hold(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", photo_frames(8), sound="aac")
    with pytest.raises(OutputError, match=r"out\.webm.*aac.*\.mkv"):
        translate_video(source, tmp_path / "out.webm", same)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_a_network_that_fails_leaves_no_file(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", photo_frames(20))
    translated = 0

    def fail(pixels: Tensor) -> Tensor:
        nonlocal translated
        translated += 1
        if translated == 10:
            raise KeyboardInterrupt
        return pixels

    (tmp_path / "out.mp4").write_bytes(b"mine")
    with pytest.raises(KeyboardInterrupt):
        translate_video(source, tmp_path / "out.mp4", fail)
    assert (tmp_path / "out.mp4").read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_ctrl_c_leaves_no_file(
    call_wkdc: Call, teacher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_video(tmp_path / "in.mp4", photo_frames(120), sound="aac")
    count = render.Meter.count

    def press(meter: render.Meter, done: int, total: int) -> None:
        count(meter, done, total)
        if done == 80:
            assert any(path.stat().st_size for path in tmp_path.glob("out/.in.mp4.*"))
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(render.Meter, "count", press)
    called = call_wkdc("translate", teacher, "in.mp4", "-o", "out")
    assert (called.code, called.errors) == (130, [])
    assert "Traceback" not in called.stderr
    assert "--resume translates the others" in called.stderr
    assert list((tmp_path / "out").iterdir()) == []


# --- The command -------------------------------------------------------------------------------


def test_videos_and_images_of_one_folder(
    call_wkdc: Call, teacher: Path, photos: Path, tmp_path: Path
) -> None:
    make_video(photos / "clip.mp4", photo_frames(9), sound="aac")
    make_video(photos / "old.avi", photo_frames(7), codec="mjpeg", pixels="yuvj420p")
    names = {path.name for path in photos.iterdir()}
    called = call_wkdc("translate", teacher, "photos", "-o", "out", "--json")
    assert (called.code, called.errors) == (0, [])
    said = json.loads(called.stdout)
    assert {path.name for path in (tmp_path / "out").iterdir()} == (names - {"old.avi"}) | {
        "old.mkv"
    }
    images = len(names) - 2
    assert said["translated"] == images + 9 + 7
    check_pace(said)
    assert [(v["path"], v["frames"], v["encoder"], v["sounds"]) for v in said["videos"]] == [
        ("out/clip.mp4", 9, "libx264", 1),
        ("out/old.mkv", 7, "libx264", 0),
    ]
    called = call_wkdc("translate", teacher, "photos", "-o", "out", "--resume")
    assert f"{len(names)} were there" in called.stdout
    called = call_wkdc("translate", teacher, "photos", "-o", "again")
    assert f"{images} images and 2 videos of 16 frames -> again by libx264 in " in called.stdout
    assert "frames a second" in called.stdout


def test_frames_are_translated_as_images_are(teacher: Path, tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mkv", photo_frames(6), codec="ffv1", pixels="bgr0")
    for n, frame in enumerate(decoded(source)):
        Image.fromarray(frame).save(tmp_path / f"{n}.png")
    wkdc.translate(teacher, sorted(tmp_path.glob("*.png")), tmp_path / "out")
    wkdc.translate(teacher, [source], tmp_path / "out")
    images = []
    for n in range(6):
        with Image.open(tmp_path / "out" / f"{n}.png") as image:
            images.append(np.array(image.convert("L")))
    # A random network's colours change from pixel to pixel, and video keeps half of them.
    for n, frame in enumerate(decoded(tmp_path / "out" / "in.mkv")):
        luma = np.array(Image.fromarray(frame).convert("L"))
        alike = [psnr(luma, image) for image in images]
        assert np.argmax(alike) == n
        assert alike[n] > SAME_DB


def test_a_grey_network_translates_grey_videos(tmp_path: Path) -> None:
    source = make_video(tmp_path / "in.mp4", photo_frames(3))

    def grey(pixels: Tensor) -> Tensor:
        assert pixels.shape == (1, SIZE[1], SIZE[0])
        return pixels

    translate_video(source, tmp_path / "out.mp4", grey, channels=1)
    for before, after in zip(decoded(source), decoded(tmp_path / "out.mp4"), strict=True):
        luma = np.array(Image.fromarray(before).convert("L"))
        assert psnr(np.dstack([luma] * 3), after) > SAME_DB


def test_progress_counts_frames_to_the_end(teacher: Path, photos: Path, tmp_path: Path) -> None:
    for path in sorted(photos.iterdir())[2:]:
        path.unlink()
    # Matroska does not say how many frames there are; half are lost.
    make_video(photos / "clip.mkv", photo_frames(20))
    clip = photos / "clip.mkv"
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    seen: list[tuple[int, int]] = []
    wkdc.translate(teacher, [photos], tmp_path / "out", on_image=lambda *done: seen.append(done))
    total = 2 + count_frames(clip)
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert {number for _, number in seen} == {total}


@pytest.mark.parametrize(
    ("source", "output", "said"),
    [
        ("in.mp4", "out.png", ".mp4 .mov .mkv .webm"),
        ("in.mp4", "out.avi", ".mp4 .mov .mkv .webm"),
        ("in.png", "out.mp4", ".png"),
    ],
)
def test_one_cannot_become_the_other(
    teacher: Path, tmp_path: Path, source: str, output: str, said: str
) -> None:
    (frame,) = photo_frames(1)
    Image.fromarray(frame).save(tmp_path / "in.png")
    make_video(tmp_path / "in.mp4", [frame])
    with pytest.raises(OptionError, match=said):
        wkdc.translate(teacher, [tmp_path / source], tmp_path / output)


def test_memory_stays_flat(tmp_path: Path) -> None:
    """In a process of its own, as the peak of this one lies behind it."""
    frames = photo_frames(240, (320, 240))
    make_video(tmp_path / "in.mp4", frames, codec="mpeg4", sound="aac")
    code = (
        "import psutil, sys\n"
        "from pathlib import Path\n"
        "from wkdc.inference.video import translate_video\n"
        "seen = []\n"
        "look = lambda: seen.append(psutil.Process().memory_info().rss)\n"
        "invert = lambda pixels: 255 - pixels\n"
        "translate_video(Path('in.mp4'), Path('out.mp4'), invert, on_frame=look)\n"
        "print(len(seen), max(seen[100:]) - max(seen[:100]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    count, growth = map(int, done.stdout.split())
    assert count == 240
    # 140 frames kept would be 32 MB; heaps of threads settle by a few.
    assert growth < 12e6
