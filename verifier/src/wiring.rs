//! Puts the real parts together, runs them, and takes them apart again.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use quotary_common::cbor::{Text, Version};
use quotary_common::envelope::Name;
use quotary_common::id::{DeploymentId, Digest};
use quotary_common::leaf::{Decision, Leaf, Started};
use quotary_decide::history::HOUR_MS;
use quotary_decide::registry::Admission;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{self, App, PendingEnrolments, ServeError, Streams};
use crate::clock::Clock;
use crate::config::{AlarmRules, Config, Times};
use crate::core::{
    AuditLog, EventLog, Ground, LoadError, Queue, Settings, State, View, Writer, WriterError, load, load_models,
    load_record,
};
use crate::keyring::{self, KeyringError};
use crate::planner::{LeftOut, Planner, Previews, Watched};
use crate::predict::{
    Alarms, Contest, Feed, Forecaster, Forecasts, Judged, Replaying, ToldBefore, Trial, Usual, replay,
};
use crate::service;
use crate::store::{Reader, SqliteStore, Store as _, StoreError};
use crate::teller::Teller;
use crate::tls;
use crate::webhook::{Delivery, Webhook};

/// Why the verifier could not start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Keys.
    #[error("the keys cannot be used")]
    Keys(#[source] KeyringError),
    /// The store.
    #[error("the store cannot be opened")]
    Store(#[source] StoreError),
    /// The state in it.
    #[error("the state cannot be read back")]
    Load(#[source] LoadError),
    /// TLS.
    #[error("the TLS certificate and key cannot be used")]
    Tls(#[source] rustls::Error),
    /// The chain has no CA.
    #[error("the TLS chain does not end in the CA's certificate")]
    Chain,
    /// The address.
    #[error("cannot listen on {address}: is another process there?")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A thread could not be started, or ended in a panic.
    #[error("the {0} thread could not be run")]
    Thread(&'static str),
    /// The writer.
    #[error("the writer stopped")]
    Writer(#[source] WriterError),
    /// Connections.
    #[error("serving ended")]
    Serve(#[source] ServeError),
}

/// Runs the verifier until `stop` is cancelled. `listening` is told the address once it is bound.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, stop: CancellationToken, listening: impl FnOnce(SocketAddr)) -> Result<(), RunError> {
    let store = SqliteStore::open(&config.data_dir).map_err(RunError::Store)?;
    let clock = clock_after(&store).map_err(RunError::Store)?;
    let keys =
        keyring::load(&config.data_dir, service::credentials().as_deref(), clock.now_ms()).map_err(RunError::Keys)?;
    let ca = keys.tls_chain.last().and_then(|ca| tls::spki_of(ca)).ok_or(RunError::Chain)?;
    let reader = || store.reader().map_err(RunError::Store);
    let (contest, forecasts) = (Contest::default(), Forecasts::default());
    let selection = config.zones.required_selection();
    let zones = config.zones.as_slice().iter().map(|zone| zone.name.as_str().to_owned()).collect();
    let (rules, zone_rules) = (Arc::new(config.rules.clone()), Arc::new(config.zones));
    let ground = Ground { rules, zones: zone_rules, forecasts: forecasts.clone() };
    let (teller, tell) = Teller::new(config.webhooks.clone(), config.commands);
    let settings = Arc::new(Settings {
        deployment: keys.deployment,
        grant_key: keys.grant,
        admission: Admission::new(&config.roots, config.ek_allow_list.clone()),
        ground: ground.clone(),
        timing: config.timing,
        evidence_keep_per_host: config.evidence_keep_per_host,
        history_keep_ms: config.history_keep_days.saturating_mul(24 * HOUR_MS),
        contest: contest.clone(),
        tell,
    });
    let mut state = load(settings, &store, clock.now_ms()).map_err(RunError::Load)?;
    let trial = trial(&store, &mut state, &contest).map_err(RunError::Load)?;
    let (queue, commands) = Queue::new();
    let alarms = (&config.alarms, state.told_before());
    let (forecaster, feed, judged) = forecaster(config.timing, trial, alarms, (&forecasts, &queue), clock);
    let audit = Arc::new(AuditLog::rebuild(&keys.deployment, keys.log, reader()?).map_err(RunError::Store)?);
    let events = EventLog::new(reader()?).map_err(RunError::Store)?;
    let view = Arc::new(View::default());
    let (app_reader, replay_reader) = (reader()?, reader()?);
    let logs = (Arc::clone(&audit), Arc::clone(&events));
    let mut writer = Writer::new(state, Box::new(store), Arc::clone(&view), logs, clock, feed.clone());
    writer.commit_leaf(started_leaf(&view, clock, config.digest)).map_err(RunError::Writer)?;
    let told = Told { deployment: keys.deployment, log: &events, queue: &queue, clock };
    let deliveries = deliveries(config.webhooks, &mut writer, &told)?;
    let app = Arc::new(App {
        deployment: keys.deployment,
        name: config.name.as_str().to_owned(),
        url: config.url,
        root: keys.root,
        certificate: keys.certificate.to_bytes(),
        ca_spki: Digest::of(&[&ca]),
        nonce_key: keys.nonce,
        roots: config.roots,
        ek_allow_list: config.ek_allow_list,
        zones,
        result_key: keys.result,
        selection,
        timing: config.timing,
        clock,
        contest,
        queue: queue.clone(),
        view: Arc::clone(&view),
        audit,
        alarm_rules: config.alarms,
        judged,
        feed: feed.clone(),
        events,
        streams: Streams::new(config.event_streams_max),
        webhooks: deliveries.iter().map(Delivery::state).collect(),
        stop: stop.clone(),
        reader: Mutex::new(app_reader),
        pending: PendingEnrolments::default(),
        ground,
        watched: Watched::default(),
        left_out: LeftOut::default(),
        signatures: Mutex::default(),
        previews: Previews::new(Usual::new(feed.clone())),
        zone_checks: Arc::new(tokio::sync::Semaphore::new(1)),
    });
    let served_view = Arc::clone(&view);
    let (listener, address) = bind(config.listen).await?;
    let tls = tls::server_config(keys.tls_chain, keys.tls_key).map_err(RunError::Tls)?;

    let forecasting = spawn("forecaster", move || forecaster.run())?;
    let stopped = stop.clone();
    let replaying =
        Replaying { hosts: view.hosts(), rules: config.rules, timing: config.timing, now_ms: clock.now_ms() };
    let replaying = spawn("replay", move || replay(&replaying, replay_reader.as_ref(), &feed, &stopped))?;
    let (failed, writer_failed) = tokio::sync::oneshot::channel();
    let writing = spawn("writer", move || {
        let _nobody = failed.send(writer.run(commands)).is_err();
    })?;
    let beside = run_beside(deliveries, (planner(&app), teller), queue, &stop);
    tracing::info!(%address, deployment = %app.deployment, "listening");
    listening(address);
    service::ready(&format!("serving {address}"));
    let serving = api::serve(listener, tls, api::router(app), (config.connections_max, served_view), stop.clone());
    let outcome = serve(serving, writer_failed, &stop).await;
    stop.cancel();
    beside.wait().await;
    join([("writer", writing), ("replay", replaying), ("forecaster", forecasting)]).await?;
    outcome
}

/// Serves until that ends, or until the writer fails: then nothing is taken any more that could not be kept.
async fn serve(
    serving: impl Future<Output = Result<(), ServeError>>,
    mut writer_failed: tokio::sync::oneshot::Receiver<Result<(), WriterError>>,
    stop: &CancellationToken,
) -> Result<(), RunError> {
    tokio::pin!(serving);
    tokio::select! {
        served = serving.as_mut() => served.map_err(RunError::Serve),
        failure = &mut writer_failed => {
            stop.cancel();
            serving.await.map_err(RunError::Serve)?;
            failure.map_err(|_| RunError::Thread("writer")).and_then(|result| result.map_err(RunError::Writer))
        }
    }
}

/// Waits for the threads to end.
async fn join(threads: [(&'static str, std::thread::JoinHandle<()>); 3]) -> Result<(), RunError> {
    let joining = move || {
        for (name, thread) in threads {
            if thread.join().is_err() {
                tracing::error!(name, "a thread ended in a panic");
            }
        }
    };
    tokio::task::spawn_blocking(joining).await.map_err(|_| RunError::Thread("joining"))
}

/// A listener, and where it listens.
async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let failed = |source| RunError::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The models in force and their contest, as they are kept.
fn trial(store: &SqliteStore, state: &mut State, contest: &Contest) -> Result<Trial, LoadError> {
    let models = load_models(store, built_in())?;
    let record = load_record(store, &models)?;
    state.use_models(models);
    Ok(Trial::new(contest.clone(), record))
}

/// The forecaster with its feed, and what readers see of its alarms.
fn forecaster(
    timing: Times,
    trial: Trial,
    (rules, before): (&AlarmRules, ToldBefore),
    (forecasts, queue): (&Forecasts, &Queue),
    clock: Clock,
) -> (Forecaster, Feed, Judged) {
    let alarms = Alarms::new(timing.forecast_step_ms, rules, before);
    let judged = alarms.judged();
    let (forecaster, feed) = Forecaster::new(timing.forecast_step_ms, trial, (alarms, forecasts.clone()), clock);
    (forecaster.keeping(queue.weak()), feed, judged)
}

/// Who makes the plans of changes.
fn planner(app: &App) -> Planner {
    Planner {
        deployment: app.deployment,
        view: Arc::clone(&app.view),
        ground: app.ground.clone(),
        usual: app.previews.usual().clone(),
        queue: app.queue.clone(),
        clock: app.clock,
        step_ms: app.timing.forecast_step_ms,
        watched: app.watched.clone(),
        left_out: app.left_out.clone(),
    }
}

/// Starts what runs beside the routes: ticks, signs of life for the service manager, the workers of the webhooks.
fn run_beside(
    deliveries: Vec<Delivery>,
    (planner, teller): (Planner, Teller),
    queue: Queue,
    stop: &CancellationToken,
) -> TaskTracker {
    let tasks = TaskTracker::new();
    tasks.spawn(service::tell_life(queue.clone(), stop.clone()));
    tasks.spawn(tick(queue, stop.clone()));
    tasks.spawn(planner.run(stop.clone()));
    tasks.spawn(teller.run(stop.clone()));
    for delivery in deliveries {
        tasks.spawn(delivery.run(stop.clone()));
    }
    tasks.close();
    tasks
}

/// The clock, not before the newest leaf.
fn clock_after(store: &dyn Reader) -> Result<Clock, StoreError> {
    let newest = match store.leaf_count()?.checked_sub(1) {
        Some(number) => store.leaf(number)?.and_then(|leaf| Leaf::from_bytes(&leaf).ok()).map_or(0, |leaf| leaf.at_ms),
        None => 0,
    };
    let wall = Clock::system(0).now_ms();
    if newest > wall {
        let behind_s = (newest - wall) / 1000;
        tracing::warn!(behind_s, "the wall clock is behind the audit log: time goes on from the log's newest leaf");
    }
    Ok(Clock::system(newest))
}

fn spawn(name: &'static str, work: impl FnOnce() + Send + 'static) -> Result<std::thread::JoinHandle<()>, RunError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(|_| RunError::Thread(name))
}

async fn tick(queue: Queue, stop: CancellationToken) {
    let mut interval = tokio::time::interval(Duration::from_secs(1));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = interval.tick() => queue.tick(),
        }
    }
}

/// The model that this program was built with.
fn built_in() -> Option<Arc<quotary_models::Model>> {
    match quotary_models::shipped() {
        Ok(model) => Some(Arc::new(model)),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the model cannot be used: EWMA answers");
            None
        }
    }
}

fn started_leaf(view: &View, clock: Clock, configuration: Digest) -> Vec<u8> {
    let started =
        Started { version: Name::lossy(env!("CARGO_PKG_VERSION")), configuration, witnessed: view.witnessed() };
    let actor = Text::lossy("verifier");
    Leaf { version: Version, at_ms: clock.now_ms(), actor, decision: Decision::Started(started) }.to_bytes()
}

/// What workers of webhooks tell, and whom they tell how far they have come.
struct Told<'a> {
    deployment: DeploymentId,
    log: &'a Arc<EventLog>,
    queue: &'a Queue,
    clock: Clock,
}

/// A worker for each webhook, at the place where it goes on.
fn deliveries(webhooks: Vec<Webhook>, writer: &mut Writer, told: &Told<'_>) -> Result<Vec<Delivery>, RunError> {
    let keys: Vec<Digest> = webhooks.iter().map(|webhook| webhook.receiver().key()).collect();
    let places = writer.resume_webhooks(&keys).map_err(RunError::Writer)?;
    let Told { deployment, log, queue, clock } = told;
    let deliver =
        |(webhook, place)| Delivery::new(webhook, place, *deployment, Arc::clone(log), (*queue).clone(), *clock);
    Ok(webhooks.into_iter().zip(places).map(deliver).collect())
}
