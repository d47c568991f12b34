"""The page in real browsers, from the disk: what is moved with the mouse moves the picture."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from dip4d.report.paper_claims import findings
from dip4d.report.paper_page import write_paper
from dip4d.report.run_page import write_page
from tests.report.conftest import FRAMES, write_run
from tests.report.test_paper_page import simulated

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install -r requirements-test.txt")
NAMES = {"chromium": ("chromium", "chromium-browser", "google-chrome"), "firefox": ("firefox-esr", "firefox")}
WEBGL_WITHOUT_GPU = {
    "chromium": {"args": ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]},
    "firefox": {"channel": "moz-firefox", "firefox_user_prefs": {"webgl.force-enabled": True}},  # that of the system
}


@pytest.fixture(scope="module", params=NAMES)
def browser(request) -> Iterator:
    name = request.param
    place = next(filter(None, map(shutil.which, NAMES[name])), None)
    if place is None:
        pytest.skip(f"needs {name}: apt-get install {NAMES[name][0]}")
    if name == "firefox" and "DISPLAY" not in os.environ:
        pytest.skip("Firefox draws surfaces on a display only: apt-get install xvfb; xvfb-run python -m pytest")
    with sync_api.sync_playwright() as playwright:
        browser = getattr(playwright, name).launch(executable_path=place, **WEBGL_WITHOUT_GPU[name])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> str:
    return write_page(write_run(tmp_path_factory.mktemp("runs") / "growing")).as_uri()


@pytest.fixture(params=[(1400, 1000), (390, 844)], ids=["desktop", "phone"])
def page(browser, address, request) -> Iterator:
    """The open page, loaded without an error or a look at the network, its volumes unpacked."""
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, device_scale_factor=0.75)
    page, wrong = context.new_page(), []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda line: wrong.append(line.text) if line.type == "error" else None)
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    open_page(page, address)
    yield page
    assert wrong == []
    context.close()


def open_page(page, address: str) -> None:
    page.goto(address)
    page.wait_for_function("decoded.size >= 3")
    page.evaluate("Promise.all(decoded.values())")
    settle(page)


def settle(page) -> None:
    """Waits until what has changed is drawn."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 50))))")


def surface(page, panel: int = 0) -> np.ndarray:
    """How opaque the surface of a panel is, pixel by pixel: what has no surface and no edge is 0."""
    taken = page.evaluate(
        """(panel) => {
          const all = document.getElementById("surfaces"), around = all.getBoundingClientRect();
          const place = document.querySelectorAll(".space")[panel].getBoundingClientRect(), n = 64;
          const small = Object.assign(document.createElement("canvas"), {width: n, height: n}).getContext("2d");
          const k = all.width / around.width;
          small.drawImage(all, (place.left - around.left) * k, (place.top - around.top) * k,
                          place.width * k, place.height * k, 0, 0, n, n);
          return Array.from(small.getImageData(0, 0, n, n).data);
        }""",
        panel,
    )
    return np.array(taken, np.uint8).reshape(64, 64, 4)


def opaque(page, panel: int = 0) -> int:
    """Pixels of a surface, about."""
    return int((surface(page, panel)[..., 3] > 200).sum())


def plane(page, panel: int = 0) -> str:
    return page.locator(".panel canvas.plane").nth(panel).evaluate("canvas => canvas.toDataURL()")


def drag(page, name: str, share: float) -> None:
    """Presses a slider with the mouse and pulls it to a share of its width."""
    page.locator(name).scroll_into_view_if_needed()
    box = page.locator(name).bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    settle(page)


def test_the_time_slider_changes_slices_and_surfaces(page):
    before, size = plane(page), opaque(page)
    drag(page, "#time", 1.0)
    assert page.evaluate("state.frame") == FRAMES - 1
    assert "10 s (image 6 of 6)" in page.inner_text("#time-told")
    assert plane(page) != before
    assert opaque(page) > 1.5 * size > 0  # the ball has grown


def test_the_threshold_changes_the_surface_and_the_slice_the_slice(page):
    drag(page, "#time", 1.0)
    size = opaque(page, 2)
    drag(page, "#level", 0.95)
    assert 0 < opaque(page, 2) < size
    before = plane(page)
    drag(page, "#slice", 0.2)
    assert plane(page) != before


def test_a_cut_and_a_turn_change_what_is_seen(page):
    drag(page, "#time", 1.0)
    whole = surface(page)
    page.locator("#cut").click()
    settle(page)
    cut = surface(page)
    assert not np.array_equal(whole, cut)
    page.locator(".space").nth(1).scroll_into_view_if_needed()
    box = page.locator(".space").nth(1).bounding_box()  # all panels turn together
    page.mouse.move(box["x"] + 40, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 90, steps=4)
    page.mouse.up()
    settle(page)
    assert not np.array_equal(surface(page), cut)


def test_playing_advances_and_ends_with_the_last_image(page):
    page.locator("#play").click()
    page.wait_for_function("state.frame > 1", timeout=5000)
    page.wait_for_function("!state.playing", timeout=8000)
    assert page.evaluate("state.frame") == FRAMES - 1


def test_a_click_on_a_curve_shows_that_moment(page):
    chart = page.locator(".chart svg[role=img]").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + 0.7 * box["width"], box["y"] + 80)
    settle(page)
    assert 2 < page.evaluate("state.frame") < FRAMES - 1
    assert page.input_value("#time") == str(page.evaluate("state.frame"))


def test_nothing_is_wider_than_the_window_and_what_is_compared_stands_side_by_side(page):
    width = page.viewport_size["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    tops = [page.locator(".panel").nth(i).bounding_box()["y"] for i in range(2)]
    assert tops[0] == tops[1]


def test_without_webgl_there_are_slices(browser, address):
    page = browser.new_page()
    open_page(page, address + "#2d")
    assert not page.locator(".space").first.is_visible()
    assert "no WebGL2" in page.inner_text("#hint")
    before = plane(page)
    drag(page, "#time", 1.0)
    assert plane(page) != before
    page.close()


@pytest.mark.parametrize("size", [(1400, 1000), (390, 844)], ids=["desktop", "phone"])
def test_the_claims_of_the_paper_fit_into_the_window_and_their_figures_are_a_click_away(browser, tmp_path, size):
    runs = [simulated(tmp_path / name) for name in ("one", "two")]
    address = write_paper(findings(runs), runs, folder=tmp_path)[0].as_uri()
    page = browser.new_page(viewport={"width": size[0], "height": size[1]})
    open_page(page, address)
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.locator("a[href='#figure1']").first.click()
    settle(page)
    assert 0 <= page.locator("#figure1").bounding_box()["y"] < size[1]
    page.close()
