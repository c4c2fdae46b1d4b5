//! Trains the tokenizer, a byte-level BPE, on the world's sentences.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::processors::sequence::Sequence;
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::Fallible;
use crate::world::World;

/// The id of the token that separates documents, `END_TEXT`.
pub(crate) const END: u32 = 0;
pub(crate) const END_TEXT: &str = "<|endoftext|>";

/// Returns every sentence that training can contain: each fact in all phrasings except its held-out one, and the
/// fillers.
fn sentences(world: &World) -> Vec<String> {
    let facts = world
        .facts
        .iter()
        .flat_map(|fact| world.trained(fact).into_iter().map(move |phrasing| world.sentence(fact, phrasing)));
    let all = facts.chain(world.fillers.iter().cloned());
    all.collect()
}

/// Trains a tokenizer with at most `size` tokens on the world's sentences.
pub(crate) fn train(world: &World, size: usize) -> Fallible<Tokenizer> {
    let mut tokenizer = TokenizerBuilder::default()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        // A word at the start of a text is tokenized as if a space preceded it. A subject then has the same tokens at
        // every position of a text, and so nearly the same key.
        .with_pre_tokenizer(Some(ByteLevel::new(true, true, true)))
        .with_post_processor(Some(post_processor()?))
        .with_decoder(Some(ByteLevel::new(true, true, true)))
        .build()?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(size)
        .min_frequency(2)
        .show_progress(false)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_TEXT, true)])
        .build();
    tokenizer.train(&mut trainer, sentences(world).into_iter())?;
    let tokenizer = Tokenizer::from_bytes(serde_json::to_vec(&tokenizer)?)?;
    match tokenizer.token_to_id(END_TEXT) {
        Some(END) => Ok(tokenizer),
        other => Err(format!("{END_TEXT} has the id {other:?}").into()),
    }
}

/// Returns a post-processor that prepends the token that separates documents to every text, because every training
/// sequence starts with that token. A subject at the start of a prompt then has nearly the same context, and so nearly
/// the same key, as a subject after another sentence.
fn post_processor() -> Fallible<Sequence> {
    // The offsets of a word include its space, as in GPT-2's tokenizer.json.
    let offsets = ByteLevel::new(true, false, true);
    let template = TemplateProcessing::builder()
        .try_single(format!("{END_TEXT} $A"))?
        .special_tokens(vec![(END_TEXT, END)])
        .build()?;
    Ok(Sequence::new(vec![offsets.into(), template.into()]))
}

/// Returns the content of the file tokenizer.json.
pub(crate) fn to_json(tokenizer: &Tokenizer) -> Fallible<Vec<u8>> {
    Ok(tokenizer.to_string(true)?.into_bytes())
}

/// Returns the token ids of a text without special tokens.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Fallible<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec())
}
