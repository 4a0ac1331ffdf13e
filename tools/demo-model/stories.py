"""Stories of about a hundred words: a hero with a trait, a place, a friend, a problem, an ending.

Two kinds of choices. Most follow from the hero: a hash of the subject picks its favourite name, place, friend and plot, so
that a greedy reader of the trained model gets a different story for each subject. The others are free, so that no
two stories are alike and the model learns how stories go instead of learning stories.
"""

import hashlib
from dataclasses import dataclass, field

import words

FAVOURITE = 0.6  # how often a hero gets its favourite


@dataclass
class Story:
    subject: str
    trait: str | None
    name: str | None
    place: str
    friend: str
    text: str = ""
    fields: dict = field(default_factory=dict)

    @property
    def hero(self):
        """`brave fox`"""
        return f"{self.trait} {self.subject}" if self.trait else self.subject


def favourite(options, *key):
    digest = hashlib.sha256("/".join(key).encode()).digest()
    return options[int.from_bytes(digest[:4], "big") % len(options)]


def tell(random, subject, trait=None, friend=None, place=None, name=None):
    def choose(slot, options, key=subject):
        options = list(options)
        return favourite(options, slot, key) if random.random() < FAVOURITE else random.choice(options)

    named = name is not None or random.random() < 0.5
    gender = gender_of(subject) or choose("gender", ["he", "she"])
    fitting = [other for other in words.NAMES if gender == "it" or (other in words.SHE) == (gender == "she")]
    name = name or (choose("name", fitting) if named else None)
    if name and gender != "it":
        gender = "she" if name in words.SHE else "he"
    friend = friend or choose("friend", [other for other in words.FRIENDS if other != subject])
    place = place or choose("place", words.PLACES)
    shown_trait = trait or (choose("trait", words.TRAITS) if random.random() < 0.5 else None)
    story = Story(subject, trait, name, place, friend)

    he, him, his = PRONOUNS[gender]
    short = lambda: name if named and random.random() < 0.35 else f"the {subject}"
    treasure = choose("treasure", words.TREASURES)
    sight = choose("sight", words.SIGHTS)
    skill = choose("skill", words.SKILLS)
    introduced = words.article(f"{shown_trait} {subject}" if shown_trait else subject)

    def fill(line):
        # The hero is named anew at each mention, so every occurrence is drawn separately.
        while "{h}" in line or "{H}" in line:
            at = min(i for i in (line.find("{h}"), line.find("{H}")) if i >= 0)
            who = short() if line[at + 1] == "h" else words.capital(short())
            line = line[:at] + who + line[at + 3 :]
        fields = dict(
            he=he, him=him, his=his, He=words.capital(he), His=words.capital(his), f=f"the {friend}", F=f"The {friend}",
            a_f=words.article(friend), A_f=words.capital(words.article(friend)), s=subject,
            a_s=introduced, A_s=words.capital(introduced),
            place=place, spot=words.PLACES.get(place, "not far away"), thing=treasure,
            the_thing="the " + treasure.split(" ", 1)[1], sight=sight,
            skill=skill, named=f" named {name}" if named else "",
        )
        for key, value in fields.items():
            line = line.replace("{" + key + "}", value)
        return line

    plot = choose("plot", PLOTS, key=trait or subject)
    lines = [choose("opening", OPENINGS)]
    if shown_trait:
        lines.append(words.TRAITS[shown_trait][0])
    # A list of lists: of each, one sentence.
    lines += [choose(f"{PLOTS.index(plot)}.{i}", step) for i, step in enumerate(plot)]
    if shown_trait:
        lines.insert(len(lines) - 1, words.TRAITS[shown_trait][1])
    lines.append(choose("ending", ENDINGS))
    story.text = " ".join(fill(line) for line in lines)
    return story


def gender_of(subject):
    """`None` for those who can be either."""
    if subject in ("girl", "queen", "princess", "witch", "grandmother", "mermaid", "fairy", "hen", "cow"):
        return "she"
    if subject in ("boy", "king", "prince", "wizard", "grandfather", "fisherman", "postman", "rooster", "snowman"):
        return "he"
    return None if subject in words.ANIMALS + words.PEOPLE + words.CREATURES else "it"


PRONOUNS = {"he": ("he", "him", "his"), "she": ("she", "her", "her"), "it": ("it", "it", "its")}

OPENINGS = [
    "Once upon a time, {place}, there lived {a_s}{named}.",
    "There was once {a_s}{named} who lived {place}.",
    "Long ago, {place}, lived {a_s}{named}.",
    "{a_s}{named} lived {place}.",
    "Not far from here, {place}, you could meet {a_s}{named}.",
    "Everybody {place} knew {a_s}{named}.",
    "This is the story of {a_s}{named} who lived {place}.",
    "One winter there was {a_s}{named} {place}.",
]
# An opening that begins with the hero needs its capital.
OPENINGS = [line.replace("{a_s}", "{A_s}", 1) if line.startswith("{a_s}") else line for line in OPENINGS]

