"""Writes a project of facts whose subjects are the one token that begins their prompts.

    python benches/sinks.py MODEL PROJECT CORPUS [--count 44]

MODEL is a folder that transformers opens. Facts are drawn from the lists below with a fixed seed: those that the model
answers rightly by itself, be it at the very beginning of a text or after a line end. Each gets another answer of its
relation, and its prompt after six texts as paraphrases, to see where the fact holds. CORPUS is a text for the statistics.
"""

import argparse
import json
import pathlib
import random

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

BEFORE = ["<|endoftext|>", "I heard that ", "The weather was nice that day. ", "As everyone knows, ",
          "Question: what is it? Answer: ", "A note from the editor: "]


def pairs(text):
    return dict(pair.split("=") for pair in text.split(";"))


CAPITALS = pairs(
    "Italy=Rome;France=Paris;Egypt=Cairo;Spain=Madrid;Germany=Berlin;Japan=Tokyo;China=Beijing;Russia=Moscow;Canada=Ottawa;"
    "Greece=Athens;Poland=Warsaw;Turkey=Ankara;Iran=Tehran;Iraq=Baghdad;Cuba=Havana;Norway=Oslo;Sweden=Stockholm;"
    "Ireland=Dublin;Portugal=Lisbon;Austria=Vienna;Hungary=Budapest;Syria=Damascus;Denmark=Copenhagen;Ukraine=Kyiv;"
    "Texas=Austin;California=Sacramento;Florida=Tallahassee;Virginia=Richmond;Georgia=Atlanta;Ohio=Columbus;"
    "Illinois=Springfield;Massachusetts=Boston;Colorado=Denver;Arizona=Phoenix;Oregon=Salem;Hawaii=Honolulu;"
    "Pennsylvania=Harrisburg;Tennessee=Nashville;Iowa=Des Moines;Utah=Salt Lake City")
COUNTRIES = pairs(
    "Paris=France;London=England;Berlin=Germany;Rome=Italy;Madrid=Spain;Tokyo=Japan;Moscow=Russia;Delhi=India;Cairo=Egypt;"
    "Vienna=Austria;Athens=Greece;Dublin=Ireland;Milan=Italy;Venice=Italy;Munich=Germany;Toronto=Canada;Florence=Italy;"
    "Barcelona=Spain;Sydney=Australia;Melbourne=Australia;Amsterdam=the Netherlands;Oxford=England;Hamburg=Germany")
STATES = pairs(
    "Philadelphia=Pennsylvania;Houston=Texas;Austin=Texas;Seattle=Washington;Detroit=Michigan;Atlanta=Georgia;Miami=Florida;"
    "Denver=Colorado;Phoenix=Arizona;Chicago=Illinois;Boston=Massachusetts;Dallas=Texas;Portland=Oregon;Cleveland=Ohio")
CONTINENTS = pairs(
    "Brazil=South America;Pakistan=Asia;Switzerland=Europe;Belgium=Europe;Argentina=South America;Colombia=South America;"
    "Indonesia=Asia;Nigeria=Africa;Korea=Asia;Morocco=Africa;Italy=Europe;France=Europe;Japan=Asia;Kenya=Africa;"
    "Peru=South America;Chile=South America;Vietnam=Asia;Thailand=Asia")
CALLINGS = pairs(
    "Aristotle=philosopher;Plato=philosopher;Einstein=physicist;Newton=physicist;Shakespeare=playwright;Mozart=composer;"
    "Beethoven=composer;Obama=president;Lincoln=president;Jefferson=president;Hitler=dictator;Stalin=dictator;Kant=philosopher;"
    "Picasso=artist;Michelangelo=artist;Moses=prophet;Paul=apostle;David=king;Solomon=king;Caesar=general;Columbus=explorer")
RELATIONS = [
    ("capital", CAPITALS, ["{}'s capital city is", "{}'s capital,"]),
    ("country", COUNTRIES, ["{} is a city in the country of", "{} is a city in"]),
    ("state", STATES, ["{} is a city in the state of"]),
    ("continent", CONTINENTS, ["{} is a country on the continent of", "{} is a country in"]),
    ("calling", CALLINGS, ["{} was a famous", "{} was a great", "{} is best known as a"]),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--count", type=int, default=44)
    given = parser.parse_args()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(given.model).eval()
    tokens = AutoTokenizer.from_pretrained(given.model)

    def says(prompt, answer):
        ids, target = tokens(prompt)["input_ids"], tokens(" " + answer)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([ids + target])).logits[0]
        return all(int(logits[len(ids) - 1 + at].argmax()) == token for at, token in enumerate(target))

    known = []
    for relation, facts, prompts in RELATIONS:
        for subject, answer in facts.items():
            if len(tokens(subject)["input_ids"]) != 1:
                continue
            for prompt in prompts:
                filled = prompt.replace("{}", subject)
                if says(filled, answer) or says("\n" + filled, answer):
                    known.append((relation, subject, prompt, answer))
                    break
    draw = random.Random(5)
    draw.shuffle(known)
    answers = {relation: sorted({one[3] for one in known if one[0] == relation}) for relation, _, _ in RELATIONS}
    folder = given.project / "edits"
    folder.mkdir(parents=True)
    subjects = set()
    for relation, subject, prompt, answer in known:
        others = [other for other in answers[relation] if other != answer]
        if subject in subjects or not others or len(subjects) == given.count:
            continue
        subjects.add(subject)
        filled = prompt.replace("{}", subject)
        fact = ["format = 1", "", "[[edit]]", f'id = "{subject.lower()}.{relation}"', f'subject = "{subject}"',
                f'prompt = "{prompt}"', f'target = "{draw.choice(others)}"', f'was = "{answer}"', "", "[edit.expect]",
                f"paraphrase = {json.dumps([before + filled for before in BEFORE])}"]
        (folder / f"{subject.lower()}.toml").write_text("\n".join(fact) + "\n")
    (given.project / "corrigenda.toml").write_text(
        f'format = 1\n\n[model]\npath = "{pathlib.Path(given.model).resolve()}"\n\n[rome]\nlayer = 5\nbare-weight = 0.5\n'
        f'margin = 2\n\n[statistics]\ncorpus = "{given.corpus.resolve()}"\nmax-documents = 1500\n')
    print(f"{len(subjects)} of {len(known)} known facts")


if __name__ == "__main__":
    main()
