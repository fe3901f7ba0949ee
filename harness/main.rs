//! The `outage` command.

use std::process::ExitCode;
use std::sync::Arc;

use outage::assets::{Cache, Fetcher, Progress, Sources, Wanted};
use outage::cluster::lab;
use outage::cluster::Cluster;

fn main() -> ExitCode {
    if let Some(code) = lab::stand_in() {
        return code;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let cache = Cache::from_env().unwrap();
        let version = std::env::args().nth(1).unwrap();
        let fetcher = Fetcher::new(cache, Sources::from_env(), Progress::silent()).unwrap();
        let wanted = Wanted { kubernetes: version.parse().unwrap(), metrics_server: false };
        let t = std::time::Instant::now();
        let assets = Arc::new(fetcher.fetch(&wanted).await.unwrap());
        println!("assets {:?}", t.elapsed());
        let options = lab::Options {
            kubernetes: wanted.kubernetes,
            masters: 3,
            workers: 1,
            settings: vec![],
            program: std::env::current_exe().unwrap(),
        };
        let t = std::time::Instant::now();
        let say = move |text: String| println!("{:6.2} {text}", t.elapsed().as_secs_f64());
        match lab::Lab::start(assets, options, &Progress::silent(), &say).await {
            Ok(lab) => {
                println!("up {:?}", t.elapsed());
                if std::env::args().nth(2).is_some() {
                    let mut line = String::new();
                    std::io::stdin().read_line(&mut line).unwrap();
                }
                lab.delete().await.unwrap();
                println!("deleted {:?}", t.elapsed());
            }
            Err(error) => {
                let mut e: &dyn std::error::Error = &error;
                println!("{e}");
                while let Some(s) = e.source() { println!("  {s}"); e = s; }
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        }
    });
    ExitCode::SUCCESS
}
