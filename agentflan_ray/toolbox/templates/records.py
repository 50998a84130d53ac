"""Tasks about files, notes and the knowledge graph."""

from __future__ import annotations

from agentflan_ray.toolbox.scene import Scene, template

FACT_WORDS = {
    "founder": "founder",
    "headquarters": "headquarters",
    "product": "product",
    "founding_year": "founding year",
    "parent": "parent company",
    "birthplace": "birthplace",
}


def field_of(text: str, field: str) -> str:
    """``Ana Novak`` from ``... Leader: Ana Novak. Budget: ...``."""
    return text.split(f"{field}: ")[1].split(". ")[0].rstrip(".")


def _file_questions(path: str, field: str) -> list[str]:
    return {
        "Leader": [
            f"Who is the leader according to {path}?",
            f"Open {path} and tell me who leads the project.",
            f"Please read {path}. Who is named as leader?",
            f"I need the name of the leader from {path}.",
        ],
        "Budget": [
            f"What budget does the file {path} state?",
            f"How large is the budget in {path}?",
            f"Please read {path} and tell me the budget.",
            f"I need the budget from {path}.",
        ],
        "Deadline": [
            f"What is the deadline in {path}?",
            f"Open {path} and tell me the deadline.",
            f"By which date must the work in {path} be done?",
            f"According to the file {path}, when is the deadline?",
        ],
    }[field]


def _answer_from_file(s: Scene, path: str, field: str, text: str) -> None:
    value = field_of(text, field)
    word = field.lower()
    s.answer(
        [value.removesuffix(" EUR")],
        [
            f"According to {path}, the {word} is {value}.",
            f"The {word} in {path} is {value}.",
            f"The file gives {value} as the {word}.",
        ],
        [f"The text states the {word} as {value}.", f"Of the whole text only the {word} was asked for: {value}."],
    )


@template(weight=1.8)
def file_fact(s: Scene) -> None:
    path = s.rng.choice(sorted(s.world.files.files))
    field = s.one("Leader", "Budget", "Deadline")
    word = field.lower()
    s.ask(_file_questions(path, field))
    text = s.call(
        "read_file",
        [
            f"The path is complete, so {path} can be opened and searched for the {word}.",
            f"Only the text of {path} can tell the {word}.",
            f"Reading {path} comes first; the {word} should stand in it.",
            f"The answer must be inside {path}, so that file has to be read.",
        ],
        path=path,
    )
    _answer_from_file(s, path, field, text)


@template(weight=0.9)
def file_wrong_path(s: Scene) -> None:
    path = s.rng.choice(sorted(s.world.files.files))
    folder, name = path.split("/")
    wrong = s.one(
        f"{folder}/{name.removesuffix('.txt')}", f"{folder}/{name.replace('-', '_')}", f"{folder}/{name[:-3]}md"
    )
    field = s.one("Leader", "Budget", "Deadline")
    word = field.lower()
    s.ask(_file_questions(wrong, field))
    s.fault(
        "read_file",
        [
            f"A path is given, so try to open {wrong}.",
            f"The {word} should be in {wrong}; read it.",
            f"The file is named, so open {wrong} and look for the {word}.",
        ],
        path=wrong,
    )
    s.call(
        "list_folder",
        [
            f"That file does not exist under this name; see what is in {folder}.",
            f"The name may be slightly off, so list the folder {folder}.",
            f"Perhaps the file is called differently. The listing of {folder} will show.",
        ],
        path=folder,
    )
    text = s.call(
        "read_file",
        [
            f"{name} is the file that comes closest to what was asked.",
            f"The listing has {name}, which must be the one.",
            f"The folder shows that it is really called {name}; read that one.",
        ],
        path=path,
    )
    _answer_from_file(s, path, field, text)


