"""Find a data set: a folder by its path, or a known set by its name, downloaded once.

The cache holds complete sets in `datasets/NAME`. In `datasets/.downloads` are partial archives,
folders being unpacked, locks, and a `NAME.json` with the SHA-256 of the first archive that was
downloaded, which every later one must match.
"""

import difflib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from wkdc.data.download import DownloadProgress, download
from wkdc.data.unpack import unpack
from wkdc.errors import DatasetError, OptionError
from wkdc.system.files import cache_folder, writing

if sys.platform == "win32":
    import msvcrt
    import time
else:
    import fcntl

__all__ = ["DATASET_NAMES", "DownloadProgress", "find_dataset"]

SERVER = "http://efrosgans.eecs.berkeley.edu"

_CYCLEGAN = (
    "ae_photos",
    "apple2orange",
    "cezanne2photo",
    "facades",
    "horse2zebra",
    "iphone2dslr_flower",
    "maps",
    "mini",
    "mini_colorization",
    "mini_pix2pix",
    "monet2photo",
    "summer2winter_yosemite",
    "ukiyoe2photo",
    "vangogh2photo",
)
_PIX2PIX = ("edges2handbags", "edges2shoes", "facades", "maps", "night2day")

DATASET_NAMES = (
    *_CYCLEGAN,
    "cityscapes",
    *(f"pix2pix/{name}" if name in _CYCLEGAN else name for name in _PIX2PIX),
)


@dataclass(frozen=True)
class _Source:
    folder: str  # its name on disk
    archive: str | None  # its path on the server; None where the licence forbids redistribution


def find_dataset(
    data: str | Path,
    *,
    root: Path = Path("datasets"),
    mirror: str | None = None,
    cache: Path | None = None,
    on_progress: Callable[[DownloadProgress], None] | None = None,
) -> Path:
    """Return the folder of the data set `data`, after downloading it if it is known and not here.

    Looked for in this order: the folder `data` itself; `root/NAME`; `datasets/NAME` in the cache;
    the server, from which it is downloaded into the cache. A bare name is the CycleGAN set;
    `pix2pix/facades` and `pix2pix/maps` (on disk `pix2pix-facades`, `pix2pix-maps`) are the paired
    sets of those names. A second process that wants the same set waits for the first download.

    Args:
        data: a path, or one of `DATASET_NAMES`.
        root: the user's own folder of data sets.
        mirror: an address to use instead of `SERVER`; by default the variable WKDC_DATA_URL.
        cache: wkdc's cache folder; by default WKDC_CACHE, else the user's cache folder.
        on_progress: called during a download.

    Raises:
        DatasetError: no such folder or name, or a download that fails or cannot be trusted.
        OptionError: `mirror` is not an http(s) address.
        OutputError: the cache cannot be written.
    """
    text = str(data)
    source = _source(text)
    if text.strip() and (found := _folder(Path(text))):
        return found
    if source is None and _looks_like_path(text):
        name = text.replace("\\", "/").rstrip("/").rpartition("/")[2]
        hint = f"; the bare name {name} is a known data set" if name in DATASET_NAMES else ""
        raise DatasetError(f"no such folder: {text}{hint}")
    store = (cache or cache_folder()) / "datasets"
    if text.strip():
        folder = source.folder if source else text
        for parent in (root, store):
            if found := _folder(parent / folder):
                return found
    if source is None:
        raise _unknown(text)
    if source.archive is None:
        raise DatasetError(
            f"{text} cannot be downloaded, its licence forbids it: get gtFine_trainvaltest.zip and "
            "leftImg8bit_trainvaltest.zip from https://www.cityscapes-dataset.com, prepare them "
            f"(docs/datasets.md) and put the folder at {root / source.folder}"
        )
    url = f"{_server(mirror)}/{source.archive}"
    return _install(text, url, store, source.folder, on_progress)


def _source(name: str) -> _Source | None:
    family, slash, bare = name.rpartition("/")
    if family not in (("cyclegan", "pix2pix") if slash else ("",)):
        return None
    if bare == "cityscapes":
        return _Source(bare, None)
    if family != "pix2pix" and bare in _CYCLEGAN:
        return _Source(bare, f"cyclegan/datasets/{bare}.zip")
    if family != "cyclegan" and bare in _PIX2PIX:
        folder = f"pix2pix-{bare}" if bare in _CYCLEGAN else bare
        return _Source(folder, f"pix2pix/datasets/{bare}.tar.gz")
    return None


