//! Formats the results of `trace`: a table for a terminal, JSON with all numbers, and a folder of figures.

use std::collections::BTreeMap;
use std::path::Path;

use crate::cli::answers::trace::{IndirectEffect, MeanEffects, TraceAnswer, TraceNumbers, TracedFact};
use crate::cli::answers::{LeftOutEntry, NamedBase};
use crate::cli::context::Context;
use crate::cli::format::Format;
use crate::diagnostics::{Code, Diagnostic, Failure, Sources};
use crate::export::destination::Destination;
use crate::numeric::Mean;
use crate::pipeline::Base;
use crate::report::Outcome;
use crate::report::table::{Table, plural};
use crate::research::figure::{Figure, write_all, wrote as wrote_to};
use crate::research::trace::plots;
use crate::research::trace::plots::page;
use crate::research::trace::{
    AverageEffects, FactTrace, Noise, NoiseRule, RestoredKind, Skipped, TokenClass, TracePlan,
};

pub(crate) struct TraceOutput {
    base: (String, String),
    pub noise: Noise,
    pub plan: TracePlan,
    asked: usize,
    pub traced: Vec<FactTrace>,
    pub left: Vec<(String, Skipped)>,
    effects: AverageEffects,
}

impl TraceOutput {
    pub(crate) fn new(base: &Base, noise: Noise, plan: TracePlan, asked: usize, left: Vec<(String, Skipped)>) -> Self {
        let base = (base.name(), base.locked.digest.short());
        Self { base, noise, plan, asked, traced: Vec::new(), left, effects: AverageEffects::default() }
    }

    /// Computes the mean effects over all traced facts. Must be called after the last fact is traced.
    pub(crate) fn sum_up(&mut self) {
        self.effects = AverageEffects::of(&self.traced);
    }

    fn noise_in_words(&self) -> String {
        let Noise { rule, scale, seed, samples } = self.noise;
        let kind = match rule {
            NoiseRule::Spread(factor) => {
                format!("normal, {factor} standard deviations of the subjects' embeddings: {scale:.4}")
            }
            NoiseRule::Fixed(deviation) => format!("normal, {deviation}"),
            NoiseRule::Uniform(bound) => format!("uniform, up to {bound}"),
        };
        format!("{kind}; {}, seed {seed}", plural(samples, "sample"))
    }

    /// Formats a mean with its 95 % confidence interval. If only one fact was traced, the interval is omitted, because
    /// it would only describe the tokens of one prompt, and not other facts.
    fn figure(&self, mean: Mean) -> String {
        figure(if self.traced.len() == 1 { Mean { count: 1, ..mean } } else { mean })
    }

    /// Formats the number of facts that were not traced, for each reason.
    fn left_in_words(&self) -> String {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, why) in &self.left {
            let why = match why {
                Skipped::Unknown { .. } => "the model says something else",
                Skipped::NoSubject { .. } => "the subject is not in the prompt",
                Skipped::NoToken(_) | Skipped::Model(_) => "the text cannot be read",
            };
            *counts.entry(why).or_default() += 1;
        }
        let counts: Vec<String> = counts.into_iter().map(|(why, count)| format!("{count}: {why}")).collect();
        counts.join("; ")
    }

    /// Returns the number of traced facts whose answer has several tokens. Only the first token of an answer is traced.
    fn in_part(&self) -> usize {
        self.traced.iter().filter(|one| one.answer_tokens.is_some_and(|tokens| tokens > 1)).count()
    }

    /// Returns the lines above the table, such as the noise and the mean probabilities, each as a name and a value.
    fn lines(&self) -> Vec<(String, String)> {
        let effects = &self.effects;
        let mut lines = vec![
            ("base", format!("{}  {}", self.base.0, self.base.1)),
            ("noise", self.noise_in_words()),
            ("windows", format!("{} of MLPs or attentions", plural(self.plan.window, "layer"))),
            ("traced", format!("{} of {}", self.traced.len(), plural(self.asked, "fact"))),
        ];
        if !self.left.is_empty() {
            lines.push(("left out", self.left_in_words()));
        }
        if self.in_part() > 0 {
            lines.push(("in part", format!("{} by the first token of the answer", plural(self.in_part(), "fact"))));
        }
        lines.extend([
            ("clean", format!("{} the answer's probability", self.figure(effects.clean))),
            ("corrupted", format!("{} with noise on the subject", self.figure(effects.corrupted))),
            ("effect", format!("{} in total", self.figure(effects.total))),
        ]);
        lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

pub(crate) fn figure(mean: Mean) -> String {
    let mean = Mean { value: if mean.value.abs() < 5e-4 { 0.0 } else { mean.value }, ..mean };
    if mean.count > 1 { format!("{:.3} ± {:.3}", mean.value, mean.ci95) } else { format!("{:.3}", mean.value) }
}

/// Prints the table or the JSON output on stdout. `wrote` is the folder with the figures and the number of its files;
/// `None` if no folder was written.
pub(crate) fn answer(context: &Context, output: &TraceOutput, wrote: Option<(&Path, usize)>) {
    match context.format {
        Format::Json => {
            let out = wrote.map(|(out, _)| out.display().to_string());
            let answer = TraceAnswer { out, numbers: numbers(output) };
            context.answer_json(Outcome::Ok, &[], &Sources::default(), answer);
        }
        _ => context.ui.answer(&human(output, wrote, context.ui.width())),
    }
}

fn human(output: &TraceOutput, wrote: Option<(&Path, usize)>, width: usize) -> String {
    let mut head = Table::new(&[1], &[]);
    for (name, value) in output.lines() {
        head.row([name, value]);
    }
    if let Some((out, files)) = wrote {
        head.row(["wrote".to_owned(), wrote_to(out, files)]);
    }
    let of = if output.traced.len() == 1 { "indirect effect" } else { "average indirect effect" };
    let of = format!("{of}, greatest of all layers");
    let side_by_side = side_by_side(output, &of);
    let table = if side_by_side.fits(width) { side_by_side.render(width) } else { below(output, &of) };
    format!("{}\n{table}", head.render_wrapped(width))
}

/// Formats the largest mean effect of restoring one kind of hidden state at one class of tokens, and the layer of this
/// effect; `None` if no effect was measured.
fn peak(output: &TraceOutput, kind: RestoredKind, class: TokenClass) -> Option<String> {
    output.effects.peak(kind, class).map(|(layer, mean)| format!("{} at {layer}", output.figure(mean)))
}

/// Returns a table of the largest mean effects, with one row per token class and one column per kind of hidden state.
fn side_by_side(output: &TraceOutput, of: &str) -> Table {
    let kinds = &output.plan.kinds;
    let mut table = Table::new(&[], &[]);
    table.row(std::iter::once(of).chain(kinds.iter().map(|kind| kind.name())));
    for class in TokenClass::ALL {
        let cells: Vec<Option<String>> = kinds.iter().map(|kind| peak(output, *kind, class)).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells.into_iter().map(Option::unwrap_or_default);
            table.row(std::iter::once(class.words().to_owned()).chain(cells));
        }
    }
    table
}

