"""The documentation as a reader sees it, in Chromium without a network: no raw TeX, no page wider than its window."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")

pytestmark = [
    pytest.mark.expensive,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("html")
    subprocess.run([sys.executable, "-m", "sphinx", "-q", "-b", "html", ROOT / "docs", out], check=True)
    return out


@pytest.fixture(scope="module")
def page(built: Path) -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1200, "height": 900}, offline=True)
        yield context.new_page()
        browser.close()


RAW_TEX = r"""() => {
    const content = document.querySelector('.rst-content').cloneNode(true);
    content.querySelectorAll('pre').forEach((code) => code.remove());  // files that are shown as they are
    return /\\\(|\\\[|\\frac|\\sum|\$\$/.test(content.textContent);
}"""
RENDERED = "document.querySelectorAll('mjx-container').length >= document.querySelectorAll('.math').length"


def test_every_page_is_rendered_and_fits(built: Path, page: Any) -> None:
    wrong, formulas = {}, 0
    for path in sorted(built.rglob("*.html")):
        page.goto(path.as_uri())
        if page.locator(".math").count():
            page.wait_for_function(RENDERED)
            formulas += page.locator("mjx-container").count()
        too_wide = page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
        if page.evaluate(RAW_TEX) or too_wide:
            wrong[str(path.relative_to(built))] = "too wide" if too_wide else "raw TeX"
    assert wrong == {} and formulas > 50
