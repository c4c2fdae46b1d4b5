//! Edits facts with a trained editor, MEND or KE (KnowledgeEditor), as the ROME paper evaluates them.
//!
//! For several facts at once, the released code differs between the two: MEND computes one change from the gradient of
//! all facts, and KE edits one fact after another, each on the model with the previous edits. MEND is trained with one
//! fact per edit, so it is not made for several.

use super::{EditError, Edited, Editor, EditorName, refused};
use crate::model::load::checkpoint::MlpMatrix;
use crate::model::run::low_rank::LowRank;
use crate::progress::Progress;
use crate::research::bench::eval_context::{EvalContext, PreparedCase};
use crate::research::bench::run::text_error;
use crate::research::hypernetworks::mend::Mend;
use crate::research::hypernetworks::sites::changed;
use crate::research::hypernetworks::stored::AnyEditor;
use crate::research::hypernetworks::train::FactText;

pub(crate) struct Trained {
    pub name: EditorName,
    /// Whether MEND uses the rates of GPT-2 as the released code does: the rate of a block's up-projection for its
    /// down-projection, and the reverse.
    pub published: bool,
}

impl Editor for Trained {
    fn edit(&self, context: &EvalContext<'_>, facts: &[&PreparedCase], _: &dyn Progress) -> Result<Edited, EditError> {
        let stored = context.trained.get(&self.name);
        let stored = stored.ok_or_else(|| refused(format!("{}: no trained editor was chosen", self.name.text())))?;
        let text = |stated: &&PreparedCase| {
            let limit = context.base.model.spec().max_positions;
            FactText::new(&context.base.tokens, &stated.case.filled(), &stated.case.target, limit).map_err(text_error)
        };
        let texts: Vec<FactText> = facts.iter().map(text).collect::<Result<_, _>>()?;
        let mut model = context.model();
        let editor = match &stored.editor {
            AnyEditor::Mend(mend) if self.published => AnyEditor::Mend(with_swapped_rates(mend)),
            other => other.clone(),
        };
        let groups: Vec<&[FactText]> = match &editor {
            AnyEditor::Mend(_) => vec![&texts],
            AnyEditor::Ke(_) => texts.chunks(1).collect(),
        };
        for group in groups {
            let changes = editor.changes(&model, group);
            if !changes.iter().all(LowRank::is_finite) {
                return Err(EditError::Facts("the change comes out as no number".to_owned()));
            }
            model = changed(&model, editor.sites(), &changes);
        }
        Ok(Edited::new(model, None))
    }
}

/// Exchanges the rates of the two matrices of each block, if they are trained in the order down, up.
fn with_swapped_rates(mend: &Mend) -> Mend {
    let mut out = mend.clone();
    for (index, pair) in mend.sites.chunks(2).enumerate() {
        if let [first, second] = pair
            && (first.matrix, second.matrix) == (MlpMatrix::Down, MlpMatrix::Up)
        {
            out.rates.swap(2 * index, 2 * index + 1);
        }
    }
    out
}
