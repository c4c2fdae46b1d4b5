use super::*;

/// Creates a model folder that contains `files`, given as pairs (name, content).
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    files.iter().for_each(|(name, text)| std::fs::write(folder.path().join(name), text).expect("written"));
    folder
}

fn settings(template: &str) -> String {
    let bos = serde_json::json!({ "content": "<s>", "special": true });
    serde_json::json!({ "bos_token": bos, "eos_token": "</s>", "chat_template": template }).to_string()
}

fn open(template: &str) -> Result<Option<Chat>, ModelError> {
    Chat::open(folder(&[(SETTINGS, &settings(template))]).path())
}

fn framed(template: &str, text: &str) -> Result<(String, Range<usize>, Option<bool>), String> {
    let chat = open(template).map_err(|error| error.to_string())?.expect("a template");
    chat.frame(text).map_err(|error| error.to_string())
}

/// Renders a user message and returns the part of the rendered text that is the message.
fn shown(template: &str, text: &str) -> String {
    let (rendered, place, _) = framed(template, text).expect("it is rendered");
    rendered[place].to_owned()
}

const PLAIN: &str = "{{ bos_token }}\
    {% for m in messages %}[{{ m['role'] }}] {{ m.content | trim }}{{ eos_token }}{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";

#[test]
fn a_text_stands_where_the_template_puts_it() {
    let (rendered, place, _) = framed(PLAIN, "Where is Rome?").expect("rendered");
    assert_eq!(rendered, "<s>[user] Where is Rome?</s>[assistant]");
    assert_eq!(&rendered[place], "Where is Rome?");
    assert_eq!(shown(PLAIN, "  Where is Rome? "), "Where is Rome?");
    // The user message `user` is not confused with the word `user` in the chat template.
    assert_eq!(framed(PLAIN, "user").expect("rendered").1, 10..14);
    // Jinja syntax in a user message is not interpreted.
    assert_eq!(shown(PLAIN, "{{ bos_token }} {% raise %}"), "{{ bos_token }} {% raise %}");
}

#[test]
fn jinja_as_transformers_sets_it_up() {
    // A line with only a `{% … %}` block writes no text, whether lines end in LF or in CRLF.
    let lines = "{% for m in messages %}\n    {% if m.role == 'user' %}\nQ: {{ m.content }}\n    {% endif %}\n\
        {% endfor %}\nA:\n";
    assert_eq!(framed(lines, "why").expect("rendered").0, "Q: why\nA:");
    assert_eq!(framed(&lines.replace('\n', "\r\n"), "why").expect("rendered").0, "Q: why\nA:");
    let methods = "{{ messages[0].content.strip().split('@')[0] }}{% set ns = namespace(x=1) %}\
        {% for m in messages[:1] %}{% set ns.x = ns.x + loop.index0 %}{% continue %}{% endfor %}\
        {{ ns.x }}{{ tools is none }}{{ documents is none }}";
    assert_eq!(framed(methods, "why").expect("rendered").0, "why1TrueTrue");
    let marks = "{% for m in messages %}{%- generation -%}{{ m.content }}{%endgeneration%}{% endfor %}";
    assert_eq!(framed(marks, "why").expect("rendered").0, "why");
    let json = "{{ messages[0].content }} {{ {'a': [1, '<é>'], 'b': {}} | tojson }}";
    assert_eq!(framed(json, "why").expect("rendered").0, "why {\"a\": [1, \"<é>\"], \"b\": {}}");
    let date = "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}26 Jul 2024{% endif %} \
        {{ messages[0].content }}";
    assert_eq!(framed(date, "why").expect("rendered").0, "26 Jul 2024 why", "`strftime_now` is not defined");
}

/// Depending on the chat template, the text before an answer is empty, a space, or an empty thinking block.
#[test]
fn answers_follow_as_the_template_writes_them() {
    let of = |begin: &str, said: &str| {
        let template = format!(
            "{{% for m in messages %}}{{% if m.role == 'user' %}}[{{{{ m.content }}}}]{{% else %}}{said}{{% endif %}}\
             {{% endfor %}}{{% if add_generation_prompt %}}{begin}{{% endif %}}"
        );
        let (text, _, space) = framed(&template, "why").expect("rendered");
        (text, space)
    };
    assert_eq!(of("", "{{ m.content }}!"), ("[why]".to_owned(), Some(false)));
    assert_eq!(of("", " {{ m.content }}"), ("[why]".to_owned(), Some(true)));
    assert_eq!(of("A:\n", "A:\n{{ m.content }}"), ("[why]A:\n".to_owned(), Some(false)));
    assert_eq!(of("A:", "A:<t></t>\n{{ m.content }}"), ("[why]A:<t></t>\n".to_owned(), Some(false)));
    // The first template writes `B:` instead of the generation prompt `A:` before an answer. The second template fails
    // if there is an answer. In both cases, it is unknown whether a space precedes an answer.
    assert_eq!(of("A:", "B:{{ m.content }}"), ("[why]A:".to_owned(), None));
    assert_eq!(of("A:", "{{ raise_exception('no') }}"), ("[why]A:".to_owned(), None));
}

#[test]
fn jinja_knows_what_is_a_list() {
    let test = "{{ tools is iterable }} {{ messages is iterable }} {{ 'a' is sequence }} {{ 1 is sequence }} \
        {{ messages[0].content }}";
    assert_eq!(framed(test, "why").expect("rendered").0, "False True True False why");
}

