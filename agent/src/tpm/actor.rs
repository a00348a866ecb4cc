//! The thread that owns the TPM, and the handle through which everyone else speaks to it.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use quotary_common::tpm::PcrSelection as CheckedSelection;
use tokio::sync::oneshot;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::connection::{Connection, Credential, TpmIdentity, TpmStatus};
use super::device::{self, TpmAccess, TpmConfig};
use super::error::TpmError;
use super::quote::{self, PcrSelection, RawQuote};
use super::software::{ChildSlot, SoftwareTpm};

/// Making a software TPM takes 2 s; making an EK on slow hardware, tens of seconds.
const START_DEADLINE: Duration = Duration::from_secs(120);
/// How long a software TPM that refused may take to end: its connection breaks a moment before.
const SOFTWARE_END: Duration = Duration::from_millis(300);
/// swtpm's state is locked until an earlier swtpm, killed with its agent, has gone.
const SOFTWARE_PATIENCE: Duration = Duration::from_secs(5);
const SOFTWARE_PAUSE: Duration = Duration::from_millis(50);
/// How often shutdown looks for room in a full queue.
const QUEUE_POLL: Duration = Duration::from_millis(5);

type Reply<T> = oneshot::Sender<Result<T, TpmError>>;

enum Request {
    Identity(Reply<TpmIdentity>),
    Activate(Credential, Reply<Zeroizing<Vec<u8>>>),
    Quote([u8; 32], CheckedSelection, Reply<RawQuote>),
    Status(Reply<TpmStatus>),
    Shutdown(Reply<()>),
}

/// Speaks to the TPM thread; clones speak to the same one. When the last clone is dropped without
/// [`TpmHandle::shutdown`], the thread still shuts the TPM down in order, but nobody waits for it.
#[derive(Debug, Clone)]
pub struct TpmHandle {
    queue: SyncSender<Request>,
    deadline: Duration,
    capacity: usize,
    child: ChildSlot,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

impl TpmHandle {
    /// Starts the thread and waits until the TPM is open and the AK loaded (a software TPM is made
    /// and started on the way). Must be called within a tokio runtime with time enabled.
    ///
    /// # Errors
    /// Whatever keeps the TPM from being used; the thread has ended then.
    pub async fn start(config: TpmConfig) -> Result<Self, TpmError> {
        let (queue, requests) = sync_channel(config.queue_capacity());
        let (started, has_started) = oneshot::channel();
        let child = ChildSlot::default();
        let (deadline, capacity) = (config.command_deadline(), config.queue_capacity());
        let owner = Owner::new(config, child.clone());
        let thread = std::thread::Builder::new()
            .name("tpm".to_owned())
            .spawn(move || run(owner, &requests, started))
            .map_err(|source| TpmError::Thread { source })?;
        let handle = Self { queue, deadline, capacity, child, thread: Arc::new(Mutex::new(Some(thread))) };
        match timeout(START_DEADLINE, has_started).await {
            Ok(answer) => answer.map_err(|_| TpmError::Stopped)??,
            Err(_) => {
                handle.child.kill();
                return Err(TpmError::Deadline { deadline: START_DEADLINE });
            }
        }
        Ok(handle)
    }

    /// EK, its certificates, and AK.
    ///
    /// # Errors
    /// [`TpmError::Busy`], [`TpmError::Deadline`], or what the TPM says.
    pub async fn identity(&self) -> Result<TpmIdentity, TpmError> {
        self.ask(Request::Identity).await
    }

