//! Reads typed values from config.json. Every error names the file and the key.

use std::path::Path;

use serde_json::{Map, Value};

use crate::model::ModelError;

/// One JSON object in config.json, with the path of the file for error messages.
pub(crate) struct ConfigReader<'a> {
    path: &'a Path,
    config: &'a Map<String, Value>,
}

impl<'a> ConfigReader<'a> {
    pub(crate) fn new(path: &'a Path, config: &'a Map<String, Value>) -> Self {
        Self { path, config }
    }

    pub(crate) fn error(&self, key: &str, problem: &str) -> ModelError {
        ModelError::Config { path: self.path.to_owned(), key: key.to_owned(), problem: problem.to_owned() }
    }

    /// Returns the value of `key`; `None` if the key is absent or its value is null.
    pub(crate) fn get(&self, key: &str) -> Option<&'a Value> {
        self.config.get(key).filter(|value| !value.is_null())
    }

    /// Whether the object contains `key`, even if its value is null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.config.contains_key(key)
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    /// Iterates over the keys and values of the object. Skips null values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.config.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the JSON object under `key`; `None` if the key is absent or its value is null. Rejects every other
    /// value.
    pub(crate) fn object(&self, key: &str) -> Result<Option<ConfigReader<'a>>, ModelError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(config)) => Ok(Some(ConfigReader { path: self.path, config })),
            Some(other) => Err(self.error(key, &format!("is {other}; an object was expected"))),
        }
    }

    /// Returns the integer under `key`. Rejects an absent key, and every value that is not an integer from 1 to
    /// `limit`.
    pub(crate) fn size(&self, key: &str, limit: usize) -> Result<usize, ModelError> {
        self.size_or(key, limit, None)?.ok_or_else(|| self.error(key, "is missing"))
    }

    /// Returns the integer under `key`, or `default` if the key is absent or null. Rejects every value that is not an
    /// integer from 1 to `limit`.
    pub(crate) fn size_or(&self, key: &str, limit: usize, default: Option<usize>) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.get(key) else { return Ok(default) };
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok());
        match size {
            Some(size) if (1..=limit).contains(&size) => Ok(Some(size)),
            _ => Err(self.error(key, &format!("is {value}; a whole number from 1 to {limit} was expected"))),
        }
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(key, &format!("is {other}; true or false was expected"))),
        }
    }

    /// Returns the number under `key`, or `default` if the key is absent or null. The number must be above 0 and below
    /// `limit`; every other value is rejected.
    pub(crate) fn positive(&self, key: &str, default: f64, limit: f64) -> Result<f64, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(value) => match value.as_f64() {
                Some(number) if number > 0.0 && number < limit => Ok(number),
                _ => Err(self.error(key, &format!("is {value}; a number between 0 and {limit} was expected"))),
            },
        }
    }

    /// Returns the string under `key`, or `default` if the key is absent or null.
    pub(crate) fn word(&self, key: &str, default: &'static str) -> Result<&'a str, ModelError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::String(word)) => Ok(word),
            Some(other) => Err(self.error(key, &format!("is {other}; a text was expected"))),
        }
    }
}
