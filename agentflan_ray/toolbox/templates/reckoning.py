"""Tasks that reckon: arithmetic, units, money and text."""

from __future__ import annotations

from agentflan_ray.toolbox.domains.reckoning import UNITS
from agentflan_ray.toolbox.scene import Scene, template
from agentflan_ray.toolbox.world import BASE_RATES

SENTENCES = (
    "The old lighthouse keeper counted every ship that passed",
    "Nobody expected the small bakery to win the prize",
    "A green parrot repeated the same word all afternoon",
    "Rain fell on the tin roof while we waited",
    "The committee will meet again after the summer break",
    "Fresh bread and strong coffee make a good morning",
    "She planted seven apple trees behind the new barn",
    "The last bus left the village before sunset",
    "Good tools are worth more than good excuses",
    "Our neighbours borrowed the ladder and forgot to return it",
    "The river was so clear that we could see the stones",
    "He painted the fence blue because the shop had no green",
)
ENDINGS = ("", " again", " yesterday", " near the harbour", " without any hurry", " on a cold day", " as usual")


@template(weight=1.6)
def word_problem(s: Scene) -> None:
    a, b, c = s.rng.randint(12, 98), s.rng.randint(6, 48), s.rng.randint(11, 140)
    name = s.pick("SELECT first FROM people")["first"]
    query, expression, unit = s.one(
        (
            f"{name} buys {b} tickets at {a} euros each and pays a fee of {c} euros. What is the total?",
            f"{b} * {a} + {c}",
            "euros",
        ),
        (
            f"A hall has {b} rows with {a} seats each, and {c} extra chairs. How many people can sit?",
            f"{b} * {a} + {c}",
            "people",
        ),
        (
            f"{name} saves {a} euros every week for {b} weeks and then spends {c} euros. How much is left?",
            f"{a} * {b} - {c}",
            "euros",
        ),
        (
            f"A crate holds {a} bottles. How many bottles are in {b} crates if {c + 200} more stand beside them?",
            f"{a} * {b} + {c + 200}",
            "bottles",
        ),
        (f"{name} cycles {a} km on each of {b} days. How many kilometres is that?", f"{a} * {b}", "kilometres"),
        (f"A printer makes {a} pages a minute. How many pages does it make in {b} minutes?", f"{a} * {b}", "pages"),
        (
            f"{name} shares {a * b} stickers equally among {b} children. How many does each one get?",
            f"{a * b} / {b}",
            "stickers",
        ),
        (
            f"A farm sells {a} boxes with {b} eggs each, but {min(c, a)} eggs are broken. How many are whole?",
            f"{a} * {b} - {min(c, a)}",
            "eggs",
        ),
    )
    s.ask([query])
    value = s.call(
        "calculate",
        [
            f"Put into numbers, what is described here is {expression}.",
            f"The story comes down to {expression}, which should be worked out exactly.",
            f"Written down as plain arithmetic, the story says {expression}.",
            f"With the numbers given, the sum to do is {expression}.",
        ],
        expression=expression,
    )
    s.answer(
        [value],
        [f"The answer is {value} {unit}.", f"That makes {value} {unit}.", f"It comes to {value} {unit}."],
    )


@template(weight=1.3)
def plain_arithmetic(s: Scene) -> None:
    a, b, c = s.rng.randint(13, 990), s.rng.randint(13, 99), s.rng.randint(2, 60)
    words, expression = s.one(
        (f"{a} times {b}", f"{a} * {b}"),
        (f"{a} multiplied by {b}, plus {c}", f"{a} * {b} + {c}"),
        (f"{a} plus {b}, all of it times {c}", f"({a} + {b}) * {c}"),
        (f"{a * b} divided by {b}", f"{a * b} / {b}"),
        (f"{b} squared minus {c}", f"{b} ** 2 - {c}"),
        (f"{c} percent of {a * 10}", f"{c} / 100 * {a * 10}"),
    )
    s.ask(
        [
            f"What is {words}?",
            f"Work out {words}.",
            f"How much is {words}?",
            f"Can you calculate {words} for me?",
        ]
    )
    value = s.call(
        "calculate",
        [
            f"As an expression this reads {expression}.",
            f"{expression} is too easy to get wrong in the head, so work it out properly.",
            f"In symbols the words of this question read {expression}.",
        ],
        expression=expression,
    )
    s.answer([value], [f"{words[0].upper()}{words[1:]} is {value}.", f"The result is {value}.", f"That is {value}."])


