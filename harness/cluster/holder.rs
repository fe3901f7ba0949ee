//! Files that hold certificates: PEM, with the key in the same file or beside it, and kubeconfigs.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use pem::Pem;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;

/// Why a file gives no certificate with its key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file is neither PEM with a certificate nor a kubeconfig with one.
    #[error("it holds no certificate")]
    NoCertificate,
    /// A kubeconfig names the file that holds the certificate.
    #[error("it names the file that holds its certificate: write `path: {0}`")]
    Elsewhere(String),
    /// There is no key where it should be.
    #[error("there is no key for it")]
    NoKey,
}

/// Where a kubeconfig of kubeadm has its only user.
const USER: &str = "/users/0/user";

/// What a file holds.
#[derive(Debug)]
pub(crate) enum Holder {
    /// PEM blocks, a certificate among them.
    Pem(Vec<Pem>),
    /// A kubeconfig, and the PEM blocks of its user.
    Kubeconfig { config: Value, certificate: Vec<Pem>, key: Vec<Pem> },
}

impl Holder {
    /// Reads a file's bytes.
    pub(crate) fn of(bytes: &[u8]) -> Result<Self, Error> {
        let blocks = blocks_of(bytes)?;
        if blocks.iter().any(is_certificate) {
            return Ok(Self::Pem(blocks));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::NoCertificate)?;
        let config: Value = serde_saphyr::from_str(text).map_err(|_| Error::NoCertificate)?;
        let user = config.pointer(USER).ok_or(Error::NoCertificate)?;
        if let Some(path) = user.get("client-certificate").and_then(Value::as_str) {
            return Err(Error::Elsewhere(path.to_owned()));
        }
        let data = |field: &str| {
            let text = user.get(field).and_then(Value::as_str).ok_or(Error::NoCertificate)?;
            blocks_of(&BASE64_STANDARD.decode(text).map_err(|_| Error::NoCertificate)?)
        };
        let (certificate, key) = (data("client-certificate-data")?, data("client-key-data")?);
        if !certificate.iter().any(is_certificate) {
            return Err(Error::NoCertificate);
        }
        Ok(Self::Kubeconfig { config, certificate, key })
    }

    /// Where the key is, if not in the same file.
    pub(crate) fn key_beside(&self, path: &str) -> Option<String> {
        match self {
            Self::Pem(blocks) if !blocks.iter().any(is_key) => {
                Some(format!("{}.key", path.strip_suffix(".crt").unwrap_or(path)))
            }
            _ => None,
        }
    }

    /// The first certificate, in DER.
    pub(crate) fn certificate(&self) -> Result<Vec<u8>, Error> {
        let (Self::Pem(blocks) | Self::Kubeconfig { certificate: blocks, .. }) = self;
        certificate_in(blocks)
    }

    /// The key, from the bytes of the file beside if it is there.
    pub(crate) fn key(&self, beside: Option<&[u8]>) -> Result<PrivateKeyDer<'static>, Error> {
        match (beside, self) {
            (Some(bytes), _) => key_in(&blocks_of(bytes)?),
            (None, Self::Pem(blocks) | Self::Kubeconfig { key: blocks, .. }) => key_in(blocks),
        }
    }

    /// The certificates and the key as PEM, the key from the bytes of the file beside if it is there.
    pub(crate) fn identity(&self, beside: Option<&[u8]>) -> Result<(String, String), Error> {
        let (certificates, keys) = match self {
            Self::Pem(blocks) => (blocks, blocks),
            Self::Kubeconfig { certificate, key, .. } => (certificate, key),
        };
        let beside = beside.map(blocks_of).transpose()?;
        let key = beside.as_ref().unwrap_or(keys).iter().find(|block| is_key(block));
        let certificates = certificates.iter().filter(|block| is_certificate(block));
        Ok((encode(certificates), encode([key.ok_or(Error::NoKey)?])))
    }

    /// The file's bytes with another first certificate, and another key if it holds the key.
    pub(crate) fn with(&self, certificate: &Pem, key: Option<&Pem>) -> Result<Vec<u8>, Error> {
        let replaced = |blocks: &[Pem]| {
            let mut left = Some(certificate);
            let blocks = blocks.iter().map(|block| match key {
                _ if is_certificate(block) => left.take().unwrap_or(block),
                Some(key) if is_key(block) => key,
                _ => block,
            });
            encode(blocks)
        };
        match self {
            Self::Pem(blocks) => Ok(replaced(blocks).into_bytes()),
            Self::Kubeconfig { config, certificate, key } => {
                let mut config = config.clone();
                let user = config.pointer_mut(USER).ok_or(Error::NoCertificate)?;
                user["client-certificate-data"] =
                    BASE64_STANDARD.encode(replaced(certificate)).into();
                user["client-key-data"] = BASE64_STANDARD.encode(replaced(key)).into();
                // JSON is YAML.
                serde_json::to_vec_pretty(&config).map_err(|_| Error::NoCertificate)
            }
        }
    }
}

/// The blocks of a PEM file.
pub(crate) fn blocks_of(bytes: &[u8]) -> Result<Vec<Pem>, Error> {
    pem::parse_many(bytes).map_err(|_| Error::NoCertificate)
}

/// Blocks as a file has them.
pub(crate) fn encode<'a>(blocks: impl IntoIterator<Item = &'a Pem>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    blocks.into_iter().map(|block| pem::encode_config(block, config)).collect()
}

/// The first certificate among some blocks, in DER.
pub(crate) fn certificate_in(blocks: &[Pem]) -> Result<Vec<u8>, Error> {
    let first = blocks.iter().find(|block| is_certificate(block));
    first.map(|block| block.contents().to_vec()).ok_or(Error::NoCertificate)
}

/// The first key among some blocks.
pub(crate) fn key_in(blocks: &[Pem]) -> Result<PrivateKeyDer<'static>, Error> {
    blocks.iter().find(|block| is_key(block)).and_then(key_of).ok_or(Error::NoKey)
}

fn is_certificate(block: &Pem) -> bool {
    block.tag() == "CERTIFICATE"
}

fn is_key(block: &Pem) -> bool {
    block.tag().ends_with("PRIVATE KEY")
}

fn key_of(block: &Pem) -> Option<PrivateKeyDer<'static>> {
    let bytes = block.contents().to_vec();
    match block.tag() {
        "RSA PRIVATE KEY" => Some(PrivateKeyDer::Pkcs1(bytes.into())),
        "EC PRIVATE KEY" => Some(PrivateKeyDer::Sec1(bytes.into())),
        "PRIVATE KEY" => Some(PrivateKeyDer::Pkcs8(bytes.into())),
        _ => None,
    }
}
