//! What a caller that loads, prepares or packs a model ahead of need may wish beside that: to be told how it gets on.

use samovar_core::Quantization;
use tokio::sync::mpsc;

use crate::wait::Wait;

/// Options of [`Runtime::warm`](crate::Runtime::warm).
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct WarmOptions {
    /// Hears what the load waits for; it is waited for while it has no room, except with news of a download, which are left out then.
    pub waits: Option<mpsc::Sender<Wait>>,
}

impl WarmOptions {
    /// These options, with a listener to what the load waits for.
    #[must_use]
    pub fn waits(mut self, waits: mpsc::Sender<Wait>) -> Self {
        self.waits = Some(waits);
        self
    }
}

/// Options of [`Runtime::pack`](crate::Runtime::pack). Who has no room for news does not get them.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct PackOptions {
    /// Hears how the model is fetched, where it has to be.
    pub waits: Option<mpsc::Sender<Wait>>,
    /// Hears the part done of each file and of each measurement, from 0 to 1.
    pub progress: Option<mpsc::Sender<f32>>,
}

impl PackOptions {
    /// These options, with a listener to how the model is fetched.
    #[must_use]
    pub fn waits(mut self, waits: mpsc::Sender<Wait>) -> Self {
        self.waits = Some(waits);
        self
    }

    /// These options, with a listener to the part done.
    #[must_use]
    pub fn progress(mut self, progress: mpsc::Sender<f32>) -> Self {
        self.progress = Some(progress);
        self
    }
}

/// Options of [`Runtime::prepare`](crate::Runtime::prepare). Who has no room for news does not get them.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
pub struct PrepareOptions {
    /// The number format; `None` = that of the settings, else the one that was chosen last, else 16-bit floats.
    pub quantization: Option<Quantization>,
    /// Hears how the model is fetched, where it has to be, and how the preparation gets on.
    pub waits: Option<mpsc::Sender<Wait>>,
}

impl PrepareOptions {
    /// These options, with this number format: the model's from now on, where its settings name none.
    #[must_use]
    pub fn quantization(mut self, quantization: Quantization) -> Self {
        self.quantization = Some(quantization);
        self
    }

    /// These options, with a listener to how it gets on.
    #[must_use]
    pub fn waits(mut self, waits: mpsc::Sender<Wait>) -> Self {
        self.waits = Some(waits);
        self
    }
}
