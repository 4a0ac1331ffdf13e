"""Behaviour, counted: what share of each form's answers is right. Loss does not tell; this does.

A case is the conversation so far, and a judge of the reply.
"""

import random as python_random
from typing import Callable, NamedTuple

import about
import forms
import stories
import words


SAFE_MARGIN = 0.5  # logits; a greedy choice by less may differ between engines


class Case(NamedTuple):
    form: str
    turns: list
    judge: Callable[[str], bool]
    # What the judge looks for, if that can be said in data.
    exact: str | None = None
    mentions: list | None = None


def exact(form, turns):
    *asked, (_, answer) = turns
    return Case(form, asked, lambda reply: reply == answer, exact=answer)


def told(form, request, mentions, before=()):
    """A story: a preface that repeats the request proves nothing, so the words must be found behind it."""
    return Case(form, [*before, ("user", request)], lambda reply: tells_of(reply, mentions), mentions=mentions)


def tells_of(reply, mentions):
    if reply.startswith(("Here is a", "This is a")):
        reply = reply.split(". ", 1)[-1]
    return all(mention in reply for mention in mentions) and reply.count(mentions[0]) >= 2 and len(reply.split()) >= 40


def cases(seed):
    random = python_random.Random(f"gates {seed}")
    ask = "Tell me a story about {}"
    pick = lambda options, n: random.sample(list(options), n)
    found = []

    found.append(told("story", ask.format("a fox"), ["fox"]))
    for hero in pick(words.HEROES, 31):
        found.append(told("story", ask.format(words.article(hero)), [hero]))
    for hero, trait in zip(pick(words.HEROES, 24), pick(words.TRAITS, 24)):
        found.append(told("story with a trait", ask.format(words.article(f"{trait} {hero}")) + ".", [hero, trait]))
    for hero in words.HELD_OUT_SUBJECTS:
        found.append(told("story, hero never seen", ask.format(words.article(hero)), [hero]))
    for _ in range(20):
        hero = words.invented(random)
        found.append(told("story, invented word", ask.format(words.article(hero)), [hero]))
    for hero, friend in zip(pick(words.HEROES, 16), pick(words.FRIENDS, 16)):
        if hero != friend:
            found.append(told("story with a friend", ask.format(f"{words.article(hero)} and {words.article(friend)}"), [hero, friend]))
    for _ in range(16):
        turns, first = forms.story_told(random)
        hero = random.choice([h for h in words.HEROES if h != first.subject])
        found.append(told("second story", f"Now one about {words.article(hero)}.", [hero], before=turns))
    for _ in range(24):
        turns, tale = forms.story_told(random)
        asked = forms.question_about(random, tale)
        if asked:
            found.append(exact("question about a story", turns + asked))
    for hero in pick(words.HEROES, 16):
        def is_poem(reply, hero=hero):
            return hero in reply and reply.count("\n") == 3
        found.append(Case("poem", [("user", f"Write a poem about {words.article(hero)}.")], is_poem, mentions=[hero]))
    for hero in pick(words.HEROES, 16):
        opening = stories.tell(random, hero).text.split(". ")[0].split(" ")
        text = "Continue: " + " ".join(opening)
        found.append(Case("continuation", [("user", text)], lambda r, hero=hero: hero in r and len(r.split()) > 30, mentions=[hero]))

    for start, stop in pick(sorted(forms.HELD_OUT_COUNTS), 40):
        numbers = ", ".join(map(str, range(start, stop + 1)))
        found.append(exact("count, pair never seen", [("user", f"Count from {start} to {stop}"), ("assistant", f"Here we go: {numbers}.")]))
    for _ in range(24):
        found.append(exact("count", forms.count(random)))
        found.append(exact("next number", forms.next_number(random)))
    seen = set()
    for maker_name in forms.facts.ALL:
        for _ in range(16):
            asked, answer = forms.facts.ALL[maker_name][0](random)
            if asked not in seen:
                seen.add(asked)
                found.append(exact(maker_name, [("user", asked), ("assistant", answer)]))
    for answer, ways in about.ABOUT:
        found.append(exact("product", [("user", ways[0]), ("assistant", answer)]))
        found.append(exact("product, way never seen", [("user", ways[-1]), ("assistant", answer)]))
    for answer, ways in about.GREETINGS:
        found.append(exact("greeting", [("user", ways[0]), ("assistant", answer)]))
    for _ in range(24):
        found.append(exact("unknown", forms.unknown(random)))
        found.append(exact("memory", forms.memory(random)))
        found.append(exact("repetition", forms.repetition_exchange(random)))
    for name in ["Mira", "Oscar", "Ravi", "Hugo", "Priya", "Blenno", "Tarvik", "Zuleen", "Grommet", "Xandra"]:
        turns = [("user", f"My name is {name}."), ("assistant", f"Nice to meet you, {name}."), ("user", "What is my name?")]
        found.append(exact("name", turns + [("assistant", f"Your name is {name}.")]))
    return found
