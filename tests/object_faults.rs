//! Faults of container names and of objects on real clusters: each is not proven before it is
//! injected, proven then, taken back twice, and not proven any more. One cluster a provider serves
//! all cases; the names filter: `cargo test --features e2e --test object_faults -- scale`.
//! `OUTAGE_KUBERNETES` chooses the version.

mod e2e_support;

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use e2e_support::{Failure, Provider, kubectl_on, kubernetes, masters, providers, wait_for};
use futures::FutureExt;
use futures::future::LocalBoxFuture;
use libtest_mimic::{Arguments, Failed, Trial};
use outage::cluster::Cluster;
use outage::cluster::client::Access;
use outage::fault::{self, Undo};
use outage::scenario::{
    Apply, Component, ContainerNameTaken, Delete, Fault, NameHolder, NodeRef, ObjectRef, Patch,
    PatchStrategy, Scale,
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

/// For what Kubernetes does by itself.
const SOON: Duration = Duration::from_mins(3);

type Case = for<'a> fn(&'a Ctx) -> LocalBoxFuture<'a, Result<(), Failure>>;

const CASES: [(&str, Case); 10] = [
    ("apply_creates_an_object", |c| apply_creates(c).boxed_local()),
    ("apply_changes_an_object_field_by_field", |c| apply_changes(c).boxed_local()),
    ("patch_changes_lists_and_takes_fields_away", |c| patch_merges(c).boxed_local()),
    ("patch_merges_lists_by_their_keys", |c| patch_strategically(c).boxed_local()),
    ("delete_is_taken_back", |c| delete_object(c).boxed_local()),
    ("delete_of_a_held_namespace_is_proven_while_it_hangs", |c| delete_held(c).boxed_local()),
    ("scale_to_none", |c| scale(c).boxed_local()),
    ("what_is_already_so_can_not_be_injected", |c| already_so(c).boxed_local()),
    ("name_taken_by_the_running_attempt", |c| {
        name_taken(c, 2, NameHolder::RunningAttempt).boxed_local()
    }),
    ("name_taken_by_a_stray_container", |c| {
        name_taken(c, 3, NameHolder::StrayContainer).boxed_local()
    }),
];

fn main() -> ExitCode {
    let mut args = Arguments::from_args();
    // They share a cluster.
    args.test_threads = Some(1);
    let runtime = Arc::new(Runtime::new().expect("the runtime starts"));
    let (providers, mut trials) = providers();
    let stage = |provider| {
        let runtime = Arc::clone(&runtime);
        Arc::new(Stage { provider, runtime, ctx: Mutex::default() })
    };
    let stages: Vec<Arc<Stage>> = providers.into_iter().map(stage).collect();
    for stage in &stages {
        let prefix = format!("{}::{}", stage.provider.name(), kubernetes());
        for (name, case) in CASES {
            let stage = Arc::clone(stage);
            trials.push(Trial::test(format!("{prefix}::{name}"), move || stage.run(case)));
        }
        // Two clusters at once would slow each other down.
        let stage = Arc::clone(stage);
        trials.push(Trial::test(format!("{prefix}::the_cluster_ends"), move || {
            stage.delete().map_err(Failed::from)
        }));
    }
    let conclusion = libtest_mimic::run(&args, trials);
    let deleted: Vec<_> = stages.iter().map(|stage| stage.delete()).collect();
    for failure in deleted.iter().filter_map(|result| result.as_ref().err()) {
        eprintln!("the cluster could not be deleted: {failure}");
    }
    let clean = deleted.iter().all(Result::is_ok);
    if clean { conclusion.exit_code() } else { ExitCode::FAILURE }
}

/// A provider and its one cluster, made by the first case that needs it.
struct Stage {
    provider: Provider,
    runtime: Arc<Runtime>,
    ctx: Mutex<Option<Result<Arc<Ctx>, String>>>,
}

impl Stage {
    fn run(&self, case: Case) -> Result<(), Failed> {
        let ctx = self.ctx()?;
        self.runtime.block_on(case(&ctx)).map_err(|failure| words(&failure).into())
    }

    fn ctx(&self) -> Result<Arc<Ctx>, String> {
        let mut slot = self.ctx.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || self.runtime.block_on(Ctx::new(self.provider)).map(Arc::new);
        slot.get_or_insert_with(|| make().map_err(|failure| words(&failure))).clone()
    }

    fn delete(&self) -> Result<(), String> {
        let ctx = self.ctx.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(Ok(ctx)) = ctx else { return Ok(()) };
        self.runtime.block_on(ctx.cluster.delete()).map_err(|error| error.to_string())
    }
}

fn words(failure: &Failure) -> String {
    outage::cluster::client::words(&**failure)
}

struct Ctx {
    cluster: Arc<dyn Cluster>,
    access: Access,
}

impl Ctx {
    async fn new(provider: Provider) -> Result<Self, Failure> {
        let cluster = provider.make(3, 1).await?.cluster;
        let access = Access::new(Arc::clone(&cluster)).await?;
        Ok(Self { cluster, access })
    }

