"""Conversation for evaluation. As in ``train``, and ``K:`` lists words of which a sensible reply has at least one."""

TEXT = """
# oceans
Q: Why is the sea salty?
A: Rivers wash minerals out of rocks into the sea, the water evaporates, and the salt stays behind.
K: salt|mineral|minerals|rivers|rocks|sodium
Q: What causes the tides?
A: The tides come mainly from the pull of the Moon, helped by the Sun, on the water of the oceans.
K: moon|gravity|pull|gravitational|sun
Q: Which ocean is the largest?
A: The Pacific Ocean is the largest; it covers about a third of the Earth's surface.
K: pacific
Q: What is a coral reef?
A: A coral reef is built by tiny sea animals whose hard skeletons pile up over many years and shelter much life.
K: coral|corals|animals|marine|skeletons|ecosystem|underwater
Q: What is a wave?
A: A wave in the sea is energy moving through water, usually started by wind blowing over the surface.
K: wind|water|energy|surface

# dinosaurs
Q: Why did the dinosaurs die out?
A: Most scientists think that a huge asteroid hit the Earth about 66 million years ago and changed the climate.
K: asteroid|meteorite|impact|climate|volcanic|extinct|extinction
Q: Did people and dinosaurs live at the same time?
A: No, the large dinosaurs died out more than sixty million years before the first humans.
K: no|not|never|million|before
Q: What is a fossil?
A: A fossil is the preserved trace of a living thing from long ago, such as a bone turned to stone.
K: preserved|remains|stone|rock|bones|ancient|trace
Q: What did Tyrannosaurus rex eat?
A: Tyrannosaurus rex ate meat: it hunted other dinosaurs and also fed on dead ones.
K: meat|carnivore|dinosaurs|animals|prey
Q: Are birds related to dinosaurs?
A: Yes, birds descend from small feathered dinosaurs, so in a way dinosaurs are still with us.
K: yes|descend|descended|evolved|related|descendants

# gardening
Q: When is the best time of day to water plants?
A: Early morning is best, because less water evaporates and the leaves can dry during the day.
K: morning|evening|early|dawn
Q: How do I make compost?
A: Pile up kitchen scraps, leaves and grass, keep the heap moist and turn it now and then until it is earth.
K: scraps|leaves|pile|heap|organic|moist|kitchen|waste
Q: Why do gardeners like earthworms?
A: Earthworms loosen the soil and turn dead leaves into food for plants.
K: soil|loosen|nutrients|air|compost
Q: My plant has yellow leaves. What might be wrong?
A: Too much water is the most common cause; too little light or food can also turn leaves yellow.
K: water|watering|light|nutrients|overwatering|fertilizer|nitrogen
Q: What can I grow on a small balcony?
A: Herbs, lettuce, radishes and small tomatoes do well in pots on a sunny balcony.
K: herbs|tomatoes|lettuce|flowers|strawberries|basil|pots|peppers

# photography
Q: How do I take better photos with my phone?
A: Clean the lens, look for soft light, hold the phone still and get closer instead of zooming.
K: light|lens|steady|focus|composition|still|closer|lighting
Q: What is a selfie?
A: A selfie is a photo that you take of yourself, usually with a phone.
K: yourself|photo|picture|oneself
Q: Why do eyes look red in some photos?
A: The flash lights up the blood vessels at the back of the eye, and the camera sees that red.
K: flash|blood|retina|light|reflect|reflects|reflection
Q: What is a tripod for?
A: A tripod is a stand with three legs that keeps a camera still for sharp pictures.
K: stand|legs|still|steady|stable|support|camera
Q: What does a zoom lens do?
A: A zoom lens changes its focal length, so that distant things can be shown larger.
K: distant|closer|magnify|larger|focal|magnifies|far

# pets
Q: How often should I feed an adult dog?
A: Most adult dogs do well with two meals a day at regular times.
K: two|twice|meals|day|once
Q: What do rabbits eat?
A: Rabbits mainly eat hay and grass, with fresh greens and only a little carrot as a treat.
K: hay|grass|vegetables|greens|carrots|leaves
Q: How do I teach a dog to sit?
A: Hold a treat above its nose, move it back until the dog sits, say sit and reward it at once.
K: treat|reward|practice|command|praise|train
Q: Can cats drink milk?
A: Many adult cats do not digest milk well, so fresh water is the better drink.
K: water|lactose|not|intolerant|digest|no
Q: Which pet is easy to keep in a small flat?
A: A hamster or a few fish need little room, and a calm older cat can also be happy in a flat.
K: hamster|fish|cat|guinea|bird|turtle|gerbil

# sleep
Q: How many hours should an adult sleep?
A: Most adults need between seven and nine hours of sleep each night.
K: 7|8|9|seven|eight|nine
Q: What can I do if I cannot fall asleep?
A: Get up for a while, keep the light low, read something calm and go back to bed when you are tired.
K: relax|read|light|calm|breathing|breathe|bed|screen|routine
Q: Why do we dream?
A: Nobody is sure; dreams may help the brain to sort memories and feelings while we sleep.
K: brain|memories|memory|emotions|process|feelings|sleep
Q: Is a nap a good idea?
A: A short nap of about twenty minutes can refresh you, but a long one late in the day disturbs the night.
K: short|minutes|refresh|energy|rest|yes
Q: Why does coffee keep us awake?
A: Caffeine blocks the signals in the brain that make us feel tired.
K: caffeine|brain|stimulant|adenosine

# idioms
Q: What does it's raining cats and dogs mean?
A: It means that it is raining very heavily.
K: heavily|heavy|hard|lot|rain|pouring
Q: What does break the ice mean?
A: It means to do or say something that makes people feel at ease when they first meet.
K: ease|relax|tension|comfortable|start|conversation|awkward
Q: What does once in a blue moon mean?
A: It means very rarely, almost never.
K: rarely|rare|seldom|never|often
Q: What does it mean to spill the beans?
A: It means to give away a secret, often by accident.
K: secret|reveal|tell|disclose|information
Q: What does a piece of cake mean?
A: It describes something that is very easy to do.
K: easy|simple|effortless

# chess
Q: How does the knight move in chess?
A: The knight moves in an L: two squares in one direction and one to the side, and it may jump over pieces.
K: l|l-shape|two|jump|squares
Q: Which chess piece is the most powerful?
A: The queen is the most powerful piece, since she moves any distance in every direction.
K: queen
Q: What is checkmate?
A: Checkmate means that the king is attacked and cannot escape, so the game is over.
K: king|escape|attack|attacked|capture|wins|ends
Q: How many squares does a chessboard have?
A: A chessboard has 64 squares, eight rows of eight.
K: 64|sixty-four
Q: How can I get better at chess?
A: Solve small puzzles daily, play longer games and look at your mistakes afterwards.
K: practice|play|puzzles|study|games|learn|analyze

# bread
Q: Why does bread dough rise?
A: Yeast eats sugar in the dough and gives off gas, whose bubbles make the dough swell.
K: yeast|gas|carbon|bubbles|ferment|fermentation
Q: Why do we knead dough?
A: Kneading builds a stretchy net of gluten that holds the bubbles and gives the bread its structure.
K: gluten|elastic|stretch|structure|stretchy|texture
Q: What is sourdough?
A: Sourdough is dough raised with wild yeast and bacteria, which also give it a slightly sour taste.
K: yeast|bacteria|starter|ferment|fermented|sour|wild
Q: How do I keep bread fresh?
A: Keep it in a paper bag or bread box at room temperature, and freeze what you will not eat soon.
K: bag|box|freeze|freezer|container|dry|cool|airtight|sealed|wrap
Q: What can I put on toast?
A: Butter and jam are classics; avocado, cheese, eggs or peanut butter also taste good on toast.
K: butter|jam|cheese|egg|eggs|avocado|honey

# colours
Q: Which colour do you get from blue and yellow paint?
A: Blue and yellow paint mixed together give green.
K: green
Q: Which colour do you get from red and white paint?
A: Red mixed with white gives pink.
K: pink
Q: What are warm colours?
A: Red, orange and yellow are called warm colours, because they remind us of fire and sun.
K: red|orange|yellow
Q: Which colours are in a traffic light?
A: A traffic light has red, yellow and green lights.
K: red|green|yellow|amber
Q: Which colour suits a calm bedroom?
A: Soft blue, pale green or warm beige tones make a bedroom feel calm.
K: blue|green|beige|grey|gray|white|lavender|neutral

# tea and coffee
Q: How do I make a good cup of tea?
A: Pour freshly boiled water over the leaves, let them steep three to five minutes and take them out.
K: water|boil|boiling|steep|leaves|minutes|hot
Q: What is an espresso?
A: An espresso is a small, strong coffee made by pressing hot water through finely ground beans.
K: coffee|strong|pressure|small|beans|concentrated
Q: What is decaf coffee?
A: Decaf is coffee from which nearly all the caffeine has been removed.
K: caffeine|without|removed|less
Q: Where does tea come from?
A: Tea is made from the leaves of a shrub that has been grown in China for thousands of years.
K: china|leaves|plant|india|camellia|asia
Q: Does green tea contain caffeine?
A: Yes, green tea contains caffeine, though usually less than coffee.
K: yes|caffeine|less|contains

# hiking
Q: What should I take on a day hike?
A: Take water, food, a map, a rain jacket, sun protection and a small first aid kit.
K: water|food|snacks|map|jacket|shoes|boots|sunscreen
Q: What do I do if I get lost in the woods?
A: Stop, stay calm, go back to the last point you know if you can, or stay put and call for help.
K: calm|stay|help|stop|path|call|map|signal
Q: How do I avoid blisters on a hike?
A: Wear well broken-in shoes and dry socks, and cover sore spots with a plaster early.
K: socks|shoes|boots|plaster|dry|tape
Q: Why do hikers use poles?
A: Poles take weight off the knees, give balance on rough ground and help on steep paths.
K: balance|knees|support|stability|weight|steep|stable
Q: Is it safe to drink from a mountain stream?
A: Not always; even clear water can hold germs, so boil, filter or treat it first.
K: boil|filter|germs|bacteria|not|treat|no|purify|unsafe

# insects
Q: How many legs does an ant have?
A: An ant has six legs, like every insect.
K: 6|six
Q: Why do mosquitoes bite?
A: Only the females bite, because they need the protein in blood to make their eggs.
K: blood|eggs|females|female
Q: How does a caterpillar become a butterfly?
A: It spins itself into a chrysalis, where its body is rebuilt, and then it hatches as a butterfly.
K: chrysalis|cocoon|pupa|metamorphosis
Q: Why do fireflies glow?
A: Fireflies make light with a chemical reaction in their bodies, mainly to find a mate.
K: light|chemical|mate|mates|bioluminescence|attract
Q: What do butterflies eat?
A: Most butterflies drink nectar from flowers through a long tube.
K: nectar|flowers|flower

# shapes
Q: How many sides does a hexagon have?
A: A hexagon has six sides.
K: 6|six
Q: What is the difference between a square and a rectangle?
A: Both have four right angles, but in a square all four sides are equally long.
K: sides|equal|length|equally|same
Q: What is the diameter of a circle?
A: The diameter is the distance straight across a circle through its centre, twice the radius.
K: across|centre|center|radius|through|distance
Q: What shape is a ball?
A: A ball is a sphere: every point of its surface is equally far from the centre.
K: sphere|round|spherical|circle
Q: How many corners does a triangle have?
A: A triangle has three corners.
K: 3|three

# the moon
Q: Why does the Moon change its shape?
A: The Moon circles the Earth, and we see different parts of its sunlit side; these are the phases.
K: phases|sunlight|sunlit|sun|orbit|orbits|light|earth
Q: Is there air on the Moon?
A: No, the Moon has practically no air, so sound cannot travel there.
K: no|not|atmosphere|vacuum|none
Q: What is a lunar eclipse?
A: In a lunar eclipse the Earth stands between Sun and Moon, and its shadow darkens the Moon.
K: shadow|earth|between
Q: Why does the Moon have craters?
A: Rocks from space have hit it for billions of years, and no wind or rain wears the marks away.
K: asteroids|meteorites|rocks|impact|impacts|hit|meteors|comets
Q: Does the Moon make its own light?
A: No, the Moon only reflects the light of the Sun.
K: no|reflects|reflect|sun|reflection|sunlight

# kind notes
Q: Write a short thank-you note to a teacher.
A: Dear teacher, thank you for your patience and encouragement this year. You made learning a joy.
K: thank|thanks|grateful|appreciate
Q: Write a get-well message for a colleague.
A: Get well soon! We miss you at work and hope you feel better every day.
K: well|better|recover|recovery|soon|health
Q: Write a farewell message for a coworker who is leaving.
A: All the best for your new start! We will miss your humour and your help.
K: best|miss|luck|wish|farewell|goodbye|future|thank
Q: Write a short good luck message for an exam.
A: Good luck tomorrow! You have worked hard, so trust yourself and take one question at a time.
K: luck|best|confident|believe|succeed|trust
Q: Congratulate a couple on their wedding in one sentence.
A: Congratulations on your wedding, and may your life together be full of love and laughter!
K: congratulations|love|happiness|happy|wishing|joy|wedding

# names and titles
Q: Suggest a name for a black kitten.
A: Shadow would be a fitting name for a black kitten, or Pepper if you want something playful.
K: shadow|pepper|midnight|luna|onyx|ebony|raven|kitten|name|coal|inky
Q: Suggest a title for a story about a lonely lighthouse.
A: How about The Last Light on the Shore?
K: light|lighthouse|lonely|shore|sea|keeper|beacon|solitude
Q: Find a name for a running club.
A: You could call it The Morning Striders.
K: striders|runners|run|running|pace|stride|club|milers
Q: What would be a good name for a toy robot?
A: Bolt is short, friendly and fits a small robot well.
K: bolt|robo|robot|spark|gizmo|rusty|name|buddy
Q: Suggest a title for a talk about saving water.
A: Every Drop Counts would make a clear and memorable title.
K: water|drop|save|saving|drops|conserve|conservation

# bicycles
Q: How do I fix a flat bicycle tyre?
A: Take out the tube, find the hole, roughen and glue on a patch, then put it back and pump it up.
K: tube|patch|hole|pump|tire|tyre|inflate
Q: Why should I wear a helmet when cycling?
A: A helmet absorbs part of the impact in a fall and lowers the risk of serious head injury.
K: head|injury|protect|protects|safety|brain|fall|injuries
Q: What are bicycle gears for?
A: Gears let you pedal at a comfortable rate uphill, on the flat and downhill.
K: pedal|pedalling|uphill|speed|hills|easier|hill|pedaling
Q: How do I keep my bicycle chain in good shape?
A: Clean it with a cloth, put on a little chain oil and wipe off what is too much.
K: oil|clean|lubricate|lubricant|wipe|cloth
Q: Is cycling good for my health?
A: Yes, cycling trains heart and legs, is kind to the joints and lifts the mood.
K: yes|heart|healthy|muscles|health|fitness|exercise

# instruments
Q: How many keys does a standard piano have?
A: A standard piano has 88 keys, 52 white and 36 black.
K: 88|eighty-eight
Q: Is the saxophone a brass instrument?
A: It is made of brass, but it counts as a woodwind because a reed makes its sound.
K: woodwind|reed|no|wood
Q: How does a drum make sound?
A: When the skin is struck it vibrates, and the air inside carries the vibration to our ears.
K: vibrate|vibrates|vibration|vibrations|skin|air|membrane
Q: Which instrument is easy for a child to start with?
A: The recorder is a good start: it is cheap, light and gives a clear note at once.
K: recorder|piano|ukulele|drum|keyboard|xylophone|violin|guitar|flute
Q: What is a choir?
A: A choir is a group of people who sing together, often in several voices.
K: sing|singers|singing|group|voices

# fire safety
Q: What should I do if a pan of oil catches fire?
A: Turn off the heat and cover the pan with a lid; never pour water on it.
K: lid|cover|heat|never|blanket|smother
Q: Why do homes need smoke alarms?
A: Smoke alarms wake people early, because smoke can kill during sleep before anyone notices a fire.
K: early|warn|warning|alert|fire|detect|smoke|escape
Q: What are the three things a fire needs?
A: A fire needs fuel, oxygen and heat; take one away and it goes out.
K: fuel|oxygen|heat
Q: Should I use the lift during a fire?
A: No, take the stairs: a lift can stop or fill with smoke.
K: no|stairs|not|never
Q: What is a fire drill?
A: A fire drill is practice in leaving a building quickly and safely.
K: practice|leave|leaving|evacuate|evacuation|exit|escape|building

# time and calendars
Q: What is a leap year?
A: A leap year has one extra day, 29 February, so that the calendar keeps up with the Sun.
K: february|extra|366|day|four
Q: How many months have 31 days?
A: Seven months have 31 days, from January to December.
K: 7|seven
Q: What is a century?
A: A century is a period of one hundred years.
K: hundred|100
Q: Which month comes after June?
A: July comes after June.
K: july
Q: What is a time zone?
A: A time zone is a region that shares the same clock time, because the Sun rises later further west.
K: region|area|same|clock|earth|time

# parties
Q: What game can children play at a birthday party?
A: Musical chairs works well: when the music stops, everyone rushes to a seat and one child is out.
K: musical|chairs|hide|seek|tag|treasure|hunt|games|freeze|pin
Q: What food is easy to prepare for a party?
A: A big pot of chili, a salad and fresh bread can be made ahead and feed many guests.
K: chili|salad|bread|sandwiches|pizza|dip|snacks|cheese|pasta|fruit
Q: How do I write a toast for a wedding?
A: Keep it short: say who you are, tell one warm story, wish the couple well and raise your glass.
K: short|story|couple|glass|wish|love|personal
Q: How can I be a good host?
A: Greet everyone, introduce guests to each other, offer drinks early and stay relaxed.
K: guests|welcome|drinks|greet|food|comfortable
Q: What should I bring to a picnic?
A: Bring a blanket, sandwiches, fruit, drinks, napkins and a bag for the rubbish.
K: blanket|sandwiches|fruit|drinks|food|water|snacks

# metals and stones
Q: Why is gold so expensive?
A: Gold is rare, does not rust and has been wanted for jewellery and coins for thousands of years.
K: rare|scarce|jewellery|jewelry|demand|valuable|rust|limited
Q: What is a diamond made of?
A: A diamond is made of pure carbon, pressed into a very hard crystal deep in the Earth.
K: carbon
Q: Which metal is liquid at room temperature?
A: Mercury is the metal that is liquid at room temperature.
K: mercury|gallium
Q: Why are wires made of copper?
A: Copper conducts electricity very well, bends easily and costs much less than silver.
K: conducts|conductor|electricity|conductivity|current
Q: What is bronze?
A: Bronze is an alloy of copper with some tin, harder than either metal alone.
K: copper|tin|alloy
"""
