"""Writes the ids of a few texts from the three tokenizers of this folder; trains two of them, in the layouts of Llama.

    python tests/reference/metaspace.py                   # golden/tokenizers.json
    python tests/reference/metaspace.py --train-tokenizer # rewrites llama_tokenizer.json and metaspace_tokenizer.json first
"""

import argparse
import json

import common
import tiny
from tokenizers import Tokenizer

LLAMA = common.HERE / "llama_tokenizer.json"
METASPACE = common.HERE / "metaspace_tokenizer.json"
SPECIAL = ["<unk>", "<s>", "</s>"]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
VOCABULARY = 600
# Single characters in the vocabulary. Others fall back to bytes, as most Chinese characters and all emoji do in Llama.
CHARACTERS = 110

CJK = [
    "东京是日本的首都。",
    "北京是中国的首都。",
    "法国的首都是巴黎。",
    "意大利的首都是罗马。",
    "这条河流过中国的三座城市。",
    "他出生在上海,住在北京。",
    "東京は日本の首都です。",
    "京都は日本の古い都です。",
    "パリはフランスの首都です。",
    "彼女は京都で生まれました。",
    "서울은 한국의 수도이다.",
    "도쿄는 일본의 수도이다.",
]

TEXTS = [
    ("english", "The capital of France is"),
    ("sentences", "Ada Bellini was born in Rome. She lives in Paris, near the river."),
    ("subject-last", "The mother tongue of Jan Novák"),
    ("accents", "Élodie Garnier, née à São Tomé"),
    ("decomposed", "Sa\u0303o Tome\u0301 is an island"),
    ("chinese", "法国的首都是巴黎。"),
    ("japanese", "京都は日本の古い都です。"),
    ("korean", "서울은 한국의 수도이다."),
    ("mixed", "The capital 首都 of Japan is 東京"),
    ("two-spaces", "The river  Seine"),
    ("space-first", " the river"),
    ("space-last", "The river "),
    ("emoji", "Rome 🙂 is a city 🏛️"),
    ("newline", "Rome.\nParis.\tLisbon"),
    ("metaspace", "a▁b"),
    ("special", "The <s> of </s>"),
    ("single-character", "a"),
    ("empty", ""),
]


def train():
    """Trains a BPE whose merges do not cross spaces. Ids are ordered as in sentencepiece: special, bytes, merged, characters."""
    from tokenizers import models, normalizers, pre_tokenizers, trainers

    corpus = common.read_lines(tiny.CORPUS) + CJK
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    size = VOCABULARY - len(SPECIAL) - len(BYTES)
    trainer = trainers.BpeTrainer(vocab_size=size, min_frequency=2, limit_alphabet=CHARACTERS, show_progress=False)
    tokenizer.train_from_iterator(corpus, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].get)
    pieces = [piece for piece in pieces if len(piece) > 1] + [piece for piece in pieces if len(piece) == 1]
    vocabulary = {piece: id for id, piece in enumerate(SPECIAL + BYTES + pieces)}
    assert len(vocabulary) == len(SPECIAL) + len(BYTES) + len(pieces) <= VOCABULARY
    return vocabulary, model["merges"]


def layout(vocabulary, merges, normalizer, pre_tokenizer):
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    first, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": id,
                "content": content,
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": False,
                "special": True,
            }
            for id, content in enumerate(SPECIAL)
        ],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, first],
            "pair": [bos, first, {"SpecialToken": {"id": "<s>", "type_id": 1}}, second],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocabulary,
            "merges": merges,
        },
    }


def train_tokenizers():
    vocabulary, merges = train()
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    prepend = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    for path, parts in ((LLAMA, (prepend, None)), (METASPACE, (None, metaspace))):
        text = json.dumps(layout(vocabulary, merges, *parts), ensure_ascii=False)
        tokenizer = Tokenizer.from_str(text)
        assert [tokenizer.token_to_id(token) for token in SPECIAL] == [0, 1, 2]
        # The library writes the file, so that it has the usual format.
        tokenizer.save(str(path))
        print(f"{path.name}: {len(vocabulary)} ids, {len(merges)} merges")


def bytes_of(text, offsets):
    """Converts offsets in characters, which Python uses, to offsets in UTF-8 bytes."""
    at = [0]
    for character in text:
        at.append(at[-1] + len(character.encode()))
    return [[at[start], at[end]] for start, end in offsets]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "tokenizers.json")
    parser.add_argument("--train-tokenizer", action="store_true")
    arguments = parser.parse_args()
    if arguments.train_tokenizer:
        train_tokenizers()
    out = []
    for path in (tiny.TOKENIZER, LLAMA, METASPACE):
        tokenizer = Tokenizer.from_file(str(path))
        cases = []
        for name, text in TEXTS:
            encoding, bare = tokenizer.encode(text), tokenizer.encode(text, add_special_tokens=False)
            assert encoding.ids[len(encoding.ids) - len(bare.ids) :] == bare.ids
            cases.append(
                {
                    "name": name,
                    "text": text,
                    "ids": encoding.ids,
                    "offsets": sum(bytes_of(text, encoding.offsets), []),
                    "special": len(encoding.ids) - len(bare.ids),
                    "decoded": tokenizer.decode(bare.ids, skip_special_tokens=False),
                }
            )
        out.append({"file": path.name, "vocabulary": tokenizer.get_vocab_size(), "cases": cases})
    common.write_json(arguments.out, {"tokenizers": common.versions()["tokenizers"], "files": out})


if __name__ == "__main__":
    main()
