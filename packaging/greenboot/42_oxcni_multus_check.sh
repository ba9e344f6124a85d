#!/bin/sh
# A greenboot check: whether multus is configured on this node. An update that breaks it is rolled back.
# The limit is in seconds; MicroShift must have started, so it is generous.
limit=${OXCNI_CHECK_LIMIT:-600}
folder=${OXCNI_CHECK_FOLDER:-/etc/cni/net.d}
while :; do
    if systemctl is-active --quiet oxcni-multus-config.service &&
        [ -s "$folder/00-multus.conflist" ] && [ -s "$folder/multus.d/multus.kubeconfig" ]; then
        echo "multus is configured"
        exit 0
    fi
    [ "$limit" -gt 0 ] || break
    limit=$((limit - 5))
    sleep 5
done
echo "multus is not configured: see journalctl -u oxcni-multus-config.service" >&2
exit 1
