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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import requests
from PIL import Image, ImageChops, ImageOps

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from lnpay.domain.permissions import PERMISSIONS_FOR, KeyPurpose, Permission  # noqa: E402

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


PLUGINS = {
    "WooCommerce": (
        *PERMISSIONS_FOR[KeyPurpose.WOOCOMMERCE],
        Permission.CREATE_PULL_PAYMENTS,
    ),
    "PrestaShop": PERMISSIONS_FOR[KeyPurpose.PRESTASHOP],
    "Magento": PERMISSIONS_FOR[KeyPurpose.MAGENTO],
}
"""What each plugin asks for when it connects."""


def request_of(plugin: str, permissions: Sequence[str]) -> str:
    """The query with which a plugin sends its operator to LNPay."""
    fields = [("permissions", one) for one in permissions]
    shop = "https://shop.example/?btcpay-settings-callback"
    return urlencode([*fields, ("applicationName", plugin), ("strict", "true"), ("redirect", shop)])


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
        operator = Operator(stage.lnpay, stage.admin_password)
        for plugin, permissions in PLUGINS.items():
            page = operator.open(f"/api-keys/authorize?{request_of(plugin, permissions)}")
            save(f"connect-{plugin.lower()}", cropped(camera.take_page(page, 800, 900)))
        save("connections", cropped(camera.take_page(operator.open("/admin/connections"), 800, 900)))


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
        self.admin_password = ""

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
    process = subprocess.Popen(
        command,
        env={**os.environ, "PORT": str(port), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for line in process.stdout or ():
            if (found := re.search(r"/admin \(password: (\S+)\)", line)) is not None:
                stage.admin_password = found[1]
                break
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


class Operator:
    """The operator, logged in."""

    def __init__(self, lnpay: str, password: str) -> None:
        self._lnpay = lnpay
        self._session = requests.Session()
        self._session.post(f"{lnpay}/admin/login", data={"password": password}, timeout=10).raise_for_status()

    def open(self, path: str) -> str:
        """The HTML of a page."""
        answer = self._session.get(f"{self._lnpay}{path}", timeout=10)
        answer.raise_for_status()
        # From a file, links would lead into the file system.
        return answer.text.replace("<head>", f'<head><base href="{answer.url}">', 1)


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

    def take_page(self, html: str, width: int, height: int) -> Image.Image:
        """A page that only a session can open, as its HTML."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "page.html"
            file.write_text(html, encoding="utf-8")
            return self.take(file.as_uri(), width, height)


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
