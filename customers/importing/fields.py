"""What a column may be read as, and what the headers of five languages mean."""

from __future__ import annotations

import re
from collections.abc import Iterable

from customers.models import ImportRun, search_text

_FIELDS: dict[str, dict[str, str]] = {
    ImportRun.Kind.CUSTOMERS: {
        "customer_id": "customerid customernumber customer id kundid kundnr kundenummer kundnummer kundeid idklienta "
        "nrklienta klientid idzakaznika cislozakaznika zakaznikid externalid masterid",
        "email": "email emailaddress mail epost epostadress epostadresse adresemail adresmail emailovaadresa",
        "name": "name fullname customername namn navn nazwa imieinazwisko jmeno jmenoaprijmeni fulltnamn",
        "given_name": "givenname firstname fornamn fornavn imie krestnijmeno",
        "kind": "kind type customertype typ",
        "phone": "phone phonenumber telephone mobile telefon telefonnummer mobil telefonnr numertelefonu telefonicislo",
        "language": "language lang locale sprak jezyk jazyk",
        "time_zone": "timezone tz tidszon tidssone strefaczasowa casovapasmo",
        "country": "country countrycode land kraj zeme",
        "city": "city town stad ort by miasto mesto",
        "birth_date": "birthdate birthday dateofbirth dob fodelsedatum fodselsdato dataurodzenia datumnarozeni",
        "tags": "tags labels taggar etiketter tagi stitky",
        "known_since": "knownsince createdat registered registeredat signupdate customersince kundsedan kundesiden "
        "dataregistracji datarejestracji datumregistrace",
        "acquisition_source": "acquisitionsource utmsource",
        "acquisition_medium": "acquisitionmedium utmmedium",
        "acquisition_campaign": "acquisitioncampaign utmcampaign",
        "acquisition_cost": "acquisitioncost cac",
        "may_email": "mayemail marketingconsent acceptsmarketing newsletter consent samtycke samtykke nyhetsbrev "
        "zgoda souhlas",
    },
    ImportRun.Kind.ORDERS: {
        "customer_id": "customerid customernumber customer kundid kundnr kundenummer kundnummer kundeid idklienta "
        "nrklienta klientid idzakaznika cislozakaznika zakaznikid externalid",
        "email": "email emailaddress mail epost epostadress epostadresse adresemail adresmail emailovaadresa",
        "name": "name customername fullname namn navn imieinazwisko jmeno jmenoaprijmeni",
        "order_id": "orderid ordernumber orderno order ordernr ordrenummer ordrenr numerzamowienia nrzamowienia "
        "idzamowienia cisloobjednavky idobjednavky",
        "placed_at": "placedat date orderdate datetime createdat time datum dato orderdatum ordredato data "
        "datazamowienia datumobjednavky",
        "amount": "amount value total price sum revenue ordertotal belopp summa belop sum kwota wartosc suma castka "
        "celkem hodnota",
        "currency": "currency currencycode valuta waluta mena",
        "rate": "rate exchangerate kurs",
        "items": "items quantity qty cds units count antal antall ilosc mnozstvi pocet",
    },
}
FIELDS: dict[str, tuple[str, ...]] = {kind: tuple(names) for kind, names in _FIELDS.items()}
"""What a column may be read as, per kind of file. A column nobody maps is left alone."""

_GUESSES = {
    kind: {word: name for name, words in names.items() for word in words.split()} for kind, names in _FIELDS.items()
}


def guess(kind: str, columns: Iterable[str]) -> dict[str, str]:
    """``{column: field}`` for headers whose meaning is plain in English, Swedish, Norwegian, Polish or Czech."""
    words = _GUESSES[kind]
    mapping: dict[str, str] = {}
    for column in columns:
        name = words.get(re.sub(r"[^a-z0-9]", "", search_text(column)))
        if name and name not in mapping.values():
            mapping[column] = name
    return mapping