@template()
def folder_content(s: Scene) -> None:
    folder = s.rng.choice(s.world.files.names_in("")).rstrip("/")
    s.ask(
        [
            f"Which files are in the folder {folder}?",
            f"List what is inside {folder}.",
            f"Show me the contents of the {folder} folder.",
            f"What do we keep in the folder {folder}?",
        ]
    )
    found = s.call(
        "list_folder",
        [
            f"{folder} is a folder, so listing it shows the files.",
            f"Names are enough here, no file has to be opened; list {folder}.",
            f"The contents of {folder} are one listing away.",
        ],
        path=folder,
    )
    listed = found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
    s.answer(
        found,
        [
            f"The folder {folder} contains {listed}.",
            f"In {folder} you find {listed}.",
            f"There {'is' if len(found) == 1 else 'are'} {len(found)} in {folder}: {listed}.",
        ],
    )


@template()
def file_new(s: Scene) -> None:
    folder = s.rng.choice(s.world.files.names_in("")).rstrip("/")
    number = s.rng.randint(2, 60)
    text = s.one(
        f"Order {number} new chairs.",
        f"The meeting moves to room {number}.",
        f"{number} guests have confirmed so far.",
        f"Pay invoice {number} before Friday.",
        f"Call the supplier about pallet {number}.",
        f"Page {number} needs another picture.",
    )
    path = f"{folder}/{s.one('memo', 'todo', 'reminder', 'draft', 'remark')}-{s.rng.randint(10, 99)}.txt"
    s.ask(
        [
            f'Save the text "{text}" in the file {path}.',
            f'Create {path} with the content "{text}"',
            f'Write "{text}" to a new file, {path}.',
            f'Please make a file {path} that says "{text}"',
        ]
    )
    s.call(
        "write_file",
        [
            f"Path and text are both given, so {path} can be written.",
            f"A new file {path} is wanted with exactly these words.",
            f"Nothing has to be looked up; just store the text in {path}.",
        ],
        path=path,
        text=text,
    )
    s.answer(
        [path],
        [f"I saved the text in {path}.", f"Done, {path} now holds your text.", f"The file {path} has been created."],
    )


@template(weight=1.4)
def note_lookup(s: Scene) -> None:
    title = s.pick("SELECT title FROM notes")["title"]
    label = title[0].lower() + title[1:] if title not in ("Wifi password",) else "wifi password"
    s.ask(
        [
            f"What did I note down for the {label}?",
            f"Look in my notes for the {label}.",
            f"I wrote down my {label} somewhere. What was it?",
            f"Check my notes: what do they say about the {label}?",
        ]
    )
    found = s.call(
        "search_notes",
        [
            f"The user keeps this in a note, so search the notes for {label}.",
            f"A note about the {label} should exist; its words are a good search key.",
            f"Only the user's own notes can know the {label}.",
            f"The best way in is to search the notes for the term {label}.",
        ],
        keyword=label,
    )
    value = found[0].split(": ", 1)[1]
    s.answer(
        [value],
        [
            f"Your note for the {label} says: {value}.",
            f"You noted this for the {label}: {value}.",
            f"The note reads: {value}.",
        ],
        [f"There is one matching note, and what it holds is {value}."],
    )


@template()
def note_new(s: Scene) -> None:
    number = s.rng.randint(100, 999)
    title, text = s.one(
        ("Bus pass", f"card number {number}"),
        ("Bus line", f"take line {number} home"),
        ("Garden shed", f"padlock opens with {number}"),
        ("Bank appointment", f"counter {number}, bring papers"),
        ("Concert ticket", f"row {number % 30 + 1}, seat {number % 40 + 1}"),
        ("Battery size", f"type CR{number}"),
        ("Hotel room", f"room {number}, key at the desk"),
        ("Library card", f"card number {number}"),
        ("Tyre pressure", f"{number / 100:.1f} bar"),
        ("Bookmark", f"stopped at page {number}"),
    )
    s.ask(
        [
            f'Make a note called "{title}": {text}.',
            f'Please note "{text}" under the title "{title}".',
            f'Save a note. Title: "{title}". Text: "{text}".',
            f'Remember this for me as "{title}": {text}.',
        ]
    )
    s.call(
        "add_note",
        [
            f"The title is {title} and the text is given too; save it.",
            f"This is something to keep, so it goes into a note called {title}.",
            f"The user wants a new note with the title {title} and a text.",
        ],
        title=title,
        text=text,
    )
    s.answer(
        [title],
        [
            f"I saved the note {title}.",
            f'The note "{title}" is saved: {text}.',
            f'Noted under "{title}".',
        ],
    )


