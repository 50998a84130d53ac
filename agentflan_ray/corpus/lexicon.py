"""Words about tools: which mean the same, which say nothing, what is done, and which tools could do almost anything.

English, and small on purpose: a word that is missing here costs a tool that could have been listed, or keeps two
tools apart that are alike; the tools themselves stay the measure (:mod:`agentflan_ray.corpus.similarity`).
"""

from __future__ import annotations

import re

SAME_MEANING = (
    "movie film cinema theater theatre screening actor actress director cast",
    "hotel accommodation lodging house apartment property airbnb motel stay room",
    "flight airline plane airport airfare fly",
    "car vehicle automobile",
    "taxi cab ride",
    "weather forecast temperature climate rain rainfall snow snowfall humidity wind storm thunderstorm sunny "
    "warmer cooler colder",
    "music song album artist playlist lyric",
    "restaurant dining meal table cafe eat food recipe dish cuisine cook ingredient hungry",
    "book novel author library isbn",
    "reserve reservation booking",
    "mail email inbox mailbox",
    "message sms text chat",
    "calendar appointment meeting schedule agenda",
    "reminder alarm todo task",
    "note memo",
    "money bank account payment pay transfer balance wallet",
    "currency exchange forex dollar euro usd eur gbp jpy chf",
    "stock share market ticker quote crypto bitcoin coin",
    "price cost fee",
    "order purchase buy shop shopping product store cart",
    "package parcel shipment shipping delivery courier carrier",
    "doctor dentist physician practitioner gynecologist dermatologist hospital clinic therapist health medical",
    "job career employment vacancy hiring",
    "news headline article",
    "image picture photo",
    "video youtube clip",
    "translate translation language",
    "place location address city map geocode coordinate latitude longitude",
    "distance route direction",
    "person people employee staff member contact customer biography",
    "company business organisation organization firm maker manufacturer founder",
    "date day weekday holiday",
    "time clock timezone hour",
    "calculate calculator compute calculation arithmetic math mathematical expression sum percent percentage",
    "unit measurement metre meter mile kilometre kilometer foot feet inch yard kg gram ounce pound litre liter",
    "file folder document path directory",
    "website web url page domain internet",
    "team player match league football soccer basketball sport score",
    "game puzzle",
    "bus train transit coach",
    "attraction tourist sightseeing museum landmark",
    "salon stylist barber haircut hair",
    "event concert gig",
    "joke fact trivia",
    "password username login",
    "database sql query table",
)
"""Groups of words that tools use for one subject. Rather too wide than too narrow: a tool that is wrongly thought
alike is left out of a list, one that is wrongly thought different teaches a false refusal."""

_FILLERS = (
    "a about account all also an and any api are as at available based be been before by call can could data describe "
    "description detail do does each either for from function get give given has have help here hi hello how i id if "
    "in info information input into is it its like list look looking make me more my name need new no not of on one "
    "only or other our out over parameter per please provide request result retrieve return search see set show "
    "some specific specified such take tell than thank that the their them there these they this to tool two up us "
    "use used user using value via want was what when where which who will with within would you your find check "
    "subfunction let know"
)
STOP_WORDS = frozenset(_FILLERS.split())
"""Words that stand in any request or any tool."""

_ACTIONS = (
    "add book buy calculate cancel change check compute convert count create current delete edit estimate generate "
    "list make new number perform play post random read remove reserve save send track update validate write"
)
ACTION_WORDS = frozenset(_ACTIONS.split())
"""What is done, apart from what it is done to: two tools that create something are not alike for that."""


ACTION_CLASSES: dict[str, str] = {
    "add": "create",
    "create": "create",
    "insert": "create",
    "make": "create",
    "save": "create",
    "schedule": "create",
    "write": "create",
    "book": "reserve",
    "buy": "reserve",
    "order": "reserve",
    "purchase": "reserve",
    "reserve": "reserve",
    "cancel": "remove",
    "clear": "remove",
    "delete": "remove",
    "remove": "remove",
    "change": "change",
    "complete": "change",
    "edit": "change",
    "modify": "change",
    "rename": "change",
    "update": "change",
    "email": "send",
    "message": "send",
    "pay": "send",
    "post": "send",
    "send": "send",
    "share": "send",
    "transfer": "send",
    "play": "play",
    "start": "play",
    "stop": "play",
}
"""The verb that a tool's name begins with, to what it does; all other tools read and find."""

