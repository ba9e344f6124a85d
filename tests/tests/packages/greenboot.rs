//! The health check of microshift-multus-oxcni.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::packages_test;

packages_test! {
    fn the_health_check_wants_the_service_and_both_of_its_files {
        let folder = tempfile::tempdir().unwrap();
        let systemctl = folder.path().join("systemctl");
        fs::write(&systemctl, "#!/bin/sh\n[ -e \"${0%/*}/active\" ] && [ \"$3\" = oxcni-multus-config.service ]\n").unwrap();
        fs::set_permissions(&systemctl, fs::Permissions::from_mode(0o755)).unwrap();
        let check = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/greenboot/42_oxcni_multus_check.sh");
        let net_d = folder.path().join("net.d");
        fs::create_dir_all(net_d.join("multus.d")).unwrap();
        let healthy = || {
            let path = format!("{}:/usr/bin:/bin", folder.path().display());
            let mut check = Command::new(&check);
            check.env("PATH", path).env("OXCNI_CHECK_LIMIT", "0").env("OXCNI_CHECK_FOLDER", &net_d);
            check.output().unwrap().status.success()
        };
        for file in ["active", "net.d/00-multus.conflist", "net.d/multus.d/multus.kubeconfig"] {
            assert!(!healthy(), "without {file}");
            fs::write(folder.path().join(file), "x").unwrap();
        }
        assert!(healthy());
        fs::write(net_d.join("00-multus.conflist"), "").unwrap();
        assert!(!healthy());
    }
}