def _folder(path: Path) -> Path | None:
    try:
        if not path.exists():
            return None
        is_folder = path.is_dir()
    except OSError as error:
        raise DatasetError(f"cannot look at {path}: {error.strerror}") from error
    if not is_folder:
        raise DatasetError(f"{path} is a file: a data set is a folder of images")
    return path


def _looks_like_path(text: str) -> bool:
    if re.fullmatch(r"(cyclegan|pix2pix)/\w+", text):
        return False
    return text.startswith((".", "~")) or "/" in text or "\\" in text or bool(Path(text).drive)


def _unknown(text: str) -> DatasetError:
    near = difflib.get_close_matches(text.lower(), DATASET_NAMES, n=1)
    guess = f'did you mean "{near[0]}"? ' if near else ""
    return DatasetError(
        f'no data set "{text}": {guess}Known names: {", ".join(DATASET_NAMES)}; or give the path '
        "of a folder"
    )


def _server(mirror: str | None) -> str:
    server = (mirror or os.environ.get("WKDC_DATA_URL") or SERVER).rstrip("/")
    address = urlsplit(server)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise OptionError(
            f'the data mirror "{server}" is not an address such as https://example.org/data: '
            "correct WKDC_DATA_URL or the option"
        )
    return server


def _install(
    name: str,
    url: str,
    store: Path,
    folder: str,
    on_progress: Callable[[DownloadProgress], None] | None,
) -> Path:
    """Download, check and unpack into `store/folder`, which appears in one step or not at all."""
    final, work = store / folder, store / ".downloads"
    archive = work / f"{folder}{'.zip' if url.endswith('.zip') else '.tar.gz'}"
    fresh = work / f"{folder}.unpacking"
    record = work / f"{folder}.json"
    with writing(work):
        work.mkdir(parents=True, exist_ok=True)
    with _locked(work / f"{folder}.lock"):
        if found := _folder(final):  # downloaded by another process in the meantime
            return found
        download(url, archive, name=name, on_progress=on_progress)
        try:
            with writing(fresh):
                if fresh.exists():  # left by a process that was killed
                    shutil.rmtree(fresh)
                sha256 = _sha256(archive)
            _check_digest(name, url, sha256, record)
            unpack(archive, fresh)
        except DatasetError:
            archive.unlink(missing_ok=True)  # so that the next try downloads it again
            raise
        with writing(final):
            _record_digest(url, sha256, archive.stat().st_size, record)
            inside = list(fresh.iterdir())
            whole = inside[0] if len(inside) == 1 and inside[0].is_dir() else fresh
            if hasattr(os, "sync"):
                os.sync()  # one call instead of an fsync for each of 100 000 files
            whole.replace(final)
            archive.unlink()
            shutil.rmtree(fresh, ignore_errors=True)
    return final


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Wait for the lock file `path` and hold it; the system frees it when a process dies."""
    with writing(path):
        file = path.open("ab")
    with file:
        if sys.platform == "win32":
            while True:
                try:
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                    break
                except OSError:
                    time.sleep(0.2)
        else:
            with writing(path):
                fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(archive: Path) -> str:
    with archive.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_digest(name: str, url: str, sha256: str, record: Path) -> None:
    """Refuse an archive that differs from the first one downloaded under this name."""
    if not record.exists():
        return
    try:
        first = json.loads(record.read_text(encoding="utf-8"))
        known, known_url = str(first["sha256"]), str(first["url"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(f"{record} cannot be read: delete it to trust {url} anew") from error
    if sha256 != known:
        raise DatasetError(
            f"the archive of {name} from {url} has SHA-256 {sha256}, the first one, from "
            f"{known_url}, had {known}: if you expect the change, delete {record} and try again"
        )


def _record_digest(url: str, sha256: str, size_bytes: int, record: Path) -> None:
    if record.exists():
        return
    text = json.dumps({"url": url, "sha256": sha256, "size_bytes": size_bytes}, indent=2)
    draft = record.with_name(f"{record.name}.draft")
    draft.write_text(text + "\n", encoding="utf-8")
    draft.replace(record)
