//! Texts of a request that have to become token ids before the model is asked: those of mixed prompts, and those that name tokens.

use samovar::{Common, Input};
use samovar_core::Failure;
use tokio::time::Instant;

use super::prompt::{Part, Prompt};
use crate::app::App;
use crate::generation::running::until_cut;

/// Looks at the vocabulary of a request's model. All looks together have the time of one request.
pub(super) struct Lookup<'a> {
    app: &'a App,
    common: &'a Common,
    until: Option<Instant>,
}

impl<'a> Lookup<'a> {
    pub(super) fn new(app: &'a App, common: &'a Common) -> Self {
        let until = common.deadline.and_then(|deadline| Instant::now().checked_add(deadline));
        Self { app, common, until }
    }

    /// The same terms with the time that is left.
    pub(super) fn left(&self) -> Common {
        let mut common = self.common.clone();
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        common.deadline = self.until.map(left).or(common.deadline);
        common
    }

    /// The prompt as the runtime takes it.
    ///
    /// # Errors
    /// Whatever keeps the model from being loaded; `InvalidRequest` for too many texts, or too long ones.
    pub(super) async fn input(&self, prompt: Prompt) -> Result<Input, Failure> {
        match prompt {
            Prompt::Whole(input) => Ok(input),
            Prompt::Mixed(parts) => Ok(Input::Tokens(self.joined(parts).await?)),
        }
    }

    /// Only a text at the beginning is the beginning of a sequence.
    async fn joined(&self, parts: Vec<Part>) -> Result<Vec<u32>, Failure> {
        let mut texts = Vec::new();
        // Ids, or the place of the next text.
        let mut places: Vec<Option<Vec<u32>>> = Vec::with_capacity(parts.len());
        for part in parts {
            match part {
                Part::Text(text) => {
                    texts.push(text);
                    places.push(None);
                }
                Part::Tokens(ids) => places.push(Some(ids)),
            }
        }
        let has_beginning = matches!(places.first(), Some(None));
        let rest = texts.split_off(usize::from(has_beginning));
        let mut lists = self.tokenize(texts, true, true).await?;
        lists.extend(self.tokenize(rest, false, true).await?);
        let mut lists = lists.into_iter();
        let ids = |place: Option<Vec<u32>>| place.or_else(|| lists.next()).unwrap_or_default();
        Ok(places.into_iter().flat_map(ids).collect())
    }

    /// The bias of each token of these texts.
    ///
    /// # Errors
    /// As [`Lookup::input`].
    pub(super) async fn biases(&self, by_text: Vec<(String, f32)>) -> Result<Vec<(u32, f32)>, Failure> {
        let (texts, biases): (Vec<String>, Vec<f32>) = by_text.into_iter().unzip();
        let lists = self.tokenize(texts, false, false).await?;
        let each = |(list, bias): (Vec<u32>, f32)| list.into_iter().map(move |id| (id, bias));
        Ok(lists.into_iter().zip(biases).flat_map(each).collect())
    }

    async fn tokenize(
        &self,
        texts: Vec<String>,
        add_special: bool,
        parse_special: bool,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let work = self.app.runtime.tokenize(self.left(), texts, add_special, parse_special);
        until_cut(self.app, work).await
    }
}
