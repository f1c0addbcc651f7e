//! DataFusion reads a file of a stand-in for S3 again and again while the session's sets come and go.

#[path = "../../../tests/adapters/stand_in.rs"]
mod stand_in;

use std::sync::{Arc, atomic::Ordering};

use datafusion::{
    execution::object_store::ObjectStoreUrl,
    prelude::{CsvReadOptions, SessionContext},
};
use object_store::aws::AmazonS3Builder;
use stand_in::{LIFE, OBJECT, Scene, read_on};

#[tokio::main]
async fn main() {
    let scene = Scene::new(LIFE);
    let store = AmazonS3Builder::new()
        .with_bucket_name("b")
        .with_region("eu-west-1")
        .with_endpoint(&scene.url)
        .with_allow_http(true)
        .with_credentials(Arc::new(scene.session.clone()))
        .build()
        .unwrap();
    let context = SessionContext::new();
    let bucket = ObjectStoreUrl::parse("s3://b").unwrap();
    context.register_object_store(bucket.as_ref(), Arc::new(store));
    let reads = read_on(move || {
        let context = context.clone();
        async move {
            let table = context.read_csv("s3://b/x.csv", CsvReadOptions::new()).await.unwrap();
            let batches = table.collect().await.unwrap();
            assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 1);
            OBJECT.to_owned()
        }
    })
    .await;
    scene.check(reads);
    let keys = scene.seen.keys.lock().unwrap().len();
    let late = scene.seen.late.load(Ordering::Relaxed);
    let calls = scene.session.status().unwrap().source_calls();
    println!("{reads} queries, {keys} keys, {calls} calls of the source, {late} late");
}