    /// Opens a credential (TPM2_ActivateCredential): `credential_blob` is a TPM2B_ID_OBJECT and
    /// `encrypted_secret` a TPM2B_ENCRYPTED_SECRET, both with their two-byte size prefixes.
    ///
    /// # Errors
    /// [`TpmError::Input`] if the bytes are malformed, [`TpmError::CredentialRefused`] if the
    /// credential is not for this EK and AK; else as [`TpmHandle::identity`].
    pub async fn activate(
        &self,
        credential_blob: &[u8],
        encrypted_secret: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, TpmError> {
        let credential = Credential::check(credential_blob, encrypted_secret)?;
        self.ask(|reply| Request::Activate(credential, reply)).await
    }

    /// Quotes the selection over `qualifying_data`.
    ///
    /// # Errors
    /// [`TpmError::Input`] or [`TpmError::NoSuchPcr`] if the selection cannot be quoted,
    /// [`TpmError::PcrsMoving`] if it never stood still; else as [`TpmHandle::identity`].
    pub async fn quote(&self, qualifying_data: [u8; 32], selection: &[PcrSelection]) -> Result<RawQuote, TpmError> {
        let selection = quote::check(selection)?;
        self.ask(|reply| Request::Quote(qualifying_data, selection, reply)).await
    }

    /// Lockout, make and version of the TPM.
    ///
    /// # Errors
    /// As [`TpmHandle::identity`].
    pub async fn status(&self) -> Result<TpmStatus, TpmError> {
        self.ask(Request::Status).await
    }

    /// The agent's own swtpm, if it runs now. Does not wait for the TPM.
    #[must_use]
    pub fn software_child_pid(&self) -> Option<u32> {
        self.child.pid()
    }

    /// Lets the TPM answer what was asked before, shuts it down in order (TPM2_Shutdown(Clear)),
    /// ends the software TPM, and joins the thread. Later calls on any clone get
    /// [`TpmError::Stopped`].
    ///
    /// # Errors
    /// [`TpmError::Deadline`] if the TPM hangs; its software child is killed then, and the thread of
    /// a hanging device is left behind. What the TPM said to TPM2_Shutdown, else.
    pub async fn shutdown(&self) -> Result<(), TpmError> {
        let result = timeout(self.deadline, self.ask_to_stop()).await;
        let Ok(result) = result else {
            self.child.kill();
            return Err(TpmError::Deadline { deadline: self.deadline });
        };
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // The thread has answered and only returns; joining it here makes sure that the kernel has
            // nothing left to do for it. A panic in it has been printed already.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        result
    }

    /// Unlike other requests, this one waits for room in the queue.
    async fn ask_to_stop(&self) -> Result<(), TpmError> {
        let (reply, answer) = oneshot::channel();
        let mut request = Request::Shutdown(reply);
        loop {
            match self.queue.try_send(request) {
                Ok(()) => break,
                Err(TrySendError::Disconnected(_)) => return Err(TpmError::Stopped),
                Err(TrySendError::Full(refused)) => request = refused,
            }
            tokio::time::sleep(QUEUE_POLL).await;
        }
        answer.await.map_err(|_| TpmError::Stopped)?
    }

    async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, TpmError> {
        let (reply, answer) = oneshot::channel();
        self.queue.try_send(request(reply)).map_err(|error| match error {
            TrySendError::Full(_) => TpmError::Busy { capacity: self.capacity },
            TrySendError::Disconnected(_) => TpmError::Stopped,
        })?;
        match timeout(self.deadline, answer).await {
            Ok(answer) => answer.map_err(|_| TpmError::Stopped)?,
            Err(_) => Err(TpmError::Deadline { deadline: self.deadline }),
        }
    }
}

/// The body of the TPM thread.
fn run(mut owner: Owner, requests: &Receiver<Request>, started: Reply<()>) {
    let opened = owner.connection().map(|_| ());
    let failed = opened.is_err();
    if started.send(opened).is_err() || failed {
        return;
    }
    while let Ok(request) = requests.recv() {
        match request {
            Request::Identity(reply) => {
                owner.answer(reply, |connection, _| Ok(connection.identity().clone()));
            }
            Request::Activate(credential, reply) => {
                owner.answer(reply, |connection, _| connection.activate(&credential));
            }
            Request::Quote(data, selection, reply) => {
                owner.answer(reply, |connection, _| connection.quote(&data, &selection));
            }
            Request::Status(reply) => {
                owner.answer(reply, |connection, pid| connection.status(pid));
            }
            Request::Shutdown(reply) => {
                let stopped = owner.stop();
                // Whoever asked may have stopped waiting; the TPM is shut down all the same.
                let _ = reply.send(stopped);
                return;
            }
        }
    }
    if let Err(error) = owner.stop() {
        tracing::warn!(%error, "the TPM was not shut down in order");
    }
}

/// Owns the TPM on its thread; opens it when needed.
struct Owner {
    config: TpmConfig,
    child: ChildSlot,
    software: Option<SoftwareTpm>,
    connection: Option<Connection>,
}

impl Owner {
    fn new(config: TpmConfig, child: ChildSlot) -> Self {
        let software = match config.access() {
            TpmAccess::Software { state_dir, setup_config } => {
                Some(SoftwareTpm::new(state_dir.clone(), setup_config.clone(), child.clone()))
            }
            TpmAccess::Device(_) | TpmAccess::Swtpm { .. } => None,
        };
        Self { config, child, software, connection: None }
    }

