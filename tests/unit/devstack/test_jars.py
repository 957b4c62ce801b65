"""Only pinned jars are used, and only with the bytes that were pinned."""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from dashboard.web.vendor import VENDOR, require_charts
from devstack.fetch import charts
from devstack.fetch.charts import UPLOT_ENDPOINT, UPLOT_VERSION, fetch_charts
from devstack.fetch.java import KAFKA_ENDPOINT
from devstack.fetch.maven import Jar, fetch_jars, pinned_jars
from schemas.errors import ConfigurationError

CONTENT = b"not really a jar"
JAR = Jar("org.example", "thing", "1.0", hashlib.sha256(CONTENT).hexdigest())
OTHER = b"something else"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Our cache; the one of Maven is beside it, and both are empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("M2_REPO", str(tmp_path / "maven"))
    return tmp_path / "cache" / "fraud-scoring" / "jars"


def _in_maven(cache: Path, jar: Jar, content: bytes) -> Path:
    folder = cache.parents[2] / "maven" / jar.group.replace(".", "/") / jar.artefact / jar.version
    folder.mkdir(parents=True)
    (folder / jar.name).write_bytes(content)
    return folder / jar.name


def test_a_pinned_jar_is_taken_from_the_maven_cache_once(cache: Path) -> None:
    there = _in_maven(cache, JAR, CONTENT)
    assert fetch_jars([JAR], "a thing") == [str(cache / "thing-1.0.jar")]
    there.unlink()
    [path] = fetch_jars([JAR], "a thing")
    assert Path(path).read_bytes() == CONTENT
    assert sorted(each.name for each in cache.iterdir()) == ["lock", "thing-1.0.jar"]


def test_a_download_with_other_bytes_is_refused_and_not_kept(cache: Path) -> None:
    there = _in_maven(cache, JAR, OTHER)
    with pytest.raises(ConfigurationError) as refused:
        fetch_jars([JAR], "a thing")
    assert str(there) in str(refused.value)
    assert hashlib.sha256(OTHER).hexdigest() in str(refused.value)
    assert JAR.sha256 in str(refused.value)
    assert "delete it" in str(refused.value)
    assert [each.name for each in cache.iterdir()] == ["lock"]


def test_a_jar_that_was_changed_after_the_download_is_refused(cache: Path) -> None:
    _in_maven(cache, JAR, CONTENT)
    [path] = fetch_jars([JAR], "a thing")
    Path(path).write_bytes(OTHER)
    with pytest.raises(ConfigurationError, match=re.escape(path)):
        fetch_jars([JAR], "a thing")


def test_every_jar_is_pinned_by_a_sha256() -> None:
    pinned = pinned_jars()
    assert set(pinned) == {"kafka", "uplot"}
    assert (len(pinned["kafka"]), len(pinned["uplot"])) == (46, 1)
    for jars in pinned.values():
        assert len({jar.name for jar in jars}) == len(jars)
        for jar in jars:
            assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256), jar.name


@pytest.mark.parametrize(
    ("what", "endpoint"), [("kafka", KAFKA_ENDPOINT), ("uplot", UPLOT_ENDPOINT)]
)
def test_the_versions_in_the_code_are_those_that_are_pinned(what: str, endpoint: str) -> None:
    named = {f"{jar.group}:{jar.artefact}:{jar.version}" for jar in pinned_jars()[what]}
    missing = set(endpoint.split("+")) - named
    assert not missing, f"{missing} is not in jars.toml: run `python -m devstack pin`"


def test_the_charts_come_from_the_jar_and_a_changed_file_is_put_back(
    cache: Path, tmp_path: Path
) -> None:
    made = tmp_path / "made.jar"
    with zipfile.ZipFile(made, "w") as opened:
        for inside in charts.FILES:
            name = f"META-INF/resources/webjars/uplot/{UPLOT_VERSION}/{inside}"
            opened.writestr(name, inside)
    digest = hashlib.sha256(made.read_bytes()).hexdigest()
    jar = Jar("org.webjars.npm", "uplot", UPLOT_VERSION, digest)
    _in_maven(cache, jar, made.read_bytes())
    vendor = tmp_path / "vendor"
    fetch_charts(vendor, jar)
    require_charts(vendor)
    assert (vendor / "uPlot.LICENSE.txt").read_text() == "LICENSE"
    (vendor / "uPlot.esm.js").write_text("stealPasswords()")
    fetch_charts(vendor, jar)
    assert (vendor / "uPlot.esm.js").read_text() == "dist/uPlot.esm.js"
    assert charts.VENDOR == VENDOR
