//! Issuing a certificate anew: pure, but for fresh keys.

use std::sync::Arc;

use pem::Pem;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm, SigningKey,
    SubjectPublicKeyInfo,
};
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::cluster::holder::{self, blocks_of, certificate_in, key_in};
use crate::scenario::{CertificateChange, Issuer, KeyChange, Sans, Usage, Validity};

/// Why a certificate can't be issued anew.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The file gives no certificate with its key.
    #[error(transparent)]
    File(#[from] holder::Error),
    /// No CA of the cluster has the name of its issuer.
    #[error(
        "`{0}` signed it, which is no CA of the cluster: write who shall sign it: `issuer: ca`"
    )]
    NoIssuer(String),
    /// It can't lose a name that it hasn't.
    #[error("it is not for {0}, only for {1}")]
    NotFor(String, String),
    /// Something in it would be lost.
    #[error("it has {0}, which can't be issued anew")]
    Unknown(String),
    /// What it can't be read or made for.
    #[error("{0}")]
    X509(String),
}

fn x509(error: impl std::fmt::Display) -> Error {
    Error::X509(error.to_string())
}

/// A CA: its certificate in DER, and its key.
#[derive(Debug)]
pub(super) struct Ca {
    certificate: Vec<u8>,
    key: PrivateKeyDer<'static>,
}

impl Ca {
    /// From the PEM files of its certificate and its key.
    pub(super) fn of(certificate: &[u8], key: &[u8]) -> Result<Self, Error> {
        let certificate = certificate_in(&blocks_of(certificate)?)?;
        Ok(Self { certificate, key: key_in(&blocks_of(key)?)? })
    }

    /// As rcgen wants it, with its own key or another.
    fn with<S: SigningKey>(&self, key: S) -> Result<rcgen::Issuer<'static, S>, Error> {
        let certificate = CertificateDer::from(self.certificate.clone());
        rcgen::Issuer::from_ca_cert_der(&certificate, key).map_err(x509)
    }

    fn named(&self, issuer: &[u8]) -> bool {
        X509Certificate::from_der(&self.certificate)
            .is_ok_and(|(_, certificate)| certificate.subject().as_raw() == issuer)
    }
}

/// A certificate and a key that take the place of others.
#[derive(Debug)]
pub(super) struct IssuedAnew {
    /// The certificate.
    pub(super) certificate: Pem,
    /// The key, if there is a new one.
    pub(super) key: Option<Pem>,
}

/// A key of any sort that kubeadm and the kubelet write, as rcgen wants to use it.
struct Signer {
    key: Arc<dyn rustls::sign::SigningKey>,
    public: SubjectPublicKeyInfo,
}

impl Signer {
    fn of(key: &PrivateKeyDer<'_>) -> Result<Self, Error> {
        let key = any_supported_type(key).map_err(x509)?;
        let public = key.public_key().ok_or(holder::Error::NoKey)?;
        Ok(Self { public: SubjectPublicKeyInfo::from_der(&public).map_err(x509)?, key })
    }
}

impl PublicKeyData for Signer {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl SigningKey for Signer {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let algorithm = self.algorithm();
        let scheme = if *algorithm == rcgen::PKCS_RSA_SHA256 {
            SignatureScheme::RSA_PKCS1_SHA256
        } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
            SignatureScheme::ECDSA_NISTP384_SHA384
        } else if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
            SignatureScheme::ECDSA_NISTP256_SHA256
        } else {
            SignatureScheme::ED25519
        };
        let signer = self.key.choose_scheme(&[scheme]);
        let signer = signer.ok_or(rcgen::Error::UnsupportedSignatureAlgorithm)?;
        signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// The certificate with the changed parts, and without the names that it loses.