/// Formats the largest mean effects for narrow terminals: the title `of`, then a list per token class with one line per
/// kind of hidden state.
fn below(output: &TraceOutput, of: &str) -> String {
    let mut out = format!("{of}\n");
    for class in TokenClass::ALL {
        let mut table = Table::new(&[], &[]);
        for kind in &output.plan.kinds {
            if let Some(cell) = peak(output, *kind, class) {
                table.row([format!("  {}", kind.name()), cell]);
            }
        }
        let lines = table.render(usize::MAX);
        if !lines.is_empty() {
            out.push_str(&format!("\n{}\n{lines}", class.words()));
        }
    }
    out
}

/// Returns the fields of the JSON output: the settings, the mean effects, and the effects for each fact.
fn numbers(output: &TraceOutput) -> TraceNumbers<'_> {
    let effects = &output.effects;
    let indirect = effects.indirect.iter();
    let indirect =
        indirect.map(|((kind, class), layers)| IndirectEffect { kind: kind.name(), token: class.name(), layers });
    let left_out = output.left.iter().map(|(id, why)| LeftOutEntry { id, why: why.to_string() });
    TraceNumbers {
        base: NamedBase { name: output.base.0.clone(), digest: output.base.1.clone() },
        noise: (&output.noise).into(),
        window: output.plan.window,
        severed_noise: output.plan.severed.name(),
        effects: MeanEffects {
            facts: effects.facts,
            clean: effects.clean,
            corrupted: effects.corrupted,
            total: effects.total,
            indirect: indirect.collect(),
        },
        facts: output.traced.iter().map(traced_fact).collect(),
        left_out: left_out.collect(),
    }
}

fn traced_fact(one: &FactTrace) -> TracedFact<'_> {
    TracedFact {
        id: &one.fact.id,
        prompt: &one.fact.prompt,
        subject: one.fact.subject_text(),
        tokens: &one.tokens,
        subject_tokens: [one.subject.start, one.subject.end],
        answer: &one.answer,
        answer_tokens: one.answer_tokens,
        clean: one.clean,
        corrupted: one.corrupted,
        restored: one.restored.iter().map(|(kind, table)| (kind.name(), table.as_slice())).collect(),
    }
}

/// Writes the figures, the HTML page and the JSON to a new folder, and returns the number of files. Only the first
/// `pictures` facts get separate figures.
pub(crate) fn write(place: Destination, output: &TraceOutput, pictures: usize) -> Result<usize, Failure> {
    let averages = plots::averages(&output.effects, &output.plan);
    let singles = output.traced.iter().take(pictures);
    let singles: Vec<Figure> = singles.flat_map(|one| plots::of_fact(one, &output.plan)).collect();
    let title = match output.traced.as_slice() {
        [one] => format!("Where “{}” is stored", one.fact.prompt),
        all => format!("Where {} facts are stored", all.len()),
    };
    let numbers = serde_json::to_value(numbers(output)).expect("the keys are texts");
    let page = page::TracePage { title, lines: output.lines(), effects: &output.effects, plan: &output.plan };
    let files = [("index.html", page::render(&page, &averages, &singles)), ("trace.json", format!("{numbers:#}\n"))];
    let render_error = |why| Failure::from(Diagnostic::new(Code::TraceRefused, format!("the figure {why}")));
    write_all(place, averages.iter().chain(&singles), &files, render_error)
}
