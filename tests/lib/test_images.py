"""What is made of a file that somebody uploads, and what is refused. No database."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import pytest
from PIL import Image, ImageCms

from lifecycle_crm.lib import images
from lifecycle_crm.lib.errors import InvalidInput
from tests.drawings import BLUE, GREEN, RED, file, halves, is_near, opened, saved


def drawn(data: bytes) -> images.Drawn:
    return images.draw(io.BytesIO(data))


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidInput) as refused:
        drawn(data)
    assert refused.value.message.endswith(".")
    return refused.value.code


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_it_keeps_two_sizes_as_webp(kind: str) -> None:
    made = drawn(file(kind, (2000, 1000)))
    large, small = opened(made.large), opened(made.small)
    assert (large.format, large.size, small.format, small.size) == ("WEBP", (960, 480), "WEBP", (240, 120))
    assert (made.width, made.height) == large.size
    assert is_near(large.getpixel((480, 240)), RED)
    assert is_near(small.getpixel((120, 60)), RED)
    assert made.sha256 == images.digest(made.large, made.small)
    assert len(made.sha256) == 64


def test_it_makes_nothing_larger_than_it_was() -> None:
    made = drawn(file(size=(100, 64)))
    assert (made.width, made.height, opened(made.small).size) == (100, 64, (100, 64))


@pytest.mark.parametrize(
    "turn, size, left_top, right_bottom",
    [
        (1, (400, 200), RED, BLUE),
        (2, (400, 200), BLUE, RED),
        (3, (400, 200), BLUE, RED),
        (4, (400, 200), RED, BLUE),
        (5, (200, 400), RED, BLUE),
        (6, (200, 400), RED, BLUE),
        (7, (200, 400), BLUE, RED),
        (8, (200, 400), BLUE, RED),
        (99, (400, 200), RED, BLUE),
    ],
)
def test_it_turns_what_the_camera_held_otherwise(
    turn: int, size: tuple[int, int], left_top: Any, right_bottom: Any
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    large = opened(drawn(saved(halves(), "JPEG", exif=exif, quality=95)).large)
    assert large.size == size
    assert is_near(large.getpixel((10, 10)), left_top)
    assert is_near(large.getpixel((size[0] - 10, size[1] - 10)), right_bottom)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_nothing_that_the_file_said_goes_on(kind: str) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Secret Camera"
    exif.get_ifd(0x8825)[2] = (59.0, 19.0, 48.0)
    more = {"exif": exif, "xmp": b"<x:xmpmeta>Secret Place</x:xmpmeta>"} if kind != "PNG" else {"exif": exif}
    given = saved(
        halves(), kind, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(), **more
    )
    assert b"Secret" in given
    made = drawn(given)
    assert is_near(opened(made.large).getpixel((10, 10)), RED)
    for data in (made.large, made.small):
        assert not dict(opened(data).getexif())
        assert not {"exif", "xmp", "icc_profile"} & set(opened(data).info)
        assert b"Secret" not in data


def test_words_about_the_picture_that_nobody_can_read_do_not_refuse_it() -> None:
    assert drawn(file("JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")).width == 300
    assert drawn(file("JPEG", icc_profile=b"no profile at all" * 20)).width == 300


def test_what_hides_behind_a_picture_stays_behind() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        made = drawn(file(kind) + b"<script>alert(document.cookie)</script>PK\x03\x04")
        assert b"script" not in made.large + made.small
    assert b"script" not in drawn(file("JPEG", comment=b"<script>alert(1)</script>")).large


@pytest.mark.parametrize(
    "mode, color, seen",
    [
        ("RGBA", (*GREEN, 255), GREEN),
        ("RGBA", (*GREEN, 0), (255, 255, 255)),
        ("LA", (0, 0), (255, 255, 255)),
        ("P", 0, (0, 0, 0)),
        ("1", 1, (255, 255, 255)),
        ("I;16", 40_000, (156, 156, 156)),
    ],
)
def test_it_is_laid_on_white_whatever_its_kind(mode: str, color: Any, seen: tuple[int, int, int]) -> None:
    large = opened(drawn(file("PNG", mode=mode, color=color)).large)
    assert large.mode == "RGB"
    assert is_near(large.getpixel((100, 100)), seen)


def test_of_a_phones_file_with_several_pictures_it_takes_the_first() -> None:
    given = saved(
        Image.new("RGB", (300, 200), RED), "MPO", save_all=True, append_images=[Image.new("RGB", (300, 200), BLUE)]
    )
    assert is_near(opened(drawn(given).large).getpixel((100, 100)), RED)


def test_the_noisiest_picture_is_still_kept_small() -> None:
    noise = Image.frombytes("RGB", (1000, 1000), random.Random(4).randbytes(3_000_000))
    made = drawn(saved(noise, "JPEG", quality=70))
    assert len(made.large) <= images.MOST_KEPT
    assert len(made.small) < 40_000


# --- Refused ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, code",
    [
        (b"", "picture_empty"),
        (b"<html><script>alert(1)</script></html>", "not_a_picture"),
        (b"just words", "not_a_picture"),
        (b"\x00" * 500, "not_a_picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "picture_type"),
        (b"\xef\xbb\xbf<?xml version='1.0'?>\n<svg/>", "picture_type"),
        (b"%PDF-1.7\n", "picture_type"),
        (b"\x00\x00\x00\x18ftypheic", "picture_type"),
        (b"RIFF\x10\x00\x00\x00WEBPVP8 ", "picture_damaged"),
        (b"\xff\xd8\xff", "picture_damaged"),
    ],
)
def test_what_is_no_picture_of_ours_is_refused(given: bytes, code: str) -> None:
    assert refusal(given) == code


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "AVIF"])
def test_other_kinds_of_pictures_are_named(kind: str) -> None:
    with pytest.raises(InvalidInput, match=kind) as refused:
        drawn(file(kind))
    assert refused.value.code == "picture_type"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_a_picture_cut_short_is_refused(kind: str, share: float) -> None:
    noise = Image.frombytes("RGB", (200, 200), random.Random(4).randbytes(120_000))
    whole = saved(noise, kind)
    assert refusal(whole[: int(len(whole) * share)]) == "picture_damaged"


def test_a_file_too_large_is_never_read_to_its_end() -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            assert 0 <= size <= images.MOST_BYTES + 1
            self.asked += size
            return b"\xff" * size

    endless = Endless()
    with pytest.raises(InvalidInput) as refused:
        images.draw(endless)  # type: ignore[arg-type]
    assert (refused.value.code, refused.value.status) == ("picture_too_large", 413)
    assert endless.asked == images.MOST_BYTES + 1


def _png_that_says(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


def _webp_that_says(width: int, height: int) -> bytes:
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF\xff\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + size + b"\0" * 64


@pytest.mark.parametrize(
    "given", [_png_that_says(8000, 5001), _png_that_says(60_000, 60_000), _webp_that_says(16_000, 9_000)]
)
def test_a_bomb_is_refused_by_what_it_says_of_itself(given: bytes) -> None:
    """There are no pixels behind these heads: whoever began to decode them would call them damaged."""
    assert refusal(given) == "picture_too_many_pixels"


def test_a_jpeg_that_says_it_is_huge_is_refused_as_well() -> None:
    whole = bytearray(file("JPEG"))
    frame = whole.index(b"\xff\xc0")
    whole[frame + 5 : frame + 9] = struct.pack(">HH", 65_000, 65_000)
    assert refusal(bytes(whole)) == "picture_too_many_pixels"


@pytest.mark.parametrize("size", [(63, 500), (500, 63), (1, 1)])
def test_one_too_small_to_see_is_refused(size: tuple[int, int]) -> None:
    assert refusal(file(size=size)) == "picture_too_small"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_one_that_moves_is_refused(kind: str) -> None:
    more = [Image.new("RGB", (100, 100), BLUE)]
    given = saved(Image.new("RGB", (100, 100), RED), kind, save_all=True, append_images=more)
    assert refusal(given) == "picture_moves"


def test_bytes_that_fell_over_end_in_a_picture_or_a_sentence() -> None:
    dice, ends = random.Random(1998), set()
    for whole in (file("JPEG"), file("PNG"), file("WEBP"), file("PNG", mode="P", color=3)):
        for _ in range(60):
            broken = bytearray(whole)
            for _again in range(dice.randint(1, 6)):
                broken[dice.randrange(len(broken))] = dice.randrange(256)
            try:
                drawn(bytes(broken))
                ends.add("picture")
            except InvalidInput as refused:
                ends.add(refused.code)
    assert {"picture", "picture_damaged"} <= ends
