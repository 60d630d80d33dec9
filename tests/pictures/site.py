#!/usr/bin/env python3
"""Pictures of the documentation's pages, opened as files, with the checks of screenshots.py; and a search, which must find.

    tests/pictures/site.py FOLDER build/site     pictures in FOLDER

Exits with 77 where there is no Chromium (on Debian: chromium). scripts/docs builds the site.
"""

import pathlib
import shutil
import sys
import tempfile
import time

import screenshots

SHOWN = ("api/index.html", "api/classlpf_1_1LowPassFilter.html", "source/examples/quickstart.cpp.html")
RESULTS = "document.querySelectorAll('.md-search-result__item').length"


def found(page, word):
    """The number of results of a search for the word; 0 after 20 seconds without any."""
    with tempfile.TemporaryDirectory() as profile:
        browser = screenshots.Chromium(shutil.which("chromium") or shutil.which("chromium-browser") or
                                       shutil.which("google-chrome"), profile)
        try:
            browser.open()
            browser.call("Page.navigate", url=f"{page.as_uri()}?q={word}")
            for _ in range(100):
                time.sleep(0.2)
                if count := browser.evaluate(RESULTS):
                    return count
            return 0
        finally:
            browser.close()


def main():
    folder, site = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
    pages = [p for p in sorted(site.rglob("*.html")) if p.relative_to(site).parts[0] not in ("api", "source", "404.html")]
    sys.argv = ["screenshots.py", folder, *map(str, pages), *(str(site / name) for name in SHOWN)]
    status = screenshots.main()
    if status == 77:
        return status
    for page, word in (("index.html", "flipout"), ("how-to/nan.html", "checkpoint")):
        count = found(site / page, word)
        print(f"    search for {word} from {page}: {count} results")
        status = status or (count == 0)
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
