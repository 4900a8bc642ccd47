"""A leaderboard that never ran, and a real browser, where there is one."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.evaluation.leaderboard.invented_results import crops_of, invent_results


@pytest.fixture(scope="session")
def invented(tmp_path_factory, photos):
    """A folder with images, and its results: 3 test sets, 6 measured models, 3 published ones."""
    folder = tmp_path_factory.mktemp("leaderboard")
    sets = {
        "Set5": crops_of(photos, 3, 96, 128),
        "Set14": crops_of(photos, 2, 75, 101),
        "B/100": crops_of(photos, 4, 64, 88),
    }
    return folder, invent_results(folder, sets)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, driven by Selenium; its console is in `get_log("browser")`."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not on PATH (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for argument in ("--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1300,900"):
        options.add_argument(argument)
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # without which Chromium refuses to run as root, as in a container
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs[1]))
    yield driver
    driver.quit()
