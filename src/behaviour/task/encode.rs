//! Tokenizes the questions of a task. A question that is longer than the context of the model is left out, for both
//! models.

use super::read::{ReadTask, unusable};
use super::wanted::Wanted;
use super::{Item, Protocol};
use crate::behaviour::{self, Question};
use crate::diagnostics::{CappedFindings, Diagnostic, Sources};
use crate::model::{ModelError, Prompt, Tokens};
use crate::project::{TaskConfig, TaskForm};

/// A task whose questions are tokenized.
#[derive(Clone, Debug)]
pub struct EncodedTask {
    pub name: String,
    pub form: TaskForm,
    pub protocol: Protocol,
    pub(super) questions: Vec<EncodedItem>,
    /// The lines of the questions that are longer than the context of the model. They are not asked.
    pub left_out: Vec<usize>,
}

/// A tokenized question with its right answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum EncodedItem {
    /// The choices, each after the prompt.
    Choices {
        answers: Vec<Question>,
        /// The number of characters of each choice.
        characters: Vec<usize>,
        /// The index of the right choice.
        right: usize,
    },
    /// The token ids of a prompt that the model continues, and what the text must contain.
    Text { row: Vec<u32>, wanted: Wanted },
}

impl EncodedTask {
    /// Returns the number of questions that are asked.
    pub fn count(&self) -> usize {
        self.questions.len()
    }

    /// Tokenizes the questions of a task. `limit` is the context length in tokens.
    ///
    /// # Errors
    /// If the tokenizer rejects a question.
    pub fn new(
        config: &TaskConfig,
        task: &ReadTask,
        tokens: &Tokens,
        limit: usize,
        sources: &Sources,
    ) -> Result<Self, Vec<Diagnostic>> {
        let (mut questions, mut left_out, mut wrong) = (Vec::new(), Vec::new(), false);
        let mut findings = CappedFindings::default();
        for (span, item) in &task.items {
            match encode(task.protocol, item, tokens, limit) {
                Ok(question) => questions.push(question),
                Err(ModelError::TooLong { .. }) => left_out.push(sources.position(task.file, span.start).line),
                Err(error) => {
                    wrong = true;
                    findings.push(unusable(config, task.file, span, &error.to_string()));
                }
            }
        }
        if wrong {
            return Err(findings.finish());
        }
        let (name, form, protocol) = (config.name.clone(), config.form, task.protocol);
        Ok(Self { name, form, protocol, questions, left_out })
    }

    /// Returns a sentence about the questions that are left out, with the lines of the first ones; `None` if all
    /// questions are asked.
    pub fn note(&self) -> Option<String> {
        const MOST: usize = 8;
        let lines: Vec<String> = self.left_out.iter().take(MOST).map(usize::to_string).collect();
        let more = if self.left_out.len() > MOST { ", …" } else { "" };
        let (count, shown) = (self.left_out.len(), lines.join(", "));
        let noun = if count == 1 { "question is" } else { "questions are" };
        (count > 0).then(|| {
            format!(
                "task `{}`: {count} {noun} longer than the context of the model, and not asked (line {shown}{more})",
                self.name
            )
        })
    }
}

fn encode(protocol: Protocol, item: &Item, tokens: &Tokens, limit: usize) -> Result<EncodedItem, ModelError> {
    let text = protocol.prompt(item);
    let prompt = Prompt::from(text.as_str());
    let row = || behaviour::prompt(tokens, prompt, limit);
    match item {
        Item::Prompt { accepted, .. } => {
            Ok(EncodedItem::Text { row: row()?, wanted: Wanted::Contains(accepted.clone()) })
        }
        Item::Choices { choices, right, .. } if protocol == Protocol::NamedChoice => {
            let wanted = Wanted::Choice { choices: choices.clone(), right: *right };
            Ok(EncodedItem::Text { row: row()?, wanted })
        }
        Item::Choices { choices, right, .. } => {
            let list = protocol.continuations(choices);
            let answers = list.iter().map(|choice| answer(tokens, prompt, choice, limit));
            let characters = list.iter().map(|choice| choice.chars().count()).collect();
            Ok(EncodedItem::Choices { answers: answers.collect::<Result<_, _>>()?, characters, right: *right })
        }
    }
}

/// Tokenizes a prompt and a choice. A choice without a token would have the largest likelihood, so it is rejected.
fn answer(tokens: &Tokens, prompt: Prompt<'_>, choice: &str, limit: usize) -> Result<Question, ModelError> {
    let question = Question::new(tokens, prompt, choice, limit)?;
    if question.answer.is_empty() {
        return Err(ModelError::Encode { text: choice.to_owned(), problem: "it has no token".into() });
    }
    Ok(question)
}
