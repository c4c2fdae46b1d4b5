//! Implements GPT-2 with candle: pre-norm blocks, learned positions, `gelu_new`, `[in, out]` projections with biases,
//! and a tied output head.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var};

use crate::draw::Text;
use crate::fused::{CausalSoftmax, CrossEntropy, Gelu, Normalise, apply};
use crate::seed::Draw;

/// The ε that the layer norms add to the variance.
pub(crate) const EPSILON: f32 = 1e-5;

/// The size of the model.
#[derive(Clone, Debug, PartialEq, Eq, clap::Args)]
pub(crate) struct Shape {
    /// Number of blocks
    #[arg(long, default_value_t = 4)]
    pub layers: usize,
    /// Hidden width
    #[arg(long, default_value_t = 192)]
    pub width: usize,
    /// Number of attention heads
    #[arg(long, default_value_t = 6)]
    pub heads: usize,
    /// Context length
    #[arg(long, default_value_t = 64)]
    pub context: usize,
    /// Maximum size of the vocabulary
    #[arg(long, default_value_t = 2000)]
    pub vocabulary: usize,
}

/// A parameter tensor: its name in the Hub's layout, its shape, and the standard deviation of its initial values.
pub(crate) struct Parameter {
    pub name: String,
    pub sides: Vec<usize>,
    deviation: f64,
}

impl Parameter {
    /// Returns the number of elements of the parameter.
    pub(crate) fn count(&self) -> usize {
        self.sides.iter().product()
    }

    /// Returns whether weight decay applies to the parameter: true for matrices, false for gains and biases.
    pub(crate) fn decays(&self) -> bool {
        self.sides.len() > 1
    }
}

impl Shape {
    /// Returns all parameters, in the order in which they are concatenated in the flat vector.
    pub(crate) fn parameters(&self) -> Vec<Parameter> {
        let (width, inner) = (self.width, 4 * self.width);
        let mut all = Vec::new();
        let mut add = |name: String, sides: &[usize], deviation: f64| {
            all.push(Parameter { name: format!("transformer.{name}"), sides: sides.to_vec(), deviation });
        };
        add("wte.weight".into(), &[self.vocabulary, width], 0.02);
        add("wpe.weight".into(), &[self.context, width], 0.01);
        // The projections that add to the residual stream get smaller initial values in deeper models, as in GPT-2.
        let added = 0.02 / (2.0 * self.layers as f64).sqrt();
        for layer in 0..self.layers {
            let mut linear = |name: &str, inputs: usize, outputs: usize, deviation: f64| {
                add(format!("h.{layer}.{name}.weight"), &[inputs, outputs], deviation);
                add(format!("h.{layer}.{name}.bias"), &[outputs], 0.0);
            };
            linear("attn.c_attn", width, 3 * width, 0.02);
            linear("attn.c_proj", width, width, added);
            linear("mlp.c_fc", width, inner, 0.02);
            linear("mlp.c_proj", inner, width, added);
        }
        let norms = (0..self.layers).flat_map(|layer| [format!("h.{layer}.ln_1"), format!("h.{layer}.ln_2")]);
        for norm in norms.chain(["ln_f".to_owned()]) {
            add(format!("{norm}.weight"), &[width], 0.0);
            add(format!("{norm}.bias"), &[width], 0.0);
        }
        all
    }

    /// Returns initial values of all parameters: matrices are random, gains are one, biases are zero.
    pub(crate) fn draw(&self, draw: &mut Draw) -> Vec<f32> {
        let mut flat = Vec::new();
        for parameter in self.parameters() {
            let gain = parameter.name.contains("ln_") && parameter.name.ends_with(".weight");
            let centre = if gain { 1.0 } else { 0.0 };
            let element = |_| if parameter.decays() { (parameter.deviation * draw.normal()) as f32 } else { centre };
            flat.extend((0..parameter.count()).map(element));
        }
        flat
    }
}

/// The model, whose parameters are variables of candle's autograd.
pub(crate) struct Network<'a> {
    shape: &'a Shape,
    variables: BTreeMap<String, Var>,
}

