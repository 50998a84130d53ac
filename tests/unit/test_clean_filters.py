"""Options: length, language, personal data; and what a recipe refuses."""

from __future__ import annotations

from typing import Any

import pytest

from agentflan_ray.corpus.clean import CleanRecipe, examine
from agentflan_ray.corpus.clean.personal import PATTERNS, personal_data
from agentflan_ray.trajectory import Message, Tool, ToolCall, Trajectory


def talk(user: str, reply: str, result: str = "") -> Trajectory:
    messages = [Message("system", "You are helpful."), Message("user", user)]
    if result:
        call = ToolCall("look", "{}")
        messages += [Message("assistant", calls=(call,), loss=True), Message("tool", result)]
    messages.append(Message("assistant", reply, loss=True))
    return Trajectory("r1", "test", (Tool("look", "Looks."),), tuple(messages))


def reason_of(trajectory: Trajectory, **settings: Any) -> str | None:
    verdict = examine(trajectory, CleanRecipe(**settings), None)
    return verdict.reason if verdict else None


def test_nothing_is_filtered_unless_asked() -> None:
    assert reason_of(talk("Ruf +41 44 668 18 00 an.", "Ja.")) is None


def test_lengths() -> None:
    trajectory = talk("How many?", "Ten.", "There are ten of them.")
    assert reason_of(trajectory, min_characters=6) is None
    assert reason_of(trajectory, min_characters=7) == "too_short"  # "Ten." and the arguments "{}"
    total = len("You are helpful." + "How many?" + "{}" + "There are ten of them." + "Ten.")
    assert reason_of(trajectory, max_characters=total) is None
    assert reason_of(trajectory, max_characters=total - 1) == "too_long"
    assert reason_of(trajectory, max_turns=4) is None
    assert reason_of(trajectory, max_turns=3) == "too_many_turns"


ENGLISH = "Could you tell me when the next train to the airport leaves, please?"
GERMAN = "Kannst du mir bitte sagen, wann der nächste Zug zum Flughafen fährt und wo ich umsteigen muss?"
FRENCH = "Pouvez-vous me dire à quelle heure part le prochain train pour l'aéroport, s'il vous plaît ?"
CHINESE = "请告诉我下一班去机场的火车什么时候出发,我需要在哪里换乘,还有票价是多少,谢谢你的帮助。"


@pytest.mark.parametrize("text", [GERMAN, FRENCH, CHINESE])
def test_other_languages_are_removed_when_asked(text: str) -> None:
    assert reason_of(talk(text, text), languages=("en",)) == "other_language"
    assert reason_of(talk(text, text)) is None


def test_a_language_that_is_asked_for_stays() -> None:
    assert reason_of(talk(ENGLISH, ENGLISH), languages=("en",)) is None
    assert reason_of(talk(GERMAN, GERMAN), languages=("en", "de")) is None


def test_short_texts_code_and_tool_results_have_no_language() -> None:
    assert reason_of(talk("Guten Tag!", "Guten Tag!"), languages=("en",)) is None
    assert reason_of(talk(ENGLISH, ENGLISH, GERMAN * 5), languages=("en",)) is None
    code = "```\n" + "für_jeden = 1\n" * 50 + "```"
    assert reason_of(talk(ENGLISH, code), languages=("en",)) is None


REAL = [
    ("email", "Write to anna.kunz+x@uni-bern.ch today", "anna.kunz+x@uni-bern.ch"),
    ("phone", "Call +41 44 668 18 00.", "+41 44 668 18 00"),
    ("phone", "Call (212) 769-5100 now", "(212) 769-5100"),
    ("phone", "tel: 415-649-6077", "415-649-6077"),
    ("card", "paid with 4111 1111 1111 1111", None),  # the usual test number: two digits only
    ("card", "paid with 4539 1488 0343 6467", "4539 1488 0343 6467"),
    ("card", "paid with 371449635398431", "371449635398431"),
    ("iban", "to CH93 0076 2011 6238 5295 7 please", "CH93 0076 2011 6238 5295 7"),
    ("iban", "DE89370400440532013000", "DE89370400440532013000"),
    ("ip", "from 8.8.4.4, port 53", "8.8.4.4"),
]


@pytest.mark.parametrize(("name", "text", "found"), REAL)
def test_personal_data_is_found(name: str, text: str, found: str | None) -> None:
    match = personal_data(text, (name,))
    assert (match.text if match else None) == found
    others = tuple(pattern for pattern in PATTERNS if pattern != name)
    assert personal_data(text, others) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("email", "jane@example.com, me@yourdomain.com, you@test.org, @everyone"),
        ("phone", "2023-10-05 10:00, 1234567890, 415-555-0100, +1-123-456-7890, 1.000.000, order 123-4567-89"),
        ("phone", "192.168.100.200 and 978-3-16-148410-0 and -122.4194155"),
        ("card", "4539 1488 0343 6468 has a wrong digit; 1234567890123456 too; 4539148803436467.25"),
        ("iban", "CH94 0076 2011 6238 5295 7, GB00 TEST 1234 5678, AB12"),
        ("ip", "127.0.0.1, 10.0.0.7, 192.168.1.1, 300.1.1.1, 1.2.3.4.5, v1.2.3.4"),
    ],
)
def test_what_only_looks_like_personal_data_stays(name: str, text: str) -> None:
    assert personal_data(text, (name,)) is None


def test_personal_data_counts_in_tool_results_and_is_not_shown() -> None:
    trajectory = talk("Who is it?", "Anna.", "anna.kunz@uni-bern.ch")
    verdict = examine(trajectory, CleanRecipe(personal_data=("email",)), None)
    assert verdict is not None
    assert verdict.reason == "personal_data"
    assert verdict.sentence == "Message 3 of 'r1' holds something of the shape 'email': an…ch."
    assert examine(trajectory, CleanRecipe(personal_data=("phone", "card", "iban", "ip")), None) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"near_duplicates": 0.5}, r"near_duplicates is 0\.5, but must lie between 0\.8 and 1"),
        ({"near_duplicates": 1.01}, r"near_duplicates is 1\.01"),
        ({"ngram": 5}, "ngram is 5, but fewer than 6 words"),
        ({"max_turns": 0}, "max_turns is 0; give a positive number"),
        ({"min_characters": 9, "max_characters": 8}, r"min_characters \(9\) is above max_characters \(8\)"),
        ({"personal_data": ("name",)}, "no pattern 'name' of personal data; known are email, phone, card, iban, ip"),
        ({"languages": ("english",)}, "The language 'english' is not one of those that can be told apart: .*en, "),
    ],
)
def test_settings_that_cannot_be_met(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CleanRecipe(**settings)
