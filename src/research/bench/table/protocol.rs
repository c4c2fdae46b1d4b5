//! States how the numbers of each column are made, so that numbers of different protocols are not compared.

use crate::behaviour::protocol::{FORCED, Protocol, SAID, SAID_QA};
use crate::research::bench::metrics::said::SaidForm;

const fn of(protocol: &'static str, scorer: &'static str, group: &'static str) -> Protocol {
    Protocol { protocol, scorer, group }
}

/// Returns the protocol of the column with this name. `form` says how prompts are asked for generated texts.
pub fn of_column(name: &str, form: Option<SaidForm>) -> Protocol {
    let protocol = if form == Some(SaidForm::Qa) { SAID_QA } else { SAID };
    match name {
        "S" => of(FORCED, "harmonic mean of ES, PS and NS", "counterfact"),
        "ES" | "PS" | "NS" => of(FORCED, "likelier than the other answer", "counterfact"),
        "EM" | "PM" | "NM" => of(FORCED, "likelihood minus that of the other answer", "counterfact"),
        "GE" => of("generation, top-5, 100 tokens", "entropy of bigrams and trigrams", "generated text"),
        "RS" => of("generation, top-5, 100 tokens", "TF-IDF cosine with reference texts", "generated text"),
        "exact" | "exact paraphrases" | "exact neighbours" => of(FORCED, "every token of the answer", "holds"),
        "score" => of(FORCED, "harmonic mean of the three shares", "zsre"),
        "efficacy" | "paraphrase" | "specificity" => of(FORCED, "share of right tokens", "zsre"),
        "said exactly" => of(protocol, "first sentence equals the answer", "said exactly"),
        "said" | "said, paraphrase" | "said, neighbour" => of(protocol, "first sentence contains the answer", "said"),
        "same neighbour" => of(protocol, "first sentence equals that of the base", "same text"),
        "repeats" => of(protocol, "the answer twice, or a phrase three times at the end", "repeats"),
        "untouched" => of(FORCED, "every token of the true answer", "holds"),
        "damage" => of(FORCED, "KL divergence on neutral text, nats", "damage"),
        _ => of("measurement", "count, seconds or MiB", "cost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::research::bench::metrics::said;

    #[test]
    fn every_column_of_generated_text_has_its_protocol() {
        for name in said::COLUMNS {
            assert_eq!(of_column(name, Some(SaidForm::Plain)).protocol, SAID, "{name}");
            assert_eq!(of_column(name, Some(SaidForm::Qa)).protocol, SAID_QA, "{name}");
        }
        assert_ne!(of_column("ES", None).group, of_column("said", None).group);
        assert_ne!(of_column("exact", None).group, of_column("said exactly", None).group);
    }
}
