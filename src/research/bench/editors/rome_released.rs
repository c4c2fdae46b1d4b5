//! Implements ROME as in its released code. The update is `δ uᵀ / (kᵀ u)` with `u = C⁻¹ k̄`: `C` is the second moment
//! of the MLP keys, `k̄` is the mean MLP key over the context templates, `k` is the MLP key of the prompt alone, and
//! `δ` is the optimised change of the MLP output. If `k` is nearly orthogonal to `u`, the update is very large and
//! damages the model.
//!
//! Each value is optimised once, for 20 steps. Facts are edited one after another, each on the model with the previous
//! edits.

use super::{EditError, Edited, Editor, not_finite};
use crate::compile::value::Objective;
use crate::compile::{Settings, presets};
use crate::link::LayerUpdate;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};

pub(crate) struct RomeReleased;

impl Editor for RomeReleased {
    fn edit(
        &self,
        context: &EvalContext<'_>,
        facts: &[&PreparedCase],
        progress: &dyn Progress,
    ) -> Result<Edited, EditError> {
        let (layer, mut model, mut unconverged) = (context.setup.layer, context.model(), 0);
        let factor = context.factor(layer, progress)?;
        let settings = published(context);
        for stated in facts {
            let objective = Objective::new(&model, layer, &stated.resolved, &settings);
            // The published code uses the value of the last optimisation step, not the value with the lowest loss.
            let mut last = (Vec::new(), f64::INFINITY);
            objective.descend(settings.schedule[0], |delta, loss| last = (delta.to_vec(), loss.nll));
            let (delta, nll) = last;
            unconverged += usize::from(nll.is_nan() || nll > settings.converged_nll);
            let bare = &stated.resolved.rows[0];
            let key = model.run_hook(layer, &[&bare.ids[..=bare.position]], &[bare.position]).keys.swap_remove(0);
            let mean: Vec<f64> = objective.key.iter().map(|&k| f64::from(k)).collect();
            let whitened = factor.solve(&mean);
            let mut product = 0.0;
            for (k, u) in key.iter().zip(&whitened) {
                product += f64::from(*k) * u;
            }
            let columns = vec![delta];
            let rows = vec![whitened.iter().map(|u| u / product).collect()];
            model = LayerUpdate { layer, columns, rows }.apply_to(&model).map_err(|error| not_finite(&error))?;
        }
        Ok(Edited::new(model, Some(unconverged)))
    }
}

/// Returns the published settings for the model, or the settings for GPT-2 XL if none were published. The project's
/// settings are not used.
fn published(context: &EvalContext<'_>) -> Settings {
    let known = presets::published(context.base.model.spec()).map(|(_, settings)| settings);
    let Settings { schedule, bare_weight, .. } = Settings::published();
    Settings { schedule, bare_weight, ..known.unwrap_or_else(Settings::published) }
}
