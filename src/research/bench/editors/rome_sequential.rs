//! Implements ROME with unified keys, one edit after another. Unified keys means that the same mean MLP key `k*` is in
//! the numerator and the denominator of the update `(v* − W k* − b) (C⁻¹ k*)ᵀ / (k*ᵀ C⁻¹ k*)`. Here `v*` is the value
//! vector, `W` and `b` are the weight and the bias of the down-projection, and `C` is the second moment of the MLP
//! keys. `k*` and `v*` of each edit are computed on the model with the previous edits, but `C` is computed on the base.

use super::{EditError, Edited, Editor, not_finite};
use crate::compile::compile;
use crate::link::{KeySystem, LayerUpdate, LinkPair, residual};
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};

/// The editor `rome-sequential`, which has no settings.
pub(crate) struct RomeSequential;

impl Editor for RomeSequential {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let (layer, mut model, mut unconverged) = (context.setup.layer, context.base.model.clone(), 0);
        let factor = context.factor(layer, progress)?;
        for stated in facts {
            let compiled = compile(&model, layer, &stated.resolved, &context.setup.settings);
            unconverged += usize::from(!compiled.converged);
            let pair = LinkPair { key: &compiled.key, value: &compiled.value };
            let columns = vec![residual(&pair, &model.mlp_output_f64(layer, &compiled.key))];
            let solved = KeySystem::new(&factor, &[&compiled.key]).solve(&[0], 0.0);
            let rows = solved.map_err(|error| EditError::Facts(error.to_string()))?.rows;
            model = LayerUpdate { layer, columns, rows }.apply_to(&model).map_err(|error| not_finite(&error))?;
        }
        Ok(Edited { model, unconverged: Some(unconverged) })
    }
}
