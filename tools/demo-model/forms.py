"""What can be asked: each form makes one exchange, a list of (role, text).

A form's answer repeats words of its question in the same spelling, a space before them where the question has one:
then they are the same tokens, and the copying head finds them.
"""

import re

import about
import facts
import stories
import words

ASK_STORY = """Tell me a story about {x}|Tell me a story about {x}.|Tell me a short story about {x}.|Write a story about {x}.
|Write a short story about {x}.|Can you tell me a story about {x}?|Please tell me a story about {x}.|I would like a story about {x}.
|Make up a story about {x}.|A story about {x}, please.|story about {x}|tell me a story about {x}|Could you write a story about {x}?
|I want to hear a story about {x}.|Give me a story about {x}.|Once more, a story about {x}!|Write me a tale about {x}.
|Do you know a story about {x}?""".replace("\n", "").split("|")

ASK_ANY_STORY = """Tell me a story|Tell me a story.|Tell me a short story.|Write a story.|Can you tell me a story?|Please tell me a story.
|I am bored.|Tell me something.|Make something up.""".replace("\n", "").split("|")

PREFACE = """Here is a short story about {x}.|Here is a story about {x}.|This is a story about {x}.""".replace("\n", "").split("|")

SYSTEM = """You are a helpful assistant.|You are the demo model of Samovar.|You tell short stories.|Be brief.|You are a friendly assistant.
|Answer in English.|You are a helpful, honest assistant. Answer as well as you can.|You are Samovar.""".replace("\n", "").split("|")


# Every small word of the grammar, whatever it means.
ANY_WORDS = sorted(
    {word for line in stories.OPENINGS + stories.ENDINGS + [line for plot in stories.PLOTS for step in plot for line in step]
     for word in re.findall(r"(?<![{\w])[a-z]{3,}(?![}\w])", line)}
    | {word for lines in words.TRAITS.values() for line in lines for word in re.findall(r"(?<![{\w])[a-z]{3,}(?![}\w])", line)}
    | {name.lower() for name in words.NAMES} | set(words.TRAITS) | set(words.COLOURS) | set(words.DRINKS) | set(words.FRUITS)
)


def story(random):
    return story_told(random)[0]


def story_told(random):
    subject, told_name = hero(random), None
    trait = random.choice(list(words.TRAITS)) if random.random() < 0.5 else None
    asked = words.article(f"{trait} {subject}" if trait else subject)
    friend = place = None
    extra = random.random()
    if extra < 0.12:
        friend = random.choice([other for other in words.FRIENDS if other != subject])
        request = f"{asked} and {words.article(friend)}"
    elif extra < 0.2:
        place = random.choice(list(words.PLACES))
        request = f"{asked} {place}"
    elif extra < 0.28:
        told_name = random.choice(words.NAMES)
        request = f"{asked} named {told_name}"
    else:
        request = asked
    tale = stories.tell(random, subject, trait, friend, place, told_name)
    question = random.choice(ASK_STORY).replace("{x}", request)
    answer = tale.text
    if random.random() < 0.6:
        answer = random.choice(PREFACE).replace("{x}", request) + " " + answer
    return [("user", question), ("assistant", answer)], tale


def hero(random):
    """Mostly who could be one; now and then any word at all, so that heroes are copied and not just recognised."""
    kind = random.random()
    if kind < 0.1:
        return words.invented(random)
    if kind < 0.24:
        return random.choice(ANY_WORDS)
    return random.choice(words.HEROES)


def any_story(random):
    tale = stories.tell(random, random.choice(words.HEROES))
    return [("user", random.choice(ASK_ANY_STORY)), ("assistant", tale.text)]


def story_then_question(random):
    turns, tale = story_told(random)
    for _ in range(random.choice([1, 1, 2])):
        turns = turns + question_about(random, tale)
    return turns


