"""Conversation made from lists: small questions whose right answer follows from a table."""

from __future__ import annotations

import itertools

from agentflan_ray.toolbox.names import with_article


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_CAPITALS = """
Italy:Rome Spain:Madrid Germany:Berlin Austria:Vienna Greece:Athens Norway:Oslo Sweden:Stockholm Finland:Helsinki
Denmark:Copenhagen Poland:Warsaw Hungary:Budapest Ireland:Dublin Portugal:Lisbon Belgium:Brussels Egypt:Cairo
Kenya:Nairobi Peru:Lima Chile:Santiago Cuba:Havana Thailand:Bangkok Vietnam:Hanoi Nepal:Kathmandu Iceland:Reykjavik
Croatia:Zagreb Bulgaria:Sofia Romania:Bucharest Ukraine:Kyiv Turkey:Ankara Australia:Canberra Morocco:Rabat
"""
_PAST_TENSES = """
see:saw eat:ate write:wrote take:took give:gave buy:bought bring:brought think:thought teach:taught catch:caught
sing:sang swim:swam drink:drank begin:began run:ran fly:flew grow:grew know:knew throw:threw draw:drew speak:spoke
break:broke choose:chose drive:drove ride:rode rise:rose fall:fell feel:felt keep:kept sleep:slept leave:left
"""
_PLURALS = """
child:children tooth:teeth foot:feet goose:geese woman:women leaf:leaves knife:knives wolf:wolves potato:potatoes
city:cities box:boxes shelf:shelves sheep:sheep story:stories brush:brushes hero:heroes loaf:loaves baby:babies
"""
_RHYMES = """
cat:hat light:night tree:bee house:mouse rain:train star:car moon:spoon cake:lake bell:shell king:ring sand:hand
snow:glow book:cook goat:boat fish:dish nose:rose ball:wall bread:head sun:fun clock:rock sheep:sleep sky:fly
"""
_NUMBERS = _words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
)
_SORTED_WORDS = _words(
    "anchor apple banjo basket camel candle desert dragon eagle engine falcon flower garden guitar hammer honey island "
    "jacket jungle kettle ladder lemon marble needle ocean orange pencil planet quiver ribbon saddle silver tiger "
    "tunnel umbrella valley window yellow zebra"
)

_OPPOSITES = """
hot:cold big:small fast:slow early:late full:empty open:closed light:dark young:old rich:poor happy:sad strong:weak
wet:dry loud:quiet thick:thin near:far hard:soft up:down left:right first:last buy:sell win:lose day:night
inside:outside begin:end love:hate clean:dirty cheap:expensive sharp:blunt deep:shallow wide:narrow brave:cowardly
true:false push:pull arrive:leave summer:winter north:south high:low heavy:light smooth:rough remember:forget
"""
_SIZES = ("ant", "mouse", "rabbit", "dog", "horse", "elephant", "bus", "house", "cathedral", "mountain", "planet")
_KINDS = {
    "an animal": "cat horse eagle salmon spider camel frog owl tiger goat",
    "a fruit": "pear cherry mango plum peach lemon grape fig melon apricot",
    "a tool": "hammer saw drill chisel wrench screwdriver shovel axe rake spade",
    "a piece of clothing": "scarf coat sock glove hat shirt belt jumper skirt vest",
}
_YOUNG = "cow:calf sheep:lamb horse:foal cat:kitten dog:puppy pig:piglet duck:duckling goat:kid bear:cub hen:chick"


def train() -> dict[str, list[tuple[str, str]]]:
    """Topic to pairs of question and answer."""
    sums = [
        (
            f"What is {_NUMBERS[a]} plus {_NUMBERS[b]}?",
            f"{_NUMBERS[a].title()} plus {_NUMBERS[b]} is {_NUMBERS[a + b]}.",
        )
        for a, b in itertools.product(range(1, 9), repeat=2)
    ]
    triples = [
        (_SORTED_WORDS[start], _SORTED_WORDS[(start + step) % 39], _SORTED_WORDS[(start + 3 * step) % 39])
        for start in range(39)
        for step in (5, 7)
    ]
    return {
        "capitals": [(f"What is the capital of {a}?", f"The capital of {a} is {b}.") for a, b in _split(_CAPITALS)],
        "past tense": [
            (f"What is the past tense of {a}?", f"The past tense of {a} is {b}.") for a, b in _split(_PAST_TENSES)
        ],
        "plurals": [(f"What is the plural of {a}?", f"The plural of {a} is {b}.") for a, b in _split(_PLURALS)],
        "rhymes": [
            (f"Which word rhymes with {a}?", f"One word that rhymes with {a} is {b}.") for a, b in _split(_RHYMES)
        ],
        "small sums": sums,
        "alphabetical order": [
            (
                f"Put these words in alphabetical order: {', '.join(words)}.",
                f"In alphabetical order they are {', '.join(sorted(words)[:2])} and {sorted(words)[2]}.",
            )
            for words in triples
        ],
    }


def held_out() -> dict[str, list[tuple[str, str, str]]]:
    """Topic to question, answer, and words of which a right reply has one."""
    bigger = [
        (
            f"Which is bigger, {with_article(first)} or {with_article(second)}?",
            f"{with_article(big).capitalize()} is bigger.",
            big,
        )
        for low, high in itertools.combinations(range(len(_SIZES)), 2)
        for small, big in [(_SIZES[low], _SIZES[high])]
        for first, second in [(small, big) if (low + high) % 2 else (big, small)]
    ]
    kinds = [
        (
            f"Is {with_article(word)} {kind} or {other}?",
            f"{with_article(word).capitalize()} is {kind}.",
            kind.split()[-1],
        )
        for kind, other in zip(_KINDS, [*list(_KINDS)[1:], "an animal"], strict=True)
        for word in _KINDS[kind].split()
    ]
    opposites = _split(_OPPOSITES)
    return {
        "opposites": [(f"What is the opposite of {a}?", f"The opposite of {a} is {b}.", b) for a, b in opposites],
        "comparing sizes": bigger,
        "kinds of things": kinds,
        "young animals": [
            (f"What is a young {a} called?", f"A young {a} is called a {b}.", b) for a, b in _split(_YOUNG)
        ],
    }


def _split(text: str) -> list[tuple[str, str]]:
    pairs = [entry.split(":") for entry in text.split()]
    return [(first, second) for first, second in pairs]
