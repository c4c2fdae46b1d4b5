//! Defines the protocols of tasks: which text a model reads, and how its answer is scored.

use super::Item;
use super::forms::letter;
use crate::project::{TaskForm, TaskScorer};

/// How a question becomes a prompt, and how the answer is scored. No protocol shows solved examples before a question
/// (0-shot).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The prompt lists the choices with letters, and the answer is the letter with the largest likelihood. The usual
    /// protocol of MMLU.
    Letter,
    /// The prompt is the question. The answer is the choice with the largest sum of the log-probabilities of its tokens.
    Sum,
    /// The prompt is `Question: …`, a line break and `Answer:`. The answer is the choice with the largest sum of the
    /// log-probabilities of its tokens, divided by the number of its characters. This is `acc_norm` of
    /// lm-evaluation-harness, which is usually reported for ARC.
    PerCharacter,
    /// The prompt lists the choices with letters. The answer is the choice that the generated text names, by its letter
    /// or by its text.
    NamedChoice,
    /// The answer is right if the generated text contains an accepted text as whole words.
    Contains,
}

impl Protocol {
    /// Returns the protocol for the questions of a task. Returns the reason if the questions cannot be scored as the
    /// project demands.
    pub(super) fn of(form: TaskForm, by: Option<TaskScorer>, item: &Item) -> Result<Self, String> {
        match (item, by, form) {
            (Item::Prompt { .. }, Some(TaskScorer::Likelihood), _) => {
                Err("a prompt without choices cannot be scored by likelihood".to_owned())
            }
            (Item::Prompt { .. }, _, _) => Ok(Self::Contains),
            (Item::Choices { .. }, Some(TaskScorer::Text), _) => Ok(Self::NamedChoice),
            (Item::Choices { .. }, _, TaskForm::Plain) => Ok(Self::Sum),
            (Item::Choices { .. }, _, TaskForm::Mmlu) => Ok(Self::Letter),
            (Item::Choices { .. }, _, TaskForm::Arc) => Ok(Self::PerCharacter),
        }
    }

    /// Returns the name of the protocol in reports: the scorer, and what it scores.
    pub fn name(self) -> &'static str {
        match self {
            Self::Letter => "likelihood, letter",
            Self::Sum => "likelihood, sum",
            Self::PerCharacter => "likelihood, mean per character",
            Self::NamedChoice => "text, letter or choice",
            Self::Contains => "text, contains",
        }
    }

    /// Returns the text that the model reads before its answer.
    pub(super) fn prompt(self, item: &Item) -> String {
        match item {
            Item::Prompt { prompt, .. } => prompt.clone(),
            Item::Choices { question, choices, .. } => match self {
                Self::Letter | Self::NamedChoice => {
                    let list: String =
                        choices.iter().enumerate().map(|(at, text)| format!("{}. {text}\n", letter(at))).collect();
                    format!("{}\n{list}Answer:", question.trim())
                }
                Self::PerCharacter => format!("Question: {question}\nAnswer:"),
                Self::Sum | Self::Contains => question.clone(),
            },
        }
    }

    /// Returns the texts whose likelihood after the prompt is compared, one per choice.
    pub(super) fn continuations(self, choices: &[String]) -> Vec<String> {
        match self {
            Self::Letter => (0..choices.len()).map(|at| letter(at).to_string()).collect(),
            _ => choices.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item() -> Item {
        Item::Choices { question: "What is 2 + 2?".to_owned(), choices: vec!["3".to_owned(), "4".to_owned()], right: 1 }
    }

    #[test]
    fn prompts_are_those_of_the_field() {
        let of = |form, by| Protocol::of(form, by, &item()).expect("a protocol");
        let mmlu = of(TaskForm::Mmlu, None);
        assert_eq!(mmlu.prompt(&item()), "What is 2 + 2?\nA. 3\nB. 4\nAnswer:");
        assert_eq!(mmlu.continuations(&["3".to_owned(), "4".to_owned()]), ["A", "B"]);
        let arc = of(TaskForm::Arc, None);
        assert_eq!(arc.prompt(&item()), "Question: What is 2 + 2?\nAnswer:");
        assert_eq!(of(TaskForm::Plain, None).prompt(&item()), "What is 2 + 2?");
        for form in [TaskForm::Plain, TaskForm::Mmlu, TaskForm::Arc] {
            assert_eq!(of(form, Some(TaskScorer::Text)), Protocol::NamedChoice);
        }
    }

    #[test]
    fn a_prompt_has_no_likelihood() {
        let prompt = Item::Prompt { prompt: "Paris is in".to_owned(), accepted: vec!["France".to_owned()] };
        assert_eq!(Protocol::of(TaskForm::Plain, None, &prompt), Ok(Protocol::Contains));
        assert!(Protocol::of(TaskForm::Plain, Some(TaskScorer::Likelihood), &prompt).is_err());
    }
}
