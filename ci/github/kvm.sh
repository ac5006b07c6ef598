#!/usr/bin/env bash
# kvm.sh [DEVICE]: lets the runner's user open /dev/kvm. GitHub's x86-64 runners have KVM, but not for every user.
#
# A runner without KVM is no failure here: nixvm-test says what is wrong when it needs KVM.
set -euo pipefail
device=${1-/dev/kvm}

if [ ! -e "$device" ]; then
    echo "this runner has no $device"
elif [ -r "$device" ] && [ -w "$device" ]; then
    echo "$device can be opened already"
else
    # The rule keeps the mode when udev looks at the device again; the mode is set here, so that nothing waits for udev.
    echo 'KERNEL=="kvm", GROUP="kvm", MODE="0666", OPTIONS+="static_node=kvm"' |
        sudo tee /etc/udev/rules.d/99-nixvm-test-kvm.rules >/dev/null || echo "the rule for udev could not be written"
    sudo chmod 0666 "$device"
    echo "$device can be opened now"
fi
