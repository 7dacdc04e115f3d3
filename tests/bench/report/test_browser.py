"""The page in a headless Chromium: it loads, sorts, fits a phone, and nothing from outside comes alive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from metablocks.bench.report.page import page

from .browser import Browser, browser
from .samples import HOSTILE, failed, pair, record, run, with_parts

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)

COLUMN = "return [...document.querySelectorAll('#table tbody tr')].map(row => row.cells[{index}].textContent)"
SORTS = "return [...document.querySelectorAll('#table thead th')].map(head => head.getAttribute('aria-sort'))"
TITLES = "return [...document.querySelectorAll('#table thead button')].map(one => one.firstChild.textContent)"
WIDER = """return [...document.querySelectorAll('body *')].filter(one => !one.closest('.scroll') &&
  one.getBoundingClientRect().right > innerWidth + 0.5).map(one => one.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert CHROMIUM
    assert DRIVER
    with browser(DRIVER, CHROMIUM, tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def open_page(chromium: Browser, tmp_path: Path) -> Iterator[Browser]:
    """The page of a varied run; at the end nothing may stand in the console."""
    path = tmp_path / "page.html"
    path.write_text(page(run()), encoding="utf-8")
    chromium.size(1280, 900)
    chromium.complaints()
    chromium.requests()
    chromium.open(path)
    yield chromium
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(("file:///", "data:,"))] == []


def column(tab: Browser, title: str) -> list[str]:
    return tab.run(COLUMN.format(index=tab.run(TITLES).index(title)))


def press(tab: Browser, title: str) -> str:
    """Clicks on a heading; returns how the column is sorted then."""
    index = tab.run(TITLES).index(title)
    tab.run(f"document.querySelectorAll('#table thead button')[{index}].click()")
    return tab.run(SORTS)[index]


def test_a_click_sorts_by_size_and_a_second_one_turns_it_round(open_page: Browser) -> None:
    before = column(open_page, "images/s")
    assert press(open_page, "images/s") == "descending"
    down = [text for text in column(open_page, "images/s") if text]
    assert down == sorted(down, key=float, reverse=True)
    assert press(open_page, "images/s") == "ascending"
    up = [text for text in column(open_page, "images/s") if text]
    assert up == sorted(up, key=float)
    assert up != [text for text in before if text]


def test_only_the_sorted_column_says_so(open_page: Browser) -> None:
    press(open_page, "images/s")
    press(open_page, "network")
    sorts = dict(zip(open_page.run(TITLES), open_page.run(SORTS), strict=True))
    assert sorts.pop("network") == "ascending"
    assert set(sorts.values()) == {"none"}


@pytest.mark.parametrize("times", [1, 2])
def test_failed_rows_stay_last_whichever_way(open_page: Browser, times: int) -> None:
    for _ in range(times):
        press(open_page, "images/s")
    verdicts = [text[:8] for text in column(open_page, "verdict")]
    assert all("failed" in text for text in verdicts[-2:])
    assert not [text for text in verdicts[:-2] if "failed" in text]


def test_a_heading_sorts_by_the_keyboard(open_page: Browser) -> None:
    index = open_page.run(TITLES).index("network")
    open_page.run(f"document.querySelectorAll('#table thead button')[{index}].focus()")
    open_page.press("Enter")
    assert open_page.run(SORTS)[index] == "ascending"


def test_the_filter_hides_the_other_rows(open_page: Browser) -> None:
    open_page.run("""const box = document.getElementById('filter'); box.value = 'POOLFORMER_s24 block';
                     box.dispatchEvent(new Event('input'))""")
    seen = open_page.run("return [...document.querySelectorAll('#table tbody tr:not([hidden])')].length")
    assert seen == 1
    assert open_page.run("return document.getElementById('found').textContent") == "1 of 44"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_drawn_in_both_schemes(open_page: Browser, tmp_path: Path, scheme: str) -> None:
    open_page.media(prefers_color_scheme=scheme)
    ink, ground = open_page.run("const s = getComputedStyle(document.body); return [s.color, s.backgroundColor]")
    dark = [sum(map(int, text[4:-1].split(","))) < 380 for text in (ink, ground)]
    assert dark == [scheme == "light", scheme == "dark"]
    shot = open_page.screenshot(tmp_path / f"{scheme}.png")
    assert shot.startswith(b"\x89PNG")
    assert len(shot) > 50_000
    open_page.media()


def test_nothing_is_wider_than_a_phone(open_page: Browser, tmp_path: Path) -> None:
    open_page.size(360, 740)
    assert open_page.run("return [innerWidth, document.documentElement.scrollWidth]") == [360, 360]
    assert open_page.run(WIDER) == []
    assert open_page.screenshot(tmp_path / "phone.png").startswith(b"\x89PNG")


def test_every_plot_has_a_name_for_those_who_do_not_see_it(open_page: Browser) -> None:
    bare = "return document.querySelectorAll('svg[role=img]:not([aria-label])').length"
    assert open_page.run(bare) == 0
    assert open_page.run("return document.querySelectorAll('svg[role=img]').length") > 5


def test_the_page_prints(open_page: Browser, tmp_path: Path) -> None:
    assert open_page.pdf(tmp_path / "page.pdf").startswith(b"%PDF")


def test_names_from_outside_do_not_come_alive(chromium: Browser, tmp_path: Path) -> None:
    rows = []
    for number, text in enumerate(HOSTILE):
        own = {"digest": str(number), "params": 10**6 * (number + 1), "warnings": (text,)}
        base = with_parts(record(text, 10 + number, **own))
        rows += pair(number, base, record(text, 12, compile="block", **own))
    path = tmp_path / "hostile.html"
    path.write_text(page([*rows, failed(HOSTILE[0], HOSTILE[1])]), encoding="utf-8")
    chromium.complaints()
    chromium.requests()
    chromium.open(path)
    assert chromium.run("return document.title") == "metablocks bench"
    assert chromium.run("return document.querySelectorAll('img, iframe, object').length") == 0
    assert chromium.run("return document.querySelectorAll('script').length") == 1
    assert chromium.run("return getComputedStyle(document.body).display") == "block"
    assert "<script>document.title" in chromium.run("return document.getElementById('table').textContent")
    assert chromium.complaints() == []
    assert [url for url in chromium.requests() if not url.startswith(("file:///", "data:,"))] == []


def test_a_script_that_is_not_ours_does_not_run(chromium: Browser, tmp_path: Path) -> None:
    """What the policy is for, should an escape ever be missing: the page is tampered with, and nothing happens."""
    alien = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"
    path = tmp_path / "tampered.html"
    path.write_text(page([record()]).replace("</main>", f"</main>{alien}"), encoding="utf-8")
    chromium.open(path)
    assert chromium.run("return document.title") == "metablocks bench"
    assert any("Content Security Policy" in text for text in chromium.complaints())
