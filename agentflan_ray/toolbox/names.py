"""Word lists that the world and the tasks are made of. Places, firms and titles are put together at random."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(" ".join(phrase.split()) for phrase in text.split(";"))


FIRST_NAMES = _words(
    """Ada Adam Aisha Alba Alec Amir Ana Anton Arjun Astrid Aylin Bea Ben Bianca Bruno Carla Carlos Cem Chloe Clara
    Daan Dana David Dilan Dora Edwin Elena Elif Elsa Emil Emma Enzo Erik Esther Fatima Felix Fiona Frank Gabriel
    Gemma Greta Hana Hannah Hasan Helen Henrik Hugo Ida Ines Ingrid Ivan Jack Jana Jonas Julia Kai Karim Kate Katja
    Kenji Lars Laura Leila Leo Liam Lina Linus Lucia Luis Maja Marco Maria Marta Mateo Maya Mehmet Mei Mila Milan
    Mona Nadia Nils Nina Noah Nora Olga Oliver Omar Oscar Paula Pavel Petra Priya Rafael Ravi Rita Robin Rosa Ruben
    Ruth Sam Sana Sara Selma Simon Sofia Stefan Sven Tara Theo Tomas Una Valentin Vera Victor Yara Yuki Zara Zoe"""
)
LAST_NAMES = _words(
    """Abel Adler Ahmed Almeida Andersen Arslan Baker Baran Barnes Becker Berg Blanc Bosch Brandt Brooks Bruun Carter
    Castro Chen Claes Cohen Costa Cruz Dalgaard Dias Dubois Duran Eklund Engel Evans Farah Ferrari Fischer Flores
    Foster Garcia Gomez Grant Haas Hansen Hassan Hayes Herrera Hoffman Holm Horvat Hughes Ibrahim Ito Jansen Jensen
    Kaya Keller Khan Kim Klein Koch Kovac Kowalski Kumar Lang Larsen Laurent Lehmann Lind Lopez Lund Maier Marino
    Martin Mendes Meyer Molina Moreau Morgan Moss Nagy Nakamura Nguyen Nilsen Novak Okafor Olsen Ortega Osman Palmer
    Park Patel Petrov Pohl Popescu Quinn Ramos Reed Reyes Ricci Rossi Roth Russo Saito Salim Santos Sato Schmid
    Silva Singh Sousa Stein Strand Suzuki Tanaka Torres Turner Vance Varga Vega Vogel Wagner Walsh Weber Winter Wolf
    Wood Yildiz Young Zeman Zhang"""
)
CITY_STARTS = _words(
    """Alder Amber Ash Barrow Birch Black Bran Brook Cedar Clay Cold Corn Cran Dal East Elder Fair Fern Glen Gold Green
    Grim Hal Hart Hazel High Kel Lang Lin Mar Mill Moor Nor North Oak Old Pel Raven Red Rose Sand Sel Silver Stan
    Stone Tarn Thorn Wal West White Win Wren Wood Yar"""
)
CITY_ENDS = _words(
    """borough bridge bury by cliff combe dale field ford gate ham haven hill holm mere mouth port shaw stead stow ton
    vale well wick worth"""
)
TEAMS = _words("Sales Design Finance Legal Support Research Logistics Marketing Security Training")
HARD_MATERIALS = _words("oak walnut steel glass bamboo ceramic copper marble brass maple pine bronze")
SOFT_MATERIALS = _words("linen cotton leather wool felt velvet silk denim")
COLOURS = _words("red blue green black white grey yellow brown orange purple")
GOODS = {
    "lamp": "lighting",
    "lantern": "lighting",
    "desk": "furniture",
    "chair": "furniture",
    "shelf": "furniture",
    "stool": "furniture",
    "teapot": "kitchen",
    "bowl": "kitchen",
    "tray": "kitchen",
    "mug": "kitchen",
    "rug": "textiles",
    "curtain": "textiles",
    "cushion": "textiles",
    "blanket": "textiles",
    "clock": "decoration",
    "vase": "decoration",
    "mirror": "decoration",
    "basket": "storage",
    "box": "storage",
    "backpack": "travel",
}
"""What is sold, and the category it stands in."""
SOFT_GOODS = ("rug", "curtain", "cushion", "blanket", "backpack")
EVENT_TITLES = _phrases(
    """budget review; team lunch; design workshop; client call; safety training; project kickoff; quarterly report;
    press briefing; hiring panel; vendor meeting; code review; sales planning; factory tour; product demo;
    board meeting; hiring update; fire drill; brand workshop; data audit; retrospective; contract talk; welcome
    breakfast; roadmap session; user interview; payroll check; strategy day; site visit; newsletter planning;
    launch rehearsal; travel briefing"""
)
ROOM_NAMES = _words(
    """Atlas Birch Comet Delta Ember Falcon Garnet Harbour Iris Juniper Kestrel Lagoon Meadow Nimbus Opal Pebble Quartz
    Ripple Summit Tulip"""
)
SKIES_WITHOUT_SNOW = _words("sunny cloudy rainy foggy windy stormy hazy")
SKIES = (*SKIES_WITHOUT_SNOW, "snowy")
ALERTS = _phrases("strong wind; heavy rain; dense fog; flooding; thunderstorms; poor air quality")
PLACE_KINDS = _words("museum pharmacy bakery bookshop gym restaurant")
PLACE_WORDS = _words(
    """Lantern Orchard Sparrow Anchor Velvet Marigold Copperleaf Bluebell Foxglove Windmill Cobble Saffron Harvest
    Ivory Larkspur Pinecone Driftwood Moonstone Thistle Acorn"""
)
STREETS = _words(
    """Mill Station Church Garden River Market Castle Park Bridge Harbour School Chapel Forest Meadow Spring"""
)
FIRM_STARTS = _words(
    """Arvo Belvar Corvia Dexlin Elmar Fenrix Galeo Halden Irvex Jorvan Kestor Lumo Mirex Nordal Orvia Pellan Quorn
    Rivex Solven Tarvo Umbra Velox Wexlin Yorin Zentra"""
)
FIRM_ENDS = _words("Labs Foods Motors Textiles Optics Energy Robotics Press Shipping Instruments")
FIRM_GOODS = _words(
    """bicycles telescopes batteries raincoats keyboards chocolate microscopes sailboats headphones tractors candles
    printers violins drones umbrellas"""
)
PROJECTS = _words(
    """harbour bridge tunnel garden library museum market solar river forest station campus theatre airport bakery"""
)
PROJECT_KINDS = _words("survey plan audit upgrade study repair")
FOLDERS = _words("reports projects archive drafts planning office")
NOTE_LABELS = _phrases(
    """Locker code; Wifi password; Door code; Parking spot; Paint colour; Shoe size; Coffee order; Bike lock; Safe
    combination; Printer name; Alarm code; Spare key; Dentist; Plumber; Gate code; Guest network"""
)
TRAIN_KINDS = _words("IC RE EX TL")
BOOK_STARTS = _phrases(
    """The Silent; The Last; A Distant; The Hidden; The Paper; Beyond the; The Winter; A Borrowed; The Glass; Under
    the; The Crooked; The Forgotten"""
)
BOOK_ENDS = _words("""Harbour Garden Lighthouse Orchard Mountain Mirror Compass Island River Clock Bridge Letter""")
FILM_STARTS = _words("Midnight Crimson Falling Electric Golden Broken Endless Secret Burning Velvet")
FILM_ENDS = _words("Horizon Station Carnival Shadows Kingdom Waltz Voyage Promise Thunder Avenue")
DISHES = _phrases(
    """lentil soup; mushroom risotto; chicken curry; tomato tart; bean chili; vegetable lasagne; pumpkin stew; fish
    pie; potato gratin; noodle salad; beef goulash; apple crumble; spinach quiche; rice pudding; onion soup; leek
    pie"""
)
SPICES = _words("cumin paprika thyme ginger basil nutmeg rosemary saffron cinnamon oregano")
CAR_MAKES = _phrases("Corva 5; Lyra 200; Tempo GT; Orion Van; Zephyr S; Pico City; Nomad X; Alta Combi")
CLUB_ENDS = _words("Rovers United Athletic Wanderers Hawks Lions")
MONTHS = _words("January February March April May June July August September October November December")


def with_article(noun: str) -> str:
    """``an oak desk``, ``a steel clock``; by the first letter, which is right for every word here."""
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
