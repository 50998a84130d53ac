"""Honest replies where no tool can do what is asked, or one failed: composed of parts, so that no wording is a habit.

None claims to have done anything, promises a call or invents a result. What was asked for is named where the needed
tool's description says it as a deed ("find a bus itinerary between cities").
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from agentflan_ray.corpus.lexicon import OPERATES, READS
from agentflan_ray.corpus.similarity import action_of, purpose
from agentflan_ray.trajectory import Tool

MAX_DEED_WORDS = 11
"""A longer clause reads like the specification that it is."""

OPENERS = (
    "",
    "",
    "",
    "Sorry, ",
    "I'm sorry. ",
    "Unfortunately, ",
    "Regrettably, ",
    "To be honest, ",
    "Thanks for asking. ",
    "I would like to help. ",
    "I have to be open about this: ",
    "Just so you know: ",
    "That isn't possible here. ",
    "Not this time, sorry: ",
)
"""Each goes with every core."""
NO_TOOLS = (
    "I have no tool here that can {deed}",
    "I can't {deed} from this chat, since nothing here gives me access to that",
    "I have no way to {deed} from here",
    "I'm not connected to anything that could {deed}",
    "I can't {deed} in this conversation because no tool is available to me",
    "without any tools, I can't {deed}",
    "I'm unable to {deed}, because I was given no tools",
    "there is no tool in this conversation, so I can't {deed}",
    "I don't have access to anything that would let me {deed}",
    "no tool was set up for me, and without one I can't {deed}",
    "I only have this conversation, and I can't {deed} with words alone",
    "I lack the means to {deed}: no tool is connected",
)
NO_FITTING_TOOL = (
    "none of my tools can {deed}",
    "the tools listed here can't {deed}",
    "I can't {deed} with the tools I was given",
    "my tools serve other purposes and can't {deed}",
    "nothing among the listed tools would {deed}",
    "I was given tools for other things, so I can't {deed}",
    "I have no tool that could {deed}",
    "I can't {deed}, as none of the tools in this chat is made for it",
    "what I have here does not let me {deed}, so I can't help with this one",
    "I looked through my tools, and no tool among them can {deed}",
    "no tool here is meant to {deed}",
    "I'm unable to {deed}, because my tools are for something else",
)
NEAR_MISS = (
    "{tool} comes closest, but it is for something else (“{purpose}”), so I can't {deed}",
    "the nearest tool I have is {tool}, described as “{purpose}”, and with that I can't {deed}",
    "I can't {deed}: {tool} looks similar, yet what it does is “{purpose}”",
    "none of my tools can {deed}; {tool} only covers this: “{purpose}”",
    "{tool} might seem to fit, but by its description (“{purpose}”) it is for something else, and I can't {deed}",
    "I have {tool} (“{purpose}”), which is something else, so I can't {deed}",
    "no tool here can {deed}. The closest is {tool}: “{purpose}”",
    "I'm unable to {deed}. There is {tool}, but that is for another purpose: “{purpose}”",
    "I can't {deed} with what I have. {tool} has a different job: “{purpose}”",
    "the tools listed can't {deed}. {tool} is the nearest, and it serves a different need: “{purpose}”",
    "I checked whether {tool} could help, but “{purpose}” is not what you ask for, and I can't {deed} without a tool",
    "what I was given stops at {tool} (“{purpose}”), and with that I can't {deed}",
)
OFFERS = (
    "",
    "",
    "",
    "Is there anything else I can do for you?",
    "If such a tool is added, ask me again.",
    "Let me know if I can help in another way.",
    "Would it help if I explained how you could do it yourself?",
    "You would have to do that elsewhere.",
    "If you have another way in mind, tell me.",
    "I'm happy to help with something else.",
)
FIND_OFFERS = (
    *OFFERS,
    "If you paste the information here, I can work with it.",
    "You could look it up at the source and tell me what you find.",
    "I would rather say so than guess.",
    "Anything I said about it would be a guess.",
    "I don't want to make something up.",
)
"""Where something was to be found out; what was to be done can't be guessed."""

_FIND_DEEDS = ("look that up", "find that out", "get that for you", "check that", "answer this reliably")
_OTHER_DEEDS = ("do that", "carry that out", "take care of that", "do this for you", "help with that request")
_NEUTRAL_DEEDS = ("do that", "help with that", "help with that request", "help you with this", "do this for you")
"""Where a tool does whatever it is told, the request may be for a look or for a change."""

