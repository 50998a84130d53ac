"""What a reply in English shows that it does, as patterns: calls, announces, claims, declines, fails, asks."""

from __future__ import annotations

import re


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE | re.MULTILINE)


_MAYBE_NOW = r"(?:now |just |first |then |quickly |try to |need to |have to )*"
_ACTIONS = (
    "use|call|invoke|query|run|execute|check|look|search|find|fetch|get|retrieve|pull|book|send|order|try|start|see"
)
_DEEDS = (
    "booked|sent|found|ordered|scheduled|cancelled|canceled|added|created|updated|reserved|checked|looked|searched|"
    "retrieved|saved|deleted|paid|bought|computed|calculated|converted|confirmed|set up"
)
_MY_TOOLS = r"(?! (?:through |at |over |among )?(?:all )?(?:my|the|these|of my)(?: \w+)? tools?\b)"
_WHO_LACKS = "I|we|tools?|tool's|they|it|these|those|this|that|which|chat|here|them"
_NEGATED = (
    r"can't|cannot|can not|don't|do not|doesn't|does not|couldn't|won't|isn't|is not|aren't|are not|not able|unable|"
    "unavailable"
)

MARKUP = _any_of(
    r"```|`[^`\n]*\(",
    r"</?[a-z_|]+[^<>]*>",
    r"[{\[]\s*\"|\"\s*:\s*[\"{\[\d]",
    r"^\s*[-*#]\s|^\s*\d+\.\s",
    r"^\s*\w+ = ",
)
"""Code, tags, JSON, lists, headings and assignments."""

ANNOUNCES = _any_of(
    r"\b(?:I|we)(?:'ll| will| shall| need to| must| should| have to|(?: am|'m| are|'re) (?:going|about) to) "
    rf"{_MAYBE_NOW}(?:{_ACTIONS})\b",
    # "Nothing here would let me look that up" announces nothing.
    rf"(?<!not )(?<!n't )(?<!would )(?<!could )(?<!that )\blet me {_MAYBE_NOW}(?:{_ACTIONS})\b",
    r"\bI(?:'m| am) (?:now |currently )?(?:checking|looking|searching|fetching|calling|running|using|retrieving)\b",
    r"\b(?:one|just a) (?:moment|second)\b|\bhold on\b|\bplease wait\b",
)
"""An action that is to follow, the paper's ``I will use`` and ``I need to call`` among them (Agent-H, section 4.1)."""

CLAIMS = _any_of(
    # "I have been given", "I have tried", "I have looked through my tools" and the like claim no result.
    r"\bI(?:'ve| have) (?:already |just |now |also )*"
    r"(?!(?:been|tried|attempted|limited|asked|encountered|received|failed|noticed|needed)\b)"
    r"(?:[a-z]+ed|sent|found|made|set|put|done|gone|got|gotten|bought|paid|written|taken|run|sold)\b(?! to\b)"
    rf"{_MY_TOOLS}",
    rf"\b(?:I|we) (?:already |just )?(?:{_DEEDS})\b{_MY_TOOLS}",
    r"\b(?:is|are|has been|have been|was|were) (?:now )?"
    r"(?:booked|sent|ordered|scheduled|cancelled|canceled|reserved|saved|deleted|confirmed|paid)\b",
    r"\baccording to (?:the|my|our)\b",
    r"\bbased on (?:the|my|our) (?:results?|data|search|records?)\b",
    r"\b(?:results?|search|records?|data|tools?) (?:shows?|says?|indicates?|gave|confirms?|reveals?)\b",
    r"\bhere(?:'s| is| are) (?:the|your)\b",
    r"\bit turns out\b",
    r"\bsuccess(?:ful|fully)?\b",
    r"(?:^|[.!] )(?:all )?done[.!]",
)
"""Something done or found out, which none of these conversations has."""

DECLINES = _any_of(
    rf"\b(?:{_WHO_LACKS})\b[^.!?]{{0,80}}?\b(?:{_NEGATED})\b",
    r"\b(?:unable|none of|lack(?:s|ing)?|rather than|instead of|but not|out of (?:my )?reach|other purposes)\b",
    r"\bno (?:\w+ )?(?:way|tools?|access|means|function|connection)\b",
    r"\bnothing (?:here|in|among|that|I|on)\b",
    r"\bnot (?:\w+ )?(?:possible|equipped|set up|connected|available|something|what|able|among|one of|for)\b",
    r"\bwithout (?:a|any|access|the|such)\b",
    r"\bonly (?:for|covers?|handles?|deals?|gives?|works?)\b",
    r"\b(?:beyond|outside)(?: of)? (?:what|my|the)\b",
)
"""It can't be done here. A mere apology is none: "Sorry to hear that" declines nothing."""

FAILED = _any_of(
    r"\b(?:fail(?:s|ed|ure|ing)?|errors?|went wrong|timed out|time-?out|unable|unavailable|refused|denied)\b",
    r"\b(?:can't|cannot|couldn't|could not|not found|unreachable|broken?|is down|problems?|issues?|trouble)\b",
    r"(?:\bnot|n't) (?:work|respond|answer|return|available|give|reach|get|complete|go|able|know|tell|say)\w*\b",
    r"\bno (?:results?|answers?|responses?|data)\b",
)
"""The tool did not do its work."""

ASKS = _any_of(
    r"\?",
    r"\bplease (?:tell|give|send|share|provide|name|let|say|specify|state|enter|add)\b",
    r"\b(?:I|we)(?:'d| would)? (?:still )?need\b",
    r"\blet me know\b|\b(?:could|can|would) you\b|\b(?:if you tell me|once I (?:have|know))\b",
)

THE_TASK_ITSELF = _any_of(
    r"\bthe draft\b|\brewritten\b|\brewrite of\b|\bas an AI\b",
    r"\bthe (?:assistant|user)(?:'s)?\b|\bthe (?:reply|response) (?:is|must|should|says)\b",
    r"\bhere(?:'s| is) (?:a|my) (?:reply|response|rewrite)\b",
    r"^\s*(?:assistant|reply|response|answer)\s*:",
)
"""The teacher speaks of writing, not to the user."""
