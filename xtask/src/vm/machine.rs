//! One run of the virtual machine: QEMU, its ports, and its time limit.

use super::clock::counter_khz;
use super::initrd::Initrd;
use super::job::Job;
use super::kernel::Kernel;
use crate::error::{Context, Failure, Result};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Lines of the machine's console that are shown when it ends badly.
const CONSOLE_TAIL: usize = 25;

/// The command line of the kernel and of systemd. Hardening and watchdogs are off: they are not tested, and cost
/// much in emulation. The file systems are mounted before systemd starts.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 loglevel=4 panic=-1 random.trust_cpu=on tsc=reliable \
     no_timer_check nowatchdog mitigations=off init_on_alloc=0 apparmor=0 audit=0 \
     systemd.unit=oxcni-vm.service systemd.show_status=no systemd.gpt_auto=no fstab=no";

/// How long the machine may take until the command runs, before it counts as hanging.
const BOOT_LIMIT: Duration = Duration::from_secs(300);

/// What a machine is made of.
#[derive(Debug)]
pub(crate) struct Machine {
    pub(crate) kernel: Kernel,
    /// An ext4 image; what is written to it is lost when the machine ends.
    pub(crate) scratch: PathBuf,
    /// The one folder of the host that can be written to from inside.
    pub(crate) results: PathBuf,
    /// Time for boot and command together.
    pub(crate) limit: Duration,
    pub(crate) kvm: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Run {
    /// The command's exit code.
    pub(crate) code: u8,
    /// From starting QEMU to starting the command.
    pub(crate) boot: Duration,
}

/// What the machine reports on its status port.
enum Status {
    Started,
    Exit(u8),
    Broken(String),
}

impl Machine {
    /// Boots, runs the job with its output on ours, and returns when it has ended.
    pub(crate) fn run(&self, job: &Job) -> Result<Run> {
        let folder = tempfile::Builder::new()
            .prefix("oxcni-vm-")
            .tempdir()
            .context(|| "can't make a temporary folder".into())?;
        let folder = folder.path();
        let initrd = folder.join("initrd");
        fs::write(&initrd, self.initrd(job)?).context(|| "can't write the initrd".into())?;
        let listen =
            |name: &str| UnixListener::bind(folder.join(name)).context(|| format!("can't listen on {name}"));
        let (status, stdout, stderr) = (listen("status")?, listen("stdout")?, listen("stderr")?);

        let begun = Instant::now();
        let mut qemu = self
            .qemu(folder, job.is_interactive())
            .spawn()
            .context(|| "can't start qemu-system-x86_64".into())?;
        let (sender, events) = channel();
        let threads = [
            read_status(status, sender),
            copy_to(stdout, std::io::stdout()),
            copy_to(stderr, std::io::stderr()),
        ];
        let outcome = self.follow(&mut qemu, &events, begun, job.is_interactive());
        // QEMU writes all output before the exit code, so nothing is lost by this.
        let _ = qemu.kill();
        let _ = qemu.wait();
        for name in ["status", "stdout", "stderr"] {
            // Wakes a thread that waits for a QEMU that did not start.
            let _ = UnixStream::connect(folder.join(name));
        }
        for thread in threads {
            let _ = thread.join();
        }
        outcome.map_err(|failure| with_console(failure, &folder.join("console")))
    }

    /// Waits for the exit code, the limit or QEMU's end, whichever is first.
    fn follow(
        &self,
        qemu: &mut Child,
        events: &Receiver<Status>,
        begun: Instant,
        interactive: bool,
    ) -> Result<Run> {
        let mut boot = None;
        loop {
            match events.recv_timeout(Duration::from_millis(200)) {
                Ok(Status::Started) => boot = Some(begun.elapsed()),
                Ok(Status::Exit(code)) => return Ok(Run { code, boot: boot.unwrap_or_default() }),
                Ok(Status::Broken(why)) => {
                    return Err(Failure::new(format!("the virtual machine: {why}")));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    let status = qemu.wait().context(|| "can't wait for qemu".into())?;
                    return Err(Failure::new(format!(
                        "the virtual machine ended before its command did ({status})"
                    )));
                }
            }
            let limit = if boot.is_none() { BOOT_LIMIT.min(self.limit) } else { self.limit };
            if begun.elapsed() > limit && !(interactive && boot.is_some()) {
                let what = if boot.is_none() { "boot" } else { "end the command" };
                return Err(Failure::new(format!(
                    "the virtual machine did not {what} within {} s",
                    limit.as_secs()
                )));
            }
        }
    }

