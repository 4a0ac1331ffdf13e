"""Made-up words that read like English: pairs of pieces in the order in which a tokenizer merges them.

    letters ─► clusters (st, str, ea, nd) ─► open syllables (stre) ─► closed ones (stream) ─► words (streambo)

Each may also begin a word. A text in English comes apart into about a token a syllable, as with a trained tokenizer.
"""

import itertools
import random
from collections.abc import Iterator

CLUSTERS = (
    "th he in er an re on at en nd st es or te ed is it al ar ou ea ng ll ss sh ch ck ai ee ie oa oo oi ay ey ow aw ew"
    " bl br cl cr dr fl fr gl gr ph pl pr qu sc sk sl sm sn sp sw tr tw wh wr nt rd rk rm rn rt ld lk lt mp nk pt ft ct rs ts"
    " st+r sc+r sp+r sh+r th+r"
).split()
ONSETS = "b c d f g h j k l m n p r s t v w y z bl br ch cl cr dr fl fr gl gr ph pl pr qu sc sh sk sl sm sn sp st sw th tr tw wh str spr thr".split()
NUCLEI = "a e i o u y ai ea ee ie oa oo ou oi ay ow".split()
CODAS = "b ck d f g l ll m n p r s ss t x z nd ng nt nk rd rk rm rn rt st sh th ch ld lt mp ft ct".split()
LONGEST_WORD = 14


def merges(space: str, count: int) -> list[tuple[str, str]]:
    """The first `count` merges; `space` is the tokenizer's own sign for one."""
    source = _merges(space)
    return list(itertools.islice(source, count))


def _merges(space: str) -> Iterator[tuple[str, str]]:
    chance = random.Random(20)
    known: set[str] = set()

    def fresh(pairs):
        for left, right in pairs:
            if left + right not in known:
                known.add(left + right)
                yield left, right

    yield from fresh(_clusters())
    open_syllables = [(onset, nucleus) for onset in ONSETS for nucleus in NUCLEI]
    yield from fresh(open_syllables)
    starts = sorted({"".join(pair) for pair in open_syllables} | set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    yield from fresh((space, start) for start in starts)

    closed = [(onset + nucleus, coda) for onset, nucleus in open_syllables for coda in CODAS]
    closed += [(nucleus, coda) for nucleus in NUCLEI for coda in CODAS]
    chance.shuffle(closed)
    for left, right in closed:
        yield from fresh([(left, right)])
        yield from fresh([(space, left + right)])

    firsts = [space + left + right for left, right in closed] + [space + start for start in starts]
    seconds = ["".join(pair) for pair in closed + open_syllables]
    while True:
        left, right = chance.choice(firsts), chance.choice(seconds)
        if len(left) + len(right) <= LONGEST_WORD:
            yield from fresh([(left, right)])


def _clusters() -> Iterator[tuple[str, str]]:
    for cluster in CLUSTERS:
        left, _, right = cluster.partition("+")
        yield (left, right) if right else (cluster[0], cluster[1])
