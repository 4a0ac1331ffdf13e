"""The small world that all text is made of: who, where, what, and how they are."""

ANIMALS = """fox owl hare mouse bear wolf cat dog hen duck goose crow robin sparrow swan frog toad snail otter beaver badger
hedgehog squirrel mole rabbit deer goat sheep lamb horse pony donkey cow pig piglet turtle fish whale dolphin seal crab
lion tiger elephant giraffe monkey parrot penguin camel kangaroo panda koala zebra spider bee ant beetle butterfly moth
firefly dragonfly caterpillar worm bat bison chicken cricket crocodile fly gorilla hamster leopard octopus ostrich shark swallow
turkey walrus weasel kitten puppy raven magpie stork heron eagle falcon pigeon peacock rooster lizard snake""".split()

PEOPLE = """baker farmer miller sailor fisherman painter gardener tailor shepherd clockmaker teacher doctor librarian carpenter
postman cook king queen prince princess knight wizard witch giant pirate girl boy grandmother grandfather child musician
dancer captain inventor beekeeper potter
astronaut detective hunter soldier student thief singer writer nurse tourist stranger brother sister mother father uncle aunt
friend neighbour traveller merchant smith""".split()

OBJECTS = """kettle teapot cup spoon clock lamp candle lantern broom button boat ship train wagon cart bicycle kite balloon drum
bell violin piano book pencil map key mirror umbrella hat coat boot blanket pillow chair table door window bridge tower
lighthouse windmill snowman robot doll puppet cloud star moon raindrop snowflake river stone mountain tree leaf flower rose
sunflower mushroom pumpkin potato apple pear samovar computer rocket tractor bus car house castle scarecrow wheel ball
box basket bottle bucket bowl cake candy carpet carrot cheese chimney coin comet cookie crown desk drawer feather fence field
flag flute garden glove hammer harp island jar kitchen ladder letter mask mill needle nest ocean onion oven painting paintbrush pan
pebble pen picture pillar plate pond pot purse puzzle ring road rope sandwich scarf school seed shell shoe sock soup statue
storm string sun sword telescope tent thimble ticket tomato toy trumpet vase village wall watch wave well whistle wind yacht""".split()

CREATURES = """angel vampire zombie alien mummy dragon unicorn troll fairy elf ghost goblin mermaid phoenix dinosaur monster gnome""".split()

SUBJECTS = ANIMALS + PEOPLE + OBJECTS + CREATURES

# Known words that never were the hero of a training story: do stories follow the prompt, or memory?
HELD_OUT_SUBJECTS = "hedgehog falcon lizard carpenter potter wagon violin umbrella windmill rocket gnome camel".split()
HEROES = [subject for subject in SUBJECTS if subject not in HELD_OUT_SUBJECTS]

# What a hero may meet. Animals only, so that a friend can always talk, walk and wave in a children's story.
FRIENDS = """owl mouse hare crow frog snail otter badger squirrel mole robin duck goat cat dog turtle bee sparrow heron
beetle donkey goose""".split()

NAMES = """Pip Mira Otto Luna Bruno Nell Tilda Oscar Ivy Felix Hazel Milo Clara Jasper Willow Hugo Poppy Ruby Finn Ada Leo Maya
Theo Nora Max Lily Sam Rosa Emil Greta Anton Vera Boris Olga Ivan Anna Peter Sonia Toby Wren Juno Rufus Bella Casper Dora Edgar
Flora George Hanna Igor Julia Karl Lena Marta Nina Oliver Paul Rita Stefan Tanya Ulla Viktor Wanda Yuri Zoe Alice Ben Carol David
Emma Frank Grace Henry Jack Kate Laura Mark Nick Olivia Rachel Simon Tom Sarah John Maria Amir Leila Kenji Yuki Priya Ravi Chen
Fatima Omar Ana Diego Sofia Lucas""".split()
SHE = set("""Mira Luna Nell Tilda Ivy Hazel Clara Willow Poppy Ruby Ada Maya Nora Lily Rosa Greta Vera Olga Anna Sonia Wren Juno Bella
Dora Flora Hanna Julia Lena Marta Nina Rita Tanya Ulla Wanda Zoe Alice Emma Grace Kate Laura Olivia Rachel Sarah Maria Leila
Yuki Priya Fatima Ana Sofia""".split())

PLACES = {
    # place -> where in it something can be looked for
    "in a quiet forest": "under the oldest tree",
    "in a small village": "behind the bakery",
    "by the sea": "on the beach",
    "on a green hill": "at the top of the hill",
    "near a wide river": "on the far bank",
    "in an old castle": "in the highest tower",
    "at the edge of a meadow": "in the tall grass",
    "on a tiny island": "on the rocks",
    "in a busy town": "in the market square",
    "high in the mountains": "near the peak",
    "in a warm valley": "beside the stream",
    "beside a still lake": "among the reeds",
    "on an old farm": "in the barn",
    "in a garden full of roses": "behind the garden wall",
    "at the end of a long road": "at the crossroads",
    "under a stone bridge": "in the shadow of the bridge",
    "in a house with a red roof": "in the attic",
    "in a snowy land": "under the snow",
    "in a desert of golden sand": "beside the only well",
    "near an old mill": "behind the mill wheel",
    "in a little kitchen": "on the highest shelf",
    "next to a railway station": "on the platform",
}

TREASURES = """a silver key|a golden ring|a blue stone|an old map|a tiny bell|a red scarf|a glass bead|a lost letter|a wooden flute
|a bright lantern|a warm blanket|a music box|a green bottle|a paper boat|a small mirror|a copper coin|a jar of honey|a loaf of bread
|a basket of apples|a white feather""".replace("\n", "").split("|")

