use super::*;

fn folder() -> (tempfile::TempDir, Folder) {
    let place = tempfile::tempdir().unwrap();
    let folder = Folder::open(place.path()).unwrap();
    (place, folder)
}

fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> =
        folder.names().unwrap().map(|name| name.unwrap().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_file_is_made_once() {
    let (_place, folder) = folder();
    assert!(folder.create("a", b"first", 0o600, None).unwrap());
    assert!(!folder.create("a", b"second", 0o600, None).unwrap());
    assert_eq!(folder.read("a", 100).unwrap().unwrap(), b"first");
    assert_eq!(names(&folder), ["a"]);
}

#[test]
fn without_unnamed_files_a_file_is_made_once_too() {
    let (_place, folder) = folder();
    let create = |contents: &'static [u8]| {
        folder.create_by_name("a", 0o600, move |file| file.write_all(contents)).unwrap()
    };
    assert!(create(b"first"));
    assert!(!create(b"second"));
    assert_eq!(folder.read("a", 100).unwrap().unwrap(), b"first");
    assert_eq!(names(&folder), ["a"]);
}

#[test]
fn without_hard_links_a_file_is_made_once_too() {
    let (_place, folder) = folder();
    let create =
        |contents: &'static [u8]| folder.create_in_place("a", 0o600, move |file| file.write_all(contents));
    assert!(create(b"first").unwrap());
    assert!(!create(b"second").unwrap());
    assert_eq!(folder.read("a", 100).unwrap().unwrap(), b"first");
    folder.remove("a").unwrap();
    let full = |_: &mut File| Err(io::ErrorKind::StorageFull.into());
    assert!(folder.create_in_place("a", 0o600, full).is_err());
    assert!(names(&folder).is_empty());
}

#[test]
fn a_file_that_could_not_be_filled_does_not_remain() {
    let (_place, folder) = folder();
    let full = |_: &mut File| Err(io::ErrorKind::StorageFull.into());
    assert!(folder.create_by_name("a", 0o600, full).is_err());
    assert!(names(&folder).is_empty());
}

#[test]
fn replacing_leaves_one_file_with_its_mode() {
    let (place, folder) = folder();
    folder.replace("a", b"1", 0o600).unwrap();
    replace(&place.path().join("a"), b"22", 0o600).unwrap();
    assert_eq!(folder.read("a", 100).unwrap().unwrap(), b"22");
    assert_eq!(names(&folder), ["a"]);
    assert_eq!(std::fs::metadata(place.path().join("a")).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn rewriting_takes_any_length() {
    let (_place, folder) = folder();
    for contents in ["10.0.0.9", "10.0.0.8", "10.0.0.10", "::1", "fd00::1"] {
        folder.rewrite("a", contents.as_bytes(), 0o600).unwrap();
        assert_eq!(folder.read("a", 100).unwrap().unwrap(), contents.as_bytes());
        assert_eq!(names(&folder), ["a"]);
    }
}

#[test]
fn overwriting_keeps_the_file_and_takes_any_length() {
    let (place, folder) = folder();
    for contents in ["a longer text", "short", ""] {
        folder.overwrite("a", contents.as_bytes(), 0o600).unwrap();
        assert_eq!(folder.read("a", 100).unwrap().unwrap(), contents.as_bytes());
    }
    assert_eq!(names(&folder), ["a"]);
    std::os::unix::fs::symlink("a", place.path().join("link")).unwrap();
    assert!(folder.overwrite("link", b"x", 0o600).is_err());
}

#[test]
fn a_path_is_not_a_name() {
    let (_place, folder) = folder();
    for name in ["", ".", "..", "../x", "/etc/passwd", "a/b", "a\0b"] {
        assert!(folder.create(name, b"", 0o600, None).is_err(), "{name:?}");
        assert!(folder.replace(name, b"", 0o600).is_err(), "{name:?}");
        assert!(folder.read(name, 1).is_err(), "{name:?}");
        assert!(folder.remove(name).is_err(), "{name:?}");
        assert!(folder.lock(name).is_err(), "{name:?}");
    }
    assert!(names(&folder).is_empty());
}

#[test]
fn reading_is_bounded_and_follows_no_link() {
    let (place, folder) = folder();
    folder.replace("long", &vec![b'x'; 5000], 0o600).unwrap();
    assert_eq!(folder.read("long", 10).unwrap().unwrap().len(), 10);
    assert_eq!(folder.read("long", 3000).unwrap().unwrap().len(), 3000);
    assert_eq!(folder.read("long", 1 << 20).unwrap().unwrap().len(), 5000);
    assert_eq!(folder.read("none", 10).unwrap(), None);
    std::os::unix::fs::symlink("long", place.path().join("link")).unwrap();
    assert!(folder.read("link", 10).is_err());
    assert_eq!(read_bounded(Path::new("/dev/zero"), 2000).unwrap().len(), 2000);
}

#[test]
fn reading_does_not_wait_for_the_writer_of_a_pipe() {
    let (place, folder) = folder();
    nix::unistd::mkfifo(&place.path().join("pipe"), Mode::S_IRWXU).unwrap();
    assert_eq!(folder.read("pipe", 10).unwrap().unwrap(), b"");
    assert_eq!(read_bounded(&place.path().join("pipe"), 10).unwrap(), b"");
}

#[test]
fn a_lock_excludes_others_until_it_is_dropped() {
    let (place, folder) = folder();
    let lock = folder.lock("lock").unwrap();
    let other = File::open(place.path().join("lock")).unwrap();
    assert!(other.try_lock().is_err());
    drop(lock);
    assert!(other.try_lock().is_ok());
}

#[test]
fn attributes_are_kept_where_the_file_system_supports_them() {
    let (_place, folder) = folder();
    folder.create("a", b"", 0o600, Some((c"user.oxcni.test", b"value"))).unwrap();
    let file = folder.open_file("a").unwrap().unwrap();
    let mut buffer = [0; 64];
    if let Err(err) = attribute::set_attribute(&file, c"user.oxcni.test", b"value") {
        assert_eq!(err.raw_os_error(), Some(Errno::EOPNOTSUPP as i32));
        return;
    }
    assert_eq!(attribute(&file, c"user.oxcni.test", &mut buffer), Some(&b"value"[..]));
    assert_eq!(attribute(&file, c"user.oxcni.none", &mut buffer), None);
    assert_eq!(attribute(&file, c"user.oxcni.test", &mut [0; 2]), None);
}

#[test]
fn time_is_set_to_the_nanosecond() {
    let (_place, folder) = folder();
    let time = Timestamp { sec: 1_700_000_000, nsec: 0 }.minus(1);
    assert_eq!(time, Timestamp { sec: 1_699_999_999, nsec: 999_999_999 });
    folder.set_modified(time).unwrap();
    assert_eq!(folder.stat().unwrap().modified, time);
}

#[test]
fn an_error_says_what_to_do() {
    let err = failed("writing", Path::new("/x"), Errno::EROFS.into());
    assert_eq!(err.code(), crate::spec::Code::IO);
    assert!(err.msg().contains("writing /x: "), "{err}");
    assert!(err.to_string().contains("read-only"), "{err}");
}
