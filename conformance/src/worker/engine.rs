//! Runs the steps of a case, one after the other, until one fails.

use super::snapshot::Snapshot;
use super::stop::Stop;
use super::{
    CallRecord, CaseJob, Failure, HOME, Outcome, Status, answered, chained, execute, input, judge, look,
    plugins_folder, reach, runtime, sandbox, search_path,
};
use crate::case::{Call, Kind, Operation, Outcome as Ending, Parallel, Recorded, Step, Unchanged, ValueLook};
use crate::variables::{at_path, expand, expand_text};
use crate::{Result, double, pattern};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is known while a case runs.
pub(crate) struct Engine {
    job: CaseJob,
    /// What the last ADD for (container, interface) answered.
    results: BTreeMap<(String, String), Value>,
    /// For chained plugins: the result of the interface that stands before.
    before: BTreeMap<String, Value>,
    last: Option<CallRecord>,
    /// JSON that the last call printed.
    answer: Value,
    snapshots: BTreeMap<String, Snapshot>,
}

/// Runs a case.
pub(crate) fn run(job: CaseJob) -> Outcome {
    let start = Instant::now();
    let mut engine = Engine {
        job,
        results: BTreeMap::new(),
        before: BTreeMap::new(),
        last: None,
        answer: Value::Null,
        snapshots: BTreeMap::new(),
    };
    let runtime = engine.job.profile.kind == Kind::Runtime;
    let mut ended = sandbox::furnish(&engine.job.plugins, runtime).map_err(Stop::from);
    if ended.is_ok() {
        ended = engine.steps();
        let after = engine.commands(&engine.job.profile.after.clone());
        if ended.is_ok() {
            ended = after.map_err(|(_, stop)| stop);
        }
    }
    let (status, failure) = match ended {
        Ok(()) => (Status::Passed, None),
        Err(Stop::Failed(failure)) => (Status::Failed, Some(*failure)),
        Err(Stop::Broken(message)) => (Status::Broken, Some(Failure { message, ..Failure::default() })),
    };
    let milliseconds = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Outcome { status, failure, milliseconds }
}

impl Engine {
    fn steps(&mut self) -> Result<(), Stop> {
        let case = self.job.case.clone();
        for container in &case.containers {
            sandbox::container(container)?;
        }
        self.commands(&self.job.profile.before.clone()).map_err(|(line, stop)| match stop {
            Stop::Failed(failure) => Stop::Broken(format!("before, {line}: {}", failure.message)),
            broken => broken,
        })?;
        for container in &case.containers {
            self.furnish_container(container)?;
        }
        self.part("given", &case.given)?;
        self.remember(&case.when, &case.then)?;
        self.part("when", &case.when)?;
        self.part("then", &case.then)
    }

    fn commands(&self, lines: &[String]) -> Result<(), (String, Stop)> {
        lines.iter().try_for_each(|line| {
            let run = |line: &str| sandbox::shell(&self.text(line)?).map(drop);
            run(line).map_err(|error| (line.clone(), Stop::Broken(error)))
        })
    }

    /// Puts into a container what the plugin finds there.
    fn furnish_container(&mut self, container: &str) -> Result<()> {
        for line in &self.job.profile.container {
            self.shell_for(line, &(container.to_owned(), String::new()))?;
        }
        if self.job.profile.kind == Kind::Chained {
            let result = chained::stand_before(container, self.job.version)?;
            self.before.insert(container.to_owned(), result);
        }
        Ok(())
    }

    /// Does with a result what the profile has for it.
    fn added(&self, call: &Call) -> Result<()> {
        self.job.profile.added.iter().try_for_each(|line| self.shell_for(line, &self.attachment(call)))
    }

    /// Runs a command line of the profile that is for one attachment.
    fn shell_for(&self, line: &str, attachment: &(String, String)) -> Result<()> {
        let (container, ifname) = attachment;
        let lookup = |name: &str| match name {
            "container" => Some(json!(container)),
            "ifname" => Some(json!(ifname)),
            "address" => answered::value(self.results.get(attachment)?, "address"),
            _ => self.variable(name),
        };
        sandbox::shell(&expand_text(line, &lookup)?).map(drop)
    }

    fn part(&mut self, name: &str, steps: &[Step]) -> Result<(), Stop> {
        for (index, step) in steps.iter().enumerate() {
            if let Err(stop) = self.step(step) {
                let step = format!("{name} {}: {}", index + 1, crate::explain::step(step));
                return Err(match stop {
                    Stop::Failed(mut failure) => {
                        failure.step = step;
                        failure.call = failure.call.or_else(|| self.last.clone());
                        Stop::Failed(failure)
                    }
                    Stop::Broken(error) => Stop::Broken(format!("{step}: {error}")),
                });
            }
        }
        Ok(())
    }