    async fn kubectl(&self, args: &[&str]) -> Result<String, Failure> {
        kubectl_on(&*masters(&*self.cluster)[0], args, None).await
    }

    async fn create(&self, object: &Value) -> Result<(), Failure> {
        let first = &masters(&*self.cluster)[0];
        kubectl_on(&**first, &["create", "-f", "-"], Some(&object.to_string())).await.map(drop)
    }

    async fn get(&self, args: &[&str]) -> Result<Value, Failure> {
        let args = [&["get", "-o", "json"], args].concat();
        Ok(serde_json::from_str(&self.kubectl(&args).await?)?)
    }

    async fn not_proven(&self, undo: &Undo, when: &str) -> Result<(), Failure> {
        match fault::prove(undo, &self.access).await? {
            Err(_) => Ok(()),
            Ok(evidence) => Err(format!("proven {when}: {evidence:?}").into()),
        }
    }

    /// Takes the fault back before it was injected, injects and proves it.
    async fn inject(&self, fault: &Fault) -> Result<Undo, Failure> {
        println!("{}", fault::does(fault));
        let undo = fault::undo(fault, &self.access).await?;
        self.not_proven(&undo, "before it was injected").await?;
        fault::revert(&undo, &self.access).await?;
        self.not_proven(&undo, "after nothing was taken back").await?;
        // As from the journal of another process.
        let undo: Undo = serde_json::from_str(&serde_json::to_string(&undo)?)?;
        let issued = Arc::new(AtomicBool::new(false));
        let called = Arc::clone(&issued);
        fault::inject(&undo, &self.access, Box::new(move || called.store(true, Ordering::SeqCst)))
            .await?;
        if !issued.load(Ordering::SeqCst) {
            return Err("nobody said when it was issued".into());
        }
        let evidence = fault::prove(&undo, &self.access).await?;
        println!("    {}", evidence.map_err(|why| format!("not proven: {why}"))?.join("\n    "));
        Ok(undo)
    }

    /// Takes it back, twice.
    async fn revert(&self, undo: &Undo) -> Result<(), Failure> {
        fault::revert(undo, &self.access).await?;
        self.not_proven(undo, "after it was taken back").await?;
        fault::revert(undo, &self.access).await?;
        self.not_proven(undo, "after it was taken back twice").await
    }
}

fn object(api_version: &str, kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        api_version: api_version.into(),
        kind: kind.into(),
        namespace: namespace.map(Into::into),
        name: name.into(),
    }
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

async fn apply_creates(ctx: &Ctx) -> Result<(), Failure> {
    let apply = Fault::Apply(Apply {
        object: object("v1", "ConfigMap", None, "created"),
        manifest: config_map("created", &json!({"a": "1"})),
        through: Some(NodeRef::Master(2)),
    });
    let undo = ctx.inject(&apply).await?;
    ctx.revert(&undo).await?;
    match ctx.get(&["configmap", "created"]).await {
        Err(_) => Ok(()),
        Ok(found) => Err(format!("it is still there: {found}").into()),
    }
}

async fn apply_changes(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&config_map("changed", &json!({"a": "1", "b": "1"}))).await?;
    let apply = Fault::Apply(Apply {
        object: object("v1", "ConfigMap", None, "changed"),
        manifest: config_map("changed", &json!({"a": "2", "c": "2"})),
        through: None,
    });
    let undo = ctx.inject(&apply).await?;
    // What somebody else changes meanwhile stays.
    let theirs = r#"{"data": {"b": "3"}}"#;
    ctx.kubectl(&["patch", "configmap", "changed", "--type=merge", "-p", theirs]).await?;
    ctx.revert(&undo).await?;
    let data = ctx.get(&["configmap", "changed"]).await?["data"].clone();
    equal(&data, &json!({"a": "1", "b": "3"}))
}

fn equal(found: &Value, wanted: &Value) -> Result<(), Failure> {
    if found == wanted { Ok(()) } else { Err(format!("found {found}, wanted {wanted}").into()) }
}

fn workload(name: &str) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "default", "labels": {"old": "o"}},
        "spec": {
            "replicas": 0, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "one", "image": "one:1"}, {"name": "two", "image": "two:1"},
            ]}},
        },
    })
}

async fn images(ctx: &Ctx, name: &str) -> Result<String, Failure> {
    let path = "jsonpath={.spec.template.spec.containers[*].image}";
    ctx.kubectl(&["get", "deployment", name, "-o", path]).await
}

async fn patch_merges(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&workload("merged")).await?;
    let patch = Fault::Patch(Patch {
        object: object("apps/v1", "Deployment", Some("default"), "merged"),
        patch: json!({
            "metadata": {"labels": {"old": null, "new": "n"}},
            "spec": {"template": {"spec": {"containers": [{"name": "two", "image": "two:2"}]}}},
        }),
        strategy: PatchStrategy::Merge,
        through: Some(NodeRef::Master(3)),
    });
    let undo = ctx.inject(&patch).await?;
    equal(&images(ctx, "merged").await?.into(), &"two:2".into())?;
    ctx.revert(&undo).await?;
    equal(&images(ctx, "merged").await?.into(), &"one:1 two:1".into())?;
    let found = ctx.get(&["deployment", "merged"]).await?;
    equal(&found["metadata"]["labels"], &json!({"old": "o"}))
}

