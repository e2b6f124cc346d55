"""Support tickets of a shop, made by a grammar: long ones to learn from, and short ones of the same classes.

A long ticket is a problem, around it a greeting, details, a request and a closing; a short one is a few words. A
`{slot}` stands for any of its phrases, which may have slots of their own. `COMMON` and `THINGS` are of every class;
what stands under one class decides it.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence

Phrases = Mapping[str, Sequence[str]]

COUNTS = {"train": 80, "dev": 15, "short": 10}  # a class
WORDS = range(8, 113)  # of a long ticket: of 10 to 138 tokens

COMMON: Phrases = {
    "greeting": (
        "Hello,",
        "Hi there,",
        "Dear support team,",
        "Good morning,",
        "Good afternoon,",
        "Hi,",
        "To whom it may concern,",
        "Hello {name},",
    ),
    "closing": (
        "Thanks, {name}",
        "Many thanks in advance, {name}",
        "Kind regards, {name}",
        "Best wishes, {name}",
        "Thank you for your help.",
        "I look forward to hearing from you. {name}",
        "Please get back to me by {weekday}.",
        "Cheers, {name}",
    ),
    "context": (
        "I have been a customer since {year}.",
        "I already wrote to you on {weekday} and have had no answer.",
        "I could not find anything about this on your help pages.",
        "This is the {second} time that it happens.",
        "Everything had worked well until {weekday}.",
        "My colleague {name} has the very same trouble.",
        "I can send you a screenshot if that helps.",
        "You can reach me by phone in the {daytime}.",
        "I waited on your hotline for {number} minutes before I gave up.",
        "Your chat assistant could not help me, and asked me to write here.",
        "I am sorry to bother you with this, but it is urgent for me.",
        "So far I have always been happy with your shop.",
    ),
    "name": (
        *("Anna", "Ben", "Carla", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kim", "Leila", "Marco"),
        *("Nora", "Omar", "Paula", "Quentin", "Rosa", "Samir", "Tessa", "Umberto", "Vera", "Wei", "Yusuf", "Zoe"),
    ),
    "weekday": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "month": ("January", "February", "March", "April", "June", "July", "August", "September", "October", "November"),
    "year": ("2016", "2017", "2018", "2019", "2020", "2021", "2022"),
    "daytime": ("morning", "afternoon", "evening"),
    "second": ("second", "third", "fourth"),
    "number": ("ten", "fifteen", "twenty", "thirty", "forty"),
    "few": ("two", "three", "four", "five", "six"),
    "days": ("{few} days", "{few} weeks", "ten days", "almost a month", "more than a week"),
    "product": (
        *("desk lamp", "coffee grinder", "winter jacket", "bookshelf", "rice cooker", "pair of hiking boots"),
        *("chair", "tent", "toaster", "yoga mat", "set of knives", "rain coat", "kettle", "backpack"),
    ),
    "amount": ("19.90", "24.50", "39.00", "48.75", "62.30", "89.99", "115.00", "149.95", "230.40"),
    "currency": ("euros", "dollars", "pounds"),
    "other": ("garden hose", "mirror", "blanket", "vase", "game of chess", "bicycle pump"),
    "order": ("{digit}{digit}{digit}{digit}", "A{digit}{digit}{digit}", "{digit}{digit}{digit}-{digit}{digit}"),
    "digit": tuple("123456789"),
    "city": ("Leeds", "Porto", "Dublin", "Munich", "Boston", "Lyon", "Toronto", "Oslo", "Seattle", "Vienna"),
}

LONG: Mapping[str, Phrases] = {
    "billing": {
        "problem": (
            "my bank statement shows two payments of {amount} {currency} for a single {product}.",
            "the invoice for order {order} lists {amount} {currency}, but the price on your site was lower.",
            "I was promised a refund for the {product} in {month}, and the money has still not come back.",
            "you took {amount} {currency} from my {payment} although I had cancelled the subscription in {month}.",
            "the discount code that you sent me was accepted, but it is missing from the invoice.",
            "I need a corrected invoice for order {order} that shows our company's tax number.",
            "the monthly fee went up from one bill to the next, and nobody told me why.",
            "there is a charge of {amount} {currency} from your shop that I do not recognise.",
        ),
        "detail": (
            "The amount was booked on {weekday}, and once more on the day after.",
            "My bank says that the payment went through on your side.",
            "On the invoice the tax is added twice.",
            "The total should be {amount} {currency}, and not a cent more.",
            "I paid with my {payment}, as I always do.",
            "The refund was confirmed by e-mail on {weekday}.",
            "Our accountants cannot close the books for {month} without a proper receipt.",
            "I do not want to be charged again next month.",
            "The credit note that you mentioned was never issued.",
            "I had expected the promotional price of {amount} {currency}.",
        ),
        "request": (
            "Please pay the difference back to my {payment}.",
            "Could you send me a corrected invoice?",
            "Can you explain what I am paying for?",
            "I would like the full amount to be refunded.",
            "Please cancel the payment before it is collected.",
            "Would you check the bill and tell me which sum is right?",
        ),
        "payment": ("credit card", "bank account", "debit card", "business card account"),
    },
    "delivery": {
        "problem": (
            "the {product} from order {order} should have been here {days} ago, and it still has not come.",
            "the {carrier} left my package with a neighbour whom I do not know.",
            "tracking for order {order} has said 'in transit' for {days}.",
            "the box with the {product} came torn open, and half of what I had ordered was not inside.",
            "I ordered a {product}, and what the {carrier} brought today is a {other}.",
            "my package was sent to an old address in {city}, although I had given the new one.",
            "the {carrier} claims that nobody was at home on {weekday}, but I was in all day.",
            "my order was split into {few} boxes, and only one of them has reached me.",
        ),
        "detail": (
            "The tracking page was last updated on {weekday}.",
            "The depot in {city} told me that they do not have it.",
            "Your e-mail promised that it would arrive by {weekday}.",
            "The {carrier} did not even leave a note at the door.",
            "The lid was crushed, and the tape had been cut.",
            "It was meant as a birthday present, so the date matters.",
            "I would be at home on {weekday} in the {daytime} to receive it.",
            "The label on the box shows another customer's street.",
            "I had paid for express shipping.",
            "The pick-up point closes at noon, so I cannot collect it there.",
        ),
        "request": (
            "Could you find out from the {carrier} what became of it?",
            "Please ship the {product} again.",
            "Can you change the destination to my office in {city}?",
            "When can I expect it to be brought to my door?",
            "Please arrange for the wrong item to be collected.",
            "Would you open an inquiry with the {carrier}?",
        ),
        "carrier": ("courier", "driver", "postman", "carrier", "delivery service"),
    },
    "technical": {
        "problem": (
            "your {app} closes by itself as soon as I open the list of my orders.",
            "since the update on {weekday} the {app} shows nothing but a blank screen.",
            "when I press the search button on the {app}, it says 'error {digit}{digit}{digit}' and stops.",
            "the pictures of all products are missing when I look at the {app} on my {device}.",
            "the {app} takes {number} seconds to load a page, and then it freezes.",
            "the filter for sizes has no effect in the {app}: it always lists everything.",
            "after I installed the new version, the {app} drains the battery of my {device} within hours.",
            "the form for product ratings on the {app} loses my text whenever I click on preview.",
        ),
        "detail": (
            "I use a {device} with the latest version of the system.",
            "I cleared the cache and restarted, without any change.",
            "With another browser the same message appears.",
            "On my {device} at work it behaves just the same.",
            "I removed the {app} and installed it anew.",
            "The spinning wheel never goes away.",
            "The log says 'connection reset' {few} times in a row.",
            "It only happens in the {daytime}, never later.",
            "The older version did not have this bug.",
            "Other apps on my {device} run without trouble.",
        ),
        "request": (
            "Is there a fix, or a version that I can go back to?",
            "Please let your developers know about this bug.",
            "Which settings should I change to make it work?",
            "When will the next update of the {app} come out?",
            "Can you tell me what this error means?",
            "Do you support my {device} at all?",
        ),
        "app": ("app", "website", "mobile app", "web shop", "desktop program"),
        "device": ("phone", "tablet", "laptop", "old computer", "new phone"),
    },
    "account": {
        "problem": (
            "I cannot sign in any more: your site says that my password is wrong, though it is not.",
            "the link to choose a new password never reaches my inbox.",
            "I would like to use another e-mail address for my profile, as I no longer work for the company in {city}.",
            "please erase my profile and all the personal data that you hold about me.",
            "my profile was locked after {few} wrong passwords, and I see no way to unlock it.",
            "I registered twice by mistake and would like both profiles to become one.",
            "I no longer have the phone to which your login codes are sent.",
            "someone from {city} seems to have logged in with my name on {weekday}.",
        ),
        "detail": (
            "The security question is one that I do not remember setting.",
            "My user name is {name}{digit}{digit}.",
            "The confirmation code expires before I can type it in.",
            "I looked in the spam folder, and there is no verification mail.",
            "My last name has changed since I got married in {month}.",
            "Two-step login is switched on, but I have lost the backup codes.",
            "I share the profile with {name}, who has forgotten the password too.",
            "I was logged out on all devices on {weekday}.",
            "The page for personal data does not let me edit my date of birth.",
            "I want to be sure that nobody else can log in with my name.",
        ),
        "request": (
            "Can you unlock my profile?",
            "Please send me a new password link.",
            "Could you replace my old e-mail address with this one?",
            "Please confirm once all of my data is deleted.",
            "How can I prove that this profile is mine?",
            "Would you switch off two-step login for me?",
        ),
    },
}

SHORT: Mapping[str, Phrases] = {
    "billing": {
        "ticket": (
            "{payment} was charged twice",
            "refund for {thing} not received",
            "why was I billed {money}",
            "need {document} for my {thing}",
            "wrong amount on the {document}",
            "overcharged by {sum}",
            "want my money back for the {thing}",
            "stop charging my {payment}",
        ),
        "payment": ("card", "visa card", "paypal", "bank account"),
        "money": ("20 euros", "too much", "9 dollars", "twice this month"),
        "sum": ("5 pounds", "12 euros", "30 dollars"),
        "document": ("invoice", "receipt", "bill"),
    },
    "delivery": {
        "ticket": (
            "{package} never arrived",
            "where is my {thing}",
            "{package} is {state}",
            "wrong {thing} delivered",
            "how long does shipping take",
            "tracking number does not work",
            "courier lost my {thing}",
            "{package} went to the wrong house",
        ),
        "package": ("parcel", "my parcel", "shipment", "delivery"),
        "state": ("late again", "damaged", "still missing", "stuck at customs"),
    },
    "technical": {
        "ticket": (
            "{app} keeps crashing",
            "{app} will not load on {device}",
            "{page} page is blank",
            "error when I open {app}",
            "{app} is very slow today",
            "search button does nothing",
            "photos do not show on {device}",
            "{app} stuck after update",
        ),
        "app": ("the app", "your site", "the web page", "android app"),
        "device": ("my iphone", "my tablet", "windows", "chrome"),
        "page": ("product", "search", "help", "start"),
    },
    "account": {
        "ticket": (
            "forgot my {secret}",
            "can not log in {when}",
            "{verb} my account please",
            "how do I change my {fact}",
            "account is locked {when}",
            "{secret} reset link does not come",
            "login code not sent",
            "was my account hacked",
        ),
        "secret": ("password", "username", "login password"),
        "fact": ("email", "name", "login email", "phone number"),
        "verb": ("delete", "close", "unlock", "reactivate"),
        "when": ("anymore", "since today", "again"),
    },
}
THINGS: Phrases = {"thing": ("order", "lamp", "scarf", "jacket", "headset", "book", "toaster", "gift card")}

KEPT = ("product", "currency", "payment", "carrier", "app", "device")  # one ticket speaks of one of each
ONCE = ("detail", "context")  # and says none of these twice

# how a ticket is put together: the slots in their order; a detail or context is drawn anew each time
PLANS = (
    "{problem}",
    "{greeting} {problem}",
    "{problem} {detail}",
    "{greeting} {problem} {request}",
    "{problem} {detail} {request} {closing}",
    "{greeting} {problem} {detail} {request} {closing}",
    "{greeting} {problem} {context} {detail} {request} {closing}",
    "{greeting} {problem} {detail} {context} {detail} {request} {closing}",
    "{greeting} {context} {problem} {detail} {detail} {context} {request} {closing}",
    "{greeting} {context} {problem} {detail} {detail} {context} {detail} {context} {detail} {request} {closing}",
)


def expand(text: str, phrases: Phrases, chance: random.Random) -> str:
    """A text with each slot replaced by one of its phrases; no sentence is said twice."""
    left = {slot: list(options) for slot, options in phrases.items()}
    while found := re.search(r"\{(\w+)\}", text):
        slot = found[1]
        phrase = chance.choice(left[slot])
        if slot in KEPT:
            left[slot] = [phrase]
        elif slot in ONCE:
            left[slot].remove(phrase)
        text = text[: found.start()] + phrase + text[found.end() :]
    return text


def sentences(text: str) -> str:
    """The text with a capital letter at the start of each sentence."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)


def distinct(plans: Sequence[str], phrases: Phrases, chance: random.Random) -> Iterator[str]:
    """Tickets without end, no two alike; the plans take turns."""
    seen: set[str] = set()
    while True:
        for plan in plans:
            text = sentences(expand(plan, phrases, chance))
            if text not in seen:
                seen.add(text)
                yield text


def make(seed: int = 0) -> dict[str, list[tuple[str, str]]]:
    """(text, class) of each set: train, dev and short. In random order; the same seed makes the same tickets."""
    chance = random.Random(seed)
    made: dict[str, list[tuple[str, str]]] = {name: [] for name in COUNTS}
    for label, long in LONG.items():
        tickets = (text for text in distinct(PLANS, {**COMMON, **long}, chance) if len(text.split()) in WORDS)
        short = distinct(SHORT[label]["ticket"], {**THINGS, **SHORT[label]}, chance)
        for name, count in COUNTS.items():
            source = short if name == "short" else tickets
            made[name] += [(next(source).lower() if name == "short" else next(source), label) for _ in range(count)]
    for rows in made.values():
        chance.shuffle(rows)
    return made
