"""What the live page needs beside its figures: charts, the runbook, its links."""

from __future__ import annotations

from pathlib import Path

import pytest

from dashboard.web.runbook import anchor, as_html
from dashboard.web.vendor import FILES, require_charts
from schemas.errors import ConfigurationError


def test_without_its_charts_the_dashboard_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="python -m devstack fetch"):
        require_charts(tmp_path)
    for name in FILES:
        (tmp_path / name).write_text("here")
    require_charts(tmp_path)


def test_headings_of_the_runbook_are_anchors_and_its_markup_stays_text() -> None:
    html = as_html("# Runbook\n\n### low_precision\n<script>x</script>\n\n| a |\n|---|\n| b |\n")
    assert '<h3 id="low_precision">' in html
    assert "<script>" not in html
    assert "<td>b</td>" in html
    assert anchor("ProcessDown") == "processdown"