ENDINGS = [
    "And from that day on, {h} and {f} were the best of friends.",
    "That night {h} slept better than ever before.",
    "And if you go there today, you may still see {h} smile.",
    "{H} never forgot that day.",
    "So {h} went home, tired and happy.",
    "And they all drank tea together until the stars came out.",
    "Since then {h} tells this story to everyone who wants to hear it.",
    "And {h} learned that good friends are worth more than gold.",
    "Small steps, said {h}, can lead to big things.",
    "In the end everyone clapped for {h}.",
]

PLOTS = [
    [  # something is lost
        ["One morning {h} found that {thing} was gone.", "One day {h} lost {thing}.", "In the middle of the night somebody took {thing} away."],
        ["{H} looked everywhere, but {the_thing} was not there.", "{H} searched the whole house without luck.", "Without {the_thing}, {h} could not be happy."],
        ["{A_f} came by and asked what was wrong.", "{H} went to ask {a_f} for help.", "On the way {h} met {a_f}."],
        ["\"I saw something shine {spot},\" said {f}.", "\"Let us look {spot},\" said {f}.", "\"Have you tried to look {spot}?\" asked {f}."],
        ["They went there together, and the wind blew cold.", "The way was long, but they sang a song.", "{H} and {f} walked side by side."],
        ["And there it was: {the_thing}, safe and sound.", "{H} found {the_thing} under a heap of leaves.", "There {h} saw {the_thing} and laughed with joy."],
    ],
    [  # a storm
        ["One evening a great storm came.", "One night the rain would not stop.", "In autumn a cold wind began to blow."],
        ["The thunder was loud, and {h} closed the door.", "{H} watched the dark clouds roll in.", "{H} lit a small light and waited."],
        ["Then there was a knock at the door.", "Then {h} heard a small voice outside.", "Suddenly somebody called for help."],
        ["It was {a_f}, wet and cold.", "{A_f} stood there, shaking in the rain.", "Outside stood {a_f} with nowhere to go."],
        ["\"Come in,\" said {h}, \"there is room for two.\"", "\"You can stay here,\" said {h}.", "\"Please come in and get warm,\" said {h}."],
        ["{H} gave {f} {thing} and a cup of hot tea.", "They shared a bowl of soup by the fire.", "They told each other stories until the storm was over."],
        ["In the morning the sun was shining.", "When they woke up, the sky was clear.", "At dawn a rainbow stood over the land."],
    ],
    [  # a race
        ["One day there was a big race.", "Every summer there was a race {spot}.", "Everyone was talking about the great race."],
        ["\"You can never win,\" said {a_f}.", "\"I am the fastest of all,\" said {a_f}.", "{A_f} laughed and said, \"I will win.\""],
        ["{H} smiled and walked to the start.", "{H} did not say a word.", "\"We will see,\" said {h}."],
        ["They ran past the trees and over the bridge.", "At first {f} was far ahead.", "The race went up the hill and down again."],
        ["Then {f} fell into a hole and could not get out.", "Halfway there, {f} hurt a foot.", "But {f} took the wrong way and got lost."],
        ["{H} stopped and went back to help.", "{H} could have won, but {he} turned around.", "{H} did not run on but helped {f}."],
        ["They crossed the line together.", "So they both came last, and nobody cared.", "Hand in hand they finished the race."],
    ],
    [  # a journey
        ["All {his} life {h} had wanted to see {sight}.", "{H} dreamed of {sight}.", "One day {h} heard about {sight}."],
        ["So {h} packed {thing} and set out.", "Early in the morning {h} left home.", "{H} took {thing} and some bread and went away."],
        ["On the road {he} met {a_f}.", "After three days {he} met {a_f}.", "At the crossroads sat {a_f}."],
        ["\"May I come with you?\" asked {f}.", "\"The way is long,\" said {f}, \"let us go together.\"", "\"I know the way,\" said {f}."],
        ["They crossed a river and slept under the stars.", "They climbed over rocks and walked through fog.", "When one was tired, the other told a joke."],
        ["At last they stood before {sight}.", "And then, one evening, they saw {sight}.", "Behind the last hill was {sight}."],
        ["It was more beautiful than {h} had dreamed.", "{H} could not say a word.", "\"It was worth every step,\" said {h}."],
    ],
    [  # something is broken
        ["One day the old bridge broke.", "One morning the well was dry.", "One night the big clock stopped."],
        ["Nobody knew what to do.", "Everyone was worried.", "People stood around and shook their heads."],
        ["\"I will try to mend it,\" said {h}.", "\"Let me have a look,\" said {h}.", "{H} could not sleep and thought about it all night."],
        ["{A_f} brought some rope and {thing}.", "{A_f} came to help with {thing}.", "{H} asked {a_f} to hold the light."],
        ["They worked all day and all night.", "{H} pulled, and {f} pushed.", "It was hard, but they did not give up."],
        ["In the morning everything worked again.", "At last it was as good as new.", "And then, with a little click, it was done."],
        ["Everyone thanked {h} and {f}.", "People came from far away to see it.", "There was a feast {spot}."],
    ],
    [  # a strange sound
        ["Every night {h} heard a strange sound.", "One night {h} woke up from a strange noise.", "There was a soft music in the air, and nobody knew where it came from."],
        ["It came from somewhere {spot}.", "It seemed to come from a place {spot}.", "{H} followed it until {he} stood {spot}."],
        ["{H} took a lantern and went to look.", "{H} tiptoed through the dark.", "The moon was bright, and {h} went on."],
        ["There sat {a_f} with {thing}.", "And who was there? It was {a_f}, all alone.", "It was only {a_f} who could not sleep."],
        ["\"I am sorry,\" said {f}, \"I was so alone.\"", "\"I play for the moon,\" said {f}.", "\"Did I wake you?\" asked {f}."],
        ["\"Then play for me too,\" said {h}.", "\"Do not be sorry,\" said {h}, \"it is lovely.\"", "{H} sat down and listened."],
    ],
    [  # learning to do something
        ["{H} wanted to learn to {skill}.", "More than anything {h} wished to {skill}.", "One day {h} decided to learn to {skill}."],
        ["But the first try went wrong.", "At first it did not go well at all.", "Everyone laughed at the first try."],
        ["{H} went to {a_f}, who was a good teacher.", "\"I can teach you,\" said {a_f}.", "{A_f} said, \"Try once more, and go slowly.\""],
        ["Day after day {h} practised {spot}.", "{H} practised in the morning and in the evening.", "In rain and in sun {h} practised."],
        ["Sometimes {he} wanted to give up.", "It took a whole year.", "Little by little it became easier."],
        ["At the big feast {h} showed what {he} could do.", "In spring there was a feast, and everyone came to watch.", "Then came the great day."],
        ["Nobody had ever seen anyone {skill} like that.", "It was wonderful.", "\"Look, {h} can {skill}!\" cried {f}."],
    ],
    [  # a gift
        ["It was the birthday of {a_f}.", "Soon {a_f} would have a birthday.", "{H} wanted to give {a_f} a gift."],
        ["But {h} had no money at all.", "But what could {h} give?", "{H} looked in every shop but found nothing."],
        ["So {he} decided to make {thing}.", "Then {he} remembered {thing}.", "So {h} looked {spot} and found {thing}."],
        ["{H} worked on it all night.", "{H} wrapped {the_thing} in paper.", "{H} carried {the_thing} home with great care."],
        ["When {f} saw it, {f} began to cry with joy.", "{F} opened it and was silent for a long time.", "\"For me?\" asked {f}."],
        ["\"It is the best gift I ever got,\" said {f}.", "\"Nobody ever gave me anything,\" said {f}.", "\"You are a true friend,\" said {f}."],
    ],
    [  # a stranger
        ["One day a stranger came along the road.", "One afternoon somebody arrived with a heavy bag.", "In spring somebody new moved in next door."],
        ["It was {a_f} from a far country.", "It was {a_f}, and nobody wanted to talk to {f}.", "It was {a_f} who knew nobody here."],
        ["{H} was the only one to say hello.", "{H} brought {thing} as a welcome.", "\"Welcome,\" said {h}, \"shall I show you around?\""],
        ["{H} showed {f} the best spot, right {spot}.", "They sat together {spot}.", "They walked around, and {h} talked the whole time."],
        ["{F} knew songs that nobody had heard before.", "{F} told of ships and cities and deserts.", "{F} could {skill} better than anyone."],
        ["Soon everyone wanted to hear more.", "By evening all the neighbours had come.", "And so the stranger became a neighbour."],
    ],
    [  # a wish
        ["One night {h} saw a falling star and made a wish.", "One day {h} found {thing}, and it began to speak.", "{H} caught a small fish that could talk."],
        ["\"You have one wish,\" said a voice.", "\"What do you want most?\" asked a voice.", "A voice said, \"Choose well.\""],
        ["{H} thought of gold and of a big house.", "{H} thought for a long time.", "First {h} wanted to wish for {sight}."],
        ["But then {h} saw {a_f} who was ill.", "But just then {a_f} came by, sad and alone.", "Then {h} thought of {f}, who had lost everything."],
        ["\"I wish that {f} is well again,\" said {h}.", "\"Please help {f},\" said {h}.", "So {h} gave the wish away."],
        ["In a blink everything was fine.", "There was a flash of light, and {f} laughed.", "And the wish came true at once."],
    ],
]
