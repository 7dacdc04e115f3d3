"""A headless Chromium, driven through chromedriver with nothing but the standard library."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         "--hide-scrollbars", "--disable-dev-shm-usage")  # fmt: skip
PORT = re.compile(r"started successfully on port (\d+)")


class Browser:
    """One tab. `run` answers with the value of a piece of JavaScript."""

    def __init__(self, port: int, profile: Path, chromium: str) -> None:
        self.root = f"http://127.0.0.1:{port}"
        options = {"args": [*FLAGS, f"--user-data-dir={profile}"], "binary": chromium}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options,
                  "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}  # fmt: skip
        answer = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self.root = f"{self.root}/session/{answer['sessionId']}"

    def open(self, path: Path) -> None:
        self._ask("POST", "/url", {"url": path.as_uri()})

    def run(self, script: str) -> Any:
        return self._ask("POST", "/execute/sync", {"script": script, "args": []})

    def size(self, width: int, height: int, scale: float = 1) -> None:
        phone = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", phone)

    def media(self, **features: str) -> None:
        named = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self._devtools("Emulation.setEmulatedMedia", {"features": named})

    def press(self, key: str) -> None:
        for kind in ("keyDown", "keyUp"):
            self._devtools("Input.dispatchKeyEvent", {"type": kind, "key": key, "code": key, "text": "\r"})

    def screenshot(self, path: Path) -> bytes:
        """The whole page, also below the fold."""
        shot = self._devtools("Page.captureScreenshot", {"captureBeyondViewport": True})
        path.write_bytes(base64.b64decode(shot["data"]))
        return path.read_bytes()

    def pdf(self, path: Path) -> bytes:
        path.write_bytes(base64.b64decode(self._devtools("Page.printToPDF", {})["data"]))
        return path.read_bytes()

    def complaints(self) -> list[str]:
        """What stands in the console since the last time."""
        return [entry["message"] for entry in self._log("browser")]

    def requests(self) -> list[str]:
        """What the page that is open asked for since the last time; the start page of a browser asks as well."""
        here = self._ask("GET", "/url", None)
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [event for event in events if event["method"] == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent if one["params"]["documentURL"] == here]

    def quit(self) -> None:
        self._ask("DELETE", "", None)

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return self._ask("POST", "/se/log", {"type": kind})

    def _devtools(self, command: str, parameters: dict[str, Any]) -> dict[str, Any]:
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _ask(self, method: str, path: str, data: Any) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = Request(self.root + path, body, {"Content-Type": "application/json"}, method=method)
        with urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser(driver: str, chromium: str, profile: Path) -> Iterator[Browser]:
    command = [driver, "--port=0", "--allowed-ips=127.0.0.1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout
            found = next(filter(None, map(PORT.search, process.stdout)))
            tab = Browser(int(found[1]), profile, chromium)
            yield tab
            tab.quit()
        finally:
            process.terminate()
