"""The playbooks' texts in Norwegian: subject, heading (after the first name), paragraphs, words of the button."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "welcome": (
        "Velkommen til {{ shop.name }}",
        "hyggelig å ha deg her",
        (
            "Du har meldt deg på hos oss, og vi skal ikke fylle innboksen din: du hører fra oss når det er noe som er verdt "
            "tiden din.",
            "Se hva andre liker best, og svar på denne e-posten hvis du lurer på noe. Et menneske leser den.",
        ),
        "Se hva som finnes",
    ),
    "first-order": (
        "Er det noe du lurer på?",
        "kan vi hjelpe?",
        (
            "En første bestilling hos en butikk man ikke kjenner, krever litt tillit. Lurer du på levering, retur eller "
            "riktig valg, så svar bare på denne e-posten.",
            "Og passer det ikke nå, er det også helt greit.",
        ),
        "Ta en titt til",
    ),
    "care": (
        "Er alt i orden med bestillingen din?",
        "kom alt fram som det skulle?",
        (
            "Den første bestillingen din har vært hos deg noen dager nå. Hvis noe mangler, er ødelagt eller ikke ble som "
            "du tenkte, svar på denne e-posten, så ordner vi det.",
            "Er alt bra, trenger du ikke gjøre noe. Kos deg.",
        ),
        "",
    ),
    "cross-sell": (
        "Det som passer til bestillingen din",
        "kanskje noe som passer til?",
        (
            "Det har gått noen uker siden den første bestillingen din. Mange som begynte som du, fant én ting til som "
            "gjorde den første enda bedre.",
            "Ta gjerne en titt, og vil du ha et forslag, kan du svare og fortelle hva du ser etter.",
        ),
        "Se hva som passer",
    ),
    "replenish": (
        "På tide med mer?",
        "det kan være på tide igjen",
        (
            "Etter din egen rytme er det snart tid for neste bestilling. Begynner det å bli lite igjen, er dette den korte "
            "veien tilbake.",
            "Har du nok, kan du spare denne e-posten til senere.",
        ),
        "Bestill igjen",
    ),
    "at-risk": (
        "Er alt som det skal?",
        "vi har ikke sett deg på en stund",
        (
            "Du pleier å være innom oftere, så vi ville spørre: er alt som det skal?",
            "Hvis noe ikke ble bra, svar på denne e-posten. Et menneske leser den og kan gjøre noe med det.",
        ),
        "Se hva som er nytt",
    ),
    "birthday": (
        "Gratulerer med dagen",
        "gratulerer med dagen",
        (
            "Alt godt fra oss alle, i dag og i året som kommer.",
            "En liten gave venter på kontoen din: noen poeng du kan bruke når du vil.",
        ),
        "Ta en titt hos oss",
    ),
    "rescue": (
        "Takk for at du sa fra",
        "takk for det ærlige svaret ditt",
        (
            "Du fortalte at noe ikke var godt nok. Vi har tatt tak i det, og vi håper at det er ordnet nå.",
            "Hvis det ikke er det, svar på denne e-posten: den kommer til et menneske, og vi fortsetter til det er ordnet.",
        ),
        "",
    ),
    "vip": (
        "En personlig takk",
        "du er en av våre beste kunder",
        (
            "Du har nådd vårt høyeste nivå{% if customer.tier != '' %} ({{ customer.tier }}){% endif %}. Bare noen få kommer "
            "dit, og vi vil si takk.",
            "Det ligger poeng til deg på kontoen din. Er det noe vi burde gjøre bedre, vil vi helst høre det fra deg: "
            "bare svar.",
        ),
        "Se hva som er nytt",
    ),
    "review": (
        "Vil du fortelle det til andre?",
        "takk for det hyggelige svaret ditt",
        (
            "Du fortalte at du er fornøyd med oss, og det gledet oss stort.",
            "Vil du fortelle det til andre også? Noen ord i en anmeldelse hjelper dem som ikke kjenner oss, mer enn noe vi "
            "selv kan si.",
        ),
        "Skriv en anmeldelse",
    ),
    "referral": (
        "Kjenner du noen som deg?",
        "kjenner du noen som ville like oss?",
        (
            "De som har fått et tips av en venn, pleier å trives her, og nå kjenner du oss godt.",
            "Kommer du på noen, kan du sende denne e-posten videre. Og takk for at du er med oss.",
        ),
        "Vis en venn",
    ),
    "winback": (
        "Vi har satt poeng på kontoen din",
        "vi vil gjerne se deg igjen",
        (
            "Det er en stund siden sist. For at det skal være lettere å komme tilbake, har vi satt poeng på kontoen din.",
            "{% if points > 1 %}Du har nå {{ points }} poeng, og de er dine å bruke.{% endif %}",
            "Hvis noe holdt deg borte, svar og fortell oss det. Et menneske leser det.",
        ),
        "Bruk poengene dine",
    ),
    "sunset": (
        "Skal vi fortsette å skrive til deg?",
        "skal vi fortsette?",
        (
            "Du har ikke vært innom på lenge, og vi vil ikke fylle innboksen din.",
            "Vil du bli, så se hva som er nytt. Vil du heller slippe å høre fra oss, holder det med ett trykk på lenken "
            "nederst i denne e-posten.",
        ),
        "Jeg vil bli",
    ),
}
