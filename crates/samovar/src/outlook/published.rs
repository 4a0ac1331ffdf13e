//! What a published model is and what could be prepared of it, by its configuration and the beginning of its weights, at its
//! source.

use samovar_core::format::gguf::limits;
use samovar_core::{Descriptor, Format, Pooling, Quantization};
use samovar_store::source::RemoteFile;
use samovar_store::{FetchPlan, Store};
use serde_json::Value;

use super::sizes::{SizedVariant, VariantForm, weights_bytes};
use crate::catalog::Catalog;

/// Bytes of a configuration that is read.
const CONFIG_BYTES: u64 = 1 << 20;
/// Of a file of weights, so much tells the format of its numbers.
const WEIGHTS_BYTES: u64 = 64 << 10;
/// The number formats that are offered.
const OFFERED: [Quantization; 5] =
    [Quantization::F16, Quantization::Q8_0, Quantization::Q6K, Quantization::Q5KM, Quantization::Q4KM];
/// Classes that write no text, and what their architecture is called, by how the classes begin.
const ENCODERS: [(&str, &str); 6] = [
    ("Bert", "bert"),
    ("XLMRoberta", "bert"),
    ("Camembert", "bert"),
    ("NomicBert", "nomic-bert"),
    ("ModernBert", "modern-bert"),
    ("Gemma3TextModel", "gemma-embedding"),
];

/// The published form, and each that could be prepared of it.
pub(super) async fn variants(
    store: &Store,
    catalog: &Catalog,
    plan: &FetchPlan,
    place: usize,
) -> Vec<SizedVariant> {
    let bytes = weights_bytes(plan).unwrap_or_default();
    let (config, beginning) = (config(store, plan).await, beginning(store, plan).await);
    let number = number_format(config.as_ref(), &beginning);
    let named = config.as_ref().and_then(class).unwrap_or_default();
    let problem = match &config {
        None => Some("its config.json cannot be read".to_owned()),
        Some(config) if config.get("quantization_config").is_some() => {
            Some("its weights are quantized, and cannot be prepared".to_owned())
        }
        Some(_) if !catalog.prepares() => Some("this build prepares no models".to_owned()),
        Some(_) if !converts(named) => Some(format!("models of the class {named} are not converted")),
        Some(_) if number.bytes().is_none() => Some(format!("weights in {} are not converted", number.0)),
        Some(_) => None,
    };
    let published = SizedVariant {
        plan: place,
        form: VariantForm::Published,
        quantization: number.0.clone(),
        bytes,
        descriptor: None,
        problem: problem.clone(),
    };
    let mut variants = vec![published];
    if let (Some(config), Some(number_bytes), None) = (&config, number.bytes(), problem) {
        let floats_bytes = bytes / number_bytes * 2;
        variants.extend(OFFERED.map(|quantization| {
            let bytes = quantization.bytes_of(floats_bytes);
            SizedVariant {
                plan: place,
                form: VariantForm::Prepared,
                quantization: quantization.to_string(),
                bytes,
                descriptor: descriptor(config, named, floats_bytes / 2, bytes, quantization),
                problem: None,
            }
        }));
    }
    variants
}

/// `config.json` next to the weights.
async fn config(store: &Store, plan: &FetchPlan) -> Option<Value> {
    let weights = plan.weights().next()?.path.as_str();
    let folder = weights.rfind('/').map_or("", |end| &weights[..=end]);
    let wanted = format!("{folder}config.json");
    let file = plan.listing.files.iter().find(|file| file.path.as_str() == wanted)?;
    let bytes = part(store, plan, file, CONFIG_BYTES).await;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object)
}

/// The beginning of the first file of weights.
async fn beginning(store: &Store, plan: &FetchPlan) -> Vec<u8> {
    match plan.weights().next() {
        Some(file) => part(store, plan, file, WEIGHTS_BYTES).await,
        None => Vec::new(),
    }
}

/// The first bytes of a file; none where they cannot be had.
async fn part(store: &Store, plan: &FetchPlan, file: &RemoteFile, bytes: u64) -> Vec<u8> {
    match Box::pin(store.read_part(plan, file, 0..bytes)).await {
        Ok(bytes) => bytes.to_vec(),
        Err(error) => {
            tracing::debug!(file = file.path.as_str(), "not read at its source: {error}");
            Vec::new()
        }
    }
}

/// The format of a published model's numbers, such as `BF16`.
struct NumberFormat(String);

impl NumberFormat {
    /// Bytes of a number; `None` for formats that are not converted.
    fn bytes(&self) -> Option<u64> {
        match self.0.as_str() {
            "F32" => Some(4),
            "F16" | "BF16" => Some(2),
            _ => None,
        }
    }
}

/// By the first tensor, else by the configuration; 16-bit floats where neither says it.
fn number_format(config: Option<&Value>, beginning: &[u8]) -> NumberFormat {
    const MARK: &str = "\"dtype\":\"";
    let text = String::from_utf8_lossy(beginning);
    let of_tensor = text.split_once(MARK).and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()));
    let of_config = || {
        let said = config?.get("dtype").or_else(|| config?.get("torch_dtype"))?.as_str()?;
        Some(match said {
            "float32" => "F32".to_owned(),
            "float16" => "F16".to_owned(),
            _ => "BF16".to_owned(),
        })
    };
    // It is shown, and comes from outside.
    let is_word =
        |word: &String| word.len() <= 16 && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    NumberFormat(of_tensor.filter(is_word).or_else(of_config).unwrap_or_else(|| "BF16".to_owned()))
}

