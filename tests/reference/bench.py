"""Computes words, entropies and cosines of the published evaluation with NLTK and scikit-learn: golden/bench.json.

The texts are sentences with every mark that the rules of NLTK's word tokenizer match, and random strings of marks. None
has letters with combining marks: NLTK 3.10 (with the `regex` module) differs from earlier versions there.
Entropies follow algorithms.md section 6.3; cosines are from a TfidfVectorizer fitted on the sentences.
"""

import json
import math
import random
from collections import Counter
from pathlib import Path

import numpy as np
from nltk.tokenize import word_tokenize
from sklearn.feature_extraction.text import TfidfVectorizer

SENTENCES = [
    "Good muffins cost $3.88 (roughly 3,36 euros)\nin New York.  Please buy me\ntwo of them.\nThanks.",
    'They\'ll save and invest more. "Quoted," she said; \'single\' too.',
    "I can't, won't, shouldn't; he'd've gone: it's John's and the boys' ball.",
    "gonna cannot gimme lemme wanna go d'ye more'n 'tis 'twas gotta",
    "«Chevrons» “curly” ‘single’ „low‟ ``ticks'' ''quotes''",
    "Wait... what?! 50% of $5 @home #tag & more; a*b -- c – d — e ― f",
    "[brackets] {braces} <angles> (round) a:b 3:30 1,000,000 x,y",
    "Ends with a period.", "Ends with quote.\"", "Ends with bracket.)", "Ends with space.   ", "U.S.A. is big.",
    "naïve café São Paulo Łódź 東京 Москва résumé", "a.b.c... d..e .", "I'M HE'S WE'LL THEY'RE N'T DON'T",
    "the the the the", "one", "", "two words", "comma,\nnewline: \n end,",
]
PIECES = [
    "a", "Word", "can", "not", "cannot", "'s", "'S", "n't", "'ll", "'", "''", '"', "``", "`", "“", "”", "‘", "’", ".", "..",
    "...", ",", ":", ";", "?", "!", "$", "%", "&", "@", "#", "*", "(", ")", "[", "]", "{", "}", "<", ">", "--", "-", "–", "—",
    "3", "3.14", "1,000", " ", "  ", "\n", "wanna", "'tis", "gonna", "d'ye", "é", "_", "/", "東",
]


def entropy(words, n):
    runs = Counter(zip(*(words[i:] for i in range(n))))
    total = sum(runs.values())
    return -sum(c / total * math.log2(c / total) for c in runs.values()) if total else None


def fluency(text):
    words = word_tokenize(text, preserve_line=True)
    pair, triple = entropy(words, 2), entropy(words, 3)
    return None if triple is None else (2 / 3 * pair + 4 / 3 * triple) / 2


def main():
    draw = random.Random(1)
    mixed = ["".join(draw.choice(PIECES) for _ in range(draw.randrange(3, 30))) for _ in range(400)]
    texts = SENTENCES + mixed
    vectorizer = TfidfVectorizer()
    vectorizer.fit(SENTENCES)
    pairs = [(draw.choice(SENTENCES), draw.choice(texts)) for _ in range(100)]

    def cosine(one, other):
        one, other = vectorizer.transform([one, other]).toarray()
        norm = np.linalg.norm(one) * np.linalg.norm(other)
        return float(one @ other / norm) if norm else 0.0

    golden = {
        "words": [{"text": text, "words": word_tokenize(text, preserve_line=True), "entropy": fluency(text)} for text in texts],
        "vocabulary": {term: int(column) for term, column in vectorizer.vocabulary_.items()},
        "frequencies": vectorizer.idf_.tolist(),
        "cosines": [{"one": one, "other": other, "cosine": cosine(one, other)} for one, other in pairs],
    }
    path = Path(__file__).parent / "golden" / "bench.json"
    path.write_text(json.dumps(golden, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