    /// Takes a snapshot of each namespace that a later step compares with how it was.
    fn remember(&mut self, when: &[Step], then: &[Step]) -> Result<()> {
        for step in when.iter().chain(then) {
            if let Step::Unchanged(Unchanged { namespace, .. }) = step
                && !self.snapshots.contains_key(namespace)
            {
                self.snapshots.insert(namespace.clone(), Snapshot::take(namespace)?);
            }
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<(), Stop> {
        match step {
            Step::Call(call) => self.call(call),
            Step::Parallel(parallel) => self.parallel(parallel),
            Step::Runtime(operation) => self.operation(operation),
            Step::Network(network) => Ok(runtime::write_network(&self.expanded(network)?, self.job.version)?),
            Step::Run(run) => look::run(&self.expanded(run)?),
            Step::Double(double) => Ok(double::install(&self.expanded(double)?)?),
            Step::Write(write) => {
                let write: crate::case::Write = self.expanded(write)?;
                let folder = Path::new(&write.path).parent().unwrap_or(Path::new("/"));
                fs::create_dir_all(folder)
                    .and_then(|()| fs::write(&write.path, &write.content))
                    .map_err(|error| Stop::Broken(format!("can't write {}: {error}", write.path)))
            }
            Step::Link(look) => look::link(&self.expanded(look)?),
            Step::Address(look) => look::address(&self.expanded(look)?),
            Step::Route(look) => look::route(&self.expanded(look)?),
            Step::Rule(look) => look::rule(&self.expanded(look)?),
            Step::File(look) => look::file(&self.expanded(look)?),
            Step::Reach(reach) => reach::reach(&self.expanded(reach)?),
            Step::Unchanged(unchanged) => self.unchanged(unchanged),
            Step::Recorded(recorded) => {
                let Recorded { by, calls } = self.expanded(recorded)?;
                let recorded = double::recorded(by.as_deref())?;
                pattern::compare(&calls, &recorded)
                    .map_err(|difference| Stop::differs("the recorded calls differ", difference))
            }
            Step::Value(look) => {
                let ValueLook { of, is } = self.expanded(look)?;
                pattern::compare(&is, &of)
                    .map_err(|difference| Stop::differs("the value differs", difference))
            }
            Step::Distinct(values) => {
                let mut values: Vec<String> = self.expanded(values)?;
                values.sort();
                match values.windows(2).find(|pair| pair[0] == pair[1]) {
                    Some(pair) => Err(Stop::failed(format!("{} was given twice", pair[0]))),
                    None => Ok(()),
                }
            }
        }
    }

    /// A step with its variables replaced.
    fn expanded<T: serde::Serialize + serde::de::DeserializeOwned>(&self, step: &T) -> Result<T> {
        let value = serde_json::to_value(step).map_err(|error| error.to_string())?;
        let value = expand(&value, &|name| self.variable(name))?;
        serde_json::from_value(value).map_err(|error| error.to_string())
    }

    fn text(&self, text: &str) -> Result<String> {
        expand_text(text, &|name| self.variable(name))
    }

    fn variable(&self, name: &str) -> Option<Value> {
        match name {
            "plugins" => return Some(json!(plugins_folder())),
            "unique" => return Some(json!(self.job.unique)),
            "doubles" => return Some(json!(double::FOLDER)),
            "dir" => return Some(json!(format!("{HOME}/files"))),
            "network" => return Some(json!(input::NETWORK)),
            "version" => return Some(json!(self.job.version)),
            "type" => return Some(json!(self.job.profile.plugin)),
            "last" => return Some(self.answer.clone()),
            _ => {}
        }
        if let Some(path) = name.strip_prefix("file:") {
            return fs::read_to_string(path).ok().map(Value::from);
        }
        let (who, what) = name.split_once('.')?;
        if who == "recorded" {
            return at_path(&double::recorded(None).ok()?, what).cloned();
        }
        if who == "last" {
            return at_path(&self.answer, what).cloned();
        }
        let (container, ifname) = who.split_once('/').unwrap_or((who, &self.job.profile.ifname));
        if let Some(path) = what.strip_prefix("link.") {
            let links = look::links(container).ok()?;
            return at_path(links.iter().find(|link| link["ifname"] == ifname)?, path).cloned();
        }
        match what {
            "netns" => return Some(json!(format!("{}/{container}", sandbox::NAMESPACES))),
            "id" => return Some(json!(input::container_id(container))),
            _ => {}
        }
        if let Some(path) = what.strip_prefix("before.") {
            return at_path(self.before.get(container)?, path).cloned();
        }
        answered::value(self.results.get(&(container.to_owned(), ifname.to_owned()))?, what)
    }

    fn unchanged(&self, unchanged: &Unchanged) -> Result<(), Stop> {
        let Unchanged { namespace, except } = self.expanded(unchanged)?;
        let before = self.snapshots.get(&namespace).ok_or_else(|| "there is no snapshot".to_owned())?;
        let differences = before.differences(&Snapshot::take(&namespace)?, &except)?;
        if differences.is_empty() {
            return Ok(());
        }
        Err(Stop::Failed(Box::new(Failure {
            message: format!("{namespace} is not as it was: - was there before, + is there now"),
            expected: "no difference".to_owned(),
            actual: differences.join("\n"),
            ..Failure::default()
        })))
    }

    /// Program, environment and standard input of a call.
    fn prepare(&self, call: &Call) -> Result<(std::path::PathBuf, BTreeMap<String, String>, String)> {
        let netns = format!("{}/{}", sandbox::NAMESPACES, call.container);
        let mut env = input::attachment_environment(call, &self.job.profile, &netns, &search_path());
        for (name, value) in &call.env {
            match value {
                Some(value) => drop(env.insert(name.clone(), self.text(value)?)),
                None => drop(env.remove(name)),
            }
        }
        let stdin = match &call.stdin {
            Some(text) => self.text(text)?,
            None => {
                let previous = self.prev_result(call);
                let config = input::request(call, &self.job.profile, self.job.version, previous);
                let lookup = |name: &str| match name {
                    "container" => Some(json!(call.container)),
                    "ifname" => Some(json!(self.attachment(call).1)),
                    "number" => Some(json!(input::number(&self.attachment(call)))),
                    _ => self.variable(name),
                };
                expand(&config, &lookup)?.to_string()
            }
        };
        let plugin = call.plugin.as_deref().unwrap_or(&self.job.profile.plugin);
        Ok((plugins_folder().join(self.text(plugin)?), env, stdin))
    }

    fn attachment(&self, call: &Call) -> (String, String) {
        (call.container.clone(), call.ifname.as_ref().unwrap_or(&self.job.profile.ifname).clone())
    }

    fn prev_result(&self, call: &Call) -> Option<Value> {
        if let Some(given) = &call.prev_result {
            return (given != "none").then(|| given.clone());
        }
        let standing = self.before.get(&call.container);
        match call.command.as_str() {
            "ADD" => standing.cloned(),
            "DEL" | "CHECK" => self.results.get(&self.attachment(call)).or(standing).cloned(),
            _ => None,
        }
    }

    fn call(&mut self, call: &Call) -> Result<(), Stop> {
        let (program, env, stdin) = self.prepare(call)?;
        let record = execute::execute(&program, env, &stdin, self.limit())?;
        self.judge(call, record)
    }

    /// Asks the runtime for an operation.
    fn operation(&mut self, operation: &Operation) -> Result<(), Stop> {
        let operation: Operation = self.expanded(operation)?;
        let profile = &self.job.profile;
        let line = profile.commands.get(&operation.command);
        let line = line.ok_or_else(|| format!("the profile has no command for {}", operation.command))?;
        let line =
            expand_text(line, &|name| runtime::variable(&operation, name).or_else(|| self.variable(name)))?;
        let env = runtime::environment(&operation, &profile.ifname);
        let record = execute::execute_line(&line, env, self.limit())?;
        let verdict = runtime::judge(&operation, &record);
        self.last = Some(record);
        verdict
    }

    fn limit(&self) -> Duration {
        Duration::from_secs_f64(self.job.limit)
    }

    /// Keeps what a call answered and compares it with what is expected.
    fn judge(&mut self, call: &Call, record: CallRecord) -> Result<(), Stop> {
        let ipam = self.job.profile.kind == Kind::Ipam;
        let mut call = call.clone();
        call.expect = self.expanded(&call.expect)?;
        let version = call.version.as_ref().and_then(Value::as_str).and_then(|text| text.parse().ok());
        let verdict = judge::judge(&call, &record, version.unwrap_or(self.job.version), ipam);
        self.answer = serde_json::from_str(&record.stdout).unwrap_or(Value::Null);
        self.last = Some(record);
        if call.command == "ADD" && self.answer.is_object() && call.expect.outcome != Ending::Failure {
            self.results.insert(self.attachment(&call), self.answer.clone());
            if self.last.as_ref().is_some_and(|record| record.exit == Some(0)) {
                self.added(&call)?;
            }
        }
        verdict
    }

    fn parallel(&mut self, parallel: &Parallel) -> Result<(), Stop> {
        let calls: Vec<Call> = (0..parallel.count)
            .map(|index| Call { container: format!("p{index}"), ..parallel.call.clone() })
            .collect();
        for call in &calls {
            if !Path::new(sandbox::NAMESPACES).join(&call.container).exists() {
                sandbox::container(&call.container)?;
                self.furnish_container(&call.container)?;
            }
        }
        let prepared: Vec<_> = calls.iter().map(|call| self.prepare(call)).collect::<Result<_>>()?;
        let limit = self.limit();
        let records: Vec<Result<CallRecord>> = std::thread::scope(|scope| {
            let threads: Vec<_> = prepared
                .into_iter()
                .map(|(program, env, stdin)| {
                    scope.spawn(move || execute::execute(&program, env, &stdin, limit))
                })
                .collect();
            let joined = threads.into_iter().map(|thread| thread.join());
            joined.map(|joined| joined.unwrap_or_else(|_| Err("a thread panicked".to_owned()))).collect()
        });
        for (call, record) in calls.iter().zip(records) {
            self.judge(call, record?)?;
        }
        Ok(())
    }
}
