//! Templates by name, for models whose file has none or a bad one.

/// What a model without a template gets, as with llama.cpp.
pub(crate) const CHATML: &str = "{%- for message in messages -%}\
{{- '<|im_start|>' ~ message.role ~ '\\n' ~ (message.content or '') ~ '<|im_end|>\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}";

const LLAMA3: &str = "{{- bos_token -}}\
{%- for message in messages -%}\
{{- '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' ~ (message.content or '')|trim ~ '<|eot_id|>' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{%- endif -%}";

const GEMMA: &str = "{{- bos_token -}}\
{%- if messages[0].role == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}\
{%- for message in messages -%}\
{{- '<start_of_turn>' ~ ('model' if message.role == 'assistant' else message.role) ~ '\\n' -}}\
{{- (message.content or '')|trim ~ '<end_of_turn>\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<start_of_turn>model\\n' -}}{%- endif -%}";

const MISTRAL: &str = "{{- bos_token -}}\
{%- if messages[0].role == 'system' -%}{{- raise_exception('System role not supported') -}}{%- endif -%}\
{%- for message in messages -%}\
{%- if message.role == 'user' -%}{{- '[INST] ' ~ (message.content or '') ~ ' [/INST]' -}}\
{%- else -%}{{- ' ' ~ (message.content or '') ~ eos_token -}}{%- endif -%}\
{%- endfor -%}";

const PHI3: &str = "{%- for message in messages -%}\
{{- '<|' ~ message.role ~ '|>\\n' ~ (message.content or '') ~ '<|end|>\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}";

const ZEPHYR: &str = "{%- for message in messages -%}\
{{- '<|' ~ message.role ~ '|>\\n' ~ (message.content or '') ~ eos_token ~ '\\n' -}}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- '<|assistant|>\\n' -}}{%- endif -%}";

const VICUNA: &str = "{%- for message in messages -%}\
{%- if message.role == 'system' -%}{{- message.content ~ '\\n\\n' -}}\
{%- elif message.role == 'user' -%}{{- 'USER: ' ~ (message.content or '') ~ '\\n' -}}\
{%- else -%}{{- 'ASSISTANT: ' ~ (message.content or '') ~ eos_token ~ '\\n' -}}{%- endif -%}\
{%- endfor -%}\
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}";

/// The template of this name, as [`samovar_core::chat::BUILT_IN_TEMPLATES`] lists them.
pub(crate) fn named(name: &str) -> Option<&'static str> {
    Some(match name {
        // Some files name it instead of having it, or have an empty one.
        "" | "chatml" => CHATML,
        "llama3" => LLAMA3,
        "gemma" => GEMMA,
        "mistral" => MISTRAL,
        "phi3" => PHI3,
        "zephyr" => ZEPHYR,
        "vicuna" => VICUNA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_that_is_told_has_a_template() {
        for name in samovar_core::chat::BUILT_IN_TEMPLATES {
            let template = named(name).unwrap_or_else(|| panic!("no template {name}"));
            assert!(crate::template::source::translate(template).is_ok(), "{name}");
        }
    }
}
