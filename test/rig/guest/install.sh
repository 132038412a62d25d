#!/bin/sh
# A hook of mmdebstrap: adds what a machine boots from to the root file system in $1. Debian's
# cloud kernel has its disk drivers as modules, so a small first root loads them; the kernel's own
# package would bring a tool that takes a minute to make one.
set -eu
here=$(cd -- "$(dirname -- "$0")" && pwd -P)
cp "$here/init" "$1/sbin/rig-init"
chmod 755 "$1/sbin/rig-init"
chroot "$1" sh -eu <<'INSIDE'
cd /tmp
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^  Depends: //p')
apt-get -o APT::Sandbox::User=root download "$kernel"
mkdir kernel first
dpkg -x linux-image-*.deb kernel
release=${kernel#linux-image-}
mkdir -p /lib/modules
mv "kernel/lib/modules/$release" /lib/modules/
depmod "$release"
mv "kernel/boot/vmlinuz-$release" /boot/vmlinuz

mkdir -p first/bin first/dev first/proc first/disk
cp /bin/busybox first/bin/
modprobe -aS "$release" --show-depends virtio_pci virtio_blk | awk '!seen[$2]++ { print $2 }' |
  while read -r module; do
    cp "$module" first/
    echo "/bin/busybox insmod /${module##*/}" >> first/load
  done
{
  echo '#!/bin/busybox sh'
  cat first/load
  echo '/bin/busybox mount -t devtmpfs devtmpfs /dev'
  echo 'until [ -b /dev/vda ] && [ -b /dev/vdb ]; do /bin/busybox usleep 10000; done'
  echo '/bin/busybox mount -t ext4 -o noatime /dev/vda /disk'
  echo '/bin/busybox mount -o move /dev /disk/dev'
  echo 'exec /bin/busybox switch_root /disk /sbin/rig-init'
} > first/init
chmod 755 first/init
cd first
find . | busybox cpio -o -H newc > /boot/initrd
rm -rf /tmp/kernel /tmp/first /tmp/linux-image-*.deb
INSIDE
