"""The playbooks' texts in Polish: subject, heading (after the first name), paragraphs, words of the button."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "welcome": (
        "Witamy w {{ shop.name }}",
        "miło, że tu jesteś",
        (
            "Dziękujemy za zapisanie się. Nie będziemy zapełniać Twojej skrzynki: napiszemy, gdy będzie coś wartego "
            "Twojego czasu.",
            "Zobacz, co inni lubią najbardziej, a jeśli masz pytanie, odpowiedz na tę wiadomość. Przeczyta ją człowiek.",
        ),
        "Zobacz, co mamy",
    ),
    "first-order": (
        "Czy coś jest niejasne?",
        "możemy pomóc?",
        (
            "Pierwsze zamówienie w nieznanym sklepie wymaga odrobiny zaufania. Jeśli masz pytania o dostawę, zwroty albo "
            "dobry wybór, po prostu odpowiedz na tę wiadomość.",
            "A jeśli to nie jest dobry moment, też w porządku.",
        ),
        "Zajrzyj jeszcze raz",
    ),
    "care": (
        "Czy z zamówieniem wszystko w porządku?",
        "czy wszystko dotarło jak trzeba?",
        (
            "Twoje pierwsze zamówienie jest u Ciebie od kilku dni. Jeśli czegoś brakuje, coś jest uszkodzone albo jest inne, "
            "niż miało być, odpowiedz na tę wiadomość, a my to naprawimy.",
            "Jeśli wszystko jest dobrze, nie trzeba nic robić. Niech służy.",
        ),
        "",
    ),
    "cross-sell": (
        "Co pasuje do Twojego zamówienia",
        "może coś do kompletu?",
        (
            "Minęło kilka tygodni od Twojego pierwszego zamówienia. Osoby, które zaczęły podobnie, często znajdowały jeszcze "
            "jedną rzecz, dzięki której pierwsza była lepsza.",
            "Zajrzyj, a jeśli chcesz podpowiedzi, odpowiedz i napisz, czego szukasz.",
        ),
        "Zobacz, co pasuje",
    ),
    "replenish": (
        "Czas na więcej?",
        "być może znów pora",
        (
            "Według Twojego własnego rytmu zbliża się czas następnego zamówienia. Jeśli zapas się kończy, oto krótka droga "
            "z powrotem.",
            "Jeśli masz jeszcze dość, zachowaj tę wiadomość na później.",
        ),
        "Zamów ponownie",
    ),
    "at-risk": (
        "Czy wszystko w porządku?",
        "dawno Cię u nas nie było",
        (
            "Zwykle zaglądasz do nas częściej, więc chcemy zapytać: czy wszystko w porządku?",
            "Jeśli coś poszło nie tak, odpowiedz na tę wiadomość. Przeczyta ją człowiek, który może coś z tym zrobić.",
        ),
        "Zobacz, co nowego",
    ),
    "birthday": (
        "Wszystkiego najlepszego",
        "wszystkiego najlepszego z okazji urodzin",
        (
            "Serdeczności od nas wszystkich, na dziś i na cały nadchodzący rok.",
            "Na Twoim koncie czeka mały prezent: kilka punktów, do wykorzystania, kiedy chcesz.",
        ),
        "Zajrzyj do nas",
    ),
    "rescue": (
        "Dziękujemy, że nam o tym mówisz",
        "dziękujemy za szczerą odpowiedź",
        (
            "Z Twojej odpowiedzi wiemy, że coś nie było dość dobre. Zajęliśmy się tym i mamy nadzieję, że teraz jest już "
            "w porządku.",
            "Jeśli nie, odpowiedz na tę wiadomość: trafi do człowieka, a my nie przestaniemy, dopóki nie będzie dobrze.",
        ),
        "",
    ),
    "vip": (
        "Osobiste podziękowanie",
        "należysz do naszych najlepszych klientów",
        (
            "To nasz najwyższy poziom{% if customer.tier != '' %} ({{ customer.tier }}){% endif %}. Docierają do niego "
            "nieliczni i chcemy za to podziękować.",
            "Na Twoim koncie czekają punkty. Jeśli coś powinniśmy robić lepiej, chcemy to usłyszeć właśnie od Ciebie: "
            "po prostu odpowiedz.",
        ),
        "Zobacz, co nowego",
    ),
    "review": (
        "Powiesz o tym innym?",
        "dziękujemy za miłą odpowiedź",
        (
            "Cieszymy się, że jest Ci u nas dobrze. To poprawiło nam dzień.",
            "Powiesz o tym innym? Kilka słów w opinii pomaga osobom, które nas jeszcze nie znają, bardziej niż wszystko, co "
            "możemy powiedzieć sami.",
        ),
        "Napisz opinię",
    ),
    "referral": (
        "Znasz kogoś takiego jak Ty?",
        "znasz kogoś, komu się u nas spodoba?",
        (
            "Osoby polecone przez znajomych zwykle dobrze się u nas czują, a Ty znasz nas już dobrze.",
            "Jeśli ktoś przychodzi Ci na myśl, przekaż tę wiadomość dalej. I dziękujemy, że jesteś z nami.",
        ),
        "Pokaż znajomym",
    ),
    "winback": (
        "Na Twoim koncie są nowe punkty",
        "chętnie zobaczymy Cię znowu",
        (
            "Minęło trochę czasu. Żeby łatwiej było wrócić, dodaliśmy punkty do Twojego konta.",
            "{% if points > 1 %}Stan konta: {{ points }}. Te punkty możesz wykorzystać, kiedy chcesz.{% endif %}",
            "Jeśli coś Cię zniechęciło, odpowiedz i napisz nam o tym. Przeczyta to człowiek.",
        ),
        "Wykorzystaj punkty",
    ),
    "sunset": (
        "Czy mamy dalej pisać?",
        "czy piszemy dalej?",
        (
            "Dawno Cię u nas nie było, a nie chcemy zapełniać Twojej skrzynki.",
            "Jeśli chcesz zostać, zobacz, co nowego. Jeśli wolisz nie dostawać od nas wiadomości, wystarczy jedno kliknięcie "
            "w link na dole tej wiadomości.",
        ),
        "Chcę zostać",
    ),
}
