"""Invented people of six countries in five languages. Names fit any gender; addresses and numbers belong to nobody."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from random import Random

from customers.models import Customer, search_text


@dataclass(frozen=True, slots=True)
class Country:
    code: str
    language: str
    share: int
    given: tuple[str, ...]
    family: tuple[str, ...]
    cities: tuple[tuple[str, str], ...]
    hosts: tuple[str, ...]
    phone: str = ""
    """A fictional range: the number with ``{}`` for its last digits."""
    phone_range: tuple[int, int] = (0, 0)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _cities(zone: str, names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, zone) for name in names.split(", "))


COUNTRIES = (
    Country(
        "SE", "sv", 28,
        _words("Kim Robin Alex Charlie Sascha Mika Love Elliot Nikki Sam Billie Noa Lo Tove Juno Ariel Runa Eli"),
        _words(
            "Andersson Johansson Karlsson Nilsson Eriksson Larsson Olsson Persson Svensson Gustafsson "
            "Pettersson Jonsson Lindberg Lindström Åberg Sjöberg Björk Öhman Hellström Nyström Sundqvist "
            "Åkesson Forsgren Engström Löfgren Ekdahl Söderlund Vikström"
        ),
        _cities("Europe/Stockholm", "Stockholm, Göteborg, Malmö, Uppsala, Västerås, Örebro, Linköping, Umeå, Växjö, Luleå"),
        ("post.example.com", "epost.example.net", "example.org"), "+4670174{:04d}", (605, 699),
    ),
    Country(
        "NO", "nb", 14,
        _words("Kim Robin Alex Sander Eli Mika Noa Tore Bo Rune Iben Sol Vår Storm Kari Jo Dag Liv"),
        _words(
            "Hansen Johansen Olsen Larsen Andersen Pedersen Nilsen Kristiansen Jensen Karlsen Berg Haugen "
            "Hagen Bakken Solberg Dahl Moen Strand Lie Sæther Bøe Næss Ødegård Grønli Tangen Fjeld Brekke"
        ),
        _cities("Europe/Oslo", "Oslo, Bergen, Trondheim, Stavanger, Tromsø, Ålesund, Bodø, Kristiansand, Lillehammer"),
        ("post.example.net", "example.com", "e.example.org"),
    ),
    Country(
        "PL", "pl", 20,
        # Family names that have one form for everybody.
        _words("Alex Nikita Sasza Kosma Noa Bonawentura Mika Robin Jona Andrea Rene Sam Maria Barnaba"),
        _words(
            "Nowak Wójcik Mazur Krawczyk Kaczmarek Zając Król Wróbel Wieczorek Stępień Dudek Pawlak Walczak "
            "Sikora Baran Szewczyk Pietrzak Michalak Kubiak Włodarczyk Łuczak Żak Gołąb Sroka Cieślak "
            "Błaszczyk Woźniak Jóźwiak"
        ),
        _cities("Europe/Warsaw", "Warszawa, Kraków, Łódź, Wrocław, Poznań, Gdańsk, Szczecin, Białystok, Toruń, Rzeszów"),
        ("poczta.example.com", "example.net", "list.example.org"),
    ),
    Country(
        "CZ", "cs", 16,
        _words("René Alex Nikola Saša Míša Sam Robin Noa Andrea Vanja Péťa Kája Honza Radka"),
        # The same: family names that are not declined by gender.
        _words(
            "Krejčí Kočí Martinů Petrů Pavlů Janů Jirků Matějů Šimků Tomků Havlů Vítů Bártů Kubů Macků "
            "Michalů Dolejší Hořejší Lepší Jakubů Tomšů Mikulů Vašků Šebků"
        ),
        _cities("Europe/Prague", "Praha, Brno, Ostrava, Plzeň, Liberec, Olomouc, České Budějovice, Hradec Králové, Zlín"),
        ("posta.example.com", "example.org", "mail.example.net"),
    ),
    Country(
        "GB", "en", 12,
        _words(
            "Alex Jamie Robin Charlie Sam Morgan Taylor Rowan Ashley Quinn Frankie Jules Avery Casey Riley "
            "Drew"
        ),
        _words(
            "Smith Jones Taylor Brown Williams Wilson Davies Evans Thomas Roberts Walker Wright Hughes Green "
            "Hall Wood Clarke Hill Turner Carter Baker Shaw Price Bell"
        ),
        _cities("Europe/London", "London, Manchester, Leeds, Bristol, Glasgow, Cardiff, Belfast, York, Norwich"),
        ("mail.example.com", "example.org", "post.example.net"), "+447700900{:03d}", (0, 999),
    ),
    Country(
        "US", "en", 10,
        _words(
            "Alex Jordan Taylor Casey Riley Jamie Morgan Skyler Dakota Reese Parker Emerson Hayden Rory Sage "
            "River"
        ),
        _words(
            "Johnson Miller Davis Garcia Rodriguez Martinez Anderson Moore Jackson Lee White Harris Clark "
            "Lewis Young Allen King Scott Nguyen Adams Nelson Rivera Campbell Mitchell"
        ),
        (
            *_cities("America/New_York", "New York, Boston, Atlanta, Philadelphia"),
            *_cities("America/Chicago", "Chicago, Austin, Minneapolis"),
            *_cities("America/Los_Angeles", "Seattle, Portland, San Diego"),
        ),
        ("mail.example.com", "example.net", "inbox.example.org"), "+12125550{:03d}", (100, 199),
    ),
)  # fmt: skip

_SHARES = [country.share for country in COUNTRIES]

_CAME_BY = (
    (34, "search", "organic", "", None),
    (18, "friend", "referral", "", None),
    (20, "search ads", "paid", "autumn", 640),
    (14, "social ads", "paid", "new releases", 480),
    (14, "newsletter", "email", "", 60),
)
_CAME_SHARES = [way[0] for way in _CAME_BY]


def invent(number: int, rng: Random, today: date) -> Customer:
    """An unsaved customer; ``number`` makes the address their own."""
    country = rng.choices(COUNTRIES, _SHARES)[0]
    given, family = rng.choice(country.given), rng.choice(country.family)
    city, zone = rng.choice(country.cities)
    _share, source, medium, campaign, cost = rng.choices(_CAME_BY, _CAME_SHARES)[0]
    phone = ""
    if country.phone and rng.random() < 0.6:
        phone = country.phone.format(rng.randint(*country.phone_range))
    born = None
    if rng.random() < 0.55:
        born = today - timedelta(days=int(365.25 * 19) + rng.randrange(int(365.25 * 55)))
    address = f"{search_text(given)}.{search_text(family)}.{number}@{rng.choice(country.hosts)}"
    customer = Customer(
        name=f"{given} {family}",
        given_name=given,
        email=address,
        phone=phone,
        language=country.language,
        time_zone=zone,
        country=country.code,
        city=city,
        birth_date=born,
        acquisition_source=source,
        acquisition_medium=medium,
        acquisition_campaign=campaign,
        acquisition_cost_minor=None if cost is None else round(cost * rng.uniform(0.6, 1.6)),
        is_invented=True,
    )
    customer.prepare()
    return customer
