"""The playbooks' texts in Czech: subject, heading (after the first name), paragraphs, words of the button."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "welcome": (
        "Vítejte v {{ shop.name }}",
        "rádi vás tu máme",
        (
            "Přihlásili jste se k nám a my vám nebudeme plnit schránku: ozveme se, když budeme mít něco, co stojí za váš čas.",
            "Podívejte se, co se ostatním líbí nejvíc, a máte-li otázku, odpovězte na tuto zprávu. Přečte si ji člověk.",
        ),
        "Podívat se",
    ),
    "first-order": (
        "Je něco nejasné?",
        "můžeme pomoci?",
        (
            "První objednávka v obchodě, který člověk nezná, chce trochu důvěry. Zajímá-li vás doručení, vrácení nebo "
            "správný výběr, stačí na tuto zprávu odpovědět.",
            "A pokud teď není ta pravá chvíle, je to také v pořádku.",
        ),
        "Podívat se ještě jednou",
    ),
    "care": (
        "Je s objednávkou všechno v pořádku?",
        "dorazilo všechno, jak mělo?",
        (
            "Svou první objednávku máte už několik dní doma. Pokud něco chybí, je poškozené nebo jiné, než jste čekali, "
            "odpovězte na tuto zprávu a dáme to do pořádku.",
            "Je-li vše v pořádku, nemusíte dělat nic. Ať slouží.",
        ),
        "",
    ),
    "cross-sell": (
        "Co se hodí k vaší objednávce",
        "nehodilo by se k tomu ještě něco?",
        (
            "Od vaší první objednávky uplynulo pár týdnů. Lidé, kteří začali jako vy, často našli ještě jednu věc, díky níž "
            "byla ta první lepší.",
            "Podívejte se, a chcete-li poradit, odpovězte a napište nám, co hledáte.",
        ),
        "Podívat se, co se hodí",
    ),
    "replenish": (
        "Je čas na další?",
        "možná je zase čas",
        (
            "Podle vašeho vlastního rytmu se blíží čas další objednávky. Pokud vám zásoby docházejí, tady je krátká cesta "
            "zpět.",
            "Máte-li ještě dost, nechte si tuto zprávu na později.",
        ),
        "Objednat znovu",
    ),
    "at-risk": (
        "Je všechno v pořádku?",
        "dlouho jsme vás neviděli",
        (
            "Obvykle se u nás stavíte častěji, tak jsme se chtěli zeptat: je všechno v pořádku?",
            "Pokud něco nebylo, jak mělo, odpovězte na tuto zprávu. Přečte si ji člověk a může s tím něco udělat.",
        ),
        "Podívat se, co je nového",
    ),
    "birthday": (
        "Všechno nejlepší",
        "všechno nejlepší k narozeninám",
        (
            "Všechno dobré od nás všech, dnes i v nadcházejícím roce.",
            "Na účtu na vás čeká malý dárek: pár bodů, které můžete využít, kdy chcete.",
        ),
        "Podívat se k nám",
    ),
    "rescue": (
        "Děkujeme, že jste nám to řekli",
        "děkujeme za upřímnou odpověď",
        (
            "Řekli jste nám, že něco nebylo dost dobré. Zabývali jsme se tím a doufáme, že už je to v pořádku.",
            "Pokud není, odpovězte na tuto zprávu: dostane ji člověk a my nepřestaneme, dokud to v pořádku nebude.",
        ),
        "",
    ),
    "vip": (
        "Osobní poděkování",
        "patříte k našim nejlepším zákazníkům",
        (
            "Dosáhli jste naší nejvyšší úrovně{% if customer.tier != '' %} ({{ customer.tier }}){% endif %}. Dostane se na ni "
            "jen málokdo a chceme vám poděkovat.",
            "Na účtu máte body. Pokud bychom měli něco dělat lépe, chceme to slyšet právě od vás: stačí odpovědět.",
        ),
        "Podívat se, co je nového",
    ),
    "review": (
        "Řeknete to i ostatním?",
        "děkujeme za milou odpověď",
        (
            "Napsali jste nám, že jste u nás spokojení, a udělali jste nám radost.",
            "Řeknete to i ostatním? Pár slov v recenzi pomůže lidem, kteří nás ještě neznají, víc než cokoli, co bychom "
            "řekli sami.",
        ),
        "Napsat recenzi",
    ),
    "referral": (
        "Znáte někoho, jako jste vy?",
        "znáte někoho, komu by se u nás líbilo?",
        (
            "Lidem, které k nám poslal přítel, se u nás obvykle líbí, a vy už nás znáte dobře.",
            "Pokud vás někdo napadne, pošlete mu tuto zprávu. A děkujeme, že jste s námi.",
        ),
        "Ukázat přátelům",
    ),
    "winback": (
        "Na účet jsme vám připsali body",
        "rádi vás zase uvidíme",
        (
            "Už je to nějaký čas. Aby byl návrat snazší, připsali jsme vám na účet body.",
            "{% if points > 1 %}Stav konta: {{ points }}. Můžete je využít, kdy chcete.{% endif %}",
            "Pokud vás něco odradilo, odpovězte a napište nám to. Přečte si to člověk.",
        ),
        "Využít body",
    ),
    "sunset": (
        "Máme vám psát dál?",
        "máme psát dál?",
        (
            "Dlouho jste se u nás nezastavili a my nechceme plnit vaši schránku.",
            "Chcete-li zůstat, podívejte se, co je nového. Pokud od nás raději nechcete nic dostávat, stačí jedno stisknutí "
            "odkazu na konci této zprávy.",
        ),
        "Chci zůstat",
    ),
}