SIGHTS = """the sea|the first snow|the great waterfall|the northern lights|the morning market|the tallest tree in the land
|the lights of the city|the other side of the mountain|the lighthouse at night|the spring flowers""".replace("\n", "").split("|")

SKILLS = """sing|dance|swim|paint|bake bread|play the flute|tell stories|climb|whistle|read the stars|juggle|skate""".split("|")

# trait -> (how it shows, how it helps). {H} the hero at the start of a sentence, {h} inside one, {he} {his} pronouns.
TRAITS = {
    "brave": ("{H} was never afraid of the dark.", "{H} was brave, so {he} did not turn back."),
    "clever": ("{H} could solve any riddle.", "Then {h} had a clever idea."),
    "kind": ("{H} was kind to everyone {he} met.", "Because {h} had been kind, others came to help."),
    "lazy": ("{H} liked to sleep until noon.", "For once the lazy one did not rest: {h} worked all day."),
    "shy": ("{H} hardly ever spoke to strangers.", "{H} was shy, but {he} took a deep breath and spoke."),
    "curious": ("{H} asked a hundred questions a day.", "{H} was too curious to stop now."),
    "gentle": ("{H} never stepped on a flower.", "With gentle words {h} calmed everyone down."),
    "grumpy": ("{H} grumbled about the weather every day.", "Even the grumpy face of {h} turned into a smile."),
    "happy": ("{H} hummed a tune from morning to night.", "{H} stayed happy, and that gave everyone hope."),
    "sad": ("{H} sighed and looked at the rain.", "For the first time in weeks {h} did not feel sad."),
    "lonely": ("{H} had nobody to talk to.", "From that hour {h} was lonely no more."),
    "hungry": ("{H} thought about dinner all day.", "{H} was hungry, and still {he} shared the last piece of bread."),
    "sleepy": ("{H} yawned at every word.", "The sleepy eyes of {h} opened wide."),
    "tiny": ("{H} was so small that a leaf could hide {him}.", "Being tiny, {h} slipped through a gap that nobody else could use."),
    "huge": ("{H} was so big that the ground shook.", "Being huge, {h} lifted what nobody else could move."),
    "old": ("{H} had seen a hundred winters.", "{H} was old and remembered a way that others had forgotten."),
    "young": ("{H} had never been far from home.", "{H} was young, but {he} learned fast."),
    "wise": ("Everyone came to {h} for advice.", "The wise answer of {h} surprised them all."),
    "silly": ("{H} wore a sock on {his} head.", "It was a silly plan, and yet the plan of {h} worked."),
    "proud": ("{H} thought nobody could do things better.", "{H} was proud, but now {he} asked for help."),
    "patient": ("{H} could wait longer than anyone.", "{H} was patient and tried again and again."),
    "honest": ("{H} always told the truth.", "{H} was honest and told the whole story."),
    "quick": ("{H} was faster than the wind.", "{H} was quick and got there just in time."),
    "slow": ("{H} took one small step at a time.", "{H} was slow but never stopped, and that was enough."),
    "quiet": ("{H} moved without a sound.", "{H} was quiet enough to hear a tiny noise that others had missed."),
    "noisy": ("You could hear {h} from a mile away.", "The noisy voice of {h} was heard across the land."),
    "careful": ("{H} looked at everything twice.", "{H} was careful and found a clue on the ground."),
    "clumsy": ("{H} fell over {his} own shadow.", "It was a clumsy step of {h} that showed the way by chance."),
    "stubborn": ("{H} never gave up on anything.", "{H} was stubborn and would not go home."),
    "generous": ("{H} gave away half of all {he} had.", "The generous heart of {h} changed everything."),
    "jealous": ("{H} wanted what others had.", "{H} forgot to be jealous and began to help."),
    "polite": ("{H} said please and thank you every time.", "{H} asked in a polite voice, and that opened the door."),
    "rusty": ("{H} creaked in the morning air.", "The rusty old sound of {h} made everyone laugh."),
    "golden": ("{H} shone like the evening sun.", "The golden light of {h} showed the path."),
    "blue": ("{H} was as blue as a summer sky.", "The blue shape of {h} was easy to follow."),
    "red": ("{H} was as red as a ripe apple.", "The red colour of {h} could be seen from far away."),
    "little": ("{H} was the smallest one around.", "{H} was little, but {his} heart was big."),
    "strong": ("{H} could carry three sacks of flour.", "{H} was strong and pulled with all {his} might."),
    "magic": ("At night {h} glowed with a soft light.", "Then {h} used a bit of magic."),
    "forgetful": ("{H} often forgot what day it was.", "For once the forgetful mind of {h} was clear."),
}

NUMBERS = "one two three four five six seven eight nine ten eleven twelve".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = "January February March April May June July August September October November December".split()
COLOURS = "red blue green yellow orange purple white black brown pink grey golden silver".split()
FRUITS = "apple pear plum cherry orange banana lemon peach".split()
DRINKS = "tea coffee milk water juice cocoa".split()
SEASONS = "spring summer autumn winter".split()


def article(phrase):
    """`owl` -> `an owl`"""
    return ("an " if phrase[0].lower() in "aeiou" and not phrase.startswith(("uni", "one")) else "a ") + phrase


def capital(text):
    return text[0].upper() + text[1:]


_ONSETS = "b d f g h j k l m n p r s t v w z br cl dr fl gr pl sn st tr".split()
_NUCLEI = "a e i o u oo ee ai".split()
_CODAS = ["", "", "n", "m", "l", "r", "k", "t", "x", "ng", "sh"]


def invented(random):
    """A word that nobody has seen: the only way to know what comes next is to copy it."""
    return "".join(
        random.choice(_ONSETS) + random.choice(_NUCLEI) + random.choice(_CODAS) for _ in range(random.choice([1, 2, 2]))
    )