@template(weight=1.2)
def summary_of_numbers(s: Scene) -> None:
    numbers = [s.rng.randint(3, 240) for _ in range(s.rng.randint(4, 7))]
    measure = s.one("mean", "median", "sum", "smallest", "largest")
    listed = ", ".join(str(number) for number in numbers)
    ask = {
        "mean": f"What is the {s.one('mean', 'average')} of {listed}?",
        "median": f"What is the median of {listed}?",
        "sum": f"What is the sum of {listed}?",
        "smallest": f"Which is the smallest of these numbers: {listed}?",
        "largest": f"Which is the largest of these numbers: {listed}?",
    }[measure]
    what = s.one("visitors", "sales", "scores", "minutes")
    number = "number" if measure in ("smallest", "largest") else "value"
    s.ask(
        [
            ask,
            f"Here are my {what}: {listed}. Give me the {measure} {number}.",
            f"For {listed}, find the {measure} {number}.",
        ]
    )
    value = s.call(
        "number_summary",
        [
            f"There are {len(numbers)} numbers, and the {measure} is wanted.",
            f"The {measure} of a list can be taken directly.",
            f"All {len(numbers)} numbers go in, with {measure} as the measure.",
        ],
        numbers=numbers,
        measure=measure,
    )
    s.answer(
        [value],
        [f"The {measure} is {value}.", f"It is {value}.", f"For these numbers the {measure} is {value}."]
        if measure in ("mean", "median", "sum")
        else [f"The {measure} number is {value}.", f"It is {value}.", f"Of these numbers, {value} is the {measure}."],
    )


@template(weight=1.6)
def unit_change(s: Scene) -> None:
    source = s.rng.choice(sorted(UNITS))
    target = s.rng.choice(
        sorted(
            unit
            for unit, (quantity, size) in UNITS.items()
            if unit != source and quantity == UNITS[source][0] and 1e-3 < UNITS[source][1] / size < 1e4
        )
    )
    value = s.one(s.rng.randint(4, 400), s.rng.randint(2, 90) + s.rng.randint(1, 9) / 10)
    s.ask(
        [
            f"How many {target} are {value} {source}?",
            f"Convert {value} {source} to {target}.",
            f"What is {value} {source} in {target}?",
            f"I have {value} {source} here. How much is that in {target}?",
        ]
    )
    result = s.call(
        "convert_units",
        [
            f"The value of {value} {source} must be expressed in {target} here.",
            f"This is a change of unit, from {source} to {target}.",
            f"Value and both units are given: {value}, {source}, {target}.",
            f"Going from {source} to {target} needs the exact factor.",
        ],
        value=value,
        from_unit=source,
        to_unit=target,
    )
    s.answer(
        [result.split()[0]],
        [f"{value} {source} are {result}.", f"That is {result}.", f"It comes to {result}."],
    )


@template(weight=1.4)
def money_change(s: Scene) -> None:
    codes = ["EUR", *BASE_RATES]
    source, target = s.rng.sample(codes, 2)
    amount = s.rng.randint(2, 180) * s.one(1, 5, 10)
    s.ask(
        [
            f"How much is {amount} {source} in {target}?",
            f"Convert {amount} {source} to {target}.",
            f"What do I get in {target} for {amount} {source}?",
            f"I have {amount} {source}. How many {target} is that today?",
        ]
    )
    result = s.call(
        "convert_currency",
        [
            f"Rates change daily, so {amount} {source} needs today's rate to {target}.",
            f"An exchange from {source} to {target} is wanted, for {amount}.",
            f"The amount is {amount}, the currencies are {source} and {target}.",
            f"Without the rate between {source} and {target} this cannot be told.",
        ],
        amount=amount,
        source=source,
        target=target,
    )
    s.answer(
        [result.split()[0]],
        [f"{amount} {source} is {result}.", f"That is {result} today.", f"You get {result} for {amount} {source}."],
    )


@template()
def words_in_text(s: Scene) -> None:
    text = s.rng.choice(SENTENCES) + s.rng.choice(ENDINGS)
    s.ask(
        [
            f'How many words are in "{text}"?',
            f'Count the words of this sentence: "{text}"',
            f'"{text}": how many words is that?',
            f'My headline is "{text}". How many words does it have?',
        ]
    )
    value = s.call(
        "count_words",
        [
            "The sentence is quoted in full, so its words can be counted.",
            "Counting by eye goes wrong easily; let the words be counted.",
            "The quoted text goes in exactly as it stands, without the quotes.",
        ],
        text=text,
    )["words"]
    s.answer(
        [str(value)], [f"The sentence has {value} words.", f"There are {value} words in it.", f"It has {value} words."]
    )


