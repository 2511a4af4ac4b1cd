"""QR codes, read back by an independent reader."""

from __future__ import annotations

import io
import random
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
import qrcode
import zxingcpp
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from qrcode.util import ALPHA_NUM, MODE_ALPHA_NUM, QRData, create_data

from lnpay.web.customer import qr
from lnpay.web.customer.qr_codewords import LARGEST_VERSION, codewords, smallest_version

BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
LENGTHS = [*range(1, 60), *range(60, 420, 7), 500, 650, 800, 1000, 1024, 1500, 2000, 3000, 4000, 4286]
SVG = "{http://www.w3.org/2000/svg}"


def request_of(length: int) -> str:
    """A text like a payment request, the same one every time."""
    letters = random.Random(length)
    return ("lnbc1" + "".join(letters.choices(BECH32, k=length)))[:length]


def read(image: Image.Image) -> str:
    [found] = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormats(zxingcpp.BarcodeFormat.QRCode))
    return found.text


def drawn(svg: str) -> Image.Image:
    """The SVG's rectangles painted as its numbers say, 4 pixels per unit."""
    root = ET.fromstring(svg)  # noqa: S314 - our own document
    size = int(root.attrib["viewBox"].split()[-1])
    path = root.find(f"{SVG}path")
    assert path is not None
    image = Image.new("L", (size, size), 255)
    runs = re.findall(r"M(\d+) (\d+)h(\d+)v1h-(\d+)z", path.attrib["d"])
    assert "".join("M{} {}h{}v1h-{}z".format(*run) for run in runs) == path.attrib["d"]
    for x, y, width, back in runs:
        assert width == back
        image.paste(0, (int(x), int(y), int(x) + int(width), int(y) + 1))
    return image.resize((4 * size, 4 * size), Image.Resampling.NEAREST)


