"""The playbooks' texts in Swedish: subject, heading (after the first name), paragraphs, words of the button."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "welcome": (
        "Välkommen till {{ shop.name }}",
        "roligt att du är här",
        (
            "Du har anmält dig hos oss, och vi ska inte fylla din inkorg: du hör av oss när det finns något som är värt "
            "din tid.",
            "Titta på vad andra tycker mest om, och svara på det här mejlet om du undrar något. En människa läser det.",
        ),
        "Se vad som finns",
    ),
    "first-order": (
        "Är det något du undrar?",
        "kan vi hjälpa till?",
        (
            "En första beställning hos en butik man inte känner kräver lite förtroende. Undrar du över leverans, retur "
            "eller rätt val, så svara bara på det här mejlet.",
            "Och om det inte passar nu är det också helt i sin ordning.",
        ),
        "Titta en gång till",
    ),
    "care": (
        "Är allt bra med din beställning?",
        "kom allt fram som det skulle?",
        (
            "Din första beställning har varit hos dig några dagar nu. Om något saknas, är trasigt eller inte blev som du "
            "tänkt dig, svara på det här mejlet så rättar vi till det.",
            "Är allt bra behöver du inte göra något. Ha det så trevligt.",
        ),
        "",
    ),
    "cross-sell": (
        "Det som passar till din beställning",
        "kanske något som passar till?",
        (
            "Det har gått några veckor sedan din första beställning. Många som började som du hittade en sak till som "
            "gjorde den första ännu bättre.",
            "Titta gärna, och vill du ha ett förslag kan du svara och berätta vad du söker.",
        ),
        "Se vad som passar",
    ),
    "replenish": (
        "Dags för mer?",
        "det kan vara dags igen",
        (
            "Enligt din egen rytm är det snart dags för nästa beställning. Börjar det ta slut är det här den korta vägen "
            "tillbaka.",
            "Har du så det räcker kan du spara det här mejlet till senare.",
        ),
        "Beställ igen",
    ),
    "at-risk": (
        "Är allt som det ska?",
        "vi har inte sett dig på ett tag",
        (
            "Du brukar titta in oftare, så vi ville fråga: är allt som det ska?",
            "Om något inte blev bra, svara på det här mejlet. En människa läser det och kan göra något åt det.",
        ),
        "Se vad som är nytt",
    ),
    "birthday": (
        "Grattis på födelsedagen",
        "grattis på födelsedagen",
        (
            "Allt gott från oss alla, idag och under året som kommer.",
            "En liten present väntar på ditt konto: några poäng att använda när du vill.",
        ),
        "Titta in hos oss",
    ),
    "rescue": (
        "Tack för att du berättade",
        "tack för ditt ärliga svar",
        (
            "Du berättade att något inte var bra nog. Vi har tagit tag i det, och vi hoppas att det är ordnat nu.",
            "Om det inte är det, svara på det här mejlet: det kommer till en människa, och vi fortsätter tills det är "
            "ordnat.",
        ),
        "",
    ),
    "vip": (
        "Ett personligt tack",
        "du är en av våra bästa kunder",
        (
            "Du har nått vår högsta nivå{% if customer.tier != '' %} ({{ customer.tier }}){% endif %}. Bara några få "
            "kommer dit, och vi vill säga tack.",
            "Det finns poäng till dig på ditt konto. Om det är något vi borde göra bättre vill vi helst höra det av dig: "
            "svara bara.",
        ),
        "Se vad som är nytt",
    ),
    "review": (
        "Vill du berätta för andra?",
        "tack för ditt vänliga svar",
        (
            "Du berättade att du är nöjd med oss, och det gjorde vår dag.",
            "Vill du berätta för andra också? Några ord i ett omdöme hjälper den som inte känner oss mer än något vi själva "
            "kan säga.",
        ),
        "Skriv ett omdöme",
    ),
    "referral": (
        "Känner du någon som du?",
        "känner du någon som skulle gilla oss?",
        (
            "De som fått ett tips av en vän brukar trivas här, och vid det här laget känner du oss väl.",
            "Kommer du att tänka på någon kan du skicka det här mejlet vidare. Och tack för att du är med oss.",
        ),
        "Visa en vän",
    ),
    "winback": (
        "Vi har lagt poäng på ditt konto",
        "vi vill gärna se dig igen",
        (
            "Det var ett tag sedan. För att det ska vara lättare att komma tillbaka har vi lagt poäng på ditt konto.",
            "{% if points > 1 %}Du har nu {{ points }} poäng, och de är dina att använda.{% endif %}",
            "Om något höll dig borta, svara och berätta. En människa läser det.",
        ),
        "Använd dina poäng",
    ),
    "sunset": (
        "Ska vi fortsätta skriva till dig?",
        "ska vi fortsätta?",
        (
            "Du har inte varit inne på länge, och vi vill inte fylla din inkorg.",
            "Vill du vara kvar, titta på vad som är nytt. Vill du hellre slippa höra från oss räcker ett tryck på länken "
            "längst ner i det här mejlet.",
        ),
        "Jag vill vara kvar",
    ),
}
