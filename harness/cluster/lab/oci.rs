//! The program that containerd runs as `runc`: it takes out of a container's configuration what a
//! user namespace with one mapped id can't have, then becomes the real runc.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};

const RUNC: &str = "/usr/sbin/runc";

/// Rewrites the configuration that the arguments name and becomes runc. Returns only on failure.
pub(crate) fn main(args: Vec<String>) -> i32 {
    if let Err(why) = rewrite(&args) {
        eprintln!("outage-runc: {why}");
        return 1;
    }
    let error = Command::new(RUNC).args(args).exec();
    eprintln!("outage-runc: {RUNC}: {error}");
    127
}

fn rewrite(args: &[String]) -> Result<(), String> {
    let value_of = |long: &str, short: &str| {
        args.iter()
            .position(|arg| arg == long || arg == short)
            .and_then(|at| args.get(at + 1))
            .map(String::as_str)
    };
    let named = |command: &str| args.iter().any(|arg| arg == command);
    if named("create") || named("run") {
        let bundle = value_of("--bundle", "-b").unwrap_or(".");
        edit(&Path::new(bundle).join("config.json"), container)
    } else if let Some(process_file) = value_of("--process", "-p").filter(|_| named("exec")) {
        edit(Path::new(process_file), process)
    } else {
        Ok(())
    }
}

fn edit(path: &Path, change: fn(&mut Map<String, Value>)) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = fs::read(path).map_err(|error| failed(&error))?;
    let mut config: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| failed(&error))?;
    change(&mut config);
    let text = serde_json::to_vec(&config).map_err(|error| failed(&error))?;
    fs::write(path, text).map_err(|error| failed(&error))
}

/// Limits can't be raised and the OOM score can't be lowered without privileges on the host.
fn process(process: &mut Map<String, Value>) {
    process.remove("rlimits");
    if process.get("oomScoreAdj").and_then(Value::as_i64).is_some_and(|score| score < 0) {
        process.insert("oomScoreAdj".into(), 0.into());
    }
}

fn container(config: &mut Map<String, Value>) {
    if let Some(Value::Object(settings)) = config.get_mut("process") {
        process(settings);
    }
    if let Some(Value::Array(mounts)) = config.get_mut("mounts") {
        mounts.retain(|mount| mount["type"] != "cgroup");
        for mount in mounts {
            // The group `tty` isn't mapped.
            if let Some(Value::Array(options)) = mount.get_mut("options") {
                options.retain(|option| {
                    !option.as_str().is_some_and(|option| option.starts_with("gid="))
                });
            }
        }
    }
    if let Some(Value::Object(linux)) = config.get_mut("linux") {
        linux.remove("resources");
        linux.insert("cgroupsPath".into(), "".into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn takes_out_what_one_mapped_id_cannot_have() {
        let Value::Object(mut config) = json!({
            "process": {"rlimits": [{}], "oomScoreAdj": -997, "args": ["x"]},
            "mounts": [
                {"type": "devpts", "options": ["nosuid", "gid=5"]},
                {"type": "cgroup", "options": []},
                {"type": "bind", "options": ["rbind"]}
            ],
            "linux": {"resources": {"devices": []}, "cgroupsPath": "/k8s", "namespaces": []}
        }) else {
            unreachable!()
        };
        container(&mut config);
        assert_eq!(
            Value::Object(config),
            json!({
                "process": {"oomScoreAdj": 0, "args": ["x"]},
                "mounts": [
                    {"type": "devpts", "options": ["nosuid"]},
                    {"type": "bind", "options": ["rbind"]}
                ],
                "linux": {"cgroupsPath": "", "namespaces": []}
            })
        );
    }
}
