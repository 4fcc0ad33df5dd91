"""Pictures that people upload: told apart by their first bytes, measured before they are decoded, and drawn anew.

What was uploaded is never kept or given out. The pixels are turned the way the camera held them, brought to sRGB, laid on
white and written again as WebP, so nothing else of the file goes on: no place, no camera, no name, no script behind it.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from typing import Any, BinaryIO

from django.utils.translation import gettext as _
from PIL import Image, ImageCms

from lifecycle_crm.lib.errors import InvalidInput

MOST_BYTES = 8 * 1024 * 1024
"""Of a file that is uploaded."""
MOST_PIXELS = 40_000_000
LEAST_SIDE = 64
LARGE, SMALL = 960, 240
"""The longest side of the two sizes that are kept, in pixels."""
MOST_KEPT = 400_000
"""Bytes of the large one."""
MEDIA_TYPE = "image/webp"

_QUALITIES = (82, 68, 52, 36, 20)
"""Tried in turn until the large one fits."""
_KINDS = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n"}
_OTHERS: tuple[tuple[str, int, tuple[bytes, ...]], ...] = (
    ("GIF", 0, (b"GIF8",)),
    ("HEIC", 4, (b"ftypheic", b"ftypheix", b"ftypheim", b"ftyphevc", b"ftypmif1", b"ftypmsf1")),
    ("AVIF", 4, (b"ftypavif", b"ftypavis")),
    ("TIFF", 0, (b"II*\x00", b"MM\x00*")),
    ("BMP", 0, (b"BM",)),
    ("PDF", 0, (b"%PDF",)),
)
"""What people try as well: its name, and which bytes stand where."""
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Drawn:
    """A picture as it is kept: WebP in two sizes. ``width`` and ``height`` are those of the large one in pixels."""

    large: bytes
    small: bytes
    width: int
    height: int

    @property
    def sha256(self) -> str:
        return digest(self.large, self.small)


def digest(large: bytes, small: bytes) -> str:
    """What names the two sizes together."""
    return hashlib.sha256(large + small).hexdigest()


def too_large() -> InvalidInput:
    return InvalidInput(
        _("The picture is larger than %(most)d MB. Make it smaller and choose it again.")
        % {"most": MOST_BYTES // 1024**2},
        code="picture_too_large",
        status=413,
    )


def draw(file: BinaryIO) -> Drawn:
    """Read an uploaded JPEG, PNG or WebP file and draw it anew. Of a JPEG with several pictures it is the first.

    Raises ``InvalidInput`` with a ``code`` for each reason: ``picture_too_large`` (no more than that is ever read),
    ``picture_empty``, ``picture_type``, ``not_a_picture``, ``picture_too_many_pixels`` (decided by what the file says of itself,
    before anything is decoded), ``picture_too_small``, ``picture_moves`` and ``picture_damaged``.
    """
    given = file.read(MOST_BYTES + 1)
    if len(given) > MOST_BYTES:
        raise too_large()
    if not given:
        raise InvalidInput(_("The file is empty. Choose a picture as JPEG, PNG or WebP."), code="picture_empty")
    kind = _kind(given)
    if kind == "WEBP":
        # Its decoder takes room for the whole picture as soon as it is opened.
        _check_size(*_size_of_webp(given))
    try:
        opened = Image.open(io.BytesIO(given), formats=[kind])
    except Image.DecompressionBombError:
        raise _too_many_pixels() from None
    except Exception as problem:  # What a damaged file makes a decoder raise is written down nowhere.
        raise _damaged() from problem
    with opened:
        _check_size(*opened.size)
        if kind != "JPEG" and getattr(opened, "is_animated", False):
            raise InvalidInput(_("The picture moves. Choose one that stands still."), code="picture_moves")
        try:
            return _drawn(opened)
        except Exception as problem:  # As above.
            raise _damaged() from problem


def _kind(given: bytes) -> str:
    for kind, magic in _KINDS.items():
        if given.startswith(magic):
            return kind
    if given[:4] == b"RIFF" and given[8:12] == b"WEBP":
        return "WEBP"
    for name, place, magics in _OTHERS:
        if given[place:].startswith(magics):
            raise _other(name)
    start = given[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<svg", b"<?xml")) and b"<svg" in start:
        raise _other("SVG")
    raise InvalidInput(
        _("The file is not a picture, whatever its name says. Choose one as JPEG, PNG or WebP."), code="not_a_picture"
    )


def _other(name: str) -> InvalidInput:
    return InvalidInput(
        _("A file of the type %(name)s cannot be used. Save the picture as JPEG, PNG or WebP and choose it again.")
        % {"name": name},
        code="picture_type",
    )


def _damaged() -> InvalidInput:
    return InvalidInput(
        _("The picture is cut short or damaged. Save it again, or choose another."), code="picture_damaged"
    )


def _too_many_pixels() -> InvalidInput:
    return InvalidInput(
        _("The picture has more than %(most)d million pixels. Make it smaller and choose it again.")
        % {"most": MOST_PIXELS // 1_000_000},
        code="picture_too_many_pixels",
    )


def _size_of_webp(given: bytes) -> tuple[int, int]:
    """Width and height from the first chunk, which has one of three forms."""
    head = given[:30]
    if len(head) < 30:
        raise _damaged()
    if head[12:16] == b"VP8X":
        return 1 + int.from_bytes(head[24:27], "little"), 1 + int.from_bytes(head[27:30], "little")
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if head[12:16] == b"VP8 ":
        return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    raise _damaged()


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise _too_many_pixels()
    if min(width, height) < LEAST_SIDE:
        raise InvalidInput(
            _("The picture is smaller than %(least)d pixels. Choose a larger one.") % {"least": LEAST_SIDE},
            code="picture_too_small",
        )


def _drawn(opened: Image.Image) -> Drawn:
    turn = _TURNS.get(_orientation(opened))
    # A JPEG can be decoded at a half, a quarter or an eighth, which saves most of the time and memory.
    opened.draft(opened.mode, (2 * LARGE, 2 * LARGE))
    opened.load()
    profile = opened.info.get("icc_profile")
    large = _plain(opened)
    large.thumbnail((LARGE, LARGE), Image.Resampling.LANCZOS)
    large = _on_white(_in_srgb(large, profile))
    if turn is not None:
        large = large.transpose(turn)
    small = large.copy()
    small.thumbnail((SMALL, SMALL), Image.Resampling.LANCZOS)
    return Drawn(_encoded(large), _encoded(small), large.width, large.height)


def _orientation(opened: Image.Image) -> int:
    """How the camera was held; 1, upright, also where the file says it in a way that nobody can read."""
    try:
        return int(opened.getexif().get(_ORIENTATION, 1))
    except Exception:  # Wrong words about a picture are no reason to refuse it.
        return 1


def _plain(opened: Image.Image) -> Image.Image:
    """In one of the modes that can be made smaller without loss: no palette, no 16 bits."""
    if opened.mode.startswith(("I", "F")):
        return opened.convert("I").point(lambda value: value * (1 / 256)).convert("L")
    if opened.mode in ("RGB", "RGBA", "L", "CMYK"):
        return opened  # It is in nobody else's hands, and a copy of a large one is a hundred megabytes.
    return opened.convert("RGBA" if opened.has_transparency_data else "RGB")


def _in_srgb(drawn: Image.Image, profile: Any) -> Image.Image:
    """As screens show it: phones write colours in wider spaces, which would look pale without their profile."""
    if not profile or drawn.mode not in ("RGB", "RGBA", "CMYK"):
        return drawn
    try:
        own = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = "RGBA" if drawn.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(drawn, own, ImageCms.createProfile("sRGB"), outputMode=mode) or drawn
    except (ImageCms.PyCMSError, OSError, ValueError):
        return drawn  # A profile that is broken or of another kind of colour.


def _on_white(drawn: Image.Image) -> Image.Image:
    """On the ground that most pictures with holes were made for; a dark page would swallow black letters."""
    if drawn.mode != "RGBA" and not drawn.has_transparency_data:
        return drawn.convert("RGB")
    ground = Image.new("RGBA", drawn.size, "white")
    ground.alpha_composite(drawn.convert("RGBA"))
    return ground.convert("RGB")


def _encoded(drawn: Image.Image) -> bytes:
    data = b""
    for quality in _QUALITIES:
        file = io.BytesIO()
        # Drawn into a new one: an Image carries what its file said, and the encoder would write that down.
        bare = Image.new("RGB", drawn.size)
        bare.paste(drawn)
        bare.save(file, "WEBP", quality=quality, method=4)
        data = file.getvalue()
        if len(data) <= MOST_KEPT:
            break
    return data
