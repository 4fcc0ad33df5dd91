"""The texts and the win-back campaign that every installation starts with. Edited later as data, never here."""

from django.db import migrations

HELLO = "{% if customer.given_name != '' %}{{ customer.given_name }}, {% endif %}"


def _blocks(heading, *paragraphs, button=None):
    blocks = [{"type": "heading", "text": heading}]
    blocks += [{"type": "text", "text": text} for text in paragraphs]
    if button:
        blocks.append({"type": "button", "text": button, "url": "{{ shop.url }}"})
    return blocks


def _points(one, many):
    """A sentence for those who have points, with the right form for one of them."""
    return (
        "{% if points == 1 %}" + one + "{% elsif points > 1 %}" + many + "{% endif %}"
    )


WIN_BACK = {
    "en": (
        "We have missed you",
        _blocks(
            HELLO + "it has been a while",
            "We noticed that you have not been by lately, and we would love to see you again. A few things have "
            "changed since your last visit, and some of them may be just right for you.",
            _points(
                "Your {{ points }} point is still waiting for you.", "Your {{ points }} points are still waiting for you."
            ),
            "If something was not as it should be, just reply to this message. A person reads it.",
            button="Have a look around",
        ),
    ),
    "sv": (
        "Vi har saknat dig",
        _blocks(
            HELLO + "det var ett tag sedan",
            "Vi har märkt att du inte varit inne på sistone, och vi vill gärna se dig igen. En del är nytt sedan ditt "
            "senaste besök, och något av det kanske passar just dig.",
            _points("Din {{ points }} poäng väntar fortfarande på dig.", "Dina {{ points }} poäng väntar fortfarande på dig."),
            "Om något inte var som det skulle kan du bara svara på det här mejlet. En människa läser det.",
            button="Titta in hos oss",
        ),
    ),
    "nb": (
        "Vi har savnet deg",
        _blocks(
            HELLO + "det er en stund siden sist",
            "Vi har lagt merke til at du ikke har vært innom i det siste, og vi vil gjerne se deg igjen. Noe er nytt siden "
            "sist du var her, og kanskje er noe av det akkurat det rette for deg.",
            _points("Poenget ditt venter fortsatt på deg.", "De {{ points }} poengene dine venter fortsatt på deg."),
            "Hvis noe ikke var som det skulle, kan du bare svare på denne e-posten. Et menneske leser den.",
            button="Ta en titt hos oss",
        ),
    ),
    "pl": (
        "Brakuje nam Ciebie",
        _blocks(
            HELLO + "dawno się nie widzieliśmy",
            "Od pewnego czasu do nas nie zaglądasz, a my chętnie zobaczymy Cię znowu. Od Twojej ostatniej wizyty pojawiło "
            "się u nas kilka nowości i być może któraś z nich jest właśnie dla Ciebie.",
            _points("Twój punkt wciąż na Ciebie czeka.", "Twoje punkty wciąż na Ciebie czekają. Stan konta: {{ points }}."),
            "Jeśli coś było nie tak, po prostu odpowiedz na tę wiadomość. Przeczyta ją człowiek.",
            button="Zajrzyj do nas",
        ),
    ),
    "cs": (
        "Chybíte nám",
        _blocks(
            HELLO + "už jsme se dlouho neviděli",
            "Všimli jsme si, že jste se u nás dlouho nezastavili, a rádi vás zase uvidíme. Od vaší poslední návštěvy u nás "
            "přibylo pár novinek a některá z nich možná bude přesně pro vás.",
            _points("Váš bod na vás stále čeká.", "Vaše body na vás stále čekají. Stav konta: {{ points }}."),
            "Pokud něco nebylo v pořádku, stačí na tuto zprávu odpovědět. Přečte si ji člověk.",
            button="Podívat se k nám",
        ),
    ),
}

THANKS = {
    "en": (
        "Thank you for being with us",
        _blocks(
            HELLO + "thank you",
            "You have come back to us again and again, and that means a lot. This is no offer, only a thank you.",
            "If there is anything we should do better, reply and tell us. We read every answer.",
        ),
    ),
    "sv": (
        "Tack för att du är med oss",
        _blocks(
            HELLO + "tack",
            "Du har kommit tillbaka till oss gång på gång, och det betyder mycket. Det här är inget erbjudande, bara ett tack.",
            "Om det är något vi borde göra bättre, svara och berätta. Vi läser alla svar.",
        ),
    ),
    "nb": (
        "Takk for at du er med oss",
        _blocks(
            HELLO + "takk",
            "Du har kommet tilbake til oss gang på gang, og det betyr mye. Dette er ikke et tilbud, bare en takk.",
            "Hvis det er noe vi burde gjøre bedre, svar og fortell oss det. Vi leser alle svar.",
        ),
    ),
    "pl": (
        "Dziękujemy, że jesteś z nami",
        _blocks(
            HELLO + "dziękujemy",
            "Wracasz do nas raz za razem i wiele to dla nas znaczy. To nie jest oferta, tylko podziękowanie.",
            "Jeśli coś powinniśmy robić lepiej, odpowiedz na tę wiadomość. Czytamy każdą odpowiedź.",
        ),
    ),
    "cs": (
        "Děkujeme, že jste s námi",
        _blocks(
            HELLO + "děkujeme",
            "Vracíte se k nám znovu a znovu a moc to pro nás znamená. Toto není nabídka, jen poděkování.",
            "Pokud bychom měli něco dělat lépe, odpovězte a řekněte nám to. Čteme každou odpověď.",
        ),
    ),
}

TEMPLATES = (("win-back", "Win-back: we have missed you", WIN_BACK), ("thank-you", "A thank you", THANKS))


def install(apps, schema_editor):
    Template = apps.get_model("campaigns", "Template")
    TemplateVariant = apps.get_model("campaigns", "TemplateVariant")
    Campaign = apps.get_model("campaigns", "Campaign")
    for key, name, texts in TEMPLATES:
        template = Template.objects.create(key=key, name=name, purpose="marketing")
        TemplateVariant.objects.bulk_create(
            TemplateVariant(template=template, language=language, version=1, subject=subject, blocks=blocks)
            for language, (subject, blocks) in texts.items()
        )
    Campaign.objects.create(
        key="win-back",
        name="Win-back",
        kind="reactivation",
        purpose="marketing",
        channel="email",
        template=Template.objects.get(key="win-back"),
        holdout_percent=10,
        state="active",
    )


def remove(apps, schema_editor):
    """Only what nobody has used: a campaign with runs is the shop's history and makes this refuse."""
    apps.get_model("campaigns", "Campaign").objects.filter(key="win-back").delete()
    for key, _name, _texts in TEMPLATES:
        apps.get_model("campaigns", "TemplateVariant").objects.filter(template__key=key).delete()
        apps.get_model("campaigns", "Template").objects.filter(key=key).delete()


class Migration(migrations.Migration):
    dependencies = [("campaigns", "0001_initial")]

    operations = [migrations.RunPython(install, remove)]
