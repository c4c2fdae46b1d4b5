//! Defines what the model learns: facts, the phrasings of each relation, and the phrasing of each fact that is held
//! out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use corrigenda::digest::Digest;

use crate::Fallible;
use crate::seed::mix;

/// A fact that the model learns: `object` is in `relation` to `subject`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fact {
    pub relation: String,
    pub subject: String,
    pub object: String,
}

/// The facts, the phrasings and the fillers from which all training sentences are made.
pub(crate) struct World {
    /// The facts, sorted by relation, then by subject.
    pub facts: Vec<Fact>,
    /// The phrasings of each relation. The first phrasing is the one for edits.
    pub phrasings: BTreeMap<String, Vec<String>>,
    /// Sentences that state no fact.
    pub fillers: Vec<String>,
    /// The first digits of the digest of facts.txt, phrasings.txt and fillers.txt, which identifies the world.
    pub digest: String,
}

/// The seed of the hash that selects the held-out phrasing.
const HELD_OUT: u64 = 0xA71A5;

impl World {
    /// Reads and checks facts.txt, phrasings.txt and fillers.txt in `folder`.
    pub(crate) fn read(folder: &Path) -> Fallible<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).map_err(|problem| format!("{}: {problem}", path.display()))
        };
        Self::parse(&text("facts.txt")?, &text("phrasings.txt")?, &text("fillers.txt")?)
    }

    /// Parses and checks the texts of facts.txt, phrasings.txt and fillers.txt.
    pub(crate) fn parse(facts: &str, phrasings: &str, fillers: &str) -> Fallible<Self> {
        let digest = Digest::of([facts, phrasings, fillers].join("\0").as_bytes()).short().to_string();
        let facts = lines(facts).map(fact).collect::<Fallible<Vec<_>>>()?;
        let world = Self {
            facts,
            phrasings: sections(phrasings)?,
            fillers: lines(fillers).map(|(_, line)| line.to_owned()).collect(),
            digest,
        };
        world.check()?;
        Ok(world)
    }

    fn check(&self) -> Fallible<()> {
        if let Some(pair) = self.facts.windows(2).find(|pair| pair[0] >= pair[1]) {
            let Fact { relation, subject, .. } = &pair[1];
            return Err(format!("{subject} | {relation} does not stand behind its predecessor").into());
        }
        let mut seen = BTreeSet::new();
        for fact in &self.facts {
            if !self.phrasings.contains_key(&fact.relation) {
                return Err(format!("nothing says how to phrase {}", fact.relation).into());
            }
            if !seen.insert((&fact.relation, &fact.subject)) {
                return Err(format!("{} has two facts of {}", fact.subject, fact.relation).into());
            }
            if !fact.object.ends_with(|last: char| last.is_alphanumeric()) {
                return Err(format!("{:?} must end in a letter: a full stop follows it", fact.object).into());
            }
        }
        self.check_phrasings()
    }

    /// Rejects a phrasing that is a prefix of another phrasing, because the continuation of the shorter one would be
    /// ambiguous.
    fn check_phrasings(&self) -> Fallible<()> {
        let all: Vec<&String> = self.phrasings.values().flatten().collect();
        for (index, one) in all.iter().enumerate() {
            if one.matches("{}").count() != 1 || one.ends_with("{}") {
                return Err(format!("{one:?} must name the subject once, and not at its end").into());
            }
            let begins = |other: &str| {
                other.strip_prefix(one.as_str()).is_some_and(|rest| !rest.starts_with(char::is_alphanumeric))
            };
            if all.iter().enumerate().any(|(other, text)| other != index && begins(text)) {
                return Err(format!("{one:?} begins another phrasing").into());
            }
        }
        match self.phrasings.iter().find(|(_, list)| list.len() < 3) {
            Some((relation, _)) => Err(format!("{relation} needs three phrasings or more").into()),
            None => Ok(()),
        }
    }

    pub(crate) fn phrasings(&self, fact: &Fact) -> &[String] {
        &self.phrasings[&fact.relation]
    }

    /// Returns the index of the phrasing in which `fact` is never trained. It is never 0, the phrasing for edits.
    pub(crate) fn held_out(&self, fact: &Fact) -> usize {
        let key = format!("{}\0{}", fact.relation, fact.subject);
        let hash = key.bytes().fold(HELD_OUT, |hash, byte| mix(hash ^ u64::from(byte)));
        1 + (hash % (self.phrasings(fact).len() as u64 - 1)) as usize
    }

    /// Returns the indices of the phrasings in which `fact` is trained.
    pub(crate) fn trained(&self, fact: &Fact) -> Vec<usize> {
        let held_out = self.held_out(fact);
        (0..self.phrasings(fact).len()).filter(|&index| index != held_out).collect()
    }

    /// Returns a phrasing with the subject filled in.
    pub(crate) fn prompt(&self, fact: &Fact, phrasing: usize) -> String {
        self.phrasings(fact)[phrasing].replacen("{}", &fact.subject, 1)
    }

    /// Returns the sentence of a fact: its prompt and its object, with a full stop.
    pub(crate) fn sentence(&self, fact: &Fact, phrasing: usize) -> String {
        format!("{} {}.", self.prompt(fact, phrasing), fact.object)
    }
}

/// Returns the non-empty lines that are not comments, with their numbers from 1.
fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let numbered = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
    numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

fn fact((number, line): (usize, &str)) -> Fallible<Fact> {
    let parts: Vec<&str> = line.split(" | ").map(str::trim).collect();
    let [subject, relation, object] = parts[..] else {
        return Err(format!("facts.txt:{number}: expected `subject | relation | object`").into());
    };
    Ok(Fact { relation: relation.to_owned(), subject: subject.to_owned(), object: object.to_owned() })
}

fn sections(text: &str) -> Fallible<BTreeMap<String, Vec<String>>> {
    let mut all: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut current = None;
    for (number, line) in lines(text) {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            current = Some(all.entry(name.to_owned()).or_default());
        } else if let Some(list) = &mut current {
            list.push(line.to_owned());
        } else {
            return Err(format!("phrasings.txt:{number}: a phrasing before the first relation").into());
        }
    }
    Ok(all)
}
