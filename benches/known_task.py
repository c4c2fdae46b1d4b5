"""Writes questions with four choices from facts that a model knows, as a task of corrigenda and as one of lm-evaluation-harness.

    python benches/known_task.py FACTS FOLDER

FACTS is a list of records as in ROME's `known_1000.json`. The wrong choices are answers of other facts, of the same relation if there are
enough. FOLDER gets `arc.jsonl` and `mmlu.jsonl` for `[[task]]`, and `known_arc.yaml` and `known_mmlu.yaml` with `questions.jsonl` for
`lm_eval run --include_path FOLDER --tasks known_arc,known_mmlu`.
"""

import json
import random
import sys
from pathlib import Path

LETTERS = "ABCD"
YAML = """task: known_{name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: {text}
doc_to_choice: {choices}
doc_to_target: answer
metric_list:
{metrics}"""
FORMS = {
    "arc": ('"Question: {{question}}\\nAnswer:"', "choices", ["acc", "acc_norm"]),
    "mmlu": (
        '"{{question.strip()}}\\n'
        + "".join(f"{letter}. {{{{choices[{index}]}}}}\\n" for index, letter in enumerate(LETTERS))
        + 'Answer:"',
        json.dumps(list(LETTERS)),
        ["acc"],
    ),
}


def questions(facts):
    """Yields a question, its choices and the index of the right one."""
    drawn = random.Random(1)
    answers = {}
    for fact in facts:
        answers.setdefault(fact["relation_id"], set()).add(fact["attribute"])
    every = sorted(set().union(*answers.values()))
    for fact in facts:
        wrong = sorted(answers[fact["relation_id"]] - {fact["attribute"]})
        drawn.shuffle(wrong)
        choices = wrong[: len(LETTERS) - 1]
        while len(choices) < len(LETTERS) - 1:
            other = drawn.choice(every)
            if other not in choices and other != fact["attribute"]:
                choices.append(other)
        choices.append(fact["attribute"])
        drawn.shuffle(choices)
        yield fact["template"].replace("{}", fact["subject"]), choices, choices.index(fact["attribute"])


def main():
    folder = Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with open(sys.argv[1], encoding="utf-8") as file:
        made = list(questions(json.load(file)))
    plain = [{"question": text, "choices": choices, "answer": right} for text, choices, right in made]
    arc = [
        {
            "id": f"{index}",
            "question": {"stem": text, "choices": [{"label": LETTERS[at], "text": one} for at, one in enumerate(choices)]},
            "answerKey": LETTERS[right],
        }
        for index, (text, choices, right) in enumerate(made)
    ]
    for name, records in {"arc.jsonl": arc, "mmlu.jsonl": plain, "questions.jsonl": plain}.items():
        (folder / name).write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    for name, (text, choices, metrics) in FORMS.items():
        listed = "".join(f"  - metric: {metric}\n" for metric in metrics)
        file = (folder / "questions.jsonl").resolve()
        (folder / f"known_{name}.yaml").write_text(YAML.format(name=name, file=file, text=text, choices=choices, metrics=listed))
    print(f"{len(made)} questions")


if __name__ == "__main__":
    main()
