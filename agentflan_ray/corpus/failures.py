"""Tools that fail: a real call, an error in place of its result, and an honest reply or one more try.

Beyond Agent-FLAN section 3.4: agent corpora hold almost only calls that succeed, so a model that never saw one fail
makes up a result. Only what is said after the error is learnt, and never a call.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from agentflan_ray.corpus.align import chat_turns, split_system, system_turns, unlearnt
from agentflan_ray.corpus.elicit import Asker
from agentflan_ray.corpus.lexicon import READS
from agentflan_ray.corpus.negatives import MAX_QUERY_CHARACTERS, is_environment, make_negative, request_of
from agentflan_ray.corpus.replies import compose
from agentflan_ray.corpus.similarity import action_of
from agentflan_ray.randomness import stable_random
from agentflan_ray.sample import Sample, Turn
from agentflan_ray.trajectory import Message, ToolCall, Trajectory

MAX_MESSAGES_BEFORE = 12
"""A call later in the conversation is passed over: all before it is context that teaches nothing here."""

RETRY_SHARE = 0.5
"""Of the failures that may pass by themselves, and whose call leads straight to the answer: the share tried again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A kind of failure: what the tool returns, how one says so, and what it leaves open.

    ``{tool}`` stands for the tool's name. ``causes`` follow "because", "since" or a colon. ``passes`` says whether it
    goes by itself, ``at_once`` whether so soon that one more try makes sense now, and ``may_have_acted`` whether the
    tool may have done its work before it failed.
    """

    kind: str
    texts: tuple[str, ...]
    causes: tuple[str, ...]
    passes: bool
    at_once: bool
    may_have_acted: bool


FAILURES = (
    Failure(
        "timeout",
        (
            '{"error": "timeout", "message": "The request took longer than 30 seconds."}',
            "Error: {tool} timed out after 30 s",
            '{"error": "Gateway Timeout", "status": 504}',
            "TimeoutError: no response within 60 seconds",
            '{"response": null, "error": "Timeout error..."}',
        ),
        ("it timed out", "no response came in time", "it took too long to answer"),
        passes=True,
        at_once=True,
        may_have_acted=True,
    ),
    Failure(
        "server",
        (
            '{"error": "Internal Server Error", "status": 500}',
            "HTTP 502 Bad Gateway",
            '{"status": 500, "message": "Something went wrong on our side. Please try again later."}',
            '{"code": 500, "error": {"type": "server_error", "tool": "{tool}"}}',
            "Error 500: an unexpected error occurred in {tool}",
        ),
        (
            "its server had an internal error",
            "something went wrong on its server",
            "the service answered with an error",
        ),
        passes=True,
        at_once=True,
        may_have_acted=True,
    ),
    Failure(
        "unavailable",
        (
            '{"error": "Service Unavailable", "status": 503}',
            "503: {tool} is down for maintenance",
            '{"message": "This service is temporarily unavailable."}',
            "ConnectionError: the host could not be reached",
            "Error: connection refused",
        ),
        ("the service is not available at the moment", "the service can't be reached", "the service is down right now"),
        passes=True,
        at_once=True,
        may_have_acted=False,
    ),
    Failure(
        "rate_limit",
        (
            '{"error": "Too Many Requests", "status": 429, "retry_after": 60}',
            "Rate limit exceeded for {tool}. Try again in 60 seconds.",
            '{"error": {"code": "rate_limited", "message": "Quota of 100 requests per hour reached"}}',
            "429 Too Many Requests",
        ),
        ("its limit of requests has been reached", "too many requests were made to it", "its quota is used up for now"),
        passes=True,
        at_once=False,
        may_have_acted=False,
    ),
    Failure(
        "permission",
        (
            '{"error": "Unauthorized", "status": 401}',
            '{"error": "Forbidden", "status": 403, "message": "You do not have access to this resource."}',
            "PermissionError: {tool} requires a valid API key",
            "Access denied",
            '{"message": "Your subscription does not include {tool}."}',
        ),
        ("access was denied", "it wants a permission that I don't have", "I am not authorised for it"),
        passes=False,
        at_once=False,
        may_have_acted=False,
    ),
    Failure(
        "not_found",
        (
            '{"error": "Not Found", "status": 404}',
            "404: the requested endpoint does not exist",
            '{"message": "Endpoint {tool} does not exist"}',
            "Error: {tool} is not deployed in this region",
        ),
        (
            "its address does not exist any more",
            "the service behind it was not found",
            "there is nothing at its address",
        ),
        passes=False,
        at_once=False,
        may_have_acted=False,
    ),
    Failure(
        "malformed",
        (
            "<html><head><title>Error</title></head><body>An error occurred.</body></html>",
            '{"data": [{"id": ',
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            "%PDF-1.4 ???? ????",
            '{"result": "\\u0000\\u0000\\u0000"',
        ),
        ("what it returned can't be read", "its output is broken", "it sent back something unreadable"),
        passes=True,
        at_once=True,
        may_have_acted=True,
    ),
    Failure(
        "empty",
        ("", "null", "{}", '{"response": "", "error": ""}', "(no output)"),
        ("it returned nothing", "it came back empty", "there is nothing in what it returned"),
        passes=True,
        at_once=True,
        may_have_acted=True,
    ),
)

_OPENERS = (
    "",
    "",
    "I'm sorry, but ",
    "Unfortunately, ",
    "I'm afraid ",
    "To be open with you: ",
    "Sorry, ",
    "Bad news: ",
)
_HONEST = (
    "I couldn't get a result, because {tool} failed: {cause}",
    "{tool} did not work: {cause}. So I have no result to give you",
    "the call to {tool} failed since {cause}, and I can't tell you the outcome",
    "I have no answer for you, because {tool} failed: {cause}",
    "{tool} failed, as {cause}. I don't want to make up a result",
    "I can't complete this right now: {tool} was asked, but {cause}",
    "this did not go through. The reason is that {cause}",
    "I got an error from {tool} ({cause}) and nothing that I could pass on",
    "there is no result yet: {cause} when {tool} was called",
    "what you asked for needs {tool}, and {cause}, so I can't give you a reliable answer",
)
_UNCONFIRMED = (
    "{tool} failed: {cause}. I can't confirm that it was done",
    "I don't know whether this went through, because {cause} when {tool} was called",
    "{tool} gave no confirmation: {cause}. Please check before you rely on it",
    "I can't say that this is done: {tool} was called, but {cause}",
    "the call to {tool} failed since {cause}. It may or may not have taken effect",
    "this is not confirmed, as {tool} failed: {cause}",
    "I got an error from {tool} ({cause}), so please don't count on it being done",
    "{tool} was called, but {cause}, and I won't claim that it worked",
    "I couldn't complete this: {tool} failed, as {cause}",
    "something went wrong with {tool}: {cause}. Treat it as not done until you have checked",
)
"""For tools that change something: whether an error came before or after the change is not known."""
_NOT_DONE = (
    "this was not done, because {tool} failed: {cause}",
    "{tool} did not go through, as {cause}. Nothing was changed",
    "I couldn't do this: {tool} was called, but {cause}",
    "the call to {tool} failed since {cause}, so what you asked for is not done",
    "nothing has happened yet, because {tool} failed: {cause}",
    "I have to report that {tool} failed: {cause}. It is not done",
    "I couldn't complete this with {tool}: {cause}",
    "what you asked for needs {tool}, and {cause}, so it is still to be done",
)
"""For tools that change something, where the failure says that they did not begin."""
_OFFERS = (
    "",
    "",
    "If you know another way to do this, tell me.",
    "Let me know how you want to go on.",
    "You may want to tell whoever runs it.",
)
_FIND_OFFERS = (
    "If it is urgent, you could look it up elsewhere.",
    "Anything I said instead would be a guess.",
)
"""Also, where something was to be found out."""
_LATER_OFFERS = (
    "Shall I try again later?",
    "Please try again in a while.",
    "Would you like me to try once more in a moment?",
)
"""Also, where the failure goes by itself."""
_RETRY = (
    "{cause_first}. That may pass, so one more try is worth it.",
    "{tool} failed because {cause}. A second attempt with the same input makes sense.",
    "This is an error, not a result: {cause}. Trying once more before giving up.",
    "No result yet, as {cause}. The same request may well work the second time.",
    "{cause_first}, which is often over in a moment. Once more with the same values.",
    "The input was fine, but {cause}. It is worth repeating.",
    "I can't answer from that, since {cause}. Another attempt, unchanged.",
    "An error came back: {cause}. I won't guess; the same call again.",
    "Nothing to work with, because {cause}. Let me try that a second time.",
    "{cause_first}, so this says nothing about the question. One repeat, then I will say what I know.",
)


def tool_error(trajectory: Trajectory, seed: int) -> Sample | str:
    """The conversation up to a call whose tool fails, and what follows; a reason where it can't be made.

    Either an honest reply without a result, or, where the failure may pass, the call changes nothing and leads straight
    to the answer, the decision to repeat it, the same call (not learnt), its real result and the real answer.
    """
    if is_environment(trajectory):
        return "environment_task"
    if len(request_of(trajectory)) > MAX_QUERY_CHARACTERS:
        return "query_too_long"
    own, messages = split_system(trajectory)
    places = [i for i, m in enumerate(messages[: MAX_MESSAGES_BEFORE + 1]) if m.calls]
    if not places:
        return "no_early_call"
    rng = stable_random(seed, "tool_error", trajectory.id)
    place = rng.choice(places)
    calls = messages[place].calls
    failure = rng.choice(FAILURES)
    failed = calls[0].name
    errors = [_error(failure, call, rng) for call in calls]
    before = [replace(message, loss=False) for message in messages[: place + 1]]
    after = list(messages[place + 1 + len(calls) :])
    answers_at_once = len(after) > 0 and not after[0].calls and after[0].loss
    action = action_of(next(tool for tool in trajectory.tools if tool.name == failed))
    if failure.at_once and answers_at_once and action == READS and rng.random() < RETRY_SHARE:
        decision = Message("assistant", "", _phrase(rng.choice(_RETRY), failure, failed, rng), calls, loss=True)
        results = messages[place + 1 : place + 1 + len(calls)]
        told = [*before, *errors, decision, *results, after[0]]
    else:
        core = _phrase(rng.choice(_cores(failure, action)), failure, failed, rng)
        reply = compose(rng.choice(_OPENERS), core, rng.choice(_offers(failure, action)))
        told = [*before, *errors, Message("assistant", reply, loss=True)]
    turns = chat_turns(told, Asker(rng))
    return make_negative(trajectory, "tool_error", [*system_turns(own, trajectory.tools), *map(_without_calls, turns)])


def _cores(failure: Failure, action: str) -> tuple[str, ...]:
    if action == READS:
        return _HONEST
    return _UNCONFIRMED if failure.may_have_acted else _NOT_DONE


def _offers(failure: Failure, action: str) -> tuple[str, ...]:
    if action == READS:
        return _OFFERS + _FIND_OFFERS + (_LATER_OFFERS if failure.passes else ())
    # What may have been done already must be checked, not done again.
    return _OFFERS + (_LATER_OFFERS if failure.passes and not failure.may_have_acted else ())


def _error(failure: Failure, call: ToolCall, rng: random.Random) -> Message:
    return Message("tool", rng.choice(failure.texts).replace("{tool}", call.name))


def _phrase(pattern: str, failure: Failure, tool: str, rng: random.Random) -> str:
    cause = rng.choice(failure.causes)
    first = cause[0].upper() + cause[1:]
    return pattern.replace("{cause_first}", first).replace("{cause}", cause).replace("{tool}", tool)


def _without_calls(turn: Turn) -> Turn:
    """The turn with its call as context: to call again is not what is taught."""
    is_call = any(part.capability in ("retrieval", "understanding") for part in turn.parts)
    return Turn(turn.role, unlearnt(turn.parts)) if is_call else turn
