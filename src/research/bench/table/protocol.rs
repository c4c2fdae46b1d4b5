//! States how the numbers of each column are made, so that numbers of different protocols are not compared.

use crate::behaviour::protocol::{FORCED, Protocol, SAID};

const fn of(protocol: &'static str, scorer: &'static str, group: &'static str) -> Protocol {
    Protocol { protocol, scorer, group }
}

/// Returns the protocol of the column with this name.
pub fn of_column(name: &str) -> Protocol {
    match name {
        "S" => of(FORCED, "harmonic mean of ES, PS and NS", "counterfact"),
        "ES" | "PS" | "NS" => of(FORCED, "likelier than the other answer", "counterfact"),
        "EM" | "PM" | "NM" => of(FORCED, "likelihood minus that of the other answer", "counterfact"),
        "GE" => of("generation, top-5, 100 tokens", "entropy of bigrams and trigrams", "generated text"),
        "RS" => of("generation, top-5, 100 tokens", "TF-IDF cosine with reference texts", "generated text"),
        "exact" | "exact paraphrases" | "exact neighbours" => of(FORCED, "every token of the answer", "holds"),
        "score" => of(FORCED, "harmonic mean of the three shares", "zsre"),
        "efficacy" | "paraphrase" | "specificity" => of(FORCED, "share of right tokens", "zsre"),
        "said exactly" => of(SAID, "first sentence equals the answer", "said exactly"),
        "said" | "said, paraphrase" | "said, neighbour" => of(SAID, "first sentence contains the answer", "said"),
        "same neighbour" => of(SAID, "first sentence equals that of the base", "same text"),
        "repeats" => of(SAID, "the answer twice, or a phrase three times at the end", "repeats"),
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
            assert_eq!(of_column(name).protocol, SAID, "{name}");
        }
        assert_ne!(of_column("ES").group, of_column("said").group);
        assert_ne!(of_column("exact").group, of_column("said exactly").group);
    }
}