async fn patch_strategically(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&workload("by-key")).await?;
    let patch = Fault::Patch(Patch {
        object: object("apps/v1", "Deployment", None, "by-key"),
        patch: json!({
            "spec": {"template": {"spec": {"containers": [{"name": "two", "image": "two:2"}]}}},
        }),
        strategy: PatchStrategy::Strategic,
        through: None,
    });
    let undo = ctx.inject(&patch).await?;
    let mut found: Vec<_> = images(ctx, "by-key").await?.split(' ').map(str::to_owned).collect();
    found.sort();
    equal(&json!(found), &json!(["one:1", "two:2"]))?;
    ctx.revert(&undo).await?;
    equal(&images(ctx, "by-key").await?.into(), &"one:1 two:1".into())
}

async fn delete_object(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&config_map("deleted", &json!({"a": "1"}))).await?;
    let uid = ctx.get(&["configmap", "deleted"]).await?["metadata"]["uid"].clone();
    let delete = Fault::Delete(Delete {
        object: object("v1", "ConfigMap", None, "deleted"),
        through: Some(NodeRef::Master(1)),
    });
    let undo = ctx.inject(&delete).await?;
    ctx.revert(&undo).await?;
    let found = ctx.get(&["configmap", "deleted"]).await?;
    if found["metadata"]["uid"] == uid {
        return Err("it never was deleted".into());
    }
    equal(&found["data"], &json!({"a": "1"}))
}

async fn delete_held(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "held", "finalizers": ["example.com/hold"]},
    }))
    .await?;
    let delete =
        Fault::Delete(Delete { object: object("v1", "Namespace", None, "held"), through: None });
    let undo = ctx.inject(&delete).await?;
    let phase = ctx.get(&["namespace", "held"]).await?["status"]["phase"].clone();
    equal(&phase, &"Terminating".into())?;
    let release = r#"{"metadata": {"finalizers": null}}"#;
    let release = ["patch", "namespace", "held", "--type=merge", "-p", release];
    let (reverted, released) = tokio::join!(ctx.revert(&undo), ctx.kubectl(&release));
    released?;
    reverted?;
    wait_for("the namespace is active again", SOON, async || {
        equal(&ctx.get(&["namespace", "held"]).await?["status"]["phase"], &"Active".into())
    })
    .await
}

async fn scale(ctx: &Ctx) -> Result<(), Failure> {
    let scale = Fault::Scale(Scale {
        object: object("apps/v1", "Deployment", Some("kube-system"), "coredns"),
        replicas: 0,
        through: Some(NodeRef::Master(1)),
    });
    let coredns = ["deployment", "coredns", "-n", "kube-system"];
    let wanted = ctx.get(&coredns).await?["spec"]["replicas"].clone();
    let undo = ctx.inject(&scale).await?;
    ctx.revert(&undo).await?;
    equal(&ctx.get(&coredns).await?["spec"]["replicas"], &wanted)
}

async fn already_so(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&config_map("same", &json!({"a": "1"}))).await?;
    let same = object("v1", "ConfigMap", None, "same");
    let absent = object("v1", "ConfigMap", None, "absent");
    let manifest = config_map("same", &json!({"a": "1"}));
    let change = json!({"data": {"a": "1"}});
    let strategy = PatchStrategy::Merge;
    let scaled = object("apps/v1", "Deployment", Some("kube-system"), "coredns");
    for fault in [
        Fault::Apply(Apply { object: same.clone(), manifest, through: None }),
        Fault::Patch(Patch { object: same, patch: change.clone(), strategy, through: None }),
        Fault::Patch(Patch { object: absent.clone(), patch: change, strategy, through: None }),
        Fault::Delete(Delete { object: absent, through: None }),
        Fault::Scale(Scale { object: scaled, replicas: 2, through: None }),
    ] {
        match fault::undo(&fault, &ctx.access).await {
            Err(error) => println!("{}: {error}", fault::does(&fault)),
            Ok(undo) => return Err(format!("it can be injected: {undo:?}").into()),
        }
    }
    Ok(())
}

async fn name_taken(ctx: &Ctx, master: usize, by: NameHolder) -> Result<(), Failure> {
    let on = NodeRef::Master(master);
    let component = Component::KubeApiserver;
    let taken = Fault::ContainerNameTaken(ContainerNameTaken { component, on, by });
    let undo = ctx.inject(&taken).await?;
    ctx.revert(&undo).await?;
    let node = ctx.cluster.node(on).ok_or("no such node")?;
    let pod = format!("kube-apiserver-{}", node.name());
    wait_for("the pod is ready again", SOON, async || {
        let found = ctx.get(&["pod", &pod, "-n", "kube-system"]).await?;
        equal(&found["status"]["containerStatuses"][0]["ready"], &true.into())
    })
    .await
}
