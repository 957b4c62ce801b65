"""The lists of mutants fit the source: what is changed in the code is brought up to date there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.run import load


def test_every_mutant_has_its_place_in_the_source_and_its_tests() -> None:
    assert load()


ENTRY = """[[mutant]]
id = "one"
file = "tests/mutants/run.py"
find = "{find}"
replace = ""
tests = ["{test}"]
"""
TEST = (
    "tests/unit/test_mutant_lists.py::test_every_mutant_has_its_place_in_the_source_and_its_tests"
)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (ENTRY.format(find="no such text", test=TEST), "occurs 0 times"),
        (ENTRY.format(find="import", test=TEST), "times in"),
        (ENTRY.format(find="def load(", test=f"{TEST}_too"), "there is no"),
        (ENTRY.format(find="def load(", test="tests/unit/test_nothing.py"), "there is no"),
        (2 * ENTRY.format(find="def load(", test=TEST), "twice"),
    ],
)
def test_an_entry_that_fits_nothing_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "list.toml").write_text(text)
    with pytest.raises(ValueError, match=wrong):
        load(tmp_path)