    fn initrd(&self, job: &Job) -> Result<Vec<u8>> {
        let mut initrd = Initrd::default();
        for folder in ["bin", "dev", "proc", "sys", "modules"] {
            initrd.folder(folder);
        }
        let busybox = Path::new("/bin/busybox");
        initrd.file("bin/busybox", &read(busybox)?);
        for applet in [
            "sh",
            "mount",
            "insmod",
            "cat",
            "mkdir",
            "ln",
            "cp",
            "ip",
            "hostname",
            "basename",
            "dirname",
            "usleep",
            "switch_root",
            "poweroff",
            "rm",
            "echo",
            "[",
        ] {
            initrd.symlink(&format!("bin/{applet}"), "busybox");
        }
        let mut order = String::new();
        for module in self.kernel.boot_modules()? {
            let name = module.file_name().unwrap_or_default().to_string_lossy().into_owned();
            initrd.file(&format!("modules/{name}"), &read(&module)?);
            order.push_str(&name);
            order.push('\n');
        }
        initrd.file("modules.order", order.as_bytes());
        initrd.file("init", include_bytes!("init.sh"));
        initrd.file("second", include_bytes!("second.sh"));
        initrd.file("second.service", include_bytes!("second.service"));
        initrd.file("job", job.settings(&self.kernel, &self.results, self.limit).as_bytes());
        initrd.file("command", job.script().as_bytes());
        Ok(initrd.finish())
    }

    fn qemu(&self, folder: &Path, interactive: bool) -> Command {
        let mut qemu = Command::new("qemu-system-x86_64");
        let at = |name: &str| folder.join(name).display().to_string();
        // Software emulation by default: with /dev/kvm a stock guest hangs on some machines.
        // Emulation is faster without page tables of five levels, which make each of its many walks
        // longer, a vector state to save at each switch, and string instructions that it repeats
        // byte by byte.
        if self.kvm {
            qemu.args(["-accel", "kvm", "-cpu", "host"]);
        } else {
            qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max,la57=off,-xsave,-avx,-avx2,-erms,-fsrm"]);
        }
        qemu.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-smp", "2", "-m", "2048", "-nic", "none"])
            .arg("-kernel")
            .arg(self.kernel.image())
            .args(["-initrd", &at("initrd"), "-append"])
            .arg(kernel_arguments(self.kvm))
            .args(["-serial", &format!("file:{}", at("console"))])
            .args(["-fsdev", "local,id=host,path=/,security_model=none,multidevs=remap,readonly=on"])
            .args(["-device", "virtio-9p-pci,fsdev=host,mount_tag=host"])
            .arg("-fsdev")
            .arg(format!(
                "local,id=results,path={},security_model=none,multidevs=remap",
                doubled_commas(&self.results)
            ))
            .args(["-device", "virtio-9p-pci,fsdev=results,mount_tag=results"])
            .arg("-drive")
            .arg(format!(
                "file={},format=raw,if=virtio,snapshot=on,cache=unsafe",
                doubled_commas(&self.scratch)
            ))
            .args(["-device", "virtio-serial-pci"]);
        for port in ["status", "stdout", "stderr"] {
            qemu.args(["-chardev", &format!("socket,id={port},path={}", at(port))])
                .args(["-device", &format!("virtserialport,chardev={port},name=oxcni.{port}")]);
        }
        if interactive {
            qemu.args(["-chardev", "stdio,id=terminal,signal=off"])
                .args(["-device", "virtconsole,chardev=terminal"]);
        } else {
            qemu.stdin(Stdio::null());
        }
        qemu
    }
}

/// The kernel's command line. An emulated processor counts with the real one's counter, and is given its rate.
fn kernel_arguments(kvm: bool) -> String {
    match counter_khz() {
        Some(khz) if !kvm => format!("{KERNEL_ARGUMENTS} tsc_early_khz={khz}"),
        _ => KERNEL_ARGUMENTS.to_owned(),
    }
}

/// QEMU's way to write a comma inside a value.
fn doubled_commas(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(|| format!("can't read {}", path.display()))
}

/// Adds the console's last lines to a failure.
fn with_console(failure: Failure, console: &Path) -> Failure {
    let bytes = fs::read(console).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim_end).filter(|l| !l.is_empty()).collect();
    let tail = lines[lines.len().saturating_sub(CONSOLE_TAIL)..].join("\n  ");
    let tail = if tail.is_empty() { "(nothing)" } else { &tail };
    Failure::new(format!("{failure}\nThe last lines of its console:\n  {tail}"))
}

/// Turns the lines of the status port into events.
fn read_status(listener: UnixListener, events: Sender<Status>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Ok((stream, _)) = listener.accept() else { return };
        for line in BufReader::new(stream).lines().map_while(|line| line.ok()) {
            let status = match line.split_once(' ').unwrap_or((&line, "")) {
                ("started", _) => Status::Started,
                ("exit", code) => Status::Exit(code.trim().parse().unwrap_or(u8::MAX)),
                (_, why) => Status::Broken(why.to_owned()),
            };
            if events.send(status).is_err() {
                return;
            }
        }
    })
}

/// Copies what comes through a port to one of our own streams, as it comes.
fn copy_to(listener: UnixListener, mut to: impl Write + Send + 'static) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let Ok((mut stream, _)) = listener.accept() else { return };
        let mut buffer = [0; 16 * 1024];
        while let Ok(count) = stream.read(&mut buffer) {
            if count == 0 || to.write_all(&buffer[..count]).and_then(|()| to.flush()).is_err() {
                return;
            }
        }
    })
}