@template()
def letters_in_text(s: Scene) -> None:
    text = s.rng.choice(SENTENCES) + s.rng.choice(ENDINGS)
    letter = s.rng.choice(sorted(set(text.lower()) & set("aeinorstl")))
    s.ask(
        [
            f'How often does the letter {letter} occur in "{text}"?',
            f'Count the letter {letter} in this sentence: "{text}"',
            f'How many times is {letter} used in "{text}"?',
        ]
    )
    value = s.call(
        "count_letter",
        [
            f"Every {letter} in the quoted text has to be counted.",
            f"One letter, {letter}, and one text are given.",
            f"Count each {letter}, capital or small, in the sentence.",
        ],
        text=text,
        letter=letter,
    )["count"]
    times = "once" if value == 1 else f"{value} times"
    s.answer(
        ["1|once"] if value == 1 else [str(value)],
        [f"The letter {letter} occurs {times}.", f"It occurs {times}.", f"There the letter {letter} is used {times}."],
    )


@template(weight=0.6)
def money_then_sum(s: Scene) -> None:
    source = s.one(*BASE_RATES)
    amount, extra = s.rng.randint(20, 600), s.rng.randint(10, 300)
    s.ask(
        [
            f"I have {amount} {source} and {extra} EUR. How much is that together in EUR?",
            f"Add {amount} {source} to {extra} EUR. What is the total in EUR?",
            f"What are {amount} {source} plus {extra} EUR worth in EUR?",
        ]
    )
    part = s.call(
        "convert_currency",
        [
            f"The {source} part must become EUR before anything is added.",
            f"Different currencies cannot be summed; change the {amount} {source} first.",
        ],
        amount=amount,
        source=source,
        target="EUR",
    ).split()[0]
    total = s.call(
        "calculate",
        [f"That is {part} EUR, and {extra} EUR come on top.", f"Add {part} and {extra}, both in EUR now."],
        expression=f"{part} + {extra}",
    )
    total = f"{float(total):.2f}"
    s.answer([total], [f"Together that is {total} EUR.", f"The total is {total} EUR.", f"It comes to {total} EUR."])


@template(held_out=True)
def bill_per_guest(s: Scene) -> None:
    total, guests = s.rng.randint(30, 400) + s.rng.randint(1, 9) / 10, s.rng.randint(3, 12)
    tip = s.one(0, 5, 10, 15, 20)
    with_tip = f" with a tip of {tip} percent" if tip else ""
    s.ask(
        [
            f"We are {guests} guests and the bill is {total} euros. How much does each pay{with_tip}?",
            f"Split a bill of {total} between {guests} guests{with_tip}.",
            f"What is the share of each of {guests} guests for a bill of {total}{with_tip}?",
        ]
    )
    value = s.call(
        "split_bill",
        [
            f"A total of {total} is shared by {guests} guests{with_tip}.",
            f"Bill and number of guests are known, so each share follows{with_tip and ' with the tip'}.",
            f"The task is to divide {total} evenly among {guests} people{with_tip}.",
        ],
        total=total,
        guests=guests,
        **({"tip_percent": tip} if tip else {}),
    )["per_guest"]
    s.answer([value], [f"Each guest pays {value} euros.", f"That is {value} euros for each guest."])


@template(held_out=True)
def temperature_change(s: Scene) -> None:
    scale, other = s.one(("celsius", "fahrenheit"), ("fahrenheit", "celsius"))
    degrees = s.rng.randint(-20, 60) if scale == "celsius" else s.rng.randint(0, 140)
    s.ask(
        [
            f"What is {degrees} degrees {scale.title()} in {other.title()}?",
            f"Convert {degrees} degrees {scale.title()} to {other.title()}.",
            f"My thermometer shows {degrees} degrees {scale.title()}. How much is that in {other.title()}?",
        ]
    )
    value = s.call(
        "convert_temperature",
        [
            f"{degrees} degrees are given on the {scale} scale; the other scale is wanted.",
            f"The temperature stands in {scale} and should come out in {other}.",
            f"From {scale} to {other}, starting at {degrees} degrees.",
        ],
        degrees=degrees,
        scale=scale,
    ).split()[0]
    s.answer(
        [value],
        [
            f"{degrees} degrees {scale.title()} is {value} degrees {other.title()}.",
            f"That is {value} degrees {other.title()}.",
        ],
    )


TEMPLATES = (
    word_problem,
    plain_arithmetic,
    summary_of_numbers,
    unit_change,
    money_change,
    words_in_text,
    letters_in_text,
    money_then_sum,
    bill_per_guest,
    temperature_change,
)