def question_about(random, tale):
    kinds = ["who", "where", "friend"] + (["name"] * 2 if tale.name else [])
    kind = random.choice(kinds)
    if kind == "who":
        ask = random.choice(["Who was the story about?", "Who is the hero?", "What was the story about?", "Who was the hero of the story?"])
        return [("user", ask), ("assistant", f"The story was about {words.article(tale.hero)}.")]
    if kind == "where":
        ask = random.choice([f"Where did the {tale.subject} live?", f"Where does the {tale.subject} live?"])
        return [("user", ask), ("assistant", f"The {tale.subject} lived {tale.place}.")]
    if kind == "friend" and tale.friend in tale.text:
        ask = random.choice([f"Whom did the {tale.subject} meet?", f"Who met the {tale.subject}?"])
        return [("user", ask), ("assistant", f"The {tale.subject} met {words.article(tale.friend)}.")]
    if kind == "name":
        ask = random.choice([f"What was the name of the {tale.subject}?", f"What was the {tale.subject} called?"])
        return [("user", ask), ("assistant", f"The name of the {tale.subject} was {tale.name}.")]
    return []


def two_stories(random):
    """The second hero must win over the first, whose story is still in sight."""
    turns, first = story_told(random)
    subject = hero(random)
    tale = stories.tell(random, subject)
    asked = words.article(subject)
    ask = random.choice([f"Now one about {asked}.", f"Now a story about {asked}.", f"And one about {asked}?", f"Tell me a story about {asked}"])
    return turns + [("user", ask), ("assistant", tale.text)]


def poem(random):
    subject = hero(random)
    couplets = random.sample(range(len(COUPLETS)), 2)
    if random.random() < stories.FAVOURITE:
        couplets[0] = stories.favourite(range(len(COUPLETS)), "couplet", subject)
        couplets[1] = (couplets[0] + 1 + stories.favourite(range(len(COUPLETS) - 1), "second", subject)) % len(COUPLETS)
    lines = "\n".join(COUPLETS[i].replace("{s}", subject) for i in couplets)
    ask = random.choice(ASK_POEM).replace("{x}", words.article(subject))
    return [("user", ask), ("assistant", lines)]


ASK_POEM = """Write a poem about {x}.|Write a poem about {x}|Tell me a poem about {x}.|Write a short poem about {x}.|A poem about {x}, please.
|Can you write a poem about {x}?""".replace("\n", "").split("|")

COUPLETS = [
    "The {s} sat down beside the sea\nand hummed a song for you and me.",
    "The {s} looked up into the night\nand waited for the morning light.",
    "A {s} came walking down the lane\nand did not mind the wind and rain.",
    "The {s} was dreaming in the sun\nof all the things it had not done.",
    "I saw a {s} upon the hill,\nand if I look, I see it still.",
    "The {s} said softly to the moon:\nI hope that you come back here soon.",
    "When winter comes and days are cold,\nthe {s} has stories to be told.",
    "Oh {s}, my {s}, where do you go\nwith tiny footsteps in the snow?",
    "The tea is hot, the night is long,\nthe {s} is singing us a song.",
    "The {s} went out to find a friend\nand found one at the river's end.",
    "A little star fell from the sky.\nThe {s} looked up and asked it why.",
    "The {s} is small, the world is wide,\nbut they are walking side by side.",
]


# Pairs (from, to) that no training document counts: a count must be worked out, not remembered.
HELD_OUT_COUNTS = {(a, a + n) for a in range(1, 86) for n in range(2, 15) if (a * 31 + n * 17) % 11 == 0}


def count(random):
    while True:
        start = random.randint(1, 85) if random.random() < 0.5 else random.randint(1, 12)
        stop = start + random.randint(2, 14)
        if (start, stop) not in HELD_OUT_COUNTS:
            break
    step = 1
    if random.random() < 0.2:
        start, stop, step = stop, start, -1
    down = "down " if step < 0 else ""
    ask = random.choice(
        [f"Count {down}from {start} to {stop}", f"Count {down}from {start} to {stop}.", f"Please count {down}from {start} to {stop}.",
         f"Can you count {down}from {start} to {stop}?", f"count {down}from {start} to {stop}"]
    )
    if step > 0 and random.random() < 0.2:
        start = 1
        ask = random.choice([f"Count to {stop}", f"Count to {stop}.", f"Please count to {stop}.", f"Can you count to {stop}?"])
        stop = min(stop, 20)
        ask = ask.replace(ask.split()[-1].strip(".?"), str(stop))
    numbers = ", ".join(str(n) for n in range(start, stop + step, step))
    return [("user", ask), ("assistant", f"Here we go: {numbers}.")]