@template(weight=1.4)
def fact_one(s: Scene) -> None:
    row = s.pick("SELECT * FROM facts")
    entity, relation = row["subject"], row["relation"]
    queries = {
        "founder": [
            f"Who founded {entity}?",
            f"Who is the founder of {entity}?",
            f"{entity} was founded by whom?",
        ],
        "headquarters": [
            f"Where does {entity} have its headquarters?",
            f"In which city is {entity} based?",
            f"Which city is home to the headquarters of {entity}?",
        ],
        "product": [
            f"What does {entity} produce?",
            f"Which product does the company {entity} make?",
            f"What kind of product comes from {entity}?",
        ],
        "founding_year": [
            f"In which year was {entity} founded?",
            f"When was the company {entity} founded?",
            f"How old is {entity}? Give me the year it was founded.",
        ],
        "parent": [
            f"Which company owns {entity}?",
            f"What is the parent company of {entity}?",
            f"{entity} is part of which larger company?",
        ],
        "birthplace": [
            f"Where was {entity} born?",
            f"In which city was {entity} born?",
            f"What is the birthplace of {entity}?",
        ],
    }
    s.ask(queries[relation])
    words = FACT_WORDS[relation]
    value = s.call(
        "look_up_fact",
        [
            f"This is a fact about {entity}, namely the {words}.",
            f"The {words} of {entity} can be looked up in a single step.",
            f"{entity} is the entity, and the {words} is the relation wanted.",
            f"Facts about {entity} are on record; pick the {words}.",
        ],
        entity=entity,
        relation=relation,
    )[relation]
    s.answer(
        [value],
        {
            "founder": [f"{entity} was founded by {value}.", f"The founder of {entity} is {value}."],
            "headquarters": [f"{entity} is based in {value}.", f"The headquarters of {entity} are in {value}."],
            "product": [f"{entity} makes {value}.", f"The company {entity} produces {value}."],
            "founding_year": [f"{entity} was founded in {value}.", f"The founding year of {entity} is {value}."],
            "parent": [f"{entity} belongs to {value}.", f"The parent company of {entity} is {value}."],
            "birthplace": [f"{entity} was born in {value}.", f"The birthplace of {entity} is {value}."],
        }[relation],
    )


@template()
def maker_of_product(s: Scene) -> None:
    product = s.pick("SELECT object FROM facts WHERE relation = 'product'")["object"]
    s.ask(
        [
            f"Which company makes {product}?",
            f"Who produces {product}?",
            f"Find a company that makes {product}.",
            f"I am looking for a maker of {product}. Which company is it?",
        ]
    )
    maker = s.call(
        "find_maker",
        [
            f"The product {product} is known and its maker is wanted.",
            f"Search from the product to the company, starting at {product}.",
            f"Some company makes {product}; the maker search will name it.",
        ],
        product=product,
    )[0]
    s.answer(
        [maker],
        [
            f"{product.title()} are made by {maker}." if product != "chocolate" else f"Chocolate is made by {maker}.",
            f"The maker of {product} is {maker}.",
            f"That is {maker}.",
        ],
    )


@template(weight=0.9)
def maker_fact(s: Scene) -> None:
    product = s.pick("SELECT object FROM facts WHERE relation = 'product'")["object"]
    relation = s.one("headquarters", "founder", "founding_year")
    s.ask(
        {
            "headquarters": [
                f"In which city is the company that makes {product} based?",
                f"Where are the headquarters of the maker of {product}?",
            ],
            "founder": [
                f"Who founded the company that makes {product}?",
                f"What is the name of the founder of the {product} maker?",
            ],
            "founding_year": [
                f"In which year was the company that makes {product} founded?",
                f"When was the maker of {product} founded?",
            ],
        }[relation]
    )
    words = FACT_WORDS[relation]
    maker = s.call(
        "find_maker",
        [
            f"The company is described by its product, so find who makes {product}.",
            f"Before the {words}, the maker of {product} has to be identified.",
            f"Which firm makes {product} has to be found out first.",
        ],
        product=product,
    )[0]
    value = s.call(
        "look_up_fact",
        [
            f"The maker is {maker}; what remains is to look up the {words}.",
            f"{maker} makes {product}, so look up its {words}.",
            f"With the company known, the next step is the {words} of {maker}.",
        ],
        entity=maker,
        relation=relation,
    )[relation]
    s.answer(
        [value],
        {
            "headquarters": [
                f"{maker}, which makes {product}, is based in {value}.",
                f"It is {maker}, based in {value}.",
            ],
            "founder": [
                f"{maker}, the maker of {product}, was founded by {value}.",
                f"The founder of {maker} is {value}.",
            ],
            "founding_year": [
                f"{maker} makes {product} and was founded in {value}.",
                f"{maker} was founded in {value}.",
            ],
        }[relation],
    )


