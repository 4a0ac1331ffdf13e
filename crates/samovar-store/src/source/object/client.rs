//! A client for a bucket, made from options by the names that the stores' own programs use.
//!
//! Without any credentials among the options, requests go unsigned: what is public can be had, and no
//! machine's metadata service is asked for a role that was not named.

use std::str::FromStr;
use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use samovar_core::model::reference::Scheme;
use url::Url;

use crate::config::SourceConfig;
use crate::error::Error;

/// A bucket of one of the stores.
pub(super) type Bucket = Arc<dyn ObjectStore>;

/// Options that say who asks, each store's in one list.
const S3_CREDENTIALS: [AmazonS3ConfigKey; 6] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::WebIdentityTokenFile,
    AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
    AmazonS3ConfigKey::ContainerCredentialsFullUri,
    AmazonS3ConfigKey::MetadataEndpoint,
];
const GS_CREDENTIALS: [GoogleConfigKey; 4] = [
    GoogleConfigKey::ServiceAccount,
    GoogleConfigKey::ServiceAccountKey,
    GoogleConfigKey::ApplicationCredentials,
    GoogleConfigKey::BearerToken,
];
const AZ_CREDENTIALS: [AzureConfigKey; 8] = [
    AzureConfigKey::AccessKey,
    AzureConfigKey::ClientId,
    AzureConfigKey::ClientSecret,
    AzureConfigKey::SasKey,
    AzureConfigKey::Token,
    AzureConfigKey::MsiEndpoint,
    AzureConfigKey::FederatedTokenFile,
    AzureConfigKey::UseAzureCli,
];

/// Opens the bucket (S3, Google Cloud Storage) or container (Azure) of this name. Sends no request yet.
pub(super) fn open(scheme: Scheme, bucket: &str, config: &SourceConfig) -> Result<Bucket, Error> {
    crypto();
    let made = match scheme {
        Scheme::S3 => s3(bucket, config)?,
        Scheme::Gs => gs(bucket, config),
        Scheme::Az => az(bucket, config),
        _ => return Err(unsupported(scheme)),
    };
    made.map_err(|error| Error::Unsupported {
        message: format!("{scheme}://{bucket} cannot be asked with these settings: {error}"),
        hint: "check the object store's settings (AWS_…, GOOGLE_…, AZURE_… and sources.object_options)"
            .to_owned(),
    })
}

/// The client finds its TLS here.
fn crypto() {
    // Fails when there is one already, which then serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn unsupported(scheme: Scheme) -> Error {
    Error::Unsupported {
        message: format!("{scheme}:// is no object store"),
        hint: "object stores are s3://bucket/key, gs://bucket/key and az://container/key".to_owned(),
    }
}

type Made = Result<Bucket, object_store::Error>;

fn s3(bucket: &str, config: &SourceConfig) -> Result<Made, Error> {
    let options = options::<AmazonS3ConfigKey>(config, "aws_");
    let is_signed = options.iter().any(|(key, _)| S3_CREDENTIALS.contains(key));
    let is_endpoint =
        |key: &AmazonS3ConfigKey| matches!(key, AmazonS3ConfigKey::Endpoint | AmazonS3ConfigKey::S3Endpoint);
    let mut is_plain = false;
    for (_, endpoint) in options.iter().filter(|(key, _)| is_endpoint(key)) {
        is_plain |= may_be_plain(endpoint, config)?;
    }
    let builder = AmazonS3Builder::new()
        .with_client_options(client(config).with_allow_http(is_plain))
        .with_retry(retry(config))
        .with_skip_signature(!is_signed);
    let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
    Ok(builder.with_bucket_name(bucket).build().map(|store| Arc::new(store) as Bucket))
}

fn gs(bucket: &str, config: &SourceConfig) -> Made {
    let options = options::<GoogleConfigKey>(config, "google_");
    let is_signed = options.iter().any(|(key, _)| GS_CREDENTIALS.contains(key));
    let builder = GoogleCloudStorageBuilder::new()
        .with_client_options(client(config).with_allow_http(config.allows_plain_http))
        .with_retry(retry(config))
        .with_skip_signature(!is_signed);
    let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
    builder.with_bucket_name(bucket).build().map(|store| Arc::new(store) as Bucket)
}

