"""Headless Chromium, driven by its DevTools protocol over two pipes: no package is needed."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import select
import shutil
import signal
import time
from pathlib import Path

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
LAYOUT = """(() => {
  const name = (node) => `${node.tagName.toLowerCase()}.${node.className}: ${(node.textContent || node.src || "").trim().slice(0, 60)}`;
  const hidden = (node) => { for (; node; node = node.parentElement) if (getComputedStyle(node).overflowX !== "visible" && node !== document.body && node !== document.documentElement) return true; return false; };
  const width = document.documentElement.clientWidth;
  const wide = document.documentElement.scrollWidth <= width ? [] : [...document.body.querySelectorAll("*")]
    .filter((node) => node.getBoundingClientRect().right > width + 1 && !hidden(node)).slice(-3).map(name);
  const broken = [...document.images].filter((image) => image.complete && !image.naturalWidth).map((image) => image.src);
  return { overflow: document.documentElement.scrollWidth - width, wide, broken, language: document.documentElement.lang };
})()"""


def program():
    """The path of an installed Chromium, or None."""
    return next((path for name in PROGRAMS if (path := shutil.which(name))), None)


class Browser:
    """A running Chromium; ``with`` ends it."""

    def __init__(self, profile):
        to_child, self._out = os.pipe()
        self._in, from_child = os.pipe()
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 20) for fd in (to_child, from_child)]
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--hide-scrollbars"]
        command = [program(), *options, f"--user-data-dir={profile}", "about:blank"]
        actions = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        actions += [(os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]
        self._child = os.posix_spawn(command[0], command, os.environ, file_actions=actions)
        for fd in (to_child, from_child, *high):
            os.close(fd)
        self._numbers, self._left, self.events = itertools.count(1), b"", []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError, RuntimeError):
            self.send("Browser.close")
        for _ in range(50):
            if os.waitpid(self._child, os.WNOHANG)[0]:
                break
            time.sleep(0.1)
        else:
            os.kill(self._child, signal.SIGKILL)
            os.waitpid(self._child, 0)
        os.close(self._in)
        os.close(self._out)

    def _message(self, until):
        while b"\0" not in self._left:
            if not select.select([self._in], [], [], max(0.0, until - time.monotonic()))[0]:
                raise RuntimeError("Chromium does not answer")
            received = os.read(self._in, 1 << 20)
            if not received:
                raise RuntimeError("Chromium has ended")
            self._left += received
        message, _, self._left = self._left.partition(b"\0")
        return json.loads(message)

    def send(self, method, session=None, seconds=60, **parameters):
        """The result of a command; events that arrive before it are kept."""
        number = next(self._numbers)
        command = {"id": number, "method": method, "params": parameters, **({"sessionId": session} if session else {})}
        os.write(self._out, json.dumps(command).encode() + b"\0")
        until = time.monotonic() + seconds
        while True:
            message = self._message(until)
            if message.get("id") != number:
                self.events.append(message)
            elif "error" in message:
                raise RuntimeError(f"{method}: {message['error']['message']}")
            else:
                return message["result"]

    def wait_for(self, method, session, seconds=60):
        """Waits until an event has arrived."""
        until = time.monotonic() + seconds
        while not any(e.get("method") == method and e.get("sessionId") == session for e in self.events):
            self.events.append(self._message(until))

    @contextlib.contextmanager
    def page(self, address, *, width=1280, height=900, dark=False):
        """A page in a window of this size; a phone's, if it is narrow."""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable", session)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", session, **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", session, features=[scheme])
        self.events.clear()
        self.send("Page.navigate", session, url=address)
        self.wait_for("Page.loadEventFired", session)
        try:
            yield Page(self, session)
        finally:
            self.send("Target.closeTarget", targetId=target)


class Page:
    def __init__(self, browser, session):
        self._browser, self._session = browser, session

    def run(self, code):
        """The value of an expression, awaited if it is a promise."""
        result = self._browser.send(
            "Runtime.evaluate", self._session, expression=code, awaitPromise=True, returnByValue=True
        )
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", code))
        return result["result"].get("value")

    def complaints(self):
        """What the console and the network reported, what is wider than the window, images that did not load."""
        self.run("new Promise((done) => setTimeout(done, 150))")
        layout = self.run(LAYOUT)
        found = [f"broken image {image}" for image in layout["broken"]]
        if layout["overflow"] > 0:
            found.append(f"{layout['overflow']} pixels wider than the window: {layout['wide']}")
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            given = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                details = given["exceptionDetails"]
                found.append(details.get("exception", {}).get("description", details["text"]))
            elif event["method"] == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning", "assert"):
                found.append(str([argument.get("value") for argument in given["args"]]))
            elif event["method"] == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
                found.append(f"{given['entry']['text']} {given['entry'].get('url', '')}")
        return found

    def picture(self, file, most=3000):
        """Writes the page, its first ``most`` pixels, as a PNG."""
        size = self._browser.send("Page.getLayoutMetrics", self._session)["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": min(size["height"], most), "scale": 1}
        shot = self._browser.send("Page.captureScreenshot", self._session, captureBeyondViewport=True, clip=clip)
        Path(file).write_bytes(base64.b64decode(shot["data"]))
