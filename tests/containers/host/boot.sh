#!/bin/sh
# boot.sh ROOT WORK CHECKOUT: in fresh mount, process and network namespaces, make ROOT this machine's file system and
# run dockerd. What it writes goes to WORK; CHECKOUT is /kiln there. It ends with its first process, mounts and all.
set -eu
root=$1 work=$2 checkout=$3
mkdir -p "$work/upper" "$work/overlay" "$work/root" "$work/docker"
mount -t overlay -o "lowerdir=$root,upperdir=$work/upper,workdir=$work/overlay" kiln-host "$work/root"
cd "$work/root"
mkdir -p kiln old var/lib/docker
mount --bind "$checkout" kiln
mount --bind "$work/docker" var/lib/docker # overlay2 does not stand on an overlay
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
pivot_root . old
umount -l /old
echo "nameserver 10.0.2.3" > /etc/resolv.conf # slirp4netns', which asks those that the machine asks
echo "127.0.0.1 localhost kiln-host" > /etc/hosts
hostname kiln-host
ip link set lo up
until ip route show default | grep -q .; do sleep 0.1; done # slirp4netns comes from outside
exec dockerd --bip 172.30.0.1/24 --default-address-pool base=172.31.0.0/16,size=24 --cgroup-parent kiln-containers \
  --exec-opt native.cgroupdriver=cgroupfs > /var/log/dockerd.log 2>&1