impl<'a> Network<'a> {
    /// Creates the variables from a flat vector of all parameters.
    pub(crate) fn new(shape: &'a Shape, flat: &[f32]) -> Result<Self> {
        let mut variables = BTreeMap::new();
        let mut first = 0;
        for parameter in shape.parameters() {
            let data = &flat[first..first + parameter.count()];
            let variable = Var::from_slice(data, &parameter.sides[..], &Device::Cpu)?;
            first += parameter.count();
            variables.insert(parameter.name, variable);
        }
        Ok(Self { shape, variables })
    }

    fn get(&self, name: &str) -> &Tensor {
        self.variables[&format!("transformer.{name}")].as_tensor()
    }

    fn linear(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        x.matmul(self.get(&format!("{name}.weight")))?.broadcast_add(self.get(&format!("{name}.bias")))
    }

    fn norm(&self, x: &Tensor, name: &str) -> Result<Tensor> {
        let unit = apply(x, Normalise { epsilon: EPSILON })?;
        unit.broadcast_mul(self.get(&format!("{name}.weight")))?.broadcast_add(self.get(&format!("{name}.bias")))
    }

    fn attention(&self, x: &Tensor, layer: usize, rows: usize) -> Result<Tensor> {
        let (heads, width) = (self.shape.heads, self.shape.width);
        let positions = x.dim(0)? / rows;
        let fused = self.linear(x, &format!("h.{layer}.attn.c_attn"))?;
        let split = fused.reshape((rows, positions, 3, heads, width / heads))?.permute((2, 0, 3, 1, 4))?;
        let part = |index: usize| split.get(index)?.contiguous();
        let (query, key, value) = (part(0)?, part(1)?, part(2)?);
        let scores = query.matmul(&key.transpose(2, 3)?)?;
        let scale = 1.0 / ((width / heads) as f32).sqrt();
        let attended = apply(&scores, CausalSoftmax { scale })?.matmul(&value)?;
        let joined = attended.transpose(1, 2)?.reshape((rows * positions, width))?;
        self.linear(&joined, &format!("h.{layer}.attn.c_proj"))
    }

    /// Returns the logits `[rows · positions, vocabulary]` of rows of equal length.
    pub(crate) fn logits(&self, rows: &[&[u32]]) -> Result<Tensor> {
        let (count, positions) = (rows.len(), rows[0].len());
        let ids = Tensor::from_vec(rows.concat(), count * positions, &Device::Cpu)?;
        let embedding = self.get("wte.weight").index_select(&ids, 0)?;
        let places = self.get("wpe.weight").narrow(0, 0, positions)?;
        let mut x = embedding.reshape((count, positions, self.shape.width))?.broadcast_add(&places)?.flatten_to(1)?;
        for layer in 0..self.shape.layers {
            x = (&x + self.attention(&self.norm(&x, &format!("h.{layer}.ln_1"))?, layer, count)?)?;
            let inner = self.linear(&self.norm(&x, &format!("h.{layer}.ln_2"))?, &format!("h.{layer}.mlp.c_fc"))?;
            x = (&x + self.linear(&apply(&inner, Gelu)?, &format!("h.{layer}.mlp.c_proj"))?)?;
        }
        self.norm(&x, "ln_f")?.matmul(&self.get("wte.weight").t()?)
    }

    /// Returns the sum of the next-token losses over rows of equal length, each multiplied by the weight of its token.
    pub(crate) fn loss(&self, rows: &[Text]) -> Result<Tensor> {
        let inputs: Vec<&[u32]> = rows.iter().map(|row| &row.ids[..row.ids.len() - 1]).collect();
        let labels = rows.iter().flat_map(|row| row.ids[1..].iter().copied()).collect();
        let weights = rows.iter().flat_map(|row| row.weights[1..].iter().copied()).collect();
        self.logits(&inputs)?.apply_op1(CrossEntropy { labels, weights })
    }

    /// Returns the loss and its gradient as a flat vector, in the order of the parameters.
    pub(crate) fn gradient(&self, rows: &[Text]) -> Result<(f32, Vec<f32>)> {
        let loss = self.loss(rows)?;
        let gradients = loss.backward()?;
        let mut flat = Vec::new();
        for parameter in self.shape.parameters() {
            match gradients.get(self.variables[&parameter.name].as_tensor()) {
                Some(gradient) => flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
                None => candle_core::bail!("{} got no gradient", parameter.name),
            }
        }
        Ok((loss.to_scalar()?, flat))
    }
}