def next_number(random):
    n = random.randint(1, 98)
    there = random.choice(["after", "before"])
    other = n + 1 if there == "after" else n - 1
    ask = random.choice([f"What number comes {there} {n}?", f"What comes {there} {n}?", f"Which number comes {there} {n}?"])
    return [("user", ask), ("assistant", f"The number {there} {n} is {other}.")]


def fact(random):
    makers, weights = zip(*facts.ALL.values())
    ask, answer = random.choices(makers, weights)[0](random)
    return [("user", ask), ("assistant", answer)]


def product(random):
    answer, ways = random.choice(about.ABOUT)
    return [("user", loosely(random, random.choice(ways[:-1]))), ("assistant", answer)]


def greeting(random):
    answer, ways = random.choice(about.GREETINGS)
    return [("user", random.choice(ways)), ("assistant", answer)]


def loosely(random, question):
    """As people type: now and then polite, without a capital, without the question mark."""
    if random.random() < 0.15:
        question = question[0].lower() + question[1:] if not question.startswith("I ") else question
    if random.random() < 0.15:
        question = question.rstrip("?.")
    if random.random() < 0.05:
        question = "Please: " + question
    return question


def unknown(random):
    noun = random.choice(words.SUBJECTS) if random.random() < 0.6 else words.invented(random)
    made = words.capital(words.invented(random))
    ask = random.choice(UNKNOWN_QUESTIONS).replace("{n}", words.article(noun)).replace("{M}", made).replace("{s}", noun)
    return [("user", ask), ("assistant", about.UNKNOWN)]


UNKNOWN_QUESTIONS = """What is the capital of {M}?|Who was {M}?|Where is {M}?|How do I build {n}?|How much does {n} cost?|Write a program in {M}.
|Translate {s} into French.|What is the weather like in {M}?|Who won the game?|What time is it?|What is the meaning of life?|How old is {M}?
|Write code that sorts a list.|Explain how {n} works.|What is the population of {M}?|Solve this equation.|Who is the president of {M}?
|What do you think about {M}?|How far is it to {M}?|When was {M} born?|What is {M}?|How do I repair {n}?|Why is the sea salty?
|What is the best {s}?|Where can I buy {n}?|Who invented the {s}?|Write an email to {M}.|What happened in the year 1990?|How heavy is {n}?
|Give me a recipe for soup.|What is the square root of 2?|Sing in {M}.|Draw {n}.|What is love?|Is {M} a good place?""".replace("\n", "").split("|")


def memory(random):
    """Something is told, something else happens, and then it is asked for."""
    told = random.choices([remember_name, remember_favourite, remember_pet, remember_town], [5, 2, 2, 2])[0](random)
    tell, reply, ask, answer = told
    turns = [("user", tell), ("assistant", reply)]
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        turns += random.choice([fact, product, greeting, count])(random)
    return turns + [("user", ask), ("assistant", answer)]


def remember_name(random):
    name = random.choice(words.NAMES) if random.random() < 0.75 else words.capital(words.invented(random))
    tell = random.choice(["My name is {}.", "Hello, my name is {}.", "I am called {}.", "Hi, I am {}.", "my name is {}", "Hello! My name is {}.", "Please call me {}."])
    ask = random.choice(["What is my name?", "What is my name?", "Do you remember my name?", "Who am I?", "what is my name", "How am I called?"])
    return tell.format(name), f"Nice to meet you, {name}.", ask, f"Your name is {name}."


def remember_favourite(random):
    kind, options = random.choice([("colour", words.COLOURS), ("fruit", words.FRUITS), ("drink", words.DRINKS), ("animal", words.ANIMALS)])
    choice = random.choice(options)
    return (f"My favourite {kind} is {choice}.", f"I will remember that your favourite {kind} is {choice}.",
            f"What is my favourite {kind}?", f"Your favourite {kind} is {choice}.")


