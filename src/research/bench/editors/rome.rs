//! Implements ROME as `build` does it: the closed form with unified keys, values with several attempts until they
//! converge, and refinement of large sets. Unlike `build`, it does not reject an edit whose value did not converge.

use super::{Edited, Editor, Unedited, not_finite};
use crate::compile::value::Hook;
use crate::compile::{Resolved, keys};
use crate::link::{Pair, Refinement, Site, System, refine, residual};
use crate::pipeline::build::unsound;
use crate::pipeline::link_inputs::sentences;
use crate::progress::Progress;
use crate::research::bench::eval_context::{Found, Ground, Stated};

/// The settings of the editor ROME.
pub(crate) struct Rome {
    /// The settings of the refinement; `None` disables it.
    pub refinement: Option<Refinement>,
    /// The smallest number of facts that is refined.
    pub from: usize,
}

impl Editor for Rome {
    fn edit(&self, ground: &Ground<'_>, facts: &[&Stated], progress: &dyn Progress) -> Result<Edited, Unedited> {
        let mut order: Vec<&Stated> = facts.to_vec();
        order.sort_by_key(|stated| stated.meaning);
        let layer = ground.setup.layer;
        let mut found = Vec::with_capacity(order.len());
        for stated in &order {
            found.push(ground.found(&stated.meaning, &stated.resolved, layer, &ground.setup.settings, Hook::Mlp)?);
        }
        let unconverged = found.iter().filter(|found| !found.converged).count();
        let refinement = self.refinement.as_ref().filter(|_| facts.len() >= self.from.max(1));
        let usual = refinement.map_or(0.0, |refinement| refinement.ridge);
        let ridge = ground.setup.ridge.unwrap_or(usual);
        let mut sites = vec![first(ground, (layer, &order), &found, ridge, progress)?];
        let base = &ground.base.model;
        if let Some(refinement) = refinement {
            sites = refined(ground, &order, sites, (refinement, ridge), progress)?;
        }
        let mut model = base.clone();
        for site in &sites {
            model = site.laid_on(&model).map_err(|error| not_finite(&error))?;
        }
        Ok(Edited { model, unconverged: Some(unconverged) })
    }
}

/// Computes the closed-form solution at the edited layer.
fn first(
    ground: &Ground<'_>,
    (layer, order): (usize, &[&Stated]),
    found: &[Found],
    ridge: f64,
    progress: &dyn Progress,
) -> Result<Site, Unedited> {
    let factor = ground.factor(layer, progress)?;
    let keys: Vec<&[f32]> = found.iter().map(|found| found.key.as_slice()).collect();
    let rows = rows(&System::new(&factor, &keys), order, ridge)?;
    let column = |found: &Found| {
        let pair = Pair { key: &found.key, value: &found.value };
        residual(&pair, &ground.base.model.mlp_output_f64(layer, &found.key))
    };
    Ok(Site { layer, columns: found.iter().map(column).collect(), rows })
}

fn rows(system: &System, order: &[&Stated], ridge: f64) -> Result<Vec<Vec<f64>>, Unedited> {
    let all: Vec<usize> = (0..order.len()).collect();
    let solved = system.solve(&all, ridge).map_err(|error| {
        let [one, other] = [error.edit, error.partner].map(|index| order[index].case.id);
        let why = format!(
            "cases {one} and {other} have the same key and cannot both be edited; `import` leaves such cases out"
        );
        Unedited::Facts(why)
    })?;
    Ok(solved.rows)
}

fn refined(
    ground: &Ground<'_>,
    order: &[&Stated],
    mut sites: Vec<Site>,
    (refinement, ridge): (&Refinement, f64),
    progress: &dyn Progress,
) -> Result<Vec<Site>, Unedited> {
    let (base, layer) = (&ground.base.model, ground.setup.layer);
    let resolved: Vec<&Resolved> = order.iter().map(|stated| &stated.resolved).collect();
    let layers = (layer..base.spec().layers).take(refinement.layers).skip(1);
    for upper in layers {
        let weight = ground.setup.settings.bare_weight;
        let keys: Vec<Vec<f32>> = keys(base, upper, &resolved, weight).collect();
        let system =
            System::new(&*ground.factor(upper, progress)?, &keys.iter().map(Vec::as_slice).collect::<Vec<_>>());
        let rows = rows(&system, order, ridge)?;
        sites.push(Site { layer: upper, columns: vec![vec![0.0; base.spec().hidden_size]; order.len()], rows });
    }
    if sites.len() > 1 {
        sites[0].columns.iter_mut().flatten().for_each(|u| *u *= refinement.start);
    }
    let names = order.iter().map(|stated| stated.case.subject.as_str());
    let sentences = sentences(ground.base, &ground.setup, names, refinement);
    let sentences = sentences.map_err(|error| unsound(ground.project, &error))?;
    refine(base, sites, &resolved, &sentences, refinement, progress).map_err(|error| not_finite(&error))
}
