#!/usr/bin/env python3
"""Takes pictures of pages in Chromium, at 1200 and 400 pixels, light and dark, and fails if one is wider than its screen,
if text in a chart is cut by the chart's edge, or if the page has an error.

    tests/pictures/screenshots.py FOLDER PAGE.html|PICTURE.svg…     pictures in FOLDER, one a page, width and mode

Exits with 77 where there is no Chromium (on Debian: chromium). Talks to it over a pipe, by the DevTools protocol.
"""

import base64
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

WIDTHS = (1200, 400)
MODES = ("light", "dark")
# What reaches beyond the right edge, without what is inside an element that scrolls or clips; and more, see there.
FAULTS = """(() => {
  const width = document.documentElement.clientWidth, out = [];
  const hidden = e => { for (let p = e.parentElement; p; p = p.parentElement)
    if (getComputedStyle(p).overflowX !== 'visible') return true; return false; };
  for (const e of document.querySelectorAll('body *')) {
    const r = e.getBoundingClientRect();
    if (r.width > 0 && r.right > width + 1 && !e.closest('svg svg') && !hidden(e))
      out.push(e.tagName.toLowerCase() + ' to ' + Math.round(r.right));
  }
  const cut = [...document.querySelectorAll('figure .scroll')].filter(
    e => e.querySelector('svg') && e.scrollWidth > e.clientWidth + 1).length;
  if (cut) out.push(cut + ' charts that must be scrolled');
  if (width > 1000)  // on a phone a table may be
    for (const e of document.querySelectorAll('figure .scroll'))
      if (e.scrollWidth > e.clientWidth + 1 && !e.querySelector('svg'))
        out.push('a table that must be scrolled: ' + e.querySelector('th').textContent + '…');
  // Text that a chart's edge cuts, and texts of a chart that lie on each other (but for the slanted names of a matrix).
  for (const svg of document.querySelectorAll('svg.lpf-chart')) {
    const frame = svg.getBoundingClientRect();
    if (!frame.width) continue;
    const texts = [...svg.querySelectorAll('text')].filter(t => t.textContent.trim());
    const boxes = texts.map(t => t.getBoundingClientRect());
    boxes.forEach((b, i) => {
      if (b.left < frame.left - 1 || b.right > frame.right + 1 || b.top < frame.top - 1 || b.bottom > frame.bottom + 1)
        out.push('text cut: ' + texts[i].textContent);
      for (let j = 0; j < i; ++j) {
        const o = boxes[j], slanted = t => (t.getAttribute('transform') || '').includes('-48');
        if (!slanted(texts[i]) && !slanted(texts[j]) && Math.min(b.right, o.right) - Math.max(b.left, o.left) > 2 &&
            Math.min(b.bottom, o.bottom) - Math.max(b.top, o.top) > 4)
          out.push('texts overlap: ' + texts[j].textContent + ' | ' + texts[i].textContent);
      }
    });
  }
  const paper = getComputedStyle(document.body || document.documentElement).backgroundColor.match(/[\\d.]+/g);
  const dark = matchMedia('(prefers-color-scheme: dark)').matches;
  if (document.body && paper && (paper[0] < 128) !== dark) out.push('the page is not ' + (dark ? 'dark' : 'light'));
  if (document.documentElement.scrollWidth > width + 1) out.push('page ' + document.documentElement.scrollWidth);
  return out.join(', ');
})()"""


class Chromium:

    def __init__(self, program, profile):
        to_browser, commands = os.pipe()
        answers, from_browser = os.pipe()

        def descriptors():  # the protocol's are 3 and 4
            os.dup2(to_browser, 3)
            os.dup2(from_browser, 4)

        self.process = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
             f"--user-data-dir={profile}"],
            preexec_fn=descriptors, pass_fds=(3, 4, to_browser, from_browser), stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(to_browser)
        os.close(from_browser)
        self.commands, self.answers = os.fdopen(commands, "wb", 0), os.fdopen(answers, "rb", 0)
        self.buffer, self.count, self.session, self.errors = b"", 0, None, []

    def message(self):
        while b"\0" not in self.buffer:
            more = self.answers.read(1 << 20)
            if not more:
                raise RuntimeError("Chromium ended")
            self.buffer += more
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, **parameters):
        self.count += 1
        request = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.commands.write(json.dumps(request).encode() + b"\0")
        while True:
            answer = self.message()
            if answer.get("method") == "Runtime.exceptionThrown":
                details = answer["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description", details["text"]).splitlines()[0])
            if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
                self.errors.append(answer["params"]["entry"]["text"])
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def open(self):
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)["result"].get(
            "value")

    def close(self):
        try:
            self.session = None
            self.call("Browser.close")
        except RuntimeError:
            pass
        self.process.wait(30)


def main():
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        print("no Chromium (on Debian: chromium)")
        return 77
    folder, pages = pathlib.Path(sys.argv[1]), [pathlib.Path(p).resolve() for p in sys.argv[2:]]
    folder.mkdir(parents=True, exist_ok=True)
    bad = 0
    with tempfile.TemporaryDirectory() as profile:
        browser = Chromium(program, profile)
        try:
            browser.open()
            for page in pages:
                for width in WIDTHS:
                    for mode in MODES:
                        browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                                     mobile=width < 600)
                        browser.call("Emulation.setEmulatedMedia", features=[
                            {"name": "prefers-color-scheme", "value": mode},
                            {"name": "prefers-reduced-motion", "value": "reduce"}])
                        browser.call("Page.navigate", url=page.as_uri())
                        browser.evaluate("new Promise(done => { const ready = () => document.readyState === 'complete' && "
                                         f"location.href === {json.dumps(page.as_uri())} ? setTimeout(done, 300) : "
                                         "setTimeout(ready, 20); ready(); })")
                        picture = browser.call("Page.captureScreenshot", captureBeyondViewport=True, format="png")["data"]
                        name = f"{page.parent.name}-{page.stem}-{width}-{mode}.png"
                        (folder / name).write_bytes(base64.b64decode(picture))
                        faults = list(filter(None, [browser.evaluate(FAULTS)])) + browser.errors
                        browser.errors.clear()
                        print(f"    {name:60} {'; '.join(faults) or 'ok'}", flush=True)
                        bad += bool(faults)
        finally:
            browser.close()
    if bad:
        print(f"{bad} pictures have faults")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
