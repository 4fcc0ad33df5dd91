"""The front end's promises that can be checked without a browser: contrast, stage colours, weight, no inline code."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CRM = ROOT / "lifecycle_crm" / "static" / "crm"
VENDOR = CRM / "vendor"
TEMPLATES = sorted((ROOT / "templates").rglob("*.html"))
STAGES = ("reach", "acquire", "nurture", "retain", "advocate", "dormant")
CSS = (CRM / "tokens.css").read_text(encoding="utf-8")


def block(selector: str, start: int = 0) -> dict[str, str]:
    """The custom properties of the first rule with this selector."""
    opening = CSS.index(selector + " {", start) + len(selector) + 2
    body = CSS[opening : CSS.index("}", opening)]
    return dict(re.findall(r"--([\w-]+):\s*([^;]+);", body))


LIGHT = block(":root")
DARK = block(':root[data-theme="dark"]')
THEMES = {"light": LIGHT, "dark": DARK}


def rgb(value: str) -> tuple[float, float, float]:
    digits = value.lstrip("#")
    return tuple(int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))  # type: ignore[return-value]


def linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else ((channel + 0.055) / 1.055) ** 2.4


def gamma(channel: float) -> float:
    channel = min(1.0, max(0.0, channel))
    return 12.92 * channel if channel <= 0.0031308 else 1.055 * channel ** (1 / 2.4) - 0.055


def contrast(one: str, other: str) -> float:
    def luminance(value: str) -> float:
        red, green, blue = (linear(channel) for channel in rgb(value))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


GROUNDS = ("bg", "surface", "sunken")
PAIRS: list[tuple[str, str, float]] = [
    *((ink, ground, 4.5) for ink in ("ink", "ink-2", "ink-3", "link", "bad", "ok", "warn") for ground in GROUNDS),
    *((mark, ground, 3.0) for mark in ("control", "focus") for ground in GROUNDS),
    ("on-primary", "primary", 4.5),
    ("on-primary", "primary-hover", 4.5),
    ("on-bad", "bad", 4.5),
    ("ok", "ok-bg", 4.5),
    ("warn", "warn-bg", 4.5),
    ("bad", "bad-bg", 4.5),
    *(("ink", ground, 4.5) for ground in ("info-bg", "ok-bg", "warn-bg", "bad-bg")),
    ("link", "info-bg", 4.5),
    *((f"stage-{stage}", ground, 3.0) for stage in STAGES for ground in ("bg", "surface")),
    *(("ramp-ink-low", f"ramp-{step}", 4.5) for step in (1, 2, 3, 4)),
    *(("ramp-ink-high", f"ramp-{step}", 4.5) for step in (6, 7)),
    ("chart-1", "surface", 3.0),
]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize(("front", "ground", "needed"), PAIRS)
def test_contrast_of_every_pair(theme: str, front: str, ground: str, needed: float) -> None:
    tokens = THEMES[theme]
    assert contrast(tokens[front], tokens[ground]) >= needed


@pytest.mark.parametrize("theme", THEMES)
def test_the_fifth_step_of_the_ramp_carries_dark_text(theme: str) -> None:
    assert contrast("#14171c", THEMES[theme]["ramp-5"]) >= 4.5


def test_both_dark_blocks_hold_the_same_values() -> None:
    assert block(':root:not([data-theme="light"])') == DARK
    assert set(LIGHT) >= set(DARK)


# --- The stage colours stay apart for people who see fewer colours --------------------------------------------------

MACHADO = {
    "full sight": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protanopia": (
        (0.152286, 1.052583, -0.204868),
        (0.114503, 0.786281, 0.099216),
        (-0.003882, -0.048116, 1.051998),
    ),
    "deuteranopia": (
        (0.367322, 0.860646, -0.227968),
        (0.280085, 0.672501, 0.047413),
        (-0.011820, 0.042940, 0.968881),
    ),
    "tritanopia": (
        (1.255528, -0.076749, -0.178779),
        (-0.078411, 0.930809, 0.147602),
        (0.004733, 0.691367, 0.303900),
    ),
}


def seen(value: str, matrix: tuple[tuple[float, ...], ...]) -> tuple[float, float, float]:
    channels = [linear(channel) for channel in rgb(value)]
    return tuple(  # type: ignore[return-value]
        gamma(sum(weight * channel for weight, channel in zip(row, channels, strict=True))) for row in matrix
    )


def lab(colour: tuple[float, float, float]) -> tuple[float, float, float]:
    red, green, blue = (linear(channel) for channel in colour)
    xyz = (
        (0.4124564 * red + 0.3575761 * green + 0.1804375 * blue) / 0.95047,
        0.2126729 * red + 0.7151522 * green + 0.0721750 * blue,
        (0.0193339 * red + 0.1191920 * green + 0.9503041 * blue) / 1.08883,
    )
    fx, fy, fz = (part ** (1 / 3) if part > 216 / 24389 else (24389 / 27 * part + 16) / 116 for part in xyz)
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def ciede2000(one: tuple[float, float, float], other: tuple[float, float, float]) -> float:
    l1, a1, b1 = one
    l2, a2, b2 = other
    mean_chroma = (math.hypot(a1, b1) + math.hypot(a2, b2)) / 2
    stretch = 0.5 * (1 - math.sqrt(mean_chroma**7 / (mean_chroma**7 + 25**7)))
    a1, a2 = a1 * (1 + stretch), a2 * (1 + stretch)
    c1, c2 = math.hypot(a1, b1), math.hypot(a2, b2)
    h1, h2 = math.degrees(math.atan2(b1, a1)) % 360, math.degrees(math.atan2(b2, a2)) % 360
    turn = h2 - h1
    if c1 * c2 == 0:
        turn = 0
    elif turn > 180:
        turn -= 360
    elif turn < -180:
        turn += 360
    dl, dc, dh = l2 - l1, c2 - c1, 2 * math.sqrt(c1 * c2) * math.sin(math.radians(turn / 2))
    ml, mc = (l1 + l2) / 2, (c1 + c2) / 2
    mh = h1 + h2 if c1 * c2 == 0 else (h1 + turn / 2) % 360
    t = (
        1
        - 0.17 * math.cos(math.radians(mh - 30))
        + 0.24 * math.cos(math.radians(2 * mh))
        + 0.32 * math.cos(math.radians(3 * mh + 6))
        - 0.20 * math.cos(math.radians(4 * mh - 63))
    )
    sl = 1 + 0.015 * (ml - 50) ** 2 / math.sqrt(20 + (ml - 50) ** 2)
    sc, sh = 1 + 0.045 * mc, 1 + 0.015 * mc * t
    rotation = (
        -2 * math.sqrt(mc**7 / (mc**7 + 25**7)) * math.sin(math.radians(60 * math.exp(-(((mh - 275) / 25) ** 2))))
    )
    return math.sqrt((dl / sl) ** 2 + (dc / sc) ** 2 + (dh / sh) ** 2 + rotation * (dc / sc) * (dh / sh))


def test_ciede2000_agrees_with_published_pairs() -> None:
    assert ciede2000((50, 2.6772, -79.7751), (50, 0, -82.7485)) == pytest.approx(2.0425, abs=1e-4)
    assert ciede2000((22.7233, 20.0904, -46.6940), (23.0331, 14.9730, -42.5619)) == pytest.approx(2.0373, abs=1e-4)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("sight", MACHADO)
def test_stage_colours_stay_apart(theme: str, sight: str) -> None:
    colours = {stage: lab(seen(THEMES[theme][f"stage-{stage}"], MACHADO[sight])) for stage in STAGES}
    for one, other in combinations(STAGES, 2):
        assert ciede2000(colours[one], colours[other]) >= 10, (one, other)


# --- Weight ---------------------------------------------------------------------------------------------------------


def packed(*paths: Path) -> int:
    return sum(len(gzip.compress(path.read_bytes(), 9)) for path in paths)


def sheets(template: Path) -> set[str]:
    return set(re.findall(r"crm/(\w+\.css)", template.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_weight_of_the_styles_that_one_page_loads(path: Path) -> None:
    """The sheets every page of the shell loads, and those the page names itself."""
    own = sheets(path)
    shell = sheets(ROOT / "templates" / "base.html")
    assert shell == {"tokens.css", "base.css", "components.css", "pages.css"}
    assert packed(*(CRM / name for name in own | shell)) <= 14 * 1024


def test_every_style_sheet_is_loaded_by_a_page() -> None:
    used = set().union(*(sheets(path) for path in TEMPLATES))
    assert used == {path.name for path in CRM.glob("*.css")}


def test_weight_of_scripts() -> None:
    assert packed(*CRM.glob("*.js")) <= 10 * 1024
    assert packed(VENDOR / "htmx.min.js") <= 15 * 1024
    assert packed(VENDOR / "echarts.min.js") <= 215 * 1024


# --- The content policy: nothing inline, nothing evaluated ----------------------------------------------------------

INLINE = re.compile(
    r"\sstyle\s*=|\son[a-z]+\s*=\s*[\"']|\shx-on|\sjs:|<style|<script(?![^>]*\b(?:src|type=\"application/json\"))", re.I
)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_inline_code_in_templates(path: Path) -> None:
    found = INLINE.search(path.read_text(encoding="utf-8"))
    assert found is None, f"{path.name}: {found and found.group(0)!r} breaks the content policy"


@pytest.mark.parametrize("path", sorted(CRM.glob("*.js")), ids=lambda path: path.name)
def test_no_eval_in_scripts(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\beval\(|new Function|innerHTML|setAttribute\([\"']style", text)


def test_every_icon_that_a_template_names_exists() -> None:
    names = set(re.findall(r'<symbol id="([\w-]+)"', (CRM / "icons.svg").read_text(encoding="utf-8")))
    for path in TEMPLATES:
        used = set(re.findall(r'{% icon "([\w-]+)"', path.read_text(encoding="utf-8")))
        assert used <= names, (path.name, used - names)


# --- Vendored files -------------------------------------------------------------------------------------------------


def test_vendored_files_are_those_on_record() -> None:
    record = json.loads((VENDOR / "VENDOR.json").read_text(encoding="utf-8"))
    assert {row["file"] for row in record} == {path.name for path in VENDOR.glob("*.min.js")}
    for row in record:
        content = (VENDOR / row["file"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == row["sha256"], row["file"]
        assert b"sourceMappingURL" not in content
        for licence in row["licence_files"]:
            assert (VENDOR / licence).stat().st_size > 100


# --- Catalogues -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("language", "forms"), [("sv", 2), ("nb", 2), ("pl", 4), ("cs", 4), ("en", 2)])
def test_catalogues_carry_djangos_plural_header(language: str, forms: int) -> None:
    import django

    def header(path: Path) -> str:
        found = re.search(r'"Plural-Forms:(.*?)\\n"\n', path.read_text(encoding="utf-8"), re.S)
        assert found, path
        return re.sub(r'["\s]', "", found.group(1))

    ours = header(ROOT / "lifecycle_crm" / "locale" / language / "LC_MESSAGES" / "django.po")
    theirs = header(Path(django.__file__).parent / "conf" / "locale" / language / "LC_MESSAGES" / "django.po")
    assert ours == theirs
    assert f"nplurals={forms};" in ours


# --- Numbers, money and dates in five languages ---------------------------------------------------------------------

NB = "\xa0"
FORMS = {
    "en": ("12,345.6", "GBP", "£1,234.50", "31%", "21 Nov 2026", "21/11/2026, 17:05"),
    "sv": (f"12{NB}345,6", "SEK", f"1{NB}234,50{NB}kr", f"31{NB}%", "21 nov. 2026", "2026-11-21 17:05"),
    "nb": (f"12{NB}345,6", "NOK", f"1{NB}234,50{NB}kr", f"31{NB}%", "21. nov. 2026", "21.11.2026, 17:05"),
    "pl": (f"12{NB}345,6", "PLN", f"1{NB}234,50{NB}zł", "31%", "21 lis 2026", "21.11.2026, 17:05"),
    "cs": (f"12{NB}345,6", "CZK", f"1{NB}234,50{NB}Kč", f"31{NB}%", "21. 11. 2026", "21.11.26 17:05"),
}


@pytest.mark.parametrize("language", FORMS)
def test_forms_of_numbers_money_and_dates(language: str) -> None:
    from django.test import override_settings
    from django.utils import translation

    from lifecycle_crm.templatetags import crm

    number, currency, money, share, day, moment = FORMS[language]
    at = datetime(2026, 11, 21, 16, 5, tzinfo=UTC)
    with translation.override(language), override_settings(SHOP_TIME_ZONE="Europe/Stockholm"):
        assert crm.num(12345.6) == number
        assert crm.money(123450, currency) == money
        assert crm.pct(0.31) == share
        assert crm.day(at) == day
        assert crm.moment(at) == moment
        assert crm.money(None, currency) == crm.num(None) == crm.pct(float("nan")) == crm.NOTHING


@pytest.mark.parametrize("language", ["sv", "nb", "pl", "cs"])
def test_stages_have_a_word_and_a_goal_in_every_language(language: str) -> None:
    from django.utils import translation

    from lifecycle_crm.templatetags import crm

    english = {stage: (crm.stage_name(stage), crm.stage_goal(stage)) for stage in STAGES}
    with translation.override(language):
        for stage in STAGES:
            assert crm.stage_name(stage)
            assert crm.stage_name(stage) != english[stage][0]
            assert crm.stage_goal(stage) != english[stage][1]


def test_the_rail_leaves_out_pages_that_do_not_exist() -> None:
    from lifecycle_crm.dashboard import shell

    assert shell.address("no-such-page", "nor:this") == ""
