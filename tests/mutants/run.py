"""Mutation tests: break one line at a time and see whether the tests of that place notice.

Run by `make mutants`. Each TOML file beside this one lists the mutants of one package: the file,
the text to find (it must occur exactly once), what replaces it, and the tests that should fail.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
TARGET: Final = 0.90
TIMEOUT_S: Final = 300.0
PYTEST: Final = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One deliberate fault.

    `kernel` marks compiled code: numba does not notice that a function it has inlined changed, so
    such a mutant is compiled in an empty cache. `explained` says why a survivor is accepted.
    """

    package: str
    id: str
    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    kernel: bool = False
    explained: str = ""


def load(folder: Path = HERE) -> list[Mutant]:
    """Return every mutant of the lists in `folder`.

    Raises:
        ValueError: a mutant does not fit the source, or two have one id.
    """
    mutants = [
        Mutant(package=path.stem, **{**entry, "tests": tuple(entry["tests"])})
        for path in sorted(folder.glob("*.toml"))
        for entry in tomllib.loads(path.read_text())["mutant"]
    ]
    repeated = [name for name, n in Counter((m.package, m.id) for m in mutants).items() if n > 1]
    if repeated:
        raise ValueError(f"these ids occur twice: {repeated}")
    for mutant in mutants:
        found = (ROOT / mutant.file).read_text().count(mutant.find)
        if found != 1:
            raise ValueError(
                f"{mutant.package}/{mutant.id}: {mutant.find!r} occurs {found} times in"
                f" {mutant.file}: bring the list up to date"
            )
        for test in mutant.tests:
            if not _exists(test):
                raise ValueError(f"{mutant.package}/{mutant.id}: there is no {test}")
    return mutants


def _exists(test: str) -> bool:
    """Tell whether there is a test file, or a test of that name in it."""
    path, *names = test.split("::")
    if not (ROOT / path).is_file():
        return False
    text = (ROOT / path).read_text()
    wanted = [name.split("[")[0] for name in names]
    return all(f"def {name}(" in text or f"class {name}" in text for name in wanted)


def copy_tree(target: Path) -> None:
    """Copy the sources, and what was compiled of them, so that only the mutant is compiled."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    sources = [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
    for name in sources:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    for folder in {Path(name).parent / "__pycache__" for name in sources}:
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, target / folder)


def killed(mutant: Mutant, tree: Path) -> bool:
    """Apply the mutant to a copy of the tree, run its tests, put the file back.

    Raises:
        RuntimeError: the tests could not be run.
    """
    path = tree / mutant.file
    before, stamp = path.read_text(), path.stat()
    path.write_text(before.replace(mutant.find, mutant.replace))
    try:
        with tempfile.TemporaryDirectory() as empty:
            cache = {"NUMBA_CACHE_DIR": empty} if mutant.kernel else {}
            status = _tests_end_with(mutant.tests, tree, cache)
    finally:
        path.write_text(before)
        os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    if status not in (None, 0, 1, 2):
        raise RuntimeError(f"{mutant.package}/{mutant.id}: pytest ended with {status}")
    return status != 0


def _tests_end_with(tests: Sequence[str], tree: Path, environment: dict[str, str]) -> int | None:
    """Return pytest's exit status, None if the tests hang, by which a fault is noticed, too."""
    process = subprocess.Popen(
        [*PYTEST, "-x", *tests],
        cwd=tree,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"} | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return process.wait(TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:  # with the processes that its tests have started
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def require_green(mutants: Sequence[Mutant], tree: Path) -> None:
    """Run the tests on the code as it is: a test that fails anyway would kill every mutant.

    Raises:
        RuntimeError: some fail.
    """
    tests = sorted({test for mutant in mutants for test in mutant.tests})
    done = subprocess.run([*PYTEST, *tests], cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"the tests fail without any mutant:\n{done.stdout[-4000:]}")


def run(mutants: Sequence[Mutant], jobs: int) -> dict[Mutant, bool]:
    """Run every mutant, `jobs` at a time, each in a copy of the tree; tell which were noticed.

    Raises:
        RuntimeError: the tests fail without a mutant, or could not be run.
    """
    outcome: dict[Mutant, bool] = {}
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees: Queue[Path] = Queue()
        for number in range(jobs):
            copy_tree(Path(folder) / str(number))
            trees.put(Path(folder) / str(number))
        console.print("running the tests without a mutant first")
        require_green(mutants, Path(folder) / "0")

        def work(mutant: Mutant) -> tuple[Mutant, bool]:
            tree = trees.get()
            try:
                return mutant, killed(mutant, tree)
            finally:
                trees.put(tree)

        with (
            Progress(*columns, console=Console(stderr=True)) as progress,
            ThreadPoolExecutor(jobs) as pool,
        ):
            bar = progress.add_task("mutants", total=len(mutants))
            for mutant, dead in pool.map(work, mutants):
                outcome[mutant] = dead
                progress.advance(bar)
                if not dead:
                    note = f" (explained: {mutant.explained})" if mutant.explained else ""
                    progress.console.print(
                        f"survived: {mutant.package}/{mutant.id}{note}", markup=False
                    )
    return outcome


def report(outcome: dict[Mutant, bool]) -> bool:
    """Print the score by package; return whether each reaches the target.

    An explained survivor is listed, but does not count.
    """
    table = Table("package", "mutants", "killed", "explained", "score")
    good = True
    for package in sorted({mutant.package for mutant in outcome}):
        mine = {mutant: dead for mutant, dead in outcome.items() if mutant.package == package}
        dead = sum(mine.values())
        explained = sum(1 for mutant, dead in mine.items() if not dead and mutant.explained)
        counted = len(mine) - explained
        score = dead / counted if counted else 1.0
        good &= score >= TARGET
        table.add_row(package, str(len(mine)), str(dead), str(explained), f"{score:.0%}")
    console.print(table)
    total, dead = len(outcome), sum(outcome.values())
    console.print(f"{dead} of {total} mutants killed ({dead / total:.0%})")
    return good


def main() -> int:
    """Run the lists named on the command line, all by default."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python tests/mutants/run.py scorer runtime --jobs 2",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("packages", nargs="*", help="lists to run, by name; all by default")
    parser.add_argument("--id", action="append", help="run this mutant alone (repeatable)")
    parser.add_argument("--jobs", type=int, default=2, help="mutants at a time (default 2)")
    chosen = parser.parse_args()
    try:
        mutants = [
            mutant
            for mutant in load()
            if (not chosen.packages or mutant.package in chosen.packages)
            and (not chosen.id or mutant.id in chosen.id)
        ]
    except ValueError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2
    if not mutants:
        console.print("error: no mutant of that name: see tests/mutants/*.toml", style="red")
        return 2
    try:
        return 0 if report(run(mutants, chosen.jobs)) else 1
    except RuntimeError as error:
        console.print(f"error: {error}", style="red", markup=False)
        return 2


if __name__ == "__main__":
    sys.exit(main())