@template(weight=0.7)
def founder_birthplace(s: Scene) -> None:
    company = s.pick("SELECT DISTINCT subject FROM facts WHERE kind = 'company' ORDER BY subject")["subject"]
    s.ask(
        [
            f"Where was the founder of {company} born?",
            f"In which city was the person who founded {company} born?",
            f"What is the birthplace of {company}'s founder?",
        ]
    )
    founder = s.call(
        "look_up_fact",
        [
            f"The founder of {company} must be known before the birthplace.",
            f"Two steps: who founded {company}, then where that person was born.",
            f"Start at {company} and find its founder.",
        ],
        entity=company,
        relation="founder",
    )["founder"]
    value = s.call(
        "look_up_fact",
        [
            f"{founder} founded it; the birthplace is the next thing to look up.",
            f"That gives the founder, so next comes the birthplace of {founder}.",
            f"The founder is {founder}, so ask where {founder} was born.",
        ],
        entity=founder,
        relation="birthplace",
    )["birthplace"]
    s.answer(
        [value],
        [
            f"{founder}, who founded {company}, was born in {value}.",
            f"The founder of {company} is {founder}, born in {value}.",
        ],
    )


@template(weight=0.4)
def maker_founder_birthplace(s: Scene) -> None:
    product = s.pick("SELECT object FROM facts WHERE relation = 'product'")["object"]
    s.ask(
        [
            f"Where was the founder of the company that makes {product} born?",
            f"Find the birthplace of whoever founded the maker of {product}.",
        ]
    )
    maker = s.call(
        "find_maker",
        [
            f"Begin with the product: which company makes {product}?",
            f"The chain starts at {product} and its maker.",
        ],
        product=product,
    )[0]
    founder = s.call(
        "look_up_fact",
        [f"{maker} is the company; next comes its founder.", f"Who founded {maker} is the second link."],
        entity=maker,
        relation="founder",
    )["founder"]
    value = s.call(
        "look_up_fact",
        [f"{founder} founded {maker}; only the birthplace is left.", f"The last link is where {founder} was born."],
        entity=founder,
        relation="birthplace",
    )["birthplace"]
    s.answer(
        [value],
        [
            f"{founder}, the founder of {maker}, was born in {value}.",
            f"{maker} makes {product}; its founder {founder} was born in {value}.",
        ],
    )


@template(held_out=True)
def size_of_file(s: Scene) -> None:
    path = s.rng.choice(sorted(s.world.files.files))
    s.ask(
        [
            f"How large is the file {path} in bytes?",
            f"How many bytes does {path} have?",
            f"What is the size of {path}?",
            f"I want to send {path}. How many bytes is it?",
        ]
    )
    value = s.call(
        "file_size",
        [
            f"The text itself does not matter, only the size of {path}.",
            f"{path} is the location, and its byte count is wanted.",
            f"The size of {path} can be asked without opening it.",
        ],
        location=path,
    )["bytes"]
    s.answer(
        [str(value)],
        [f"The file {path} has {value} bytes.", f"It is {value} bytes large.", f"The size of {path} is {value} bytes."],
    )


TEMPLATES = (
    file_fact,
    file_wrong_path,
    folder_content,
    file_new,
    note_lookup,
    note_new,
    fact_one,
    maker_of_product,
    maker_fact,
    founder_birthplace,
    maker_founder_birthplace,
    size_of_file,
)
