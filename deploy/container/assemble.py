"""Puts together the root file system of the image: `assemble.py ROOT VENV HEALTHCHECK`, in the build stage.

In it: the interpreter and its standard library, the virtual environment, exactly the shared libraries that these load,
certificates, time zones, and the records by which scanners and lawyers know whose libraries they are. Not in it: a
shell, a package manager, pip, headers, tests, debug symbols. Bytecode is compiled ahead, for the root file system is
read-only and compiling at each start would take seconds.

Fails if a library that something wants is not found. Python's standard library alone is imported.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

USER = 10001
"""Of nobody on the host, and a number: Kubernetes' runAsNonRoot cannot check a name."""
NOT_SHIPPED = ("ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tkinter", "turtledemo")
"""Parts of the standard library that teach, draw or install; and what the base image had installed."""
SOURCES = {".c", ".h", ".pxd", ".pyi", ".pyx"}
"""What extension modules were made from, and what only type checkers read."""
TESTS = {"tests", "test", "SelfTest"}
FROM_BASE = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/nsswitch.conf",
    "/etc/os-release",
    "/usr/lib/os-release",
    "/etc/debian_version",
    "/etc/ld.so.conf",
)
ZONES = Path("/usr/share/zoneinfo")
"""A database session may be in any time zone; psycopg looks it up here."""
DPKG = Path("/var/lib/dpkg")
_RESOLVED = re.compile(r"(?:^|=> )(/\S+) \(0x")
_MISSING = re.compile(r"(\S+) => not found")


def main(root: Path, venv: Path, healthcheck: Path) -> None:
    trim(venv)
    strip(venv)
    make_skeleton(root)
    programs = copy_interpreter(root, venv)
    shutil.copytree(venv, root / venv.relative_to("/"), symlinks=True)
    shutil.copy(healthcheck, root / "opt" / healthcheck.name)
    libraries = sorted(set(needed(programs)))
    for library in libraries:
        copy(root, library)
    strip(root / "usr/local")
    record_owners(root, libraries)
    compile_all(root)
    run("ldconfig", "-r", str(root))


def trim(venv: Path) -> None:
    """Tests and sources of the packages. Their licences and metadata stay."""
    packages = site_packages(venv)
    for path in sorted(packages.rglob("*"), reverse=True):
        if path.is_dir() and path.name in TESTS and path.parent != packages:
            shutil.rmtree(path)
        elif path.is_file() and path.suffix in SOURCES:
            path.unlink()


def strip(folder: Path) -> None:
    """Debug symbols off the extension modules, and off a Python that was built with them (Debian's libraries have
    none). Not off the `….libs` beside modules: what auditwheel has patched, strip may break.
    """
    modules = [str(path) for path in libraries_in(folder) if not path.parent.name.endswith(".libs")]
    if modules:
        run("strip", "--strip-debug", *modules)


def make_skeleton(root: Path) -> None:
    for folder in ("data", "etc/settler", "opt", "tmp", "usr/bin", "usr/lib", "var/lib/dpkg/status.d"):
        (root / folder).mkdir(parents=True)
    for link in ("lib", "lib32", "lib64", "libx32"):
        if Path("/", link).is_symlink():
            (root / link).symlink_to(Path("/", link).readlink())
            (root / Path("/", link).readlink()).mkdir(parents=True, exist_ok=True)
    (root / "tmp").chmod(0o1777)
    os.chown(root / "data", USER, USER)
    (root / "etc/passwd").write_text(
        f"root:x:0:0:root:/root:/sbin/nologin\nsettler:x:{USER}:{USER}:settler:/data:/sbin/nologin\n"
    )
    (root / "etc/group").write_text(f"root:x:0:\nsettler:x:{USER}:\n")
    for file in map(Path, FROM_BASE):
        if file.exists():
            copy(root, file)
    shutil.copytree("/etc/ld.so.conf.d", root / "etc/ld.so.conf.d")
    for zones in filter(Path.is_dir, [ZONES]):
        shutil.copytree(zones, root / zones.relative_to("/"), ignore=shutil.ignore_patterns("right", "posix"))


