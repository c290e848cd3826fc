"""A headless Chromium, spoken to through a pipe in the DevTools protocol: no driver, no package, no port."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--remote-debugging-pipe",
)  # fmt: skip
SECONDS = 60
"""A machine that runs all tests at once may take that long to answer."""


class Browser:
    """One page of a browser.

    Attributes:
        events: What has happened, the latest last.
    """

    def __init__(self, to_browser, from_browser):
        self.to_browser, self.from_browser = to_browser, from_browser
        self.rest, self.last, self.session, self.events = b"", 0, None, []
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method, **parameters):
        """Have the browser do something, and wait for its answer."""
        self.last += 1
        message = {"id": self.last, "method": method, "params": parameters}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.last:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]

    def receive(self):
        """The next message, an answer or an event, which is kept."""
        end = time.monotonic() + SECONDS
        while b"\0" not in self.rest:
            ready, _, _ = select.select([self.from_browser], [], [], max(0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            read = os.read(self.from_browser, 1 << 20)
            assert read, "the browser has ended"
            self.rest += read
        message, _, self.rest = self.rest.partition(b"\0")
        found = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found

    def wait_for(self, method):
        """Wait until something happens that has not happened since :meth:`open` was called."""
        while not any(event["method"] == method for event in self.events):
            self.receive()

    def open(self, path, *, width, scheme, height=900):
        """Show a file in a window of some width, and in the light or the dark."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.ask("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired")
        # Charts are drawn when their size is known, in the frame after.
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def run(self, script):
        """What a line of JavaScript gives."""
        found = self.ask("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key):
        """Press a key and let it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    def picture(self, path):
        """Write what the window would show if it were as high as the page."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    @property
    def complaints(self):
        """Errors on the console, of scripts, and of what was not allowed."""
        return [event["params"] for event in self.events if _complains(event)]

    @property
    def requests(self):
        """What was asked for, but for what is in the page itself."""
        asked = [
            e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"
        ]
        return [address for address in asked if not address.startswith("data:")]


def _complains(event):
    """Whether something went wrong."""
    method, about = event["method"], event["params"]
    logged = method == "Log.entryAdded" and about["entry"]["level"] in ("error", "warning")
    said = method == "Runtime.consoleAPICalled" and about["type"] in ("error", "warning", "assert")
    return logged or said or method == "Runtime.exceptionThrown"


@contextmanager
def browser(profile):
    """A browser whose files lie in a folder; it ends with the block."""
    child_reads, to_browser = os.pipe()
    from_browser, child_writes = os.pipe()
    # It reads file 3 and writes file 4: a Python gives them these numbers, and becomes the browser.
    given = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (child_reads, child_writes)]
    begin = (
        "import os, sys; r, w, *c = sys.argv[1:]; os.dup2(int(r), 3); os.dup2(int(w), 4); os.execv(c[0], c)"
    )
    command = [sys.executable, "-c", begin, *map(str, given), CHROMIUM, *FLAGS, f"--user-data-dir={profile}"]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, pass_fds=given, **quiet) as process:
        for each in (child_reads, child_writes, *given):
            os.close(each)
        try:
            page = Browser(to_browser, from_browser)
            yield page
            page.session = None
            page.ask("Browser.close")
            process.wait(SECONDS)
        finally:
            process.kill()
            os.close(to_browser)
            os.close(from_browser)