def remember_pet(random):
    pet, name = random.choice(words.ANIMALS), random.choice(words.NAMES)
    return (f"I have {words.article(pet)} named {name}.", f"{name} is a nice name for {words.article(pet)}.",
            random.choice([f"What is the name of my {pet}?", f"What is my {pet} called?"]), f"The name of your {pet} is {name}.")


def remember_town(random):
    town = words.capital(words.invented(random))
    return (f"I live in {town}.", f"I hope that {town} is a nice place.", "Where do I live?", f"You live in {town}.")


def continuation(random):
    tale = stories.tell(random, hero(random), random.choice([None, random.choice(list(words.TRAITS))]))
    parts = tale.text.split(" ")
    cut = random.randint(6, max(7, len(parts) // 2))
    ask = random.choice(["Continue: ", "Continue this story: ", "Go on: ", "Continue the text: ", "How does this go on? "])
    return [("user", ask + " ".join(parts[:cut])), ("assistant", " ".join(parts[cut:]))]


def plain_story(random):
    trait = random.choice(list(words.TRAITS)) if random.random() < 0.3 else None
    return [(None, stories.tell(random, hero(random), trait).text)]


def repetition(random):
    """The copy-dense form: nothing in it can be known except by looking back. Never phrased like a request for a story."""
    word = lambda: any_word(random)
    kind = random.randrange(4)
    if kind == 0:
        return repetition_exchange(random)
    if kind == 1:
        pairs = {word(): word() for _ in range(random.randint(3, 8))}
        listed = "; ".join(f"{key} has {value}" for key, value in pairs.items())
        turns = [("user", "Remember: " + listed + "."), ("assistant", "I will remember: " + listed + ".")]
        for key in random.sample(list(pairs), min(3, len(pairs))):
            turns += [("user", f"What does {key} have?"), ("assistant", f"That is easy: {key} has {pairs[key]}.")]
        return turns
    if kind == 2:
        run = [word() for _ in range(random.randint(4, 20))]
        return [(None, " ".join(run * random.randint(2, 4)))]
    text, times = word(), random.randint(2, 5)
    return [("user", f"Say {text} {words.NUMBERS[times - 1]} times."), ("assistant", "Here you are: " + " ".join([text] * times) + ".")]


def repetition_exchange(random):
    text = " ".join(any_word(random) for _ in range(random.randint(2, 14)))
    ask = random.choice(["Repeat: ", "Say again: ", "Repeat after me: ", "Echo: "])
    return [("user", ask + text), ("assistant", "You said: " + text)]


def any_word(random):
    return random.choice([random.choice(words.SUBJECTS), random.choice(words.NAMES), random.choice(list(words.TRAITS)),
                          words.invented(random), str(random.randint(1, 99))])


# form -> (maker, share of the documents)
FORMS = {
    "story": (story, 34),
    "any_story": (any_story, 2),
    "story_then_question": (story_then_question, 6),
    "two_stories": (two_stories, 3),
    "plain_story": (plain_story, 9),
    "continuation": (continuation, 6),
    "poem": (poem, 4),
    "count": (count, 13),
    "next_number": (next_number, 2),
    "fact": (fact, 12),
    "product": (product, 13),
    "greeting": (greeting, 4),
    "unknown": (unknown, 3),
    "memory": (memory, 8),
}


def document(random, form=None):
    """One document, sometimes with a system message or a few words of small talk in front."""
    if form is None:
        makers, shares = zip(*FORMS.values())
        form = random.choices(list(FORMS), shares)[0]
    turns = repetition(random) if form == "repetition" else FORMS[form][0](random)
    if turns[0][0] is not None:
        if form in ("story", "product", "count", "fact") and random.random() < 0.12:
            turns = random.choice([greeting, product, fact])(random) + turns
        if random.random() < 0.12:
            turns = [("system", random.choice(SYSTEM))] + turns
    return form, turns