fn az(container: &str, config: &SourceConfig) -> Made {
    let options = options::<AzureConfigKey>(config, "azure_");
    let is_signed = options.iter().any(|(key, _)| AZ_CREDENTIALS.contains(key));
    let builder = MicrosoftAzureBuilder::new()
        .with_client_options(client(config).with_allow_http(config.allows_plain_http))
        .with_retry(retry(config))
        .with_skip_signature(!is_signed);
    let builder = options.into_iter().fold(builder, |builder, (key, value)| builder.with_config(key, value));
    builder.with_container_name(container).build().map(|store| Arc::new(store) as Bucket)
}

/// The options of one store: their names begin with its own, so that one store's `region` or token never
/// reaches another.
fn options<K: FromStr>(config: &SourceConfig, prefix: &str) -> Vec<(K, String)> {
    let named = config.object_options.iter().map(|(name, value)| (name.to_ascii_lowercase(), value));
    named
        .filter(|(name, value)| name.starts_with(prefix) && !value.reveal().is_empty())
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.reveal().to_owned())))
        .collect()
}

/// Whether an endpoint is http:// and may be: this machine's always, another's when it was allowed.
fn may_be_plain(endpoint: &str, config: &SourceConfig) -> Result<bool, Error> {
    let Ok(url) = Url::parse(endpoint) else { return Ok(false) };
    if url.scheme() != "http" {
        return Ok(false);
    }
    let is_here = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    };
    if is_here || config.allows_plain_http {
        return Ok(true);
    }
    Err(Error::Unsupported {
        message: format!(
            "the object store at {} is asked by http://, where others can read along",
            url.host_str().unwrap_or("?")
        ),
        hint: "use https://, or set sources.allow_plain_http".to_owned(),
    })
}

/// No limit on the whole request, which may carry gigabytes; a limit on silence instead.
fn client(config: &SourceConfig) -> ClientOptions {
    ClientOptions::new().with_timeout_disabled().with_read_timeout(config.stall)
}

fn retry(config: &SourceConfig) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: config.retry.first_wait,
            max_backoff: config.retry.longest_wait,
            base: 2.0,
        },
        max_retries: config.retry.tries.saturating_sub(1) as usize,
        ..RetryConfig::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(options: &[(&str, &str)]) -> SourceConfig {
        let object_options =
            options.iter().map(|(name, value)| ((*name).to_owned(), Secret::new(*value))).collect();
        SourceConfig { object_options, ..SourceConfig::default() }
    }

    #[test]
    fn options_of_one_store_do_not_reach_another() {
        let config = config(&[("AWS_REGION", "eu-west-1"), ("azure_storage_token", "x"), ("token", "y")]);
        assert_eq!(
            options::<AmazonS3ConfigKey>(&config, "aws_"),
            [(AmazonS3ConfigKey::Region, "eu-west-1".to_owned())]
        );
        assert_eq!(options::<AzureConfigKey>(&config, "azure_"), [(AzureConfigKey::Token, "x".to_owned())]);
        assert_eq!(options::<GoogleConfigKey>(&config, "google_"), []);
    }

    #[test]
    fn plain_http_is_for_this_machine_unless_it_was_allowed() {
        let strict = config(&[]);
        assert!(may_be_plain("http://127.0.0.1:9000", &strict).unwrap());
        assert!(may_be_plain("http://[::1]:9000", &strict).unwrap());
        assert!(may_be_plain("http://localhost:9000", &strict).unwrap());
        assert!(!may_be_plain("https://example.com", &strict).unwrap());
        assert!(may_be_plain("http://example.com", &strict).is_err());
        assert!(may_be_plain("http://127.0.0.1.example.com", &strict).is_err());
        let loose = SourceConfig { allows_plain_http: true, ..strict };
        assert!(may_be_plain("http://example.com", &loose).unwrap());
    }
}
