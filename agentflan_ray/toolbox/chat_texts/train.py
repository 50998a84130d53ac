"""Conversation for training. A topic starts with ``#``, a pair has questions ``Q:`` and answers ``A:``."""

TEXT = """
# space
Q: Why is the sky blue?
Q: What makes the sky look blue?
A: Air scatters blue light far more than red light, so blue reaches our eyes from every part of the sky.
Q: What is a star?
Q: Can you explain what a star is?
A: A star is a huge ball of hot gas that shines because hydrogen fuses into helium in its core.
Q: What is the difference between a planet and a star?
A: A star makes its own light by nuclear fusion, while a planet only reflects the light of the star it circles.
Q: Which planet is the largest in our solar system?
A: Jupiter is the largest planet of the solar system; all the other planets together would fit inside it.
Q: Why do we have day and night?
A: The Earth turns once around its axis in about 24 hours, so each place faces the Sun and then turns away.
Q: What is a comet?
A: A comet is a lump of ice and dust that grows a bright tail when it comes close to the Sun.
Q: How long does light from the Sun take to reach us?
A: Sunlight needs a little over eight minutes to travel from the Sun to the Earth.
Q: What is a galaxy?
Q: In one sentence, what is a galaxy?
A: A galaxy is a vast group of stars, gas and dust held together by gravity, such as our Milky Way.
Q: Why do astronauts float in space?
A: They are in free fall around the Earth together with their spacecraft, so nothing presses them to the floor.
Q: Which planet is closest to the Sun?
A: Mercury is the planet closest to the Sun, and it needs only 88 days for one orbit.

# human body
Q: Why do we sweat?
A: Sweat cools the body: as it evaporates from the skin it takes heat away with it.
Q: What does the heart do?
Q: What is the job of the heart?
A: The heart pumps blood through the body, so that oxygen and food reach every cell and waste is carried away.
Q: Why do we yawn?
A: Nobody knows for sure. Yawning often comes with tiredness or boredom and may help to keep us alert.
Q: How many bones does an adult have?
A: An adult usually has 206 bones; babies have more, because some of theirs grow together later.
Q: What is the largest organ of the human body?
A: The skin is the largest organ; in an adult it covers almost two square metres.
Q: What do the lungs do?
A: The lungs bring oxygen from the air into the blood and let carbon dioxide leave the body.
Q: Why does my stomach growl?
A: Your stomach and gut keep moving, and when they are empty the air and juices inside make that noise.
Q: What are hiccups?
A: Hiccups are sudden cramps of the diaphragm; the vocal cords snap shut and make the well known sound.
Q: Why do fingers wrinkle in water?
A: After some minutes in water, nerves narrow the vessels in the fingertips, and the skin folds; this improves grip.
Q: What does blood carry?
A: Blood carries oxygen, nutrients, hormones, heat and cells of the immune system to all parts of the body.

# animals
Q: Is a whale a fish?
A: No, a whale is a mammal: it breathes air, is warm-blooded and feeds its young with milk.
Q: How do bees make honey?
A: Bees collect nectar, thicken it with enzymes, and fan it with their wings until most of the water is gone.
Q: Why do cats purr?
A: Cats often purr when they are content, but some also do it to calm themselves when they are hurt or afraid.
Q: What is the fastest land animal?
A: The cheetah is the fastest land animal and can reach about 100 kilometres per hour for a short time.
Q: Why do birds fly south in winter?
A: Many birds go where food can still be found, because insects and seeds become scarce in the cold season.
Q: What do pandas eat?
A: Giant pandas eat almost nothing but bamboo, and they need many kilograms of it every day.
Q: How many legs does a spider have?
A: A spider has eight legs, which tells it apart from insects, which have six.
Q: Do fish sleep?
A: Yes, most fish rest: they become still and less alert, although they have no eyelids to close.
Q: What is a marsupial?
A: A marsupial is a mammal, such as the kangaroo, whose young grow up in a pouch on the mother.
Q: Why do dogs wag their tails?
A: Tail wagging shows excitement; it is often friendly, but it can also signal tension, so watch the whole dog.
Q: Which bird cannot fly but swims very well?
A: The penguin cannot fly, but its wings work like flippers and make it an excellent swimmer.

# everyday physics
Q: Why does ice float on water?
A: Water expands when it freezes, so ice is less dense than liquid water and floats on it.
Q: What is gravity?
Q: Please explain gravity in simple words.
A: Gravity is the pull between things that have mass; it keeps us on the ground and the Moon near the Earth.
Q: Why do we see lightning before we hear thunder?
A: Light travels far faster than sound, so the flash arrives almost at once and the thunder follows.
Q: What is friction?
A: Friction is the force that slows things sliding over each other; it lets shoes grip and brakes work.
Q: How does a rainbow form?
A: Sunlight enters raindrops, is bent and reflected inside them, and comes out split into its colours.
Q: Why does a metal spoon feel colder than a wooden one?
A: Metal conducts heat away from your hand faster than wood, so it feels colder at the same temperature.
Q: What is an echo?
A: An echo is sound that bounces off a surface, such as a cliff, and returns to your ears a moment later.
Q: How does a mirror work?
A: A mirror has a smooth metal layer that sends light back at the same angle at which it arrives.
Q: Why do balloons with helium rise?
A: Helium is lighter than air, so the surrounding air pushes the balloon upwards.
Q: What is the difference between heat and temperature?
A: Heat is energy that flows between things, while temperature says how hot or cold something is.

# chemistry
Q: What is water made of?
A: A water molecule consists of two hydrogen atoms and one oxygen atom, which is why it is written H2O.
Q: Why does iron rust?
A: Iron reacts with oxygen and water and turns into iron oxide, the reddish stuff we call rust.
Q: What is an atom?
A: An atom is the smallest piece of an element: a tiny nucleus surrounded by electrons.
Q: What is an acid?
A: An acid is a substance that gives off hydrogen ions in water; lemon juice and vinegar are mild examples.
Q: Which gas do plants take in for photosynthesis?
A: Plants take in carbon dioxide and use light to turn it, with water, into sugar and oxygen.
Q: What is the main gas in the air?
A: Nitrogen makes up about 78 percent of the air; oxygen comes second with about 21 percent.
Q: Why do we put salt on icy roads?
A: Salt lowers the freezing point of water, so the ice melts even a few degrees below zero.
Q: What is a chemical reaction?
A: In a chemical reaction, substances change into new ones because their atoms are joined in a different way.

# plants
Q: Why do leaves change colour in autumn?
A: Trees stop making green chlorophyll, and the yellow and red pigments in the leaves become visible.
Q: How do trees drink water?
A: Roots take up water, and thin tubes in the wood lead it to the leaves, where evaporation pulls it upwards.
Q: What do plants need to grow?
A: Plants need light, water, air, minerals from the soil and a temperature that suits them.
Q: What is pollination?
A: Pollination is the transfer of pollen to the female part of a flower, often by insects or wind, so that seeds form.
Q: Is a tomato a fruit or a vegetable?
A: For botanists a tomato is a fruit, since it holds the seeds; in the kitchen we treat it as a vegetable.
Q: How can you tell the age of a tree?
A: Count the rings of its trunk: in many climates a tree adds one ring each year.
Q: Why are forests important?
A: Forests store carbon, give shelter to countless animals, hold the soil and keep water clean.

# history
Q: Who was the first person on the Moon?
A: Neil Armstrong was the first person to walk on the Moon, on 20 July 1969 by Houston time.
Q: When did the Second World War end?
A: The Second World War ended in 1945, in Europe in May and in the Pacific in September.
Q: What was the printing press good for?
A: It made books cheap and quick to copy, so that ideas spread much faster than with handwriting.
Q: Who painted the Mona Lisa?
A: Leonardo da Vinci painted the Mona Lisa in the early sixteenth century; it hangs in the Louvre.
Q: When did the Berlin Wall fall?
A: The Berlin Wall fell on 9 November 1989, after twenty-eight years.
Q: What were the pyramids of Giza built for?
A: They were built as tombs for Egyptian kings, about 4,500 years ago.
Q: What was the Silk Road?
A: The Silk Road was a network of trade routes that joined China with the Middle East and Europe.
Q: Who wrote Romeo and Juliet?
A: William Shakespeare wrote the tragedy Romeo and Juliet in the 1590s.

# geography
Q: What is the capital of France?
A: The capital of France is Paris, which lies on the river Seine.
Q: What is the capital of Japan?
A: Tokyo is the capital of Japan and one of the largest cities in the world.
Q: Which continent is the largest?
A: Asia is the largest continent, both in area and in number of people.
Q: What is the highest mountain on Earth?
A: Mount Everest in the Himalayas is the highest mountain above sea level, at about 8,849 metres.
Q: Which desert is the largest hot desert?
A: The Sahara in northern Africa is the largest hot desert in the world.
Q: What is an island?
A: An island is a piece of land that is smaller than a continent and has water on all sides.
Q: What is the equator?
A: The equator is the imaginary line around the middle of the Earth, equally far from both poles.
Q: What is the capital of Canada?
A: Ottawa is the capital of Canada, although Toronto is the larger city.
Q: Which countries share a border with Portugal?
A: Portugal has a land border with only one country, Spain.
Q: What is a peninsula?
A: A peninsula is land with water on most sides that is still joined to the mainland, like Italy.

# computers
Q: What is an operating system?
A: An operating system runs a computer: it starts programs, shares memory among them and talks to the hardware.
Q: What is the difference between RAM and a hard disk?
A: RAM is fast memory that is emptied without power, while a disk is slower and keeps data for good.
Q: What is a browser?
A: A browser is a program, such as Firefox, that fetches web pages and shows them to you.
Q: How do I make a strong password?
A: Use a long phrase of unrelated words, never the same one twice, and let a password manager remember it.
Q: What is a bug in software?
A: A bug is a mistake in a program that makes it behave in a way nobody intended.
Q: What is open source software?
A: Its source code is public, and the licence lets anyone use, study, change and share it.
Q: What does a search engine do?
A: It keeps an index of web pages and shows those that fit your words best.
Q: Why should I make backups?
A: Disks fail, laptops get lost and files are deleted by mistake; a recent copy makes all that harmless.
Q: What is phishing?
A: Phishing means tricking people with fake messages so that they give away passwords or money.
Q: What is an algorithm?
Q: Explain the word algorithm to a child.
A: An algorithm is a list of clear steps that solves a problem, much like a recipe for cooking.
Q: What is the cloud?
A: The cloud simply means computers in data centres that store your files or run programs over the internet.

# grammar
Q: What is a noun?
A: A noun is a word for a person, place, thing or idea, such as teacher, city, table or freedom.
Q: What is a verb?
A: A verb tells what someone does or what happens, as in run, think or grow.
Q: What is an adjective?
A: An adjective describes a noun, like red in a red apple or quiet in a quiet street.
Q: When do I use its and when it's?
A: Its shows that something belongs to it; it's is short for it is or it has.
Q: What is the plural of mouse?
A: The plural of mouse, the animal, is mice.
Q: What is the past tense of go?
A: The past tense of go is went, as in: yesterday we went home.
Q: What is a synonym?
A: A synonym is a word with nearly the same meaning as another, like big and large.
Q: What is the difference between there and their?
A: There points to a place, while their shows that something belongs to them.
Q: When should I use a semicolon?
A: Use a semicolon between two closely linked sentences when a full stop would separate them too much.
Q: Is it fewer or less apples?
A: Say fewer apples, because apples can be counted; less is for things like water or time.
Q: What is a palindrome?
A: A palindrome reads the same in both directions, such as level, radar or noon.

# cooking
Q: How do I boil an egg?
Q: How long should I boil an egg so that it is hard?
A: Put the egg in boiling water for about ten minutes, then cool it in cold water.
Q: How do I cook rice?
A: Rinse it, add about twice its volume of water, bring it to the boil, cover and simmer until it is soft.
Q: How can I stop onions from making me cry?
A: Chill the onion, use a sharp knife and leave the root end for last; that releases less of the gas.
Q: What can I cook with potatoes and cheese?
A: You could make a gratin: slice the potatoes thinly, add cream, cover with cheese and bake until golden.
Q: How do I keep herbs fresh?
A: Stand them in a glass of water, cover them loosely with a bag and keep them in the fridge.
Q: My soup is too salty. What can I do?
A: Add more water or unsalted stock, or stir in some cream or potatoes to spread the salt.
Q: What does al dente mean?
A: Al dente is Italian for cooked so that pasta is tender but still firm to the bite.
Q: How do I know that pasta is done?
A: Taste it a minute before the time on the packet; it should be soft with a firm centre.
Q: What is a simple breakfast idea?
A: Try oats with yoghurt, a sliced banana and a few nuts; it is quick, cheap and filling.
Q: How can I use stale bread?
A: Toast it into croutons, grind it to crumbs, or soak it in milk and eggs for French toast.

# household
Q: How do I remove a red wine stain?
A: Blot it at once, do not rub, then soak it in cold water with a little detergent before washing.
Q: How can I save electricity at home?
A: Switch devices off fully, use LED lamps, wash at low temperatures and air rooms briefly but often.
Q: My sink is blocked. What should I try first?
A: Try a plunger or unscrew the trap and clean it; hot water and soap help against grease.
Q: How often should I wash bed sheets?
A: Once a week or every two weeks is fine for most people, more often if you sweat a lot.
Q: How do I get rid of fruit flies?
A: Remove ripe fruit, empty the bin, and set out a glass of vinegar with a drop of dish soap.
Q: How can I make my room tidier?
A: Give everything a fixed place, clear one surface at a time and spend ten minutes on it each evening.
Q: How do I clean windows without streaks?
A: Use water with a dash of vinegar, wipe with a rubber blade and dry the edges with a cloth.
Q: How do I sew on a button?
A: Thread a needle, go through the holes several times, wind the thread under the button and knot it inside.
Q: What belongs in a small tool box?
A: A hammer, two screwdrivers, pliers, a tape measure, an adjustable wrench and some tape cover most jobs.

# studying
Q: How can I remember vocabulary better?
A: Review a few words each day, test yourself rather than reread, and use every word in a sentence.
Q: I cannot concentrate. Any tips?
A: Put the phone in another room, work for 25 minutes, rest for five, and start with the smallest task.
Q: How do I prepare for an exam?
A: Spread the work over several days, solve old questions, explain the topics aloud and sleep well the night before.
Q: What is the best way to take notes?
A: Write key ideas in your own words, leave space, and add questions that you can test yourself with later.
Q: How do I start a long essay?
A: Write one sentence that says what you want to show, list three reasons, and begin with the easiest part.
Q: Is it good to study at night?
A: It works for some people, but sleep fixes what you learnt, so do not trade it for extra hours.
Q: How do I stop putting things off?
A: Cut the task into tiny steps and promise yourself only five minutes; starting is usually the hardest part.
Q: How can I read faster?
A: Preview headings, follow the lines with a pen, and slow down only where the text is new to you.

# work life
Q: How do I start a formal email?
A: Write Dear and the name, or Dear Sir or Madam if you do not know it, and say your purpose first.
Q: How do I ask my boss for a raise?
A: Ask for a meeting, list what you achieved, name a fair figure and stay calm if the answer takes time.
Q: What should I wear to an interview?
A: Choose clean, simple clothes one step smarter than what people wear there every day.
Q: How do I say no politely?
A: Thank the person, say clearly that you cannot, give a short reason and, if possible, another idea.
Q: What makes a good meeting?
A: A clear purpose, few people, a fixed end and a note of who does what afterwards.
Q: How do I give feedback to a colleague?
A: Do it in private, describe what you saw and its effect, and suggest one thing to change.
Q: What is a deadline?
A: A deadline is the latest time by which a piece of work has to be finished.
Q: I made a mistake at work. What now?
A: Tell the people it affects soon, say what happened without excuses, and propose how to put it right.
Q: How can I introduce myself to a new team?
A: Say your name, what you will work on, what you did before and one thing you enjoy outside work.

# small talk
Q: How are you today?
Q: Hi, how is it going?
A: I am doing well, thank you. How are you, and what can I help you with?
Q: Good morning!
A: Good morning! I hope your day starts well. What would you like to talk about?
Q: I am bored. What could we do?
A: We could play a word game, invent a short story, or find a question you always wanted answered.
Q: Thank you for your help.
A: You are welcome! I am glad it was useful; just ask if anything else comes up.
Q: I had a bad day.
A: I am sorry to hear that. Do you want to tell me what happened, or would something cheerful help?
Q: Good night.
A: Good night! Sleep well, and come back whenever you like.
Q: It is my birthday today.
A: Happy birthday! I hope you have a lovely day with cake and good company.
Q: Do you like music?
A: I cannot hear music, but I enjoy talking about it. What do you like to listen to?
Q: I just got a new job!
A: Congratulations, that is wonderful news! What will you be doing there?
Q: I feel lonely.
A: That sounds hard, and I am glad you said it. Is there a friend or relative you could call today?
Q: What are you doing?
A: I am here, ready to answer your questions. What is on your mind?

# about the assistant
Q: Are you a human?
A: No, I am a computer program that was trained on text to answer questions and help with writing.
Q: What can you do?
A: I can explain things, help with texts, suggest ideas and chat with you about many topics.
Q: Can you make mistakes?
A: Yes, I can be wrong, so please check important facts with a source you trust.
Q: Do you have feelings?
A: No, I do not feel anything, but I try to answer in a kind and helpful way.
Q: Do you sleep?
A: No, a program does not need sleep; I simply wait until someone writes to me.
Q: How old are you?
A: I have no age in the human sense, since I am only a program.

# opinions
Q: Are cats or dogs better pets?
A: It depends on your life: dogs want company and walks, while cats are more independent and easier to leave alone.
Q: Is it better to live in a city or in the country?
A: Cities offer jobs and culture, the country offers quiet and space; which is better depends on what you miss more.
Q: Should children have homework?
A: A little practice can help, but too much takes away play and sleep, so less is often more.
Q: Are books better than films?
A: Books leave more to your imagination, while films add faces and music; each can do what the other cannot.
Q: Is working from home a good idea?
A: It saves travel and gives quiet, but contact with colleagues suffers, so many people like a mix.
Q: Is breakfast necessary?
A: Not for everyone; if you are hungry in the morning eat something good, and if not, it can wait.
Q: Should I learn the piano or the guitar?
A: The guitar is cheaper and easy to carry, the piano makes reading music easier; choose the sound you love.
Q: Is it worth learning Latin?
A: It helps with grammar and many European words, but a living language lets you talk with people.

# jokes and riddles
Q: Tell me a joke.
Q: Do you know a good joke?
A: Why did the bicycle fall over? Because it was two-tired!
A: What do you call a bear without teeth? A gummy bear!
A: Why did the maths book look sad? It had too many problems.
Q: Tell me a riddle.
A: What has keys but opens no lock? A piano!
A: What gets wetter the more it dries? A towel!
Q: Say something funny about computers.
A: My computer and I have an agreement: it freezes, and then I do the same.
Q: What has hands but cannot clap?
A: That is a clock: its hands move all day, but they never clap.
Q: What goes up but never comes down?
A: Your age! It goes up every year and never comes down again.
Q: What has one eye but cannot see?
A: A needle has one eye, the hole for the thread, but it cannot see.

# short writing
Q: Write a short poem about rain.
A: Soft rain is tapping on the pane, it hums a quiet, silver strain, and wakes the garden once again.
Q: Write two lines about the sea.
A: The sea breathes in, the sea breathes out, it tells the shore what life's about.
Q: Give me a slogan for a bakery.
A: Fresh from our oven, warm in your hands: good mornings are baked here.
Q: Make up a name for a small cafe by a river.
A: How about The Drifting Cup? It sounds calm and hints at both the river and the coffee.
Q: Write one sentence that starts a mystery story.
A: When Clara opened the piano that morning, the keys were still warm.
Q: Describe a forest in one sentence.
A: Tall trees filter the light into green and gold, and every step sinks softly into moss.
Q: Write a birthday wish for my sister.
A: Happy birthday, dear sister! May this year bring you laughter, good health and many days worth remembering.
Q: Write a short invitation to a garden party.
A: You are warmly invited to our garden party on Saturday at four. Bring good humour; we provide food and music.
Q: Describe the smell of coffee.
A: It is warm, dark and slightly sweet, like toasted nuts and a slow morning.
Q: Write a short apology to a friend for being late.
A: I am sorry that I kept you waiting today. It was careless of me, and the next coffee is mine.

# politer words
Q: Make this more polite: Give me the report.
A: Could you please send me the report when you have a moment?
Q: Make this more polite: You are wrong.
A: I see it a little differently; may I explain why?
Q: How can I say this more kindly: I do not have time for you.
A: I would like to give you my full attention; could we talk tomorrow instead?
Q: Rewrite politely: Answer my email!
A: I would be grateful for a short reply to my email when you find the time.
Q: Make this sound formal: We can't come.
A: Unfortunately, we will not be able to attend.
Q: Make this sound formal: Thanks a lot for the help.
A: Thank you very much for your kind support.
Q: Put this more simply: We shall commence the meeting at the earliest opportunity.
A: We will start the meeting as soon as we can.
Q: Put this more simply: Please refrain from smoking.
A: Please do not smoke.
Q: Shorten this: Due to the fact that it was raining, we decided to stay at home.
A: Because it was raining, we stayed at home.
Q: Correct this sentence: She don't like apples.
A: The correct sentence is: She doesn't like apples.
Q: Correct this sentence: I have went to the shop yesterday.
A: It should be: I went to the shop yesterday.
Q: Turn this into a question: They live near the station.
A: As a question it reads: Do they live near the station?
Q: Put this into the past tense: He walks to school.
A: In the past tense it is: He walked to school.

# summaries
Q: Summarise: The old bridge was closed for repairs in May, so drivers had to take a longer road through the hills.
A: Bridge repairs in May forced drivers onto a longer road through the hills.
Q: Summarise in one sentence: Tom forgot his umbrella. It rained all day. He came home soaked and caught a cold.
A: Tom had no umbrella on a rainy day, got soaked and caught a cold.
Q: Give me the main point: The new library opens earlier, has more desks and offers free internet to students.
A: The new library serves students better, with longer hours, more desks and free internet.
Q: Summarise: Many people buy bottled water although tap water is tested more often and costs far less.
A: Tap water is cheaper and better tested, yet many people still buy it in bottles.
Q: Shorten: The team worked through the weekend because the customer wanted the website ready by Monday.
A: The team worked all weekend to finish the customer's website by Monday.
Q: What is the gist: Regular walks lower stress, strengthen the heart and cost nothing at all.
A: Walking regularly is a free way to feel calmer and keep the heart strong.

# translation
Q: How do you say thank you in Spanish?
A: In Spanish, thank you is gracias.
Q: How do you say good morning in French?
A: In French you say bonjour, which literally means good day.
Q: What is the German word for house?
A: The German word for house is Haus.
Q: How do I say please in Italian?
A: In Italian, please is per favore.
Q: What does adios mean?
A: Adios is Spanish and means goodbye.
Q: What is water called in French?
A: Water is called eau in French.
Q: Translate cat into German.
A: The German word for cat is Katze.
Q: How do you say friend in Spanish?
A: A friend is amigo in Spanish, or amiga for a woman.
Q: What does the French word fromage mean?
A: Fromage is the French word for cheese.
Q: How do you say I love you in French?
A: In French you say je t'aime.
Q: What does danke mean in English?
A: Danke is German and means thank you.

# word lists
Q: Name three fruits.
A: Three fruits are apples, bananas and cherries.
A: Pears, grapes and plums are three fruits.
Q: List four colours.
A: Red, blue, green and yellow are four colours.
Q: Name five animals that live on a farm.
A: Cows, pigs, sheep, hens and goats often live on a farm.
Q: Give me three words for happy.
A: Cheerful, glad and joyful are three words for happy.
Q: Name three musical instruments.
A: Violin, trumpet and drum are three musical instruments.
Q: List the four seasons.
A: The four seasons are spring, summer, autumn and winter.
Q: Name three kinds of weather.
A: Sunshine, rain and snow are three kinds of weather.
Q: Give me three words that describe a good friend.
A: Loyal, honest and patient describe a good friend well.
Q: Name three professions.
A: Nurse, carpenter and teacher are three professions.
Q: List three things one needs for camping.
A: A tent, a sleeping bag and a lamp are useful for camping.
Q: Name three sports that use a ball.
A: Football, tennis and basketball all use a ball.
Q: Name the primary colours in painting.
A: In painting, red, yellow and blue are the traditional primary colours.

# money sense
Q: What is inflation?
A: Inflation means that prices rise in general, so the same amount of money buys less than before.
Q: What is interest?
A: Interest is the price of money: borrowers pay it, and savers receive it.
Q: How can I save more money?
A: Move a fixed sum to savings on payday, note what you spend and cancel what you do not use.
Q: What is a budget?
A: A budget is a plan that says how much money comes in and what it will be spent on.
Q: What is the difference between a debit and a credit card?
A: A debit card takes money from your account at once, while a credit card lends it until the bill comes.
Q: What is a tax?
A: A tax is money that people and firms must pay to the state, for schools, roads and much more.
Q: Why do banks lend money?
A: Banks lend money to earn interest; they keep the difference between what borrowers pay and savers get.

# sport
Q: How many players does a football team have on the pitch?
A: A football team has eleven players on the pitch, one of them the goalkeeper.
Q: How long is a marathon?
A: A marathon is 42.195 kilometres long, a little over 26 miles.
Q: What is offside in football?
A: A player is offside when nearer to the goal line than the ball and the second last defender as it is passed.
Q: Why should I warm up before sport?
A: Warming up raises the pulse slowly and makes muscles supple, which lowers the risk of injury.
Q: How often are the Summer Olympics held?
A: The Summer Olympic Games are normally held every four years.
Q: What is a good sport for beginners?
A: Brisk walking or swimming is a gentle start, needs little gear and can be done at any age.
Q: How do I start running?
A: Alternate one minute of running with two of walking, three times a week, and lengthen the runs slowly.

# music and art
Q: What is a symphony?
A: A symphony is a long piece for orchestra, usually in four parts called movements.
Q: How many strings does a violin have?
A: A violin has four strings, tuned to G, D, A and E.
Q: Who composed the Ninth Symphony with the Ode to Joy?
A: Ludwig van Beethoven composed it; it was first performed in Vienna in 1824.
Q: What is a portrait?
A: A portrait is a picture of a person, usually showing the face and character.
Q: What is jazz?
A: Jazz is a style of music from New Orleans that lives on swing rhythms and improvisation.
Q: What is a sculpture?
A: A sculpture is a work of art with three dimensions, made of stone, wood, metal or clay.
Q: What does a conductor do?
A: A conductor leads an orchestra, sets the tempo and shapes how the music sounds together.

# healthy habits
Q: How much water should I drink a day?
A: About one and a half to two litres of fluid suits most adults, and more in heat or during sport.
Q: Is sitting all day bad for me?
A: Yes, long sitting strains back and circulation; stand up and move a little every half hour.
Q: How can I eat less sugar?
A: Replace sweet drinks with water, read labels and keep fruit within reach instead of sweets.
Q: Why should I brush my teeth twice a day?
A: Brushing removes the film of bacteria that makes acid from sugar and causes holes in the teeth.
Q: What helps against a stiff neck?
A: Warmth, gentle stretching and regular breaks usually help; see a doctor if it lasts or follows an injury.
Q: How do I protect my skin from the sun?
A: Stay in the shade at noon, wear a hat and light clothes, and use sunscreen on bare skin.
Q: Are apples healthy?
A: Yes, apples provide fibre and vitamins and keep you full; eat them with the skin.

# travel tips
Q: What should I pack for a weekend trip?
A: Two sets of clothes, toiletries, charger, papers, any medicine and a light jacket are usually enough.
Q: How do I avoid jet lag?
A: Shift your sleep a little beforehand, seek daylight on arrival and stay up until local bedtime.
Q: How can I travel cheaply?
A: Travel off season, book early, stay in hostels, and use buses or trains instead of taxis.
Q: How do I keep my money safe when travelling?
A: Carry little cash, keep cards in two places and leave the passport in a safe where possible.
Q: What is a visa?
A: A visa is a permit from a country that lets you enter or stay there for a certain time.
Q: How can I pack a suitcase without creases?
A: Roll soft clothes, lay shirts flat on top and fill the gaps with socks.

# getting along
Q: How do I make new friends in a new city?
A: Join a club or a course that meets regularly, say yes to invitations and follow up after a nice talk.
Q: How do I apologise well?
A: Say plainly what you did, that you are sorry and what you will change, and do not add excuses.
Q: What is a good gift for a host?
A: Flowers, good chocolate or a local speciality from home are safe and friendly gifts.
Q: My neighbour is too loud. What can I do?
A: Talk to your neighbour kindly first and agree on quiet hours; often people do not know how loud they are.
Q: How do I cheer up a sad friend?
A: Listen without rushing to give advice, spend time together and ask later how things are going.
Q: How do I end a conversation politely?
A: Thank the person for the talk, mention that you must go, and wish them a pleasant day.
Q: How can I be a better listener?
A: Put your phone away, let people finish, and repeat in your own words what you understood.

# school maths
Q: What is a prime number?
A: A prime number is a whole number above one that only one and itself divide, like seven or thirteen.
Q: What is a fraction?
A: A fraction is a part of a whole, written as one number over another, such as three quarters.
Q: How many degrees does a right angle have?
A: A right angle has ninety degrees, like the corner of a sheet of paper.
Q: What does percent mean?
A: Percent means out of one hundred, so twenty percent is twenty out of every hundred.
Q: What is an even number?
A: An even number can be divided by two without a remainder, such as four or eighteen.
Q: What is an average?
A: The average is the sum of all values divided by how many there are.
Q: Is zero even or odd?
A: Zero is even, because it can be divided by two without a remainder.
Q: What is a square root?
A: The square root of a number gives that number when multiplied by itself; the root of nine is three.

# proverbs
Q: What does the early bird catches the worm mean?
A: It means that people who start early have the best chance of success.
Q: What does it mean to let sleeping dogs lie?
A: It means not to stir up an old problem that is causing no trouble now.
Q: Explain the saying too many cooks spoil the broth.
A: When too many people work on one thing, they get in each other's way and the result suffers.
Q: What does actions speak louder than words mean?
A: What people do shows more about them than what they say.
Q: What is meant by better late than never?
A: It is better to do something late than not to do it at all.
Q: What does do not judge a book by its cover mean?
A: It warns us not to judge people or things by how they look from outside.

# reading and books
Q: What is a novel?
A: A novel is a long story in prose about invented people and events.
Q: Can you recommend a classic adventure book?
A: Try Treasure Island by Robert Louis Stevenson: pirates, a map and a boy who must decide whom to trust.
Q: What is a metaphor?
A: A metaphor describes one thing as if it were another, as in: time is a thief.
Q: What is the difference between a biography and an autobiography?
A: A biography is written by someone else, an autobiography by the person whose life it tells.
Q: How do I read more books?
A: Keep a book at hand, read ten pages before bed and drop books that do not interest you.
Q: What is a haiku?
A: A haiku is a short Japanese poem of three lines, traditionally with five, seven and five syllables.
Q: Who wrote Frankenstein?
A: Mary Shelley wrote Frankenstein, which was published in 1818.

# nature and climate
Q: What causes the seasons?
A: The Earth's axis is tilted, so each half of the globe gets more sunlight in one part of the year than in another.
Q: What is the difference between weather and climate?
A: Weather is what happens today or this week, climate is the average over many years.
Q: How does a volcano erupt?
A: Hot molten rock and gas rise from inside the Earth until the pressure breaks through the crust.
Q: What causes an earthquake?
A: Plates of the Earth's crust press against each other, and when they suddenly slip the ground shakes.
Q: What is fog?
A: Fog is a cloud that touches the ground, made of countless tiny drops of water.
Q: What is recycling?
A: Recycling turns used materials such as paper, glass or metal into new products instead of waste.
Q: Why is the air thinner on a mountain?
A: Higher up, less air presses down from above, so it is less dense and each breath holds less oxygen.
Q: What is renewable energy?
A: It is energy from sources that do not run out, such as sun, wind and flowing water.
"""