def modules_of(png: bytes) -> list[list[bool]]:
    """One bool for each module, quiet zone included; every pixel of a module must agree."""
    image = Image.open(io.BytesIO(png))
    scale = qr.PIXELS_PER_MODULE
    small = image.resize((image.width // scale, image.height // scale), Image.Resampling.NEAREST)
    assert small.resize(image.size, Image.Resampling.NEAREST).tobytes() == image.tobytes()
    return [[small.getpixel((x, y)) == 0 for x in range(small.width)] for y in range(small.height)]


class TestUri:
    def test_it_is_the_scheme_and_the_request_in_upper_case(self) -> None:
        assert qr.payment_uri("lnbc1pvjluez") == "lightning:LNBC1PVJLUEZ"

    @pytest.mark.parametrize("bad", ["", "lnbc1 q", "lightning:lnbc1q", "lnbc1<script>", "lnbc1ß", "lnbc1ı", "lnbc1\n"])
    def test_what_is_not_letters_and_digits_is_refused(self, bad: str) -> None:
        for function in (qr.payment_uri, qr.qr_png, qr.qr_svg):
            with pytest.raises(ValueError, match="letters and digits"):
                function(bad)


class TestReading:
    @pytest.mark.parametrize("length", LENGTHS)
    def test_a_png_of_any_length_reads_back(self, length: int) -> None:
        text = request_of(length)

        image = Image.open(io.BytesIO(qr.qr_png(text)))

        assert read(image) == "LIGHTNING:" + text.upper()

    @pytest.mark.parametrize("length", [1, 50, 51, 200, 330, 524, 1000, 2000])
    def test_an_svg_of_any_length_reads_back(self, length: int) -> None:
        text = request_of(length)

        assert read(drawn(qr.qr_svg(text))) == "LIGHTNING:" + text.upper()

    @settings(max_examples=50, deadline=None)
    @given(st.text(BECH32 + BECH32.upper() + "1", min_size=1, max_size=700))
    def test_any_letters_and_digits_read_back(self, text: str) -> None:
        assert read(Image.open(io.BytesIO(qr.qr_png(text)))) == "LIGHTNING:" + text.upper()

    @pytest.mark.parametrize("character", "qpl1")
    def test_a_text_without_any_chance_in_it_reads_back(self, character: str) -> None:
        assert read(drawn(qr.qr_svg(character * 330))) == "LIGHTNING:" + character.upper() * 330

    @pytest.mark.parametrize("length", [1, 10, 11, 32, 33, 142, 320, 321, 357, 358, 524, 525, 1991, 1992, 4286])
    def test_it_is_of_the_smallest_size_that_the_library_finds(self, length: int) -> None:
        text = qr.payment_uri(request_of(length)).upper()
        code = qrcode.QRCode(error_correction=qrcode.ERROR_CORRECT_L)
        code.add_data(text, optimize=0)

        assert len(modules_of(qr.qr_png(request_of(length)))) == 4 * code.best_fit() + 17 + 2 * qr.QUIET_ZONE

    def test_one_that_fits_in_no_code_is_refused(self) -> None:
        with pytest.raises(ValueError, match="does not fit into a QR code"):
            qr.qr_png(request_of(4287))


class TestPicture:
    @pytest.mark.parametrize("length", [1, 330, 1000])
    def test_a_png_is_black_and_white_and_nothing_else(self, length: int) -> None:
        image = Image.open(io.BytesIO(qr.qr_png(request_of(length))))

        assert (image.format, image.mode) == ("PNG", "1")
        assert image.width == image.height
        assert {colour for _, colour in image.convert("RGB").getcolors() or []} == {(0, 0, 0), (255, 255, 255)}

    @pytest.mark.parametrize("length", [1, 330, 1000])
    def test_four_modules_all_around_are_white_and_the_next_is_not(self, length: int) -> None:
        modules = modules_of(qr.qr_png(request_of(length)))

        turned = [list(column) for column in zip(*modules, strict=True)]
        for side in (modules, modules[::-1], turned, turned[::-1]):
            assert not any(any(row) for row in side[:4])
            assert any(side[4])

    def test_black_is_dark_and_the_corner_pattern_is_where_it_belongs(self) -> None:
        modules = modules_of(qr.qr_png(request_of(330)))

        assert [row[4:12] for row in modules[4:7]] == [
            [True] * 7 + [False],
            [True] + [False] * 5 + [True, False],
            [True, False, True, True, True, False, True, False],
        ]

    def test_png_and_svg_show_the_same_modules(self) -> None:
        svg = drawn(qr.qr_svg(request_of(330)))

        modules = modules_of(qr.qr_png(request_of(330)))

        seen = [[svg.getpixel((4 * x, 4 * y)) == 0 for x in range(len(modules))] for y in range(len(modules))]
        assert seen == modules

    def test_an_svg_says_what_it_is_and_scales_sharply(self) -> None:
        root = ET.fromstring(qr.qr_svg(request_of(330)))  # noqa: S314 - our own document

        assert root.attrib["role"] == "img"
        assert root.attrib["shape-rendering"] == "crispEdges"
        assert "Lightning" in (root.findtext(f"{SVG}title") or "")

    def test_an_svg_says_it_in_any_words_and_can_stand_twice_in_a_page(self) -> None:
        root = ET.fromstring(qr.qr_svg(request_of(330), 'Say "cheese" & <smile>'))  # noqa: S314 - our own document

        assert root.findtext(f"{SVG}title") == 'Say "cheese" & <smile>'
        assert not [element for element in root.iter() if "id" in element.attrib]

    def test_an_svg_is_one_black_path_over_one_white_square(self) -> None:
        root = ET.fromstring(qr.qr_svg(request_of(330)))  # noqa: S314 - our own document
        size = root.attrib["viewBox"].split()[-1]

        [square] = root.findall(f"{SVG}rect")
        [path] = root.findall(f"{SVG}path")

        assert root.attrib["viewBox"] == f"0 0 {size} {size}"
        assert square.attrib == {"width": size, "height": size, "fill": "#fff"}
        assert path.attrib["fill"] == "#000"


class TestCodewords:
    @pytest.mark.parametrize("version", range(1, LARGEST_VERSION + 1))
    def test_they_are_those_of_the_library_in_every_version(self, version: int) -> None:
        most = max(length for length in range(4297) if smallest_version(length) == version)
        for length in (most, most - 1, most - 2):
            letters = random.Random(length).choices(ALPHA_NUM.decode(), k=length)
            text = "".join(letters)
            data = [QRData(text, mode=MODE_ALPHA_NUM)]

            assert codewords(text, version) == create_data(version, qrcode.ERROR_CORRECT_L, data)

    @pytest.mark.parametrize("version", range(1, LARGEST_VERSION + 1))
    def test_they_are_drawn_where_the_library_draws_them(self, version: int) -> None:
        most = max(length for length in range(4297) if smallest_version(length) == version)
        text = "".join(random.Random(version).choices(ALPHA_NUM.decode(), k=most))
        code = qrcode.QRCode(version, error_correction=qrcode.ERROR_CORRECT_L, mask_pattern=7)
        code.add_data(QRData(text, mode=MODE_ALPHA_NUM), optimize=0)
        code.make(fit=False)

        assert qr._matrix(text) == [bytes(row) for row in code.modules]

    @pytest.mark.parametrize("length", [1, 2, 21, 22, 23, 24])
    def test_they_are_those_of_the_library_where_little_or_no_room_is_left(self, length: int) -> None:
        data = [QRData("A" * length, mode=MODE_ALPHA_NUM)]

        assert codewords("A" * length, 1) == create_data(1, qrcode.ERROR_CORRECT_L, data)


def test_nothing_heavy_is_imported_before_the_first_code() -> None:
    program = "import sys, lnpay.web.customer.qr; sys.exit(bool({'qrcode', 'PIL'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=30).returncode == 0