pub(super) fn anew(
    change: &CertificateChange,
    lost: &[String],
    old: &[u8],
    key: &PrivateKeyDer<'_>,
    cas: &[(Issuer, Ca)],
    now: OffsetDateTime,
) -> Result<IssuedAnew, Error> {
    let (_, old_certificate) = X509Certificate::from_der(old).map_err(x509)?;
    let fresh = match change.key {
        KeyChange::Same => None,
        KeyChange::New | KeyChange::Mismatched => Some(KeyPair::generate().map_err(x509)?),
    };
    let new_key = fresh.as_ref().map(|key| Pem::new("PRIVATE KEY", key.serialize_der()));
    let certificate = if change.keeps_certificate() {
        old.to_vec()
    } else {
        let params = params(change, lost, &old_certificate, now)?;
        let own = Signer::of(key)?;
        let public: &dyn PublicKeyData = match &fresh {
            Some(fresh) if change.key == KeyChange::New => fresh,
            _ => &own,
        };
        sign(&params, public, change.issuer, &old_certificate, &own, cas)?
    };
    Ok(IssuedAnew { certificate: Pem::new("CERTIFICATE", certificate), key: new_key })
}

/// The certificate in DER.
fn sign(
    params: &CertificateParams,
    public: &dyn PublicKeyData,
    issuer: Option<Issuer>,
    old: &X509Certificate<'_>,
    own: &Signer,
    cas: &[(Issuer, Ca)],
) -> Result<Vec<u8>, Error> {
    let signed_before = || cas.iter().map(|(_, ca)| ca).find(|ca| ca.named(old.issuer().as_raw()));
    let self_signed = old.issuer().as_raw() == old.subject().as_raw();
    let no_issuer = || Error::NoIssuer(old.issuer().to_string());
    let certificate = match issuer {
        Some(Issuer::Stranger) => {
            let key = KeyPair::generate().map_err(x509)?;
            let stranger = signed_before().ok_or_else(no_issuer)?.with(key)?;
            params.signed_by(&public, &stranger)
        }
        None if self_signed => {
            // It vouches for itself, under whatever name it has now.
            params.signed_by(&public, &rcgen::Issuer::from_params(params, own))
        }
        issuer => {
            let ca = match issuer {
                Some(_) => cas.iter().find(|(name, _)| Some(*name) == issuer).map(|(_, ca)| ca),
                None => signed_before(),
            };
            let ca = ca.ok_or_else(no_issuer)?;
            params.signed_by(&public, &ca.with(Signer::of(&ca.key)?)?)
        }
    };
    Ok(certificate.map_err(x509)?.der().to_vec())
}