#[test]
fn where_a_template_is_found() {
    let none = folder(&[(SETTINGS, r#"{"bos_token": null}"#)]);
    assert!(Chat::open(none.path()).expect("readable").is_none());
    assert!(Chat::open(folder(&[]).path()).expect("readable").is_none());
    // chat_template.jinja takes precedence over the template in tokenizer_config.json. Older models list their special
    // tokens in special_tokens_map.json.
    let files = [
        (TEMPLATE, "{{ bos_token }}{{ pad_token }}{{ unk_token }}: {{ messages[0].content }}"),
        (SETTINGS, &settings("other {{ messages[0].content }}")),
        (SPECIAL, r#"{"bos_token": "<old>", "pad_token": "<p>"}"#),
    ];
    let chat = Chat::open(folder(&files).path()).expect("readable").expect("a template");
    assert_eq!(chat.frame("why").expect("rendered").0, "<old><p>: why", "special_tokens_map.json is read");
    let listed = settings("x").replacen('{', "{\"added_tokens_decoder\": {}, ", 1);
    let files = [files[0], (SETTINGS, &listed), files[2]];
    let without_map = Chat::open(folder(&files).path()).expect("readable").expect("a template");
    assert_eq!(without_map.frame("why").expect("rendered").0, "<s>: why", "special_tokens_map.json is not read");
    let named = r#"{"chat_template": [{"name": "tools", "template": "t"},
        {"name": "default", "template": "d {{ messages[0].content }}"}]}"#;
    let default_chat = Chat::open(folder(&[(SETTINGS, named)]).path()).expect("readable").expect("a template");
    assert_eq!(default_chat.frame("why").expect("rendered").0, "d why");
}

#[test]
fn what_decides_the_text_is_in_the_digest() {
    let digest = |template: &str, eos: &str| {
        let text = settings(template).replace("</s>", eos);
        let chat = Chat::open(folder(&[(SETTINGS, &text)]).path()).expect("readable").expect("a template");
        *chat.digest()
    };
    assert_eq!(digest(PLAIN, "</s>"), digest(PLAIN, "</s>"));
    assert_ne!(digest(PLAIN, "</s>"), digest(PLAIN, "<e>"));
    assert_ne!(digest(PLAIN, "</s>"), digest(&format!("{PLAIN} "), "</s>"));
}

#[test]
fn templates_that_cannot_be_used_say_why() {
    let problem = |template: &str| open(template).err().expect("refused").to_string();
    let found = [
        problem("{% for m in messages %}{{ m.content }}"),
        problem("{{ raise_exception('Only one system message') }}"),
        problem("{{ strftime_now('%d') }}{{ messages[0].content }}"),
        problem("Hello."),
        problem("{{ messages[0].content }} {{ messages[0].content }}"),
        problem("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"),
        problem(
            "{% set ns = namespace(x='xxxxxxxx') %}{% for a in range(99) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
        ),
        problem("{% include '/etc/passwd' %}{{ messages[0].content }}"),
        problem("{{ messages | tojson(indent=2) }}"),
        problem(&format!("{{{{ 1{} }}}}", " + 1".repeat(20_000))),
        problem(&format!("{{{{ {}1 }}}}", "not ".repeat(16_000))),
        framed("{{ messages[0].content | upper }}", "why").expect_err("refused"),
    ];
    let found: Vec<&str> = found
        .iter()
        .map(|text| text.rsplit_once("config.json: the chat template").map_or(&**text, |(_, why)| why))
        .collect();
    insta::assert_snapshot!(found.join("\n"));
    let many = [
        (SETTINGS, "{".to_owned()),
        (SETTINGS, r#"{"chat_template": 3}"#.to_owned()),
        (SETTINGS, r#"{"chat_template": [{"name": "tools", "template": "t"}]}"#.to_owned()),
    ];
    for (name, text) in many {
        assert!(Chat::open(folder(&[(name, &text)]).path()).is_err(), "{text}");
    }
}

#[test]
fn a_mark_without_inside_is_no_mark() {
    assert_eq!(without_marks("{%} {% generation %}"), "{%} {% generation %}");
    assert!(open("{%}{{ messages[0].content }}").is_err());
}

#[test]
fn widths_are_those_of_a_chat() {
    for wide in
        ["{{ '{:>2000000000}'.format('a') }}", "{{ '{:.2000000f}'.format(1.5) }}", "{{ '{:{}}'.format('a', 9) }}"]
    {
        let error = open(&format!("{wide}{PLAIN}")).err().expect("too wide").to_string();
        assert!(error.contains("more than four digits"), "{wide}: {error}");
    }
    assert_eq!(shown(&format!("{{{{ '{{:>9}}'.format('a') }}}}{PLAIN}"), "b"), "b");
}

#[test]
fn what_takes_for_ever_is_given_up() {
    let error = run_sandboxed(|| {
        std::thread::sleep(2 * TIMEOUT);
        Ok(())
    });
    assert!(error.expect_err("late").to_string().contains("more than 5 seconds"));
    let panicked = run_sandboxed::<()>(|| panic!("a library gives up"));
    assert!(panicked.expect_err("catch_panic").to_string().contains("a library gives up"));
}
