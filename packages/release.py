"""A release: sdist and wheel, built from a clean tree and tried in an empty environment on each Python that is here.

    python -m packages.release              builds and tries; changes nothing
    python -m packages.release 0.2.0        first gives the tree this version: changelog, package, citation, man page,
                                            completions; commit that, then run it again without a version
    python -m packages.release --oldest     prints constraints with the oldest versions that pyproject.toml allows

A Python that is not here is named as not run. Nothing is uploaded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from datetime import datetime, timezone
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = tuple(f"python3.{minor}" for minor in range(10, 15))

IN_WHEEL = (
    "edgetop/py.typed", "edgetop/__init__.pyi", "edgetop/session/session.schema.json", "edgetop/data/themes/",
    "edgetop/data/sessions/", "edgetop/data/systemd/", "share/man/man1/edgetop.1",
    "share/bash-completion/completions/edgetop", "share/zsh/site-functions/_edgetop",
    "share/fish/vendor_completions.d/edgetop.fish",
)  # fmt: skip
IN_SDIST = ("tests/", "docs/api.md", "themes/", "sessions/", "systemd/", "share/edgetop.1", "LICENSE", "CHANGELOG.md")
"""Among all that git knows (`tests/test_wheel.py`)."""

TRIED = (
    ("edgetop", "--version"),
    ("edgetop", "models", "--json"),
    ("python", "-m", "doctest", str(ROOT / "docs/api.md")),
)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """What a command prints. Leaves with what it said where it fails."""
    ran = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if ran.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout


def require_clean() -> None:
    """Leave where something is not committed."""
    changed = run("git", "status", "--porcelain")
    if changed:
        raise SystemExit(f"the tree is not clean:\n{changed}commit or stash it first")


def give_version(version: str) -> None:
    """Write the version wherever it stands, and move what is unreleased below it in the changelog."""
    today = datetime.now(timezone.utc).date().isoformat()
    for name, pattern, text in (
        ("CHANGELOG.md", r"## \[Unreleased\]\n", f"## [Unreleased]\n\n## [{version}] - {today}\n"),
        ("edgetop/__init__.py", r'__version__ = "[^"]*"', f'__version__ = "{version}"'),
        ("CITATION.cff", r"(?m)^version: .*$", f"version: {version}"),
    ):
        file = ROOT / name
        changed, count = re.subn(pattern, text, file.read_text(), count=1)
        if not count:
            raise SystemExit(f"{name}: there is no place for the version")
        file.write_text(changed)
    generate()


def generate() -> None:
    """Write man page and completions as this edgetop has them."""
    run(sys.executable, "-m", "docs.make_settings")


def build(folder: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that was built from it; both have what they must have."""
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    _require(sdist, packed, IN_SDIST)
    _require(wheel, set(zipfile.ZipFile(wheel).namelist()), IN_WHEEL)
    return sdist, wheel


def _require(file: Path, names: set[str], wanted: tuple[str, ...]) -> None:
    lacking = [each for each in wanted if not any(each in name for name in names)]
    if lacking:
        raise SystemExit(f"{file.name} lacks {', '.join(lacking)}")


def try_on(python: str, wheel: Path) -> str:
    """Install the wheel into an empty environment of a Python and try it there."""
    if shutil.which(python) is None or subprocess.run([python, "-V"], capture_output=True, check=False).returncode:
        return "not run: it is not here"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(python, "-m", "venv", folder, cwd=folder)
        run(folder / "bin/python", "-m", "pip", "install", "--quiet", wheel, cwd=folder)
        for program, *words in TRIED:
            run(folder / "bin" / program, *words, cwd=folder)
    return "passed"


def oldest() -> str:
    """A line for each requirement of pyproject.toml that has a lower end, with that version."""
    text = (ROOT / "pyproject.toml").read_text()
    found = re.findall(r'^\s+"([A-Za-z0-9_.-]+)>=([0-9.]+)[^"]*"', text, re.MULTILINE)
    found += re.findall(r'\["([A-Za-z0-9_.-]+)>=([0-9.]+)[^"]*"\]', text)
    return "".join(f"{name}=={version}\n" for name, version in found)


def main() -> None:
    """Carry out a command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("version", nargs="?")
    parser.add_argument("--oldest", action="store_true")
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    given = parser.parse_args()
    if given.oldest:
        print(oldest(), end="")
        return
    require_clean()
    if given.version:
        give_version(given.version)
        print(f"the tree is {given.version} now: look through it, and commit it")
        return
    generate()
    require_clean()
    given.out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        sdist, wheel = (Path(shutil.move(each, given.out / each.name)) for each in build(Path(name)))
    print(sdist, wheel, sep="\n")
    for python in PYTHONS:
        print(f"{python}: {try_on(python, wheel)}", flush=True)


if __name__ == "__main__":
    main()
