//! Faults of container names and of objects: each is not proven before it is injected, proven then,
//! taken back twice, and not proven any more.

use std::time::Duration;

use futures::FutureExt;
use outage::fault::{self, Undo};
use outage::scenario::{
    Apply, Component, ContainerNameTaken, Delete, Fault, NameHolder, NodeRef, ObjectRef, Patch,
    PatchStrategy, Scale,
};
use serde_json::{Value, json};

use super::Ctx;
use super::e2e_support::stage::{CaseOf, Shared};
use super::e2e_support::{Failure, wait_for};

/// For what Kubernetes does by itself.
const SOON: Duration = Duration::from_mins(3);

/// In this order: what disturbs more comes later.
pub const CASES: [(&str, CaseOf<Ctx>); 11] = [
    ("apply_creates_an_object", |c| apply_creates(c).boxed_local()),
    ("apply_creates_many_objects", |c| apply_creates_many(c).boxed_local()),
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

impl Ctx {
    async fn create(&self, object: &Value) -> Result<(), Failure> {
        self.kubectl_in(&["create", "-f", "-"], &object.to_string()).await.map(drop)
    }

    /// Takes the fault back before it was injected, injects and proves it.
    async fn injected(&self, fault: &Fault) -> Result<Undo, Failure> {
        println!("{}", fault::does(fault));
        let undo = fault::undo(fault, &self.access).await?;
        self.proven(&undo, false, "before it is injected").await?;
        self.revert(&undo, "a fault that was never injected").await?;
        self.proven(&undo, false, "after the revert of nothing").await?;
        // As from the journal of another process.
        let undo: Undo = serde_json::from_str(&serde_json::to_string(&undo)?)?;
        self.inject(&undo).await?;
        self.proven(&undo, true, "in place").await?;
        Ok(undo)
    }

    /// Takes it back, twice.
    async fn taken_back(&self, undo: &Undo) -> Result<(), Failure> {
        self.revert(undo, "in place").await?;
        self.proven(undo, false, "after its revert").await?;
        self.revert(undo, "once more").await?;
        self.proven(undo, false, "after its second revert").await
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
        count: None,
        through: Some(NodeRef::Master(2)),
    });
    let undo = ctx.injected(&apply).await?;
    ctx.taken_back(&undo).await?;
    match ctx.get(&["configmap", "created"]).await {
        Err(_) => Ok(()),
        Ok(found) => Err(format!("it is still there: {found}").into()),
    }
}

async fn apply_creates_many(ctx: &Ctx) -> Result<(), Failure> {
    let apply = Fault::Apply(Apply {
        object: object("v1", "ConfigMap", None, "filler"),
        manifest: json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "filler", "labels": {"made": "many"}}, "data": {"a": "1"},
        }),
        count: Some(100),
        through: None,
    });
    let many = async || {
        let list = ctx.get(&["configmap", "--selector=made=many"]).await?;
        Ok::<_, Failure>(list["items"].as_array().map_or(0, Vec::len))
    };
    let undo = ctx.injected(&apply).await?;
    equal(&many().await?.into(), &json!(100))?;
    // One that is gone is no hindrance.
    ctx.kubectl(&["delete", "configmap", "filler-7"]).await?;
    ctx.taken_back(&undo).await?;
    equal(&many().await?.into(), &json!(0))
}

async fn apply_changes(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&config_map("changed", &json!({"a": "1", "b": "1"}))).await?;
    let apply = Fault::Apply(Apply {
        object: object("v1", "ConfigMap", None, "changed"),
        manifest: config_map("changed", &json!({"a": "2", "c": "2"})),
        count: None,
        through: None,
    });
    let undo = ctx.injected(&apply).await?;
    // What somebody else changes meanwhile stays.
    let theirs = r#"{"data": {"b": "3"}}"#;
    ctx.kubectl(&["patch", "configmap", "changed", "--type=merge", "-p", theirs]).await?;
    ctx.taken_back(&undo).await?;
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
    let undo = ctx.injected(&patch).await?;
    equal(&images(ctx, "merged").await?.into(), &"two:2".into())?;
    ctx.taken_back(&undo).await?;
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
    let undo = ctx.injected(&patch).await?;
    let mut found: Vec<_> = images(ctx, "by-key").await?.split(' ').map(str::to_owned).collect();
    found.sort();
    equal(&json!(found), &json!(["one:1", "two:2"]))?;
    ctx.taken_back(&undo).await?;
    equal(&images(ctx, "by-key").await?.into(), &"one:1 two:1".into())
}

async fn delete_object(ctx: &Ctx) -> Result<(), Failure> {
    ctx.create(&config_map("deleted", &json!({"a": "1"}))).await?;
    let uid = ctx.get(&["configmap", "deleted"]).await?["metadata"]["uid"].clone();
    let delete = Fault::Delete(Delete {
        object: object("v1", "ConfigMap", None, "deleted"),
        through: Some(NodeRef::Master(1)),
    });
    let undo = ctx.injected(&delete).await?;
    ctx.taken_back(&undo).await?;
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
    let undo = ctx.injected(&delete).await?;
    let phase = ctx.get(&["namespace", "held"]).await?["status"]["phase"].clone();
    equal(&phase, &"Terminating".into())?;
    let release = r#"{"metadata": {"finalizers": null}}"#;
    let release = ["patch", "namespace", "held", "--type=merge", "-p", release];
    let (reverted, released) = tokio::join!(ctx.taken_back(&undo), ctx.kubectl(&release));
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
    let undo = ctx.injected(&scale).await?;
    ctx.taken_back(&undo).await?;
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
        Fault::Apply(Apply { object: same.clone(), manifest, count: None, through: None }),
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
    let undo = ctx.injected(&taken).await?;
    ctx.taken_back(&undo).await?;
    let node = ctx.cluster.node(on).ok_or("no such node")?;
    let pod = format!("kube-apiserver-{}", node.name());
    wait_for("the pod is ready again", SOON, async || {
        let found = ctx.get(&["pod", &pod, "-n", "kube-system"]).await?;
        equal(&found["status"]["containerStatuses"][0]["ready"], &true.into())
    })
    .await
}