    /// Answers one request, unless nobody waits for the answer any more. A failure that may be the
    /// connection's is tried once more over a new one: the TPM may have been reset beneath us.
    fn answer<T>(
        &mut self,
        reply: Reply<T>,
        mut command: impl FnMut(&mut Connection, Option<u32>) -> Result<T, TpmError>,
    ) {
        if reply.is_closed() {
            return;
        }
        let mut result = self.attempt(&mut command);
        if let Err(error) = &result
            && error.spoils_connection()
            && !reply.is_closed()
        {
            let cause = std::error::Error::source(error).map(ToString::to_string);
            tracing::warn!(%error, cause, "connecting to the TPM anew");
            result = self.attempt(&mut command);
        }
        // A caller that has stopped waiting has its deadline error already.
        let _ = reply.send(result);
    }

    fn attempt<T>(
        &mut self,
        command: &mut impl FnMut(&mut Connection, Option<u32>) -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        let pid = self.child.pid();
        let result = self.connection().and_then(|connection| command(connection, pid));
        if result.as_ref().is_err_and(TpmError::spoils_connection) {
            self.connection = None;
        }
        result
    }

    fn connection(&mut self) -> Result<&mut Connection, TpmError> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        Ok(self.connection.insert(connection))
    }

    fn open(&mut self) -> Result<Connection, TpmError> {
        if let Some(software) = &mut self.software {
            return open_software(software, &self.config);
        }
        match device::access_to_tcti(self.config.access()) {
            Ok(Some(tcti)) => Connection::open(tcti, &self.config),
            Ok(None) => Err(TpmError::Stopped),
            Err(detail) => Err(TpmError::Input { what: "the way to the TPM", detail }),
        }
    }

    fn stop(&mut self) -> Result<(), TpmError> {
        let shut_down = self.connection.take().map_or(Ok(()), Connection::shut_down);
        if let Some(software) = &mut self.software {
            software.stop();
        }
        shut_down
    }
}

/// Starts the software TPM and opens it; again and again for a while, as its state may still be
/// locked. One that lives but makes no sense is killed and started anew.
fn open_software(software: &mut SoftwareTpm, config: &TpmConfig) -> Result<Connection, TpmError> {
    let end = Instant::now() + SOFTWARE_PATIENCE;
    loop {
        let error = match software.ensure_running().and_then(|device| {
            let tcti = device::device_tcti(&device)
                .map_err(|detail| TpmError::Input { what: "the software TPM's device", detail })?;
            Connection::open(tcti, config)
        }) {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let is_passing = error.spoils_connection() || matches!(error, TpmError::SoftwareStart { .. });
        if is_passing && Instant::now() < end {
            tracing::debug!(%error, "the software TPM is not ready");
            software.kill();
            std::thread::sleep(SOFTWARE_PAUSE);
            continue;
        }
        return Err(match error {
            TpmError::Connect { source, .. } | TpmError::Command { source, .. }
                if software.ends_within(SOFTWARE_END) =>
            {
                software.does_not_start(Some(source))
            }
            error => error,
        });
    }
}