_VERBS = (
    "access add analyze book buy calculate cancel change check compare complete convert create delete describe detect "
    "determine display download edit fetch find generate get give identify list locate look make mark obtain order "
    "perform play post provide publish purchase read recommend remove rent reserve retrieve return save schedule "
    "search send set share show suggest tell track transfer translate update validate verify view write"
)
_BASE_VERBS = frozenset(_VERBS.split())
_UNTOLD = {"give": "tell you", "tell": "tell you", "return": "get", "retrieve": "get", "provide": "give you"}
_UNTOLD |= {"show": "show you", "fetch": "get", "obtain": "get", "list": "list", "display": "show you"}
_CUT = re.compile(
    r" (?:based on|by|using|via|given|including|such as|limited to|according to|"
    r"(?:for|at|of|on|from|with|in) (?:a |an |the |your )?(?:given|specified|specific|set of|certain)|"
    r"(?:for|from) (?:any|the user))\b.*| \(.*|[.;:].*"
)
_PLAIN_CLAUSE = re.compile(r"[a-zA-Z][a-zA-Z' -]+")
_NO_ENGLISH = re.compile(r"\w's the\b")
"""As in "get today's the weather" (ToolBench)."""


def deed(tool: Tool) -> str | None:
    """What the tool does as a clause after "can" ("book a cab"), from its description; None where it does not say so.

    Only a first clause that begins with a verb and is short plain words is taken: a description is data, and most of
    those that don't fit are specifications.
    """
    words = _CUT.sub("", purpose(tool).replace("'s", "’s")).replace("’s", "'s").strip().split()
    if not 2 <= len(words) <= MAX_DEED_WORDS:
        return None
    verb = words[0].lower()
    if verb not in _BASE_VERBS:
        verb = verb.removesuffix("s") if verb.removesuffix("s") in _BASE_VERBS else verb.removesuffix("es")
    clause = " ".join(words[1:])
    if verb not in _BASE_VERBS or not _PLAIN_CLAUSE.fullmatch(clause) or _NO_ENGLISH.search(clause):
        return None
    clause = re.sub(r"\bthe user's\b", "your", clause)
    return f"{_UNTOLD.get(verb, verb)} {re.sub(r'^the selected ', 'a ', clause)}"


@dataclass(frozen=True, slots=True)
class Deed:
    """What is asked for, in words that may follow "can"."""

    clause: str | None
    general: tuple[str, ...]
    offers: tuple[str, ...]

    @classmethod
    def of(cls, called: Sequence[Tool]) -> Deed:
        """The deed of the one tool that would have done it. Where it takes several, none of them says it all."""
        actions = {action_of(tool) for tool in called}
        if OPERATES in actions:
            return cls(None, _NEUTRAL_DEEDS, OFFERS)
        clause = deed(called[0]) if len(called) == 1 else None
        return cls(clause, _FIND_DEEDS, FIND_OFFERS) if actions == {READS} else cls(clause, _OTHER_DEEDS, OFFERS)

    def draw(self, rng: random.Random) -> str:
        """The clause in most replies, a general one in the others: not every refusal repeats the request."""
        if self.clause is not None and rng.random() < 0.7:
            return self.clause
        return rng.choice(self.general)


def refusal(cores: tuple[str, ...], asked: Deed, rng: random.Random, nearest: Tool | None = None) -> str:
    """A reply that says what can't be done and why, and perhaps what would help.

    ``nearest`` fills ``{tool}`` and ``{purpose}`` of the cores that name a tool.
    """
    core = rng.choice(cores).replace("{deed}", asked.draw(rng))
    if nearest is not None:
        core = core.replace("{tool}", nearest.name).replace("{purpose}", stated(nearest))
    return compose(rng.choice(OPENERS), core, rng.choice(asked.offers))


def stated(tool: Tool) -> str:
    """The first sentence of what a tool is for, without its full stop."""
    return re.split(r"(?<=[a-z\)])\. ", purpose(tool))[0].rstrip(". ")


def compose(opener: str, core: str, offer: str) -> str:
    """One reply: an opener that ends with a full stop, or runs into the core; the core; and an offer behind it."""
    if not opener or opener.endswith(". "):
        core = _capitalised(core)
    sentence = _capitalised(f"{opener}{core}")
    end = "" if sentence.endswith((".", "!", "?")) else "."
    return f"{sentence}{end} {offer}".strip()


def _capitalised(text: str) -> str:
    """The text with a capital, unless it begins with a tool's name: ``getWeather`` is a name, not a word."""
    first = re.match(r"[a-z']+(?=[ ,.:;])", text)
    return text[0].upper() + text[1:] if first else text