/// The class that a configuration names, if it is a word.
fn class(config: &Value) -> Option<&str> {
    let class = config.get("architectures")?.get(0)?.as_str()?;
    (class.len() <= 80 && class.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'))
        .then_some(class)
}

#[cfg(feature = "llama")]
fn converts(class: &str) -> bool {
    samovar_convert::CLASSES.contains(&class)
}

#[cfg(not(feature = "llama"))]
fn converts(_class: &str) -> bool {
    false
}

/// What the header of the prepared file will say, as far as memory depends on it; `None` where the configuration lacks it.
fn descriptor(
    config: &Value,
    class: &str,
    parameters: u64,
    bytes: u64,
    quantization: Quantization,
) -> Option<Descriptor> {
    // As the gate bounds the same numbers of a header.
    let number = |names: &[&str], most: u64| {
        let said = names.iter().find_map(|name| config.get(*name)?.as_u64())?;
        u32::try_from(said).ok().filter(|_| (1..=most).contains(&said))
    };
    let heads = number(&["num_attention_heads", "n_head"], limits::HEADS)?;
    let embedding_width = number(&["hidden_size", "n_embd"], limits::WIDTH)?;
    let head_width = number(&["head_dim"], limits::HEAD_WIDTH).unwrap_or(embedding_width / heads);
    let feed_forward = number(&["intermediate_size", "n_inner"], limits::WIDTH);
    let encoder = ENCODERS.iter().find(|(beginning, _)| class.starts_with(*beginning));
    let model_type = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let architecture = match encoder {
        Some((_, architecture)) => *architecture,
        None if class.starts_with("Mistral") => "llama",
        None => model_type,
    };
    Some(Descriptor {
        format: Format::Gguf,
        name: None,
        architecture: architecture.to_owned(),
        parameters,
        parts: 1,
        file_bytes: bytes,
        tensor_bytes: bytes,
        formats: Vec::new(),
        quantization: quantization.to_string(),
        context_tokens: number(&["max_position_embeddings", "n_positions"], limits::CONTEXT_TOKENS)
            .unwrap_or(0),
        embedding_width,
        blocks: number(&["num_hidden_layers", "n_layer"], limits::BLOCKS)?,
        heads,
        kv_heads: number(&["num_key_value_heads"], limits::HEADS).unwrap_or(heads),
        key_width: head_width,
        value_width: head_width,
        feed_forward_width: feed_forward.unwrap_or(embedding_width.saturating_mul(4)),
        state_bytes: 0,
        pooling: encoder.map(|_| Pooling::Mean),
        is_causal: encoder.is_none(),
        has_classifier: class.ends_with("ForSequenceClassification"),
        vocabulary: number(&["vocab_size"], limits::VOCABULARY)?,
        chat_template: None,
        bos_token: None,
        eos_token: None,
        adds_bos: false,
        infill: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_configuration_tells_what_memory_depends_on() {
        let config = json!({ "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896,
            "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151_936,
            "intermediate_size": 4864, "max_position_embeddings": 32_768 });
        assert_eq!(class(&config), Some("Qwen2ForCausalLM"));
        let told = descriptor(&config, "Qwen2ForCausalLM", 494, 988, Quantization::F16).expect("is complete");
        assert_eq!((told.key_width, told.kv_heads, told.is_causal), (64, 2, true));
        assert_eq!(told.kv_bytes_per_token(), 24 * 2 * 128 * 2);
        let encoder = descriptor(&config, "BertModel", 1, 2, Quantization::Q8_0).expect("is complete");
        assert!(!encoder.is_causal && encoder.is_encoder() && encoder.pooling == Some(Pooling::Mean));
        for (name, wrong) in [
            ("num_attention_heads", json!(0)),
            ("vocab_size", json!(1_u64 << 40)),
            ("hidden_size", json!("896")),
        ] {
            let mut config = config.clone();
            config[name] = wrong;
            assert!(descriptor(&config, "LlamaForCausalLM", 1, 2, Quantization::F16).is_none(), "{name}");
        }
        assert_eq!(class(&json!({ "architectures": ["\u{1b}[31m"] })), None);
    }

    #[test]
    fn the_first_tensor_tells_the_format_of_numbers() {
        let header = br#"\x00{"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[1]}"#;
        let float32 = json!({ "torch_dtype": "float32" });
        for (config, beginning, expected, bytes) in [
            (None, &header[..], "F32", Some(4)),
            (Some(&float32), &b""[..], "F32", Some(4)),
            (None, &b""[..], "BF16", Some(2)),
            (None, &br#"{"a":{"dtype":"F8_E4M3","#[..], "F8_E4M3", None),
        ] {
            let number = number_format(config, beginning);
            assert_eq!((number.0.as_str(), number.bytes()), (expected, bytes));
        }
    }
}