/// What the new certificate says.
fn params(
    change: &CertificateChange,
    lost: &[String],
    old: &X509Certificate<'_>,
    now: OffsetDateTime,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(change, old)?;
    params.subject_alt_names = match &change.sans {
        Some(Sans::Only(sans)) => {
            CertificateParams::new(sans.clone()).map_err(x509)?.subject_alt_names
        }
        Some(Sans::Without(_)) => without(names(old)?, lost)?,
        None => names(old)?,
    };
    let time = |at: i64| OffsetDateTime::from_unix_timestamp(at).map_err(x509);
    let validity = old.validity();
    let from = time(validity.not_before.timestamp())?;
    let until = time(validity.not_after.timestamp())?;
    let lasted = until - from;
    (params.not_before, params.not_after) = match change.validity {
        None => (from, until),
        Some(Validity::Expired(ago)) => (now - ago - lasted, now - ago),
        Some(Validity::NotYet(after)) => (now + after, now + after + lasted),
        Some(Validity::ExpiresIn(after)) => (now + after - lasted, now + after),
    };
    params.is_ca = match old.basic_constraints().map_err(x509)? {
        Some(found) if found.value.ca => IsCa::Ca(match found.value.path_len_constraint {
            Some(length) => BasicConstraints::Constrained(u8::try_from(length).map_err(x509)?),
            None => BasicConstraints::Unconstrained,
        }),
        _ => IsCa::NoCa,
    };
    params.key_usages = key_usages(old)?;
    params.extended_key_usages = match &change.usages {
        Some(usages) => usages
            .iter()
            .map(|usage| match usage {
                Usage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
                Usage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
            })
            .collect(),
        None => extended_key_usages(old)?,
    };
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn subject(
    change: &CertificateChange,
    old: &X509Certificate<'_>,
) -> Result<DistinguishedName, Error> {
    let (mut common_names, mut organizations) = (Vec::new(), Vec::new());
    for attribute in old.subject().iter_attributes() {
        let text = attribute.as_str().map_err(x509)?.to_owned();
        let kind = attribute.attr_type();
        if *kind == x509_parser::oid_registry::OID_X509_COMMON_NAME {
            common_names.push(text);
        } else if *kind == x509_parser::oid_registry::OID_X509_ORGANIZATION_NAME {
            organizations.push(text);
        } else {
            return Err(Error::Unknown(format!("{kind} in its subject")));
        }
    }
    if organizations.len() > 1 && change.organization.is_none() {
        return Err(Error::Unknown("several organizations".into()));
    }
    let mut name = DistinguishedName::new();
    let organization = change.organization.as_ref().or(organizations.first());
    if let Some(organization) = organization.filter(|name| !name.is_empty()) {
        name.push(DnType::OrganizationName, organization.as_str());
    }
    if let Some(common_name) = change.common_name.as_ref().or(common_names.first()) {
        name.push(DnType::CommonName, common_name.as_str());
    }
    Ok(name)
}

fn names(old: &X509Certificate<'_>) -> Result<Vec<SanType>, Error> {
    let Some(found) = old.subject_alternative_name().map_err(x509)? else { return Ok(vec![]) };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Ok(SanType::DnsName((*name).try_into().map_err(x509)?)),
        GeneralName::IPAddress(bytes) => {
            let four = <[u8; 4]>::try_from(*bytes).map(std::net::IpAddr::from);
            let address = four.or_else(|_| <[u8; 16]>::try_from(*bytes).map(Into::into));
            Ok(SanType::IpAddress(address.map_err(x509)?))
        }
        other => Err(Error::Unknown(format!("the name {other}"))),
    };
    found.value.general_names.iter().map(name).collect()
}

