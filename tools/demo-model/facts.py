"""The few facts about the world that the model learns by heart, as (question, answer) pairs."""

import words

OPPOSITES = """hot cold|big small|old young|happy sad|day night|up down|left right|open closed|fast slow|black white|good bad
|hard soft|high low|wet dry""".replace("\n", "").split("|")

SOUNDS = """dog woof|cat meow|cow moo|sheep baa|duck quack|pig oink|horse neigh|owl hoot|mouse squeak|lion roar|frog croak
|bee buzz|rooster cock-a-doodle-doo|snake hiss|crow caw""".replace("\n", "").split("|")

COLOURS = """the sky blue|grass green|snow white|the sun yellow|a fox red|a crow black|a lemon yellow|a cherry red|milk white
|coal black|a frog green|an elephant grey|a carrot orange|chocolate brown""".replace("\n", "").split("|")

LEGS = """a spider eight|a dog four|a cat four|a bird two|an ant six|a horse four|a bee six|a snake no|a fish no|a chair four
|a human two|a beetle six""".replace("\n", "").split("|")

# One canonical order, so that a greedy choice never has to pick among equals and never repeats itself.
LISTS = {
    "animals": "fox, owl, hare, mouse, bear, wolf, cat, dog".split(", "),
    "colours": "red, blue, green, yellow, orange, purple, white, black".split(", "),
    "fruits": "apple, pear, plum, cherry, orange, banana, lemon, peach".split(", "),
    "days": words.DAYS,
    "months": words.MONTHS[:8],
    "drinks": words.DRINKS,
    "birds": "owl, robin, crow, swan, duck, eagle, heron, stork".split(", "),
    "seasons": words.SEASONS,
    "tools": "hammer, saw, nail, rope, brush, needle".split(", "),
}


def weekday(random):
    return _neighbour(random, "day", words.DAYS)


def month(random):
    return _neighbour(random, "month", words.MONTHS)


def _neighbour(random, noun, ring):
    at = random.randrange(len(ring))
    there = random.choice(["after", "before"])
    other = ring[(at + (1 if there == "after" else -1)) % len(ring)]
    ask = random.choice(
        [f"What {noun} comes {there} {ring[at]}?", f"Which {noun} comes {there} {ring[at]}?", f"What comes {there} {ring[at]}?",
         f"what {noun} comes {there} {ring[at]}", f"What {noun} is {there} {ring[at]}?", f"Tell me the {noun} {there} {ring[at]}."]
    )
    return ask, f"The {noun} {there} {ring[at]} is {other}."


def opposite(random):
    pair = random.choice(OPPOSITES).split()
    one, other = pair if random.random() < 0.5 else pair[::-1]
    ask = random.choice([f"What is the opposite of {one}?", f"Tell me the opposite of {one}.", f"opposite of {one}", f"What is the contrary of {one}?"])
    return ask, f"The opposite of {one} is {other}."


def sound(random):
    animal, says = random.choice(SOUNDS).split()
    animal = words.article(animal)
    ask = random.choice([f"What sound does {animal} make?", f"What does {animal} say?", f"Which sound does {animal} make?"])
    return ask, f"{words.capital(animal)} says {says}."


def colour(random):
    thing, hue = random.choice(COLOURS).rsplit(" ", 1)
    ask = random.choice([f"What colour is {thing}?", f"Which colour is {thing}?", f"What color is {thing}?", f"Tell me the colour of {thing}."])
    return ask, f"{words.capital(thing)} is {hue}."


def legs(random):
    animal, count = random.choice(LEGS).rsplit(" ", 1)
    ask = random.choice([f"How many legs does {animal} have?", f"how many legs does {animal} have", f"Tell me how many legs {animal} has."])
    return ask, f"{words.capital(animal)} has {count} legs."


def listing(random):
    what = random.choice(list(LISTS))
    items = LISTS[what]
    count = random.randint(2, min(6, len(items)))
    number = random.choice([words.NUMBERS[count - 1], str(count)])
    ask = random.choice([f"Name {number} {what}.", f"List {number} {what}.", f"Tell me {number} {what}.", f"Name {number} {what}", f"Give me a list of {number} {what}."])
    shown = items[:count]
    return ask, words.capital(", ".join(shown[:-1])) + " and " + shown[-1] + "."


ALL = {
    "weekday": (weekday, 4), "month": (month, 3), "opposite": (opposite, 3), "sound": (sound, 2), "colour": (colour, 2),
    "legs": (legs, 2), "list": (listing, 3),
}
