"""The playbooks' texts in English: subject, heading (after the first name), paragraphs, words of the button."""

from __future__ import annotations

WORDS: dict[str, tuple[str, str, tuple[str, ...], str]] = {
    "welcome": (
        "Welcome to {{ shop.name }}",
        "good to have you here",
        (
            "You have signed up with us, and we will not fill your inbox: you hear from us when there is something worth "
            "your time.",
            "Have a look at what others like most, and reply to this message if you have a question. A person reads it.",
        ),
        "See what is there",
    ),
    "first-order": (
        "Is anything unclear?",
        "can we help?",
        (
            "A first order with a shop one does not know takes a little trust. If you wonder about delivery, returns or "
            "the right choice, just reply to this message and we will answer.",
            "And if now is not the time, that is fine, too.",
        ),
        "Have another look",
    ),
    "care": (
        "Is everything well with your order?",
        "did everything arrive as it should?",
        (
            "Your first order has been with you for some days now. If anything is missing, broken or not what you expected, "
            "reply to this message, and we will put it right.",
            "If all is well, there is nothing to do. Enjoy it.",
        ),
        "",
    ),
    "cross-sell": (
        "What goes well with your order",
        "how about something to go with it?",
        (
            "It has been a few weeks since your first order. People who began like you often found one more thing that made "
            "the first one better.",
            "Have a look, and if you would like a suggestion, reply and tell us what you are after.",
        ),
        "See what fits",
    ),
    "replenish": (
        "Time for more?",
        "it may be time again",
        (
            "By your own rhythm your next order is about due. If you are running low, here is the short way back.",
            "If you still have enough, keep this message for later.",
        ),
        "Order again",
    ),
    "at-risk": (
        "Is everything all right?",
        "we have not seen you for a while",
        (
            "You usually come by more often, so we wanted to ask: is everything all right?",
            "If something was not as it should be, reply to this message. A person reads it and can do something about it.",
        ),
        "See what is new",
    ),
    "birthday": (
        "Happy birthday",
        "happy birthday",
        (
            "All the best from all of us, today and for the year to come.",
            "A small present waits on your account: a few points, yours to use whenever you like.",
        ),
        "Have a look around",
    ),
    "rescue": (
        "Thank you for telling us",
        "thank you for your honest answer",
        (
            "You told us that something was not good enough. We have looked into it, and we hope that it is put right now.",
            "If it is not, reply to this message: it comes to a person, and we will go on until it is.",
        ),
        "",
    ),
    "vip": (
        "A personal thank you",
        "you are one of our best customers",
        (
            "You have reached our highest tier{% if customer.tier != '' %} ({{ customer.tier }}){% endif %}. Only a few get "
            "there, and we want to say thank you.",
            "There are points for you on your account. If there is anything we should do better, you are whom we want "
            "to hear it from: just reply.",
        ),
        "See what is new",
    ),
    "review": (
        "Would you tell others?",
        "thank you for your kind answer",
        (
            "You told us that you are happy with us, and that made our day.",
            "Would you tell others, too? A few words in a review help people who do not know us yet more than anything "
            "we could say.",
        ),
        "Write a review",
    ),
    "referral": (
        "Do you know somebody like you?",
        "do you know somebody who would like us?",
        (
            "People who were recommended by a friend tend to be happy here, and you know us well by now.",
            "If somebody comes to mind, pass this message on. And thank you for being with us.",
        ),
        "Show a friend",
    ),
    "winback": (
        "We put points on your account",
        "we would like to see you again",
        (
            "It has been a while. So that coming back is easier, we have put points on your account.",
            "{% if points > 1 %}You have {{ points }} points now, and they are yours to use.{% endif %}",
            "If something kept you away, reply and tell us. A person reads it.",
        ),
        "Use your points",
    ),
    "sunset": (
        "Shall we go on writing to you?",
        "shall we go on?",
        (
            "You have not been by for a long time, and we do not want to fill your inbox.",
            "If you would like to stay, have a look at what is new. If you would rather not hear from us, the link at the "
            "foot of this message ends it with one press.",
        ),
        "I would like to stay",
    ),
}