/// The names but for those that are lost, each of which must be among them.
fn without(mut names: Vec<SanType>, lost: &[String]) -> Result<Vec<SanType>, Error> {
    let said = |name: &SanType| match name {
        SanType::DnsName(name) => name.as_str().to_owned(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    };
    let all: Vec<_> = names.iter().map(said).collect();
    if let Some(none) = lost.iter().find(|name| !all.contains(name)) {
        return Err(Error::NotFor(none.clone(), all.join(", ")));
    }
    names.retain(|name| !lost.contains(&said(name)));
    Ok(names)
}

fn key_usages(old: &X509Certificate<'_>) -> Result<Vec<KeyUsagePurpose>, Error> {
    let Some(found) = old.key_usage().map_err(x509)? else { return Ok(vec![]) };
    let usage = found.value;
    let all = [
        (usage.digital_signature(), KeyUsagePurpose::DigitalSignature),
        (usage.non_repudiation(), KeyUsagePurpose::ContentCommitment),
        (usage.key_encipherment(), KeyUsagePurpose::KeyEncipherment),
        (usage.data_encipherment(), KeyUsagePurpose::DataEncipherment),
        (usage.key_agreement(), KeyUsagePurpose::KeyAgreement),
        (usage.key_cert_sign(), KeyUsagePurpose::KeyCertSign),
        (usage.crl_sign(), KeyUsagePurpose::CrlSign),
    ];
    Ok(all.into_iter().filter(|(has, _)| *has).map(|(_, usage)| usage).collect())
}

fn extended_key_usages(old: &X509Certificate<'_>) -> Result<Vec<ExtendedKeyUsagePurpose>, Error> {
    let Some(found) = old.extended_key_usage().map_err(x509)? else { return Ok(vec![]) };
    let all = [
        (found.value.server_auth, ExtendedKeyUsagePurpose::ServerAuth),
        (found.value.client_auth, ExtendedKeyUsagePurpose::ClientAuth),
    ];
    Ok(all.into_iter().filter(|(has, _)| *has).map(|(_, usage)| usage).collect())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use base64::Engine;
    use base64::prelude::BASE64_STANDARD;
    use serde_json::json;

    use super::*;
    use crate::cluster::holder::{Holder, encode};
    use crate::scenario::NodeRef;

    fn ca(name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
    }

    fn cas() -> Vec<(Issuer, Ca)> {
        let of = |issuer, name| {
            let (certificate, key) = ca(name);
            (issuer, Ca::of(certificate.as_bytes(), key.as_bytes()).unwrap())
        };
        vec![of(Issuer::Ca, "kubernetes"), of(Issuer::FrontProxyCa, "front-proxy-ca")]
    }

    fn unchanged() -> CertificateChange {
        CertificateChange::none("/etc/kubernetes/pki/a.crt", vec![NodeRef::Master(1)])
    }

    /// A client's certificate as kubeadm makes it, signed by the second CA, and its key.
    fn client(cas: &[(Issuer, Ca)]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params =
            CertificateParams::new(["a.example".to_owned(), "10.0.0.1".into()]).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "org");
        params.distinguished_name.push(DnType::CommonName, "front-proxy-client");
        params.not_before = at(1_000_000);
        params.not_after = at(2_000_000);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let issuer = &cas[1].1;
        let issuer = issuer.with(Signer::of(&issuer.key).unwrap()).unwrap();
        (params.signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }

    fn at(seconds: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(seconds).unwrap()
    }

    /// What a certificate says, apart from keys and signatures, and which CA's signature it has.
    fn told(certificate: &str, cas: &[(Issuer, Ca)]) -> (String, Option<Issuer>) {
        let block = pem::parse(certificate).unwrap();
        let (_, found) = X509Certificate::from_der(block.contents()).unwrap();
        let names = names(&found).unwrap();
        let validity = found.validity();
        let text = format!(
            "{} by {}, {names:?}, {}..{}, {:?}, {:?}, CA: {}",
            found.subject(),
            found.issuer(),
            validity.not_before.timestamp(),
            validity.not_after.timestamp(),
            key_usages(&found).unwrap(),
            extended_key_usages(&found).unwrap(),
            found.is_ca(),
        );
        let signed = |(_, ca): &&(Issuer, Ca)| {
            let (_, ca) = X509Certificate::from_der(&ca.certificate).unwrap();
            found.verify_signature(Some(ca.public_key())).is_ok()
        };
        (text, cas.iter().find(signed).map(|(issuer, _)| *issuer))
    }

    fn spki(certificate: &str) -> Vec<u8> {
        let block = pem::parse(certificate).unwrap();
        let (_, found) = X509Certificate::from_der(block.contents()).unwrap();
        found.public_key().raw.to_vec()
    }

    fn issued(
        change: &CertificateChange,
        cas: &[(Issuer, Ca)],
        old: &(String, String),
    ) -> IssuedAnew {
        let holder = Holder::of(format!("{}{}", old.0, old.1).as_bytes()).unwrap();
        anew(
            change,
            &[],
            &holder.certificate().unwrap(),
            &holder.key(None).unwrap(),
            cas,
            at(5_000_000),
        )
        .unwrap()
    }

    #[test]
    fn what_is_not_changed_stays() {
        let cas = cas();
        let old = client(&cas);
        let (was, by) = told(&old.0, &cas);
        assert_eq!(by, Some(Issuer::FrontProxyCa));
        let new =
            issued(&CertificateChange { common_name: Some("x".into()), ..unchanged() }, &cas, &old);
        let (is, by) = told(&encode([&new.certificate]), &cas);
        assert_eq!(is, was.replace("front-proxy-client", "x"));
        assert_eq!(by, Some(Issuer::FrontProxyCa));
        assert_eq!(spki(&encode([&new.certificate])), spki(&old.0));
        assert!(new.key.is_none());
    }

    #[test]
    fn each_part_changes_by_itself() {
        let cas = cas();
        let old = client(&cas);
        let (was, _) = told(&old.0, &cas);
        let told = |change: CertificateChange| {
            told(&encode([&issued(&change, &cas, &old).certificate]), &cas)
        };
        let same_issuer = Some(Issuer::FrontProxyCa);

        let (is, by) = told(CertificateChange { organization: Some(String::new()), ..unchanged() });
        assert_eq!((is, by), (was.replace("O=org, ", ""), same_issuer));
        let (is, by) = told(CertificateChange {
            sans: Some(Sans::Only(vec!["b.example".into()])),
            ..unchanged()
        });
        let names = "[DnsName(Ia5String(\"b.example\"))]";
        assert!(is.contains(names) && by == same_issuer, "{is}");
        let (is, by) = told(CertificateChange { issuer: Some(Issuer::Ca), ..unchanged() });
        let by_ca = was.replace("by CN=front-proxy-ca", "by CN=kubernetes");
        assert_eq!((is, by), (by_ca, Some(Issuer::Ca)));
        let (is, by) = told(CertificateChange { issuer: Some(Issuer::Stranger), ..unchanged() });
        assert_eq!((is, by), (was.clone(), None));
        let (is, by) =
            told(CertificateChange { usages: Some(vec![Usage::ServerAuth]), ..unchanged() });
        assert_eq!((is, by), (was.replace("[ClientAuth]", "[ServerAuth]"), same_issuer));
        let hour = Duration::from_secs(3600);
        for (validity, wanted) in [
            (Validity::Expired(hour), "3996400..4996400"),
            (Validity::NotYet(hour), "5003600..6003600"),
            (Validity::ExpiresIn(hour), "4003600..5003600"),
        ] {
            let (is, by) = told(CertificateChange { validity: Some(validity), ..unchanged() });
            assert_eq!((is, by), (was.replace("1000000..2000000", wanted), same_issuer));
        }
    }

    #[test]
    fn a_new_key_matches_and_a_mismatched_one_does_not() {
        let cas = cas();
        let old = client(&cas);
        let public = |key: &str| {
            let key = KeyPair::from_pem(key).unwrap();
            key.subject_public_key_info()
        };
        let new = issued(&CertificateChange { key: KeyChange::New, ..unchanged() }, &cas, &old);
        let key = encode([&new.key.unwrap()]);
        assert_eq!(spki(&encode([&new.certificate])), public(&key));
        assert_ne!(key, old.1);
        let change = CertificateChange { key: KeyChange::Mismatched, ..unchanged() };
        let new = issued(&change, &cas, &old);
        let same = |a: &str, b: &str| pem::parse(a).unwrap() == pem::parse(b).unwrap();
        assert!(same(&encode([&new.certificate]), &old.0));
        assert_ne!(public(&encode([&new.key.unwrap()])), spki(&old.0));
        let both = CertificateChange { issuer: Some(Issuer::Ca), ..change };
        let new = issued(&both, &cas, &old);
        assert_eq!(spki(&encode([&new.certificate])), spki(&old.0));
        assert_ne!(public(&encode([&new.key.unwrap()])), spki(&old.0));
    }

    #[test]
    fn one_loses_names_that_it_has() {
        let cas = cas();
        let old = client(&cas);
        let holder = Holder::of(format!("{}{}", old.0, old.1).as_bytes()).unwrap();
        let (certificate, key) = (holder.certificate().unwrap(), holder.key(None).unwrap());
        let change = CertificateChange { sans: Some(Sans::Without(vec![])), ..unchanged() };
        let lose = |name: &str| anew(&change, &[name.into()], &certificate, &key, &cas, at(0));
        let (was, by) = told(&old.0, &cas);
        let (is, still_by) = told(&encode([&lose("10.0.0.1").unwrap().certificate]), &cas);
        assert_eq!((is, still_by), (was.replace(", IpAddress(10.0.0.1)", ""), by));
        let Err(error) = lose("b.example") else { panic!("it lost what it had not") };
        assert_eq!(error.to_string(), "it is not for b.example, only for a.example, 10.0.0.1");
    }

    #[test]
    fn one_that_vouches_for_itself_goes_on_to() {
        let old = ca("self");
        let change = CertificateChange { common_name: Some("other".into()), ..unchanged() };
        let new = issued(&change, &cas(), &old);
        let block = new.certificate;
        let (_, found) = X509Certificate::from_der(block.contents()).unwrap();
        assert_eq!(
            (found.subject().to_string(), found.issuer()),
            ("CN=other".into(), found.subject())
        );
        assert!(found.verify_signature(None).is_ok() && found.is_ca());
        let stranger = CertificateChange { issuer: Some(Issuer::Stranger), ..unchanged() };
        let holder = Holder::of(format!("{}{}", old.0, old.1).as_bytes()).unwrap();
        let error = anew(
            &stranger,
            &[],
            &holder.certificate().unwrap(),
            &holder.key(None).unwrap(),
            &[],
            at(0),
        );
        let said = error.unwrap_err().to_string();
        assert!(said.starts_with("`CN=self` signed it, which is no CA of the cluster"), "{said}");
    }

    #[test]
    fn a_kubeconfig_keeps_all_else() {
        let cas = cas();
        let old = client(&cas);
        let config = |certificate: &str, key: &str| {
            json!({"clusters": [{"name": "c"}], "users": [{"name": "u", "user": {
                "client-certificate-data": BASE64_STANDARD.encode(certificate),
                "client-key-data": BASE64_STANDARD.encode(key),
                "other": "kept",
            }}]})
        };
        let holder = Holder::of(config(&old.0, &old.1).to_string().as_bytes()).unwrap();
        assert!(holder.key_beside("/etc/kubernetes/scheduler.conf").is_none());
        let change = CertificateChange { key: KeyChange::New, ..unchanged() };
        let key = holder.key(None).unwrap();
        let new = anew(&change, &[], &holder.certificate().unwrap(), &key, &cas, at(0)).unwrap();
        let bytes = holder.with(&new.certificate, new.key.as_ref()).unwrap();
        let again = Holder::of(&bytes).unwrap();
        assert_eq!(again.certificate().unwrap(), new.certificate.contents());
        let text = String::from_utf8(bytes).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["users"][0]["user"]["other"], "kept");
        assert_eq!(value["clusters"], json!([{"name": "c"}]));

        let elsewhere = "{users: [{name: u, user: {client-certificate: /var/lib/a.pem}}]}";
        let said = Holder::of(elsewhere.as_bytes()).unwrap_err().to_string();
        assert!(said.contains("`path: /var/lib/a.pem`"), "{said}");
        for none in ["", "a: b", "rubbish: [", "-----BEGIN CERTIFICATE-----\n!\n"] {
            assert!(Holder::of(none.as_bytes()).is_err(), "{none}");
        }
    }

    #[test]
    fn the_key_may_be_beside() {
        let old = client(&cas());
        let holder = Holder::of(old.0.as_bytes()).unwrap();
        let beside = holder.key_beside("/pki/front-proxy-client.crt").unwrap();
        assert_eq!(beside, "/pki/front-proxy-client.key");
        assert!(holder.key(None).is_err() && holder.key(Some(old.1.as_bytes())).is_ok());
        let [certificate, key] = [&old.0, &old.1].map(|text| pem::parse(text).unwrap());
        assert_eq!(
            holder.with(&certificate, Some(&key)).unwrap(),
            encode([&certificate]).into_bytes()
        );
    }
}
