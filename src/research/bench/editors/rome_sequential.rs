//! Implements ROME with one edit after another. The MLP key `k*` and the value `v*` of each edit are computed on the
//! model with the previous edits. The second moment `C` of the MLP keys is computed once, on the base model.
//!
//! The update is `(v* − W k* − b) (C⁻¹ k*)ᵀ / (k*ᵀ C⁻¹ k*)`, where `W` and `b` are the weight and the bias of the
//! down-projection.

use super::{EditError, Edited, Editor, not_finite};
use crate::compile::compile;
use crate::link::{KeySystem, LayerUpdate, LinkPair, residual};
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};

pub(crate) struct RomeSequential;

impl Editor for RomeSequential {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let (layer, mut model, mut unconverged) = (context.setup.layer, context.model(), 0);
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
        Ok(Edited::new(model, Some(unconverged)))
    }
}
