"""Makes sure that there is a browser for the tests, which open pages in one.

    python tests/install_browser.py

One that is installed is taken. Else, as root or with a `sudo` that asks for no password, apt-get
installs Chromium; elsewhere Playwright downloads its own into its cache.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def installed_browser() -> str | None:
    """The path of a browser that is on PATH; None where Playwright's own has to be used."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


def apt_get() -> list[str] | None:
    """The command that may install packages; None where there is none."""
    if shutil.which("apt-get") is None:
        return None
    if os.geteuid() == 0:
        return ["apt-get"]
    may = (
        subprocess.run(["sudo", "-n", "true"], capture_output=True)
        if shutil.which("sudo")
        else None
    )
    return ["sudo", "-n", "apt-get"] if may is not None and may.returncode == 0 else None


def has_own() -> bool:
    """Whether Playwright has downloaded a browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        return Path(playwright.chromium.executable_path).exists()


def main() -> None:
    found = installed_browser()
    if found is not None:
        print(f"the tests open pages in {found}")
        return
    if has_own():
        print("the tests open pages in Playwright's Chromium")
        return
    apt = apt_get()
    if apt is not None:
        print("no browser is installed: apt-get installs chromium", flush=True)
        install = [*apt, "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        updated = subprocess.run([*apt, "update", "-qq"]).returncode == 0
        if updated and subprocess.run(install).returncode == 0:
            return
    print("no browser is installed: Playwright downloads Chromium", flush=True)
    sys.exit(subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"]).returncode)


if __name__ == "__main__":
    main()
