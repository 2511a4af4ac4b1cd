"""Take the documentation's pictures from a running sandbox: .venv/bin/python docs/take_screenshots.py

It starts a sandbox of its own, orders, pays in time and late with the demo's wallet, and takes screenshots of the pages
with a headless Chromium. The browser comes from the machine; --browser names another one. Nothing else is needed.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
from PIL import Image, ImageChops, ImageOps

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--force-prefers-reduced-motion",
)  # fmt: skip
COLOURS = 200
"""Enough for text on white, and few enough for a small file."""

PHONE = (500, 900)
"""Width and height of a narrow window; browsers do not go much narrower."""

MAX_MOVING_BYTES = 1_500_000
SECONDS_PER_FRAME = 2.5

EDGE = 16
LINE = "#c8c8c8"


def main() -> None:
    """Take all of them."""
    parser = argparse.ArgumentParser(description="Take the documentation's pictures from a running sandbox.")
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    parser.add_argument("--port", type=int, default=5410, help="the sandbox takes this port and the next")
    options = parser.parse_args()
    if options.browser is None:
        parser.error("no Chromium found: install one, or name it with --browser")
    IMAGES.mkdir(exist_ok=True)
    with sandbox(options.port) as stage:
        camera = Camera(options.browser)
        shop = camera.take(f"{stage.world}/shop", *PHONE)
        coffee = stage.order("A bag of coffee", "12.50")
        waiting = camera.take(coffee.checkout_url, *PHONE)
        stage.pay(coffee)
        in_time = camera.take(coffee.checkout_url, *PHONE)
        save_moving("order", [shop, waiting, in_time])
        late = stage.order("A teapot", "34.00", address="")
        stage.pay(late, late=True)
        ask = camera.take(stage.refund_url(late), *PHONE)
        save("payment", side_by_side([waiting, in_time, ask]))
        stage.pay(stage.order("A tin of green tea", "7.20"), late=True)
        time.sleep(2)
        save("shop", cropped(camera.take(f"{stage.world}/shop", 900, 1600)))
        save("ledger", cropped(camera.take(f"{stage.world}/ledger", 900, 1250)))


@dataclass(frozen=True)
class Order:
    """An order in the demo shop, to be paid."""

    checkout_url: str
    invoice_id: str
    payment_request: str


class Stage:
    """A running sandbox, and what people do in it."""

    def __init__(self, port: int) -> None:
        self.lnpay = f"http://127.0.0.1:{port}"
        self.world = f"http://127.0.0.1:{port + 1}"

    def order(self, product: str, amount: str, address: str = "customer@wallet.example") -> Order:
        """Order in the demo shop."""
        form = {"product": product, "amount": amount, "address": address}
        page = requests.post(f"{self.world}/shop", data=form, timeout=10)
        page.raise_for_status()
        link = re.search(r'href="(http[^"]+/checkout/[^"]+)"', page.text)
        if link is None:
            raise SystemExit("the order's page has no link to the payment page")
        invoice = requests.get(f"{self.world}/_control/state", timeout=10).json()["invoices"][-1]
        return Order(link[1], invoice["invoice_id"], invoice["payment_requests"][-1])

    def pay(self, order: Order, *, late: bool = False) -> None:
        """Pay with the demo's wallet, and wait until LNPay knows."""
        form = {"payment_request": order.payment_request, "late" if late else "now": "1"}
        requests.post(f"{self.world}/wallet", data=form, timeout=10).raise_for_status()
        url = f"{self.lnpay}/invoices/{order.invoice_id}"
        for _ in range(100):
            if requests.get(url, timeout=10).json()["state"] in ("settled", "paid_late"):
                return
            time.sleep(0.1)
        raise SystemExit("LNPay did not learn of the payment")

    def refund_url(self, order: Order) -> str:
        """The page on which the customer of a late payment gives an address: its link is on the payment page."""
        link = re.search(r"refund/([\w-]+)", requests.get(order.checkout_url, timeout=10).text)
        # Where there is no link, the payment page itself has the form.
        return str(order.checkout_url) if link is None else f"{self.lnpay}/refund/{link[1]}"


@contextmanager
def sandbox(port: int) -> Iterator[Stage]:
    """Start `python main.py --sandbox` and end it afterwards."""
    stage = Stage(port)
    command = [sys.executable, str(ROOT / "main.py"), "--sandbox"]
    process = subprocess.Popen(command, env={**os.environ, "PORT": str(port)}, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                requests.get(f"{stage.lnpay}/healthz", timeout=1)
                break
            except requests.ConnectionError:
                time.sleep(0.1)
        yield stage
    finally:
        process.terminate()
        process.wait(timeout=30)


class Camera:
    """A browser that takes one picture per call."""

    def __init__(self, browser: str) -> None:
        self._browser = browser

    def take(self, url: str, width: int, height: int) -> Image.Image:
        """The page at `url` in a window of that size."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.png"
            size = f"--window-size={width},{height}"
            command = [self._browser, *FLAGS, f"--user-data-dir={folder}/profile", size, f"--screenshot={file}", url]
            subprocess.run(command, check=True, timeout=60, capture_output=True)
            with Image.open(file) as picture:
                return picture.convert("RGB")


def cropped(picture: Image.Image) -> Image.Image:
    """The picture without the empty part at its bottom, in a thin frame."""
    corner = picture.getpixel((0, picture.height - 1))
    box = ImageChops.difference(picture, Image.new("RGB", picture.size, corner)).getbbox()
    bottom = picture.height if box is None else min(picture.height, box[3] + EDGE)
    return ImageOps.expand(picture.crop((0, 0, picture.width, bottom)), 1, LINE)


def side_by_side(pictures: list[Image.Image]) -> Image.Image:
    """Pictures of one size in a row."""
    framed = [ImageOps.expand(picture, 1, LINE) for picture in pictures]
    width = sum(one.width for one in framed) + EDGE * (len(framed) - 1)
    row = Image.new("RGB", (width, framed[0].height), "white")
    left = 0
    for one in framed:
        row.paste(one, (left, 0))
        left += one.width + EDGE
    return row


def save(name: str, picture: Image.Image) -> None:
    """Write it with few colours, as small as PNG can be."""
    file = IMAGES / f"{name}.png"
    picture.quantize(COLOURS, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file.relative_to(ROOT)}: {picture.width} x {picture.height}, {file.stat().st_size:,} bytes")


def save_moving(name: str, pictures: list[Image.Image]) -> None:
    """Write the pictures as the frames of one animated WebP, which repeats. Exits if it is too large for a README."""
    file = IMAGES / f"{name}.webp"
    first, *others = [ImageOps.expand(picture, 1, LINE) for picture in pictures]
    milliseconds = int(SECONDS_PER_FRAME * 1000)
    first.save(file, save_all=True, append_images=others, duration=milliseconds, loop=0, lossless=True, method=6)
    size = file.stat().st_size
    if size > MAX_MOVING_BYTES:
        raise SystemExit(f"{file.relative_to(ROOT)} has {size:,} bytes, more than {MAX_MOVING_BYTES:,}")
    print(f"{file.relative_to(ROOT)}: {first.width} x {first.height}, {len(pictures)} frames, {size:,} bytes")


if __name__ == "__main__":
    main()
