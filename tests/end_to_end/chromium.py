"""A real browser without a window, and everything it asks for, complains of and shows."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from tests.support.eventually import eventually

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HEIGHT = 900


class Browser:
    """One page in one browser, in a view of `width` pixels."""

    def __init__(self, driver: webdriver.Chrome, width: int, *, dark: bool) -> None:
        self._driver = driver
        self._width = width
        self._messages: list[dict[str, Any]] = []
        self.set_size(width, HEIGHT)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._command("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path) -> None:
        """Load a report from the disk, and wait until all of its plots are drawn."""
        self._driver.get("about:blank")
        self._log("performance")
        self._driver.get(path.as_uri())
        eventually(
            lambda: self.run("return document.documentElement.classList.contains('all-drawn')"),
            "all plots are drawn",
            told=lambda: "\n".join(self.complaints()),
        )

    def visit(self, address: str) -> None:
        """Load a page from a server."""
        self._driver.get("about:blank")
        self._log("performance")
        self._driver.get(address)

    def set_size(self, width: int, height: int) -> None:
        """Give the view another size."""
        view = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._command("Emulation.setDeviceMetricsOverride", **view)

    def save_picture(self, path: Path) -> None:
        """Save what the view shows as PNG."""
        found = self._driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
        path.write_bytes(base64.b64decode(found["data"]))

    def press(self, keys: str) -> None:
        """Type into whatever has the focus."""
        webdriver.ActionChains(self._driver).send_keys(keys).perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return self._driver.execute_script(script, *arguments)

    def requested(self) -> list[str]:
        """Every address that was asked for since the page was opened; data inside the page is none."""
        return [address for _, address in self._requests()]

    def sent(self) -> list[str]:
        """Those of them that the content security policy let pass."""
        refused = {
            message["params"]["requestId"]
            for message in self._events()
            if message["method"] == "Network.loadingFailed" and message["params"].get("blockedReason") == "csp"
        }
        return [address for request, address in self._requests() if request not in refused]

    def complaints(self) -> list[str]:
        """What stands on the console: errors of scripts, and breaches of the content security policy."""
        return [entry["message"] for entry in self._log("browser")]

    def _requests(self) -> Iterator[tuple[str, str]]:
        for message in self._events():
            parameters = message["params"]
            if message["method"] == "Network.requestWillBeSent":
                address = parameters["request"]["url"]
            elif message["method"] == "Network.webSocketCreated":
                address = parameters["url"]
            else:
                continue
            if not address.startswith(("data:", "blob:")):
                yield parameters["requestId"], address

    def _events(self) -> list[dict[str, Any]]:
        self._messages += [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        return self._messages

    def _log(self, kind: str) -> list[dict[str, Any]]:
        """What was written to a log since it was asked for last."""
        return list(self._driver.execute("getLog", {"type": kind})["value"])

    def _command(self, name: str, **parameters: Any) -> None:
        self._driver.execute_cdp_cmd(name, parameters)


@contextmanager
def browser(profile: Path, width: int, *, dark: bool = False) -> Iterator[Browser]:
    """A browser with an empty profile; skips where there is none. The programs are named, so nothing is fetched."""
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if None in programs:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{HEIGHT}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(programs[1])))
    try:
        yield Browser(driver, width, dark=dark)
    finally:
        driver.quit()