def copy_interpreter(root: Path, venv: Path) -> list[Path]:
    """The program behind the environment's `python`, with every link on the way, and the standard library. All that
    has to be loadable: it, and its and the environment's extension modules.
    """
    link = venv / "bin" / "python"
    while link.is_symlink():
        link = link.parent / link.readlink()
        if not link.is_relative_to(venv):
            copy(root, link)
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(
        library,
        root / library.relative_to("/"),
        ignore=shutil.ignore_patterns(*NOT_SHIPPED, "config-*", "__pycache__", "_tkinter*", "_test*", "_ctypes_test*"),
        ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )
    return [link, *libraries_in(root / library.relative_to("/")), *libraries_in(venv)]


def needed(programs: Iterable[Path]) -> Iterator[Path]:
    """The shared libraries that these load, the loader among them, outside of the virtual environment."""
    for program in programs:
        said = run("ldd", str(program), may_fail=True)  # it does for what is linked statically
        if lost := _MISSING.findall(said):
            raise SystemExit(f"{program} wants {', '.join(lost)}, which the base image does not have")
        for found in _RESOLVED.findall(said.replace("\t", "")):
            yield Path(found)
        yield from (Path(line.split()[0]) for line in said.splitlines() if line.split()[0].startswith("/lib"))


def record_owners(root: Path, libraries: Iterable[Path]) -> None:
    """Of each Debian package that a library is from: its entry, where scanners of images without dpkg look, and its
    licence.
    """
    entries = dict(_entries((DPKG / "status").read_text(encoding="utf-8")))
    owners = {owner for library in libraries for owner in owners_of(library)} | {"base-files", "ca-certificates"}
    for owner in sorted(owners & entries.keys()):
        (root / "var/lib/dpkg/status.d" / owner).write_text(entries[owner] + "\n", encoding="utf-8")
        licence = Path("/usr/share/doc", owner, "copyright")
        if licence.exists():
            copy(root, licence)


def owners_of(library: Path) -> list[str]:
    """The package that installed a library; none: it is the base image's own Python."""
    for path in {library, library.resolve(), Path("/usr", *library.parts[1:]), Path("/", *library.resolve().parts[2:])}:
        if said := run("dpkg", "-S", str(path), may_fail=True):
            return [name.split(":")[0] for name in said.splitlines()[0].rsplit(": ", 1)[0].split(", ")]
    return []


def compile_all(root: Path) -> None:
    """Never checked against the sources: they cannot change, and their times differ in every build."""
    for library in (Path(sysconfig.get_path("stdlib")), Path("/opt")):
        compileall.compile_dir(
            root / library.relative_to("/"),
            quiet=2,
            workers=0,
            stripdir=str(root),
            prependdir="/",
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )


def copy(root: Path, file: Path) -> None:
    """Links on the way are followed, except that a link to a neighbour stays one."""
    target = root / file.relative_to("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.is_symlink() and len(file.readlink().parts) == 1 and not target.is_symlink():
        target.symlink_to(file.readlink())
        copy(root, file.parent / file.readlink())
    elif not target.exists():
        shutil.copy2(file, target)


def run(*command: str, may_fail: bool = False) -> str:
    """What a program of the build stage says."""
    errors = subprocess.DEVNULL if may_fail else None
    return subprocess.run(  # noqa: S603 -- in the build stage, on its own files
        command, stdout=subprocess.PIPE, stderr=errors, text=True, check=not may_fail
    ).stdout


def libraries_in(folder: Path) -> list[Path]:
    """`loop.cpython-311-x86_64-linux-gnu.so`, `libpq-e9b5c9ac.so.5.18`; not `Token.sol`."""
    found = (path for path in folder.rglob("*.so*") if not path.is_symlink())
    return [path for path in found if path.suffix == ".so" or ".so." in path.name]


def site_packages(venv: Path) -> Path:
    (found,) = venv.glob("lib/python3.*/site-packages")
    return found


def _entries(status: str) -> Iterator[tuple[str, str]]:
    for entry in status.strip().split("\n\n"):
        yield entry.partition("\n")[0].removeprefix("Package: "), entry


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
