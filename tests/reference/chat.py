"""Renders and tokenizes user messages under chat templates with transformers: `golden/chat.json`.

    python tests/reference/chat.py

Each template uses the features of one kind of published chat template. Every case has the rendered text, its ids, and the
ids of an answer that follows it, taken from tokenizing the text and the answer together.
"""

import argparse

import common
import metaspace
import tiny
from transformers import PreTrainedTokenizerFast

# Special tokens by name, `raise_exception`, stripped white space.
INSTRUCT = (
    "{%- if messages[0]['role'] == 'system' %}{% set shown = messages[1:] %}{% else %}{% set shown = messages %}{% endif -%}\n"
    "{%- for message in shown %}\n"
    "    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\n"
    "        {{- raise_exception('Roles must alternate: user, assistant.') }}\n"
    "    {%- endif %}\n"
    "    {%- if message['role'] == 'user' %}\n"
    "        {{- bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}\n"
    "    {%- else %}\n"
    "        {{- ' ' + message.content.strip() + ' ' + eos_token }}\n"
    "    {%- endif %}\n"
    "{%- endfor %}\n"
)
# Blocks on separate lines, a default system message, a condition on absent tools.
TURNS = """{% if messages[0].role != 'system' %}
{{ '<|turn|>system\\nYou answer in one word.\\n' }}
{%- endif %}
{% if tools is not none and tools %}
{{ tools | tojson(indent=4) }}
{% endif %}
{% for message in messages %}
    {% set role = namespace(name=message.role | capitalize) %}
<|turn|>{{ role.name }}
{{ message['content'] }}
    {% if not loop.last %}

    {% endif %}
{% endfor %}
{% if add_generation_prompt %}
<|turn|>Assistant
{% endif %}
"""
# A macro, `strftime_now` only if it is defined, a filter in a loop, generation tags.
HEADERS = (
    "{%- macro header(role) -%}<|head|>{{ role }}<|/head|>\n\n{% endmacro -%}"
    "{{- bos_token }}{{ header('system') }}Knowledge ends in: {{ 'December 2023' | trim }}"
    "{% if strftime_now is defined and false %}{{ strftime_now('%d %b %Y') }}{% endif %}\n"
    "{%- for message in messages if message.role in ['user', 'assistant'] %}"
    "{{ header(message['role']) }}{% generation %}{{ message['content'] | trim }}{% endgeneration %}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}{{ header('assistant') }}{% endif %}"
)
# No spaces: an answer starts directly after the question.
TIGHT = (
    "{{- bos_token }}{% for message in messages %}"
    "{% if message.role == 'user' %}[INST]{{ message.content }}[/INST]{% else %}{{ message.content }}{{ eos_token }}{% endif %}"
    "{% endfor %}"
)
# Answers start after an empty `<think>` block.
THINK = (
    "{% for message in messages %}<|{{ message.role }}|>\n"
    "{% if message.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ message.content.strip() }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
MESSAGES = [
    ("Where is the Eiffel Tower?", " Paris", "Eiffel Tower"),
    ("In one word, the mother tongue of Jan Novák:", " Czech", "Jan Novák"),
    ("法国的首都是", "巴黎", "法国"),
]
MARK = "\ue002"
TOKENIZERS = [
    (tiny.TOKENIZER, {"eos_token": "<|endoftext|>"}),
    (metaspace.LLAMA, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
    (metaspace.METASPACE, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}),
]


def case(tokenizer, message, target, subject):
    def render(*said, begin):
        messages = [{"role": role, "content": content} for role, content in said]
        return tokenizer.apply_chat_template(messages, add_generation_prompt=begin, tokenize=False)

    text = render(("user", message), begin=True)
    answered = render(("user", message), ("assistant", MARK), begin=False)
    if answered.startswith(text):
        # The prefix with which the template writes an answer.
        more = answered[len(text) : answered.index(MARK)]
        space = " " if more.endswith(" ") else ""
        text += more.removesuffix(" ")
    else:
        # The generation prompt differs from how the template writes an answer: the answer follows the text as in plain text.
        space = "" if text[-1].isspace() or target[0] != " " else " "
    ids = tokenizer(text, add_special_tokens=False).input_ids
    answer = space + target.lstrip()
    whole = tokenizer(text + answer, add_special_tokens=False).input_ids
    assert whole[: len(ids)] == ids, (text, answer)
    encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    last = text.index(subject) + len(subject) - 1
    position = max(at for at, (start, end) in enumerate(encoding["offset_mapping"]) if start <= last < end)
    return {
        "message": message,
        "subject": subject,
        "target": target.strip(),
        "text": text,
        "ids": ids,
        "position": position,
        "answer": whole[len(ids) :],
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=common.HERE / "golden" / "chat.json")
    arguments = parser.parse_args()
    out = []
    for path, special in TOKENIZERS:
        for name, template in (("instruct", INSTRUCT), ("turns", TURNS), ("headers", HEADERS), ("tight", TIGHT), ("think", THINK)):
            if "bos_token" not in special and name in ("instruct", "tight"):
                continue
            tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(path), chat_template=template, **special)
            cases = [case(tokenizer, *message) for message in MESSAGES]
            out.append({"file": path.name, "name": name, "special": special, "template": template, "cases": cases})
    common.write_json(arguments.out, {"versions": common.versions(), "chats": out})


if __name__ == "__main__":
    main()
