//! Saves and loads the state of a training in its working folder.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use corrigenda::safetensors::{Dtype, TensorData, write};
use safetensors::SafeTensors;

use crate::Fallible;
use crate::optimiser::Moments;
use crate::seed::Draw;

/// The state of a training after a step. It determines all further steps.
pub(crate) struct State {
    /// The number of completed steps.
    pub step: u64,
    pub draw: Draw,
    pub flat: Vec<f32>,
    pub moments: Moments,
}

const FILE: &str = "state.safetensors";

/// Converts floats to little-endian bytes.
pub(crate) fn bytes(elements: &[f32]) -> Vec<u8> {
    elements.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// Converts little-endian bytes to floats.
pub(crate) fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()
}

impl State {
    /// Saves the state together with the line `settings`. A training with different settings cannot resume from this
    /// state.
    pub(crate) fn save(&self, folder: &Path, settings: &str) -> Fallible<()> {
        let lists = [("first", &self.moments.first), ("parameters", &self.flat), ("second", &self.moments.second)];
        let lists = lists.map(|(name, list)| (name, bytes(list)));
        let tensor = |(name, data): &'_ (&str, Vec<u8>)| (name.to_string(), vec![data.len() as u64 / 4]);
        let tensors: Vec<TensorData> = lists
            .iter()
            .map(|list| (tensor(list), list))
            .map(|((name, shape), (_, data))| TensorData { name, dtype: Dtype::F32, shape, data })
            .collect();
        let metadata = BTreeMap::from([
            ("draw".to_owned(), self.draw.0.to_string()),
            ("settings".to_owned(), settings.to_owned()),
            ("step".to_owned(), self.step.to_string()),
        ]);
        crate::write(&folder.join(FILE), &write(&tensors, &metadata))
    }

    /// Loads the state from `folder`; `None` if `folder` has no state. Fails if the state was saved with other
    /// `settings`.
    pub(crate) fn load(folder: &Path, settings: &str) -> Fallible<Option<Self>> {
        let path = folder.join(FILE);
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = std::fs::read(&path)?;
        let (_, header) = SafeTensors::read_metadata(&bytes)?;
        let metadata: &HashMap<String, String> = header.metadata().as_ref().ok_or("a state without metadata")?;
        let text = |key: &str| metadata.get(key).ok_or_else(|| format!("{}: no {key}", path.display()));
        if text("settings")? != settings {
            let message = "was begun with other settings or another world; give `--work` a new folder, or delete it";
            return Err(
                format!("{} {message}\n  there: {}\n  here:  {settings}", path.display(), text("settings")?).into()
            );
        }
        let file = SafeTensors::deserialize(&bytes)?;
        let list = |name: &str| file.tensor(name).map(|view| floats(view.data()));
        let moments = Moments { first: list("first")?, second: list("second")? };
        let (step, draw) = (text("step")?.parse()?, Draw(text("draw")?.parse()?));
        Ok(Some(Self { step, draw, flat: list("parameters")?, moments }))
    }
}