READS = "read"
"""The action class of a tool that changes nothing."""

OPERATES = "operate"
"""The action class of a tool that does whatever it is told, such as a shell: by its call it reads or changes."""

OPERATING_WORDS = frozenset(("bash", "command", "console", "execute", "shell", "sql", "terminal"))
"""A tool with one of these in its name does whatever it is told."""
ACTION_CLASSES |= dict.fromkeys(("code", "eval", "run"), OPERATES)

_GENERIC = (
    "analyze app attribute basic category code complete completed converter country current daily date detail "
    "detailed end entry fetch field filtering find finder generator group historical history id item key latest "
    "lookup month name number object optional order origin pair particular person place provided public query "
    "random range rapid rapidapi recent record report secure selected service size sorting start stat state "
    "statistic status string time today tomorrow toolbench top type upcoming validation value week year"
)
GENERIC_WORDS = frozenset(_GENERIC.split()) | ACTION_WORDS | STOP_WORDS
"""Words of tools for all kinds of objects (stems): to share one of them makes no tool seem to fit. Those that say
nothing or what is done are among them, for stems bring them back ("gets", "returns")."""

NOUNS_TOO = frozenset(("book", "email", "message", "order", "purchase", "schedule", "share", "transfer"))
"""Verbs of :data:`ACTION_CLASSES` that may be nouns at the beginning of a name ("schedule_by_date")."""

READING_VERBS = frozenset(("fetch", "find", "get", "list", "retrieve", "return", "search", "show"))
"""Verbs that begin the description of a tool that reads (stems)."""

GENERAL_PURPOSE = re.compile(
    r"\b(?:google|bing|search engine|wikipedia|encyclopa?edia|internet|web ?search|web ?page|browser?|shell|bash|"
    r"terminal|command line|python|interpreter|code|execute|sql|ask|chatgpt|gpt|llm|assistant|questions?|knowledge|"
    r"facts?|entity|anything|expression|seo|notes?|files?|folders?|documents?)\b",
    re.IGNORECASE,
)
"""A tool of these words might help with almost any request, so it is never listed as one that can't."""

SELF_CONTAINED = re.compile(
    r"\b(?:calculat\w+|comput(?:e|es|ing)|work out|arithmetic|bmi|fibonacci|factorial|average|mean|median|percentage|"
    r"count(?:s|ing)?|letters?|words|weekday|day of the week|days (?:between|to)|translat\w+|jokes?|riddles?|"
    r"recipes?|recommendations?|random (?:name|number|password)s?|passwords?|quotes|rephrase|summari[sz]e|spelling)\b|"
    r"\bconvert\b(?!.*\bcurrenc)",
    re.IGNORECASE,
)
"""What a tool of these words does, a model can do without it, well enough: a reply that refuses would be wrong."""

SELF_CONTAINED_DEED = re.compile(
    r"\b(?:revers(?:e|es|ed|al)(?! (?:geo|image|phone|dns|ip|whois|look))|palindromes?|anagrams?|"
    r"merges?(?! (?:pull|request|pdf|video|audio|file))|sort(?:s|ed|ing)?|splits?|chunks?|format(?:s|ter|ting)?|"
    r"primes?(?! (?:video|minister|member))|(?:smallest|largest)(?=:| (?:number|element|value|integer|item|of))|"
    r"derivatives?(?! (?:market|exchange|trading|contract))|integrals?|(?<!distance )matri(?:x|ces)|permutations?|"
    r"combinations?|gcd|lcm|(?:greatest|least) common|to the power|power of (?:a number|two|ten)|strings?)\b",
    re.IGNORECASE,
)
"""The same for words that only in a tool's name or at the start of its description say what it does: further on,
"format" and "string" are said of what any tool takes and returns."""

SELF_CONTAINED_REQUEST = re.compile(
    r"\s*(?:print|echo|output|display|generate)\s+(?:the\s+|all\s+)?(?:numbers?|integers|digits|letters|alphabet|"
    r"hello|[\"'])(?!.*(?:\bfiles?\b|\bfolders?\b|\bdirector|/\w))",
    re.IGNORECASE | re.DOTALL,
)
"""What a tool that does whatever it is told is asked for, where no machine is needed for it."""
