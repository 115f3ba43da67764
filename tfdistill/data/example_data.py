"""Make an example of one's own data: short requests to a phone, each with its intent.

All texts are put together from the sentences below, which were written for this project. One in eight can be meant in two ways and
has one of the two intents, and some have typing errors, so that no model is right about all of them, as with real data.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

ROWS = 1000
_SHARE_OF_DOUBTFUL, _SHARE_OF_ERRORS = 1 / 8, 0.1

_SENTENCES = {
    "alarm": (
        "wake me up at {time}", "set an alarm for {time}", "I need to get up at {time}", "alarm at {time} {day}",
        "get me out of bed by {time} {day}", "ring at {time} so that I do not oversleep",
        "I have to be awake at {time} {day}", "change my alarm to {time}", "no alarm {day}", "is my alarm on for {day}",
    ),
    "timer": (
        "set a timer for {minutes} minutes", "count down {minutes} minutes", "{minutes} minutes for the {food}",
        "timer, {minutes} minutes", "how long until the {food} is done", "stop the countdown",
        "give me {minutes} more minutes for the {food}", "start a countdown for the {food}", "pause the timer",
        "ring when the {food} has had {minutes} minutes",
    ),
    "reminder": (
        "remind me to {task} {day}", "do not let me forget to {task}", "I must not forget to {task} at {time}",
        "put {task} on my list", "add a note to {task} {day}", "remind me at {time} that I have to {task}",
        "remind me to call {person} {day}", "remind me to write to {person} at {time}", "what did I want to do {day}",
        "make a note: {task}",
    ),
    "weather": (
        "will it rain {day}", "do I need an umbrella {day}", "how warm does it get {day}", "what is the weather in {city}",
        "is it going to be sunny in {city} {day}", "how cold is it in {city}", "can I go out without a jacket {day}",
        "should I water the garden {day} or will it rain", "is there snow in {city}", "forecast for {city} {day}",
    ),
    "message": (
        "text {person} that I am late", "write to {person}: I am at {place}", "send {person} a message",
        "answer {person} that {time} is fine", "tell {person} I will be at {place} at {time}",
        "let {person} know that I have to {task}", "ask {person} to {task}", "message {person} about {day}",
        "reply that I am still at {place}", "read me what {person} wrote",
    ),
    "call": (
        "call {person}", "ring {person} at work", "get {person} on the phone", "I want to talk to {person}",
        "dial the number of {person}", "put me through to {person}", "phone {person} back", "call the {place}",
        "redial", "who called me {day}",
    ),
    "music": (
        "play some {genre}", "put on {genre}", "I want to hear {genre}", "something by {band}", "play the new album of {band}",
        "next song", "turn up the {genre}", "what song is this", "shuffle my {genre} songs", "play the radio in the {room}",
    ),
    "lights": (
        "turn on the light in the {room}", "lights off in the {room}", "make it brighter in the {room}",
        "dim the {room}", "it is too dark in the {room}", "switch everything off in the {room}",
        "light in the {room} at {time}", "make the {room} cosy", "did I leave the light on in the {room}",
        "turn the {room} lamp to {minutes} percent",
    ),
}  # fmt: skip

_DOUBTFUL: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("alarm", "timer", ("wake me in {minutes} minutes", "ring in {minutes} minutes", "I want to nap for {minutes} minutes")),
    ("timer", "reminder", ("tell me when {minutes} minutes are over", "let me know in {minutes} minutes")),
    ("alarm", "reminder", ("ring at {time}, I have to {task}", "{day} at {time}, {task}")),
    ("message", "call", ("get in touch with {person} {day}", "contact {person} about {day}", "I need {person} {day}")),
    ("call", "reminder", ("I have to call {person} {day}", "I should ring {person} at {time}")),
    ("music", "lights", ("turn it off in the {room}", "too much in the {room}, turn it down", "{room} on")),
    ("weather", "reminder", ("umbrella {day}", "jacket for {city} {day}")),
)  # fmt: skip

_WORDS = {
    "time": ("six", "half past six", "seven", "7:15", "a quarter to eight", "eight", "nine", "noon", "5 pm", "ten past four"),
    "day": ("today", "tomorrow", "tonight", "on Monday", "on Friday", "this weekend", "next week", "in the morning"),
    "minutes": ("two", "3", "five", "8", "ten", "12", "fifteen", "20", "thirty", "forty-five"),
    "food": ("pasta", "tea", "eggs", "pizza", "rice", "cake", "potatoes", "bread"),
    "task": ("water the plants", "pay the rent", "take my pills", "buy milk", "feed the cat", "book a table", "pick up the parcel",
             "do the laundry", "charge the car", "print the tickets"),
    "person": ("mum", "dad", "Anna", "my boss", "Tim", "the dentist", "Laura", "my sister", "Ben", "grandma"),
    "place": ("office", "station", "gym", "bakery", "airport", "hotel", "library"),
    "city": ("Berlin", "Oslo", "Madrid", "Boston", "Lima", "Kyoto", "Cairo", "Perth"),
    "genre": ("jazz", "rock", "something quiet", "piano", "old hits", "soul", "techno", "folk"),
    "band": ("the Paper Kites of Mars", "Anna and the Owls", "Night Tram", "the Seven Spoons", "Low Tide Choir"),
    "room": ("kitchen", "bedroom", "hall", "bathroom", "living room", "garage", "attic"),
}  # fmt: skip
_BEFORE = ("", "", "", "", "please ", "hey, ", "can you ", "could you please ", "ok, ", "I said: ")
_AFTER = ("", "", "", "", " please", " now", " thanks", ", ok?")


def example_rows(rows: int = ROWS, seed: int = 1) -> Iterator[tuple[str, str]]:
    """Yield different texts with their intents; the same arguments give the same rows on every machine."""
    chance, intents = random.Random(seed), list(_SENTENCES)
    seen: set[str] = set()
    while len(seen) < rows:
        if chance.random() < _SHARE_OF_DOUBTFUL:
            first, second, sentences = chance.choice(_DOUBTFUL)
            intent = chance.choice((first, second))
        else:
            intent = intents[len(seen) % len(intents)]
            sentences = _SENTENCES[intent]
        filled = chance.choice(sentences).format(**{name: chance.choice(words) for name, words in _WORDS.items()})
        text = chance.choice(_BEFORE) + filled + chance.choice(_AFTER)
        if chance.random() < _SHARE_OF_ERRORS:
            text = _mistyped(text, chance)
        if text.lower() not in seen:
            seen.add(text.lower())
            yield text, intent


def _mistyped(text: str, chance: random.Random) -> str:
    """Return a text in which two neighbouring characters are exchanged."""
    place = chance.randrange(len(text) - 1)
    return text[:place] + text[place + 1] + text[place] + text[place + 2 :]
