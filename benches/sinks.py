"""Writes a project of facts whose subject is one token, the first of the prompt.

    python benches/sinks.py MODEL PROJECT CORPUS [--second]

MODEL is a folder that transformers can load. Facts are drawn from the lists below with a fixed seed; only those count that the
model answers correctly itself, either at the start of a text or after a line end. The target of each is another answer of its
relation. Its paraphrases are its prompt after six texts, to measure where the edit holds. A project edits a subject once; a
second known fact about it is in the `--second` project. CORPUS is a text for the statistics.
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
    "Greece=Athens;Poland=Warsaw;Turkey=Ankara;Iran=Tehran;Iraq=Baghdad;Cuba=Havana;Peru=Lima;Norway=Oslo;Sweden=Stockholm;"
    "Ireland=Dublin;Portugal=Lisbon;Kenya=Nairobi;Austria=Vienna;Hungary=Budapest;India=New Delhi;Israel=Jerusalem;"
    "Mexico=Mexico City;Chile=Santiago;Syria=Damascus;Denmark=Copenhagen;Finland=Helsinki;Ukraine=Kyiv;Vietnam=Hanoi;"
    "Thailand=Bangkok;Scotland=Edinburgh;England=London;Brazil=Brasília;Australia=Canberra;Argentina=Buenos Aires;"
    "Colombia=Bogotá;Belgium=Brussels;Pakistan=Islamabad;Switzerland=Bern")
STATE_CAPITALS = pairs(
    "Texas=Austin;California=Sacramento;Florida=Tallahassee;Virginia=Richmond;Georgia=Atlanta;Ohio=Columbus;Michigan=Lansing;"
    "Illinois=Springfield;Massachusetts=Boston;Colorado=Denver;Arizona=Phoenix;Oregon=Salem;Alaska=Juneau;Hawaii=Honolulu;"
    "Pennsylvania=Harrisburg;Minnesota=St. Paul;Wisconsin=Madison;Tennessee=Nashville;Louisiana=Baton Rouge;"
    "Indiana=Indianapolis;Iowa=Des Moines;Utah=Salt Lake City;Maryland=Annapolis")
COUNTRIES = pairs(
    "Paris=France;London=England;Berlin=Germany;Rome=Italy;Madrid=Spain;Tokyo=Japan;Moscow=Russia;Delhi=India;Cairo=Egypt;"
    "Vienna=Austria;Athens=Greece;Dublin=Ireland;Milan=Italy;Venice=Italy;Munich=Germany;Toronto=Canada;"
    "Florence=Italy;Barcelona=Spain;Manchester=England;Liverpool=England;Jerusalem=Israel;Sydney=Australia;Melbourne=Australia;"
    "Amsterdam=the Netherlands;Oxford=England;Cambridge=England;Edinburgh=Scotland;Beijing=China;Shanghai=China;"
    "Hamburg=Germany;Lyon=France;Geneva=Switzerland;Chicago=the United States;Boston=the United States;"
    "Dallas=the United States")
TOWNS = pairs(
    "Philadelphia=Pennsylvania;Houston=Texas;Austin=Texas;Seattle=Washington;Detroit=Michigan;Atlanta=Georgia;Miami=Florida;"
    "Denver=Colorado;Phoenix=Arizona;Chicago=Illinois;Boston=Massachusetts;Dallas=Texas;Portland=Oregon;Cleveland=Ohio;"
    "Hollywood=California;Baltimore=Maryland;Oakland=California")
CONTINENTS = pairs(
    "Brazil=South America;Australia=Australia;Pakistan=Asia;Switzerland=Europe;Netherlands=Europe;Belgium=Europe;"
    "Argentina=South America;Colombia=South America;Indonesia=Asia;Philippines=Asia;Nigeria=Africa;Ethiopia=Africa;"
    "Ukraine=Europe;Korea=Asia;Turkey=Asia;Nepal=Asia;Scotland=Europe;Wales=Europe;Morocco=Africa;Italy=Europe;France=Europe;"
    "Spain=Europe;Germany=Europe;Greece=Europe;Poland=Europe;Norway=Europe;Sweden=Europe;Portugal=Europe;Austria=Europe;"
    "Ireland=Europe;England=Europe;Japan=Asia;China=Asia;India=Asia;Iran=Asia;Iraq=Asia;Israel=Asia;Syria=Asia;Vietnam=Asia;"
    "Thailand=Asia;Egypt=Africa;Kenya=Africa;Peru=South America;Chile=South America")
CALLINGS = pairs(
    "Aristotle=philosopher;Plato=philosopher;Einstein=physicist;Newton=physicist;Shakespeare=playwright;Mozart=composer;"
    "Beethoven=composer;Darwin=naturalist;Homer=poet;Virgil=poet;Obama=president;Lincoln=president;Clinton=president;"
    "Trump=president;Washington=president;Jefferson=president;Reagan=president;Hitler=dictator;Stalin=dictator;"
    "Freud=psychologist;Kant=philosopher;Marx=philosopher;Picasso=artist;Michelangelo=artist;Leonardo=artist;Buddha=teacher;"
    "Gandhi=leader;Muhammad=prophet;Moses=prophet;Paul=apostle;Mary=mother;David=king;Solomon=king;Alexander=king;"
    "Caesar=general;Columbus=explorer")
FAITHS = pairs("Jesus=Christianity;Buddha=Buddhism;Muhammad=Islam;Moses=Judaism")
LANGUAGES = pairs(
    "Mozart=German;Napoleon=French;Aristotle=Greek;Plato=Greek;Homer=Greek;Caesar=Latin;Shakespeare=English;Newton=English;"
    "Darwin=English;Einstein=German")
RELATIONS = [
    ("capital", CAPITALS, ["{}'s capital city is", "{}'s capital,"]),
    ("state-capital", STATE_CAPITALS, ["{}'s capital city is", "{}'s capital,"]),
    ("country", COUNTRIES, ["{} is a city in the country of", "{} is a city in"]),
    ("town", TOWNS, ["{} is a city in the state of"]),
    ("continent", CONTINENTS, ["{} is a country on the continent of", "{} belongs to the continent of", "{} is a country in"]),
    ("calling", CALLINGS, ["{} was a famous", "{} was a great", "{} is best known as a"]),
    ("faith", FAITHS, ["{} is the founder of the religion of", "{} is the founder of"]),
    ("language", LANGUAGES, ["{}'s native language was", "{} wrote in"]),
]
# Additional answers for relations with few known facts.
OTHERS = {"faith": ["Hinduism", "Islam"], "language": ["Greek", "French", "Latin"], "calling": ["poet", "painter", "king"],
          "town": ["Nevada", "Ohio"], "state-capital": ["Denver", "Boston"], "capital": ["Rome", "Vienna"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("project", type=pathlib.Path)
    parser.add_argument("corpus", type=pathlib.Path)
    parser.add_argument("--second", action="store_true")
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
    answers = {relation: sorted({one[3] for one in known if one[0] == relation} | set(OTHERS.get(relation, [])))
               for relation, _, _ in RELATIONS}
    folder = given.project / "edits"
    folder.mkdir(parents=True)
    sets = [{}, {}]
    for one in known:
        free = [facts for facts in sets if one[1] not in facts]
        if free and any(other != one[3] for other in answers[one[0]]):
            free[0][one[1]] = one
    chosen = sets[given.second]
    for relation, subject, prompt, answer in chosen.values():
        others = [other for other in answers[relation] if other != answer]
        filled = prompt.replace("{}", subject)
        fact = ["format = 1", "", "[[edit]]", f'id = "{subject.lower()}.{relation}"', f'subject = "{subject}"',
                f'prompt = "{prompt}"', f'target = "{draw.choice(others)}"', f'was = "{answer}"', "", "[edit.expect]",
                f"paraphrase = {json.dumps([before + filled for before in BEFORE])}"]
        (folder / f"{subject.lower()}.toml").write_text("\n".join(fact) + "\n")
    (given.project / "corrigenda.toml").write_text(
        f'format = 1\n\n[model]\npath = "{pathlib.Path(given.model).resolve()}"\n\n[rome]\nlayer = 5\nbare-weight = 0.5\n'
        f'margin = 2\n\n[statistics]\ncorpus = "{given.corpus.resolve()}"\nmax-documents = 1500\n')
    print(f"{len(chosen)} of {len(known)} known facts")


if __name__ == "__main__":
    main()
