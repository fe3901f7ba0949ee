//! The objects concerned, for whoever looks into a failure: those that the expectations name, and
//! what the cluster says of itself, as YAML, as the first apiserver that answers tells. One that has
//! lost its etcd still takes connections, so all are asked at once for what only etcd knows.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{join_all, select_ok};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DynamicObject, GroupVersionKind, ListParams, TypeMeta};
use kube::discovery;
use tokio::time::timeout;

use super::plan::Plan;
use crate::cluster::client::{Access, words};
use crate::probe::{self, Concerned};
use crate::scenario::NodeRef;

/// How long all of it may take: what is in place waits for its revert.
const LIMIT: Duration = Duration::from_secs(15);

/// How long one read may take.
const READ: Duration = Duration::from_secs(3);

/// Writes them to a file; its name, if anything was written.
pub(super) async fn collect(access: &Access, plan: &Plan, path: &Path) -> Option<String> {
    let mut text = String::new();
    // What was read in time is better than nothing.
    let in_time = timeout(LIMIT, read_all(access, plan, &mut text)).await.is_ok();
    if !in_time {
        let _ = writeln!(text, "---\n# not all of it in {LIMIT:?}");
    }
    let name = path.file_name()?.to_str()?.to_owned();
    if let Err(error) = tokio::fs::write(path, text).await {
        tracing::error!(%error, "the objects concerned can't be written");
        return None;
    }
    Some(name)
}

async fn read_all(access: &Access, plan: &Plan, text: &mut String) {
    let named = plan.expectations.iter().flat_map(|planned| probe::concerned(&planned.probe));
    let mut all: Vec<Concerned> = vec![];
    for concerned in named.chain(always()) {
        if !all.contains(&concerned) {
            all.push(concerned);
        }
    }
    let master = match answering(access).await {
        Ok(master) => master,
        Err(why) => {
            let _ = writeln!(text, "# no apiserver answers: {why}");
            return;
        }
    };
    let reading = all.iter().map(|concerned| read(access, master, concerned));
    for (concerned, read) in all.iter().zip(join_all(reading).await) {
        let _ = writeln!(text, "---\n# {concerned}, as {master} tells");
        match read {
            Ok(yaml) => text.push_str(&yaml),
            Err(why) => {
                let _ = writeln!(text, "# {}", why.replace('\n', " "));
            }
        }
    }
}

fn always() -> [Concerned; 3] {
    let all = |kind: &str, namespace: Option<&str>| Concerned {
        api_version: "v1".into(),
        kind: kind.into(),
        namespace: namespace.map(Into::into),
        name: None,
    };
    [all("Node", None), all("Pod", Some("kube-system")), all("Event", None)]
}

/// The master whose apiserver is the first to answer what it must ask etcd for.
async fn answering(access: &Access) -> Result<NodeRef, String> {
    let asking = access.masters().map(|master| {
        async {
            let client = access.kube(master.id()).map_err(|error| words(&error))?;
            in_time(Api::<Namespace>::all(client).get("default")).await?;
            Ok::<_, String>(master.id())
        }
        .boxed()
    });
    let asking: Vec<_> = asking.collect();
    if asking.is_empty() {
        return Err("there is no master".to_owned());
    }
    select_ok(asking).await.map(|(master, _)| master)
}

async fn read(access: &Access, master: NodeRef, concerned: &Concerned) -> Result<String, String> {
    let client = access.kube(master).map_err(|error| words(&error))?;
    let Concerned { api_version, kind, namespace, name } = concerned;
    let types = TypeMeta { api_version: api_version.clone(), kind: kind.clone() };
    let gvk = GroupVersionKind::try_from(&types).map_err(|error| words(&error))?;
    let (resource, _) = in_time(discovery::pinned_kind(&client, &gvk)).await?;
    let api: Api<DynamicObject> = match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &resource),
        None => Api::all_with(client, &resource),
    };
    let objects = match name {
        Some(name) => vec![in_time(api.get(name)).await?],
        None => in_time(api.list(&ListParams::default())).await?.items,
    };
    let objects: Vec<DynamicObject> = objects
        .into_iter()
        .map(|mut object| {
            object.metadata.managed_fields = None;
            object.types.get_or_insert_with(|| types.clone());
            object
        })
        .collect();
    let yaml: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
    yaml.map(|yaml| yaml.join("---\n")).map_err(|error| error.to_string())
}

async fn in_time<T>(reading: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    match timeout(READ, reading).await {
        Ok(read) => read.map_err(|error| words(&error)),
        Err(_) => Err(format!("no answer in {READ:?}")),
    }
}
