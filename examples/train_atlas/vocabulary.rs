//! The tokenizer: byte-level BPE, trained on the world's sentences.

use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer, TokenizerBuilder};

use crate::Fallible;
use crate::world::World;

/// Id of the token between documents.
pub(crate) const END: u32 = 0;
/// The token between documents.
pub(crate) const END_TEXT: &str = "<|endoftext|>";

/// Every sentence that training may show, as the first of a text and behind another: there a space stands before it.
fn sentences(world: &World) -> Vec<String> {
    let facts = world
        .facts
        .iter()
        .flat_map(|fact| world.trained(fact).into_iter().map(move |phrasing| world.sentence(fact, phrasing)));
    let all = facts.chain(world.fillers.iter().cloned());
    all.flat_map(|sentence| [format!(" {sentence}"), sentence]).collect()
}

/// Trains on the world's sentences.
pub(crate) fn train(world: &World, size: usize) -> Fallible<Tokenizer> {
    let mut tokenizer = TokenizerBuilder::default()
        .with_model(BPE::default())
        .with_normalizer(None::<tokenizers::NormalizerWrapper>)
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        // Offsets keep the space of a word, as in GPT-2's own tokenizer.json.
        .with_post_processor(Some(ByteLevel::new(true, false, true)))
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

/// The bytes of tokenizer.json.
pub(crate) fn to_json(tokenizer: &Tokenizer) -> Fallible<Vec<u8>> {
    Ok(tokenizer.to_string(true)?.into_bytes())
}

/// Token ids of a text, nothing added.
pub(crate) fn encode(tokenizer: &Tokenizer, text: &str) -> Fallible<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, false)?.get_ids().to_vec())
}
