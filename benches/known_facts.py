"""Makes CounterFact records from facts that a model knows, for `corrigenda bench counterfact`.

    python benches/known_facts.py FACTS OUT

FACTS is a list of records as in ROME's `known_1000.json`. The new answer of a fact is the answer of the next record of the
same relation that has another answer. The neighbours are up to five other subjects of the relation with the same true
answer, as in CounterFact. A fact without another answer is left out, and the number of such facts is printed.
"""

import json
import sys

NEIGHBOURS = 5


def record(index, fact, all_of_relation):
    place = all_of_relation.index(fact)
    others = all_of_relation[place + 1 :] + all_of_relation[:place]
    new = next((one["attribute"] for one in others if one["attribute"] != fact["attribute"]), None)
    if new is None:
        return None
    near = [one for one in others if one["attribute"] == fact["attribute"] and one["subject"] != fact["subject"]]
    return {
        "case_id": index,
        "requested_rewrite": {
            "prompt": fact["template"],
            "relation_id": fact["relation_id"],
            "target_new": {"str": new, "id": ""},
            "target_true": {"str": fact["attribute"], "id": ""},
            "subject": fact["subject"],
        },
        "paraphrase_prompts": [],
        "neighborhood_prompts": [one["template"].replace("{}", one["subject"]) for one in near[:NEIGHBOURS]],
        "generation_prompts": [],
    }


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        facts = json.load(file)
    of_relation = {}
    for fact in facts:
        of_relation.setdefault(fact["relation_id"], []).append(fact)
    made = [record(index, fact, of_relation[fact["relation_id"]]) for index, fact in enumerate(facts)]
    kept = [one for one in made if one is not None]
    with open(sys.argv[2], "w", encoding="utf-8") as file:
        json.dump(kept, file, ensure_ascii=False, indent=1)
    print(f"{len(kept)} of {len(facts)} facts; {len(facts) - len(kept)} have no other answer in their relation")


if __name__ == "__main__":
    main()
