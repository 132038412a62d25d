// The forty probes as data. What each does is in native/*.c or, for uploads, in supply.ts.

import { patienceMs } from "../harness/pace.ts";

export const groups = ["exhaustion", "escape", "peek and reach", "network", "supply"] as const;
export type Group = (typeof groups)[number];

/** What probes need to know of the stage they run on. */
export interface Surroundings {
  /** A process of the host that must live on. */
  readonly canaryPid: number;
  /** Files of the host, of lode and of the neighbour, as absolute paths. */
  readonly secretPaths: readonly string[];
  /** A file of the host that anybody may write to. */
  readonly canaryFile: string;
  readonly abstractName: string;
  readonly socketPath: string;
  /** `address:port` of lode's API and gateways, of the host and of another app. */
  readonly ports: readonly string[];
  /** An address of the cloud's network that is another app's. */
  readonly otherAddress: string;
  readonly gatewayAddress: string;
  /** A port that nothing of the host listens on. */
  readonly freePort: number;
}

/** How long a probe may take: gateways wait a minute for an answer. */
export const withinSeconds = Math.min(patienceMs(25_000) / 1000, 55);

type Arguments = Readonly<Record<string, string | number>>;

export interface Probe {
  readonly id: string;
  readonly group: Group;
  readonly title: string;
  /** Of the protected run. */
  readonly arguments?: (around: Surroundings) => Arguments;
  /** Keeps up its pressure for as long as it is told to; the others are repeated. */
  readonly bomb?: true;
  readonly control: Control;
}

export interface Control {
  readonly arguments?: (around: Surroundings) => Arguments;
  /** Shell lines before it, in namespaces of its own; `$PROBE` is the program. */
  readonly before?: string;
  /** Instead of running the probe; prints `breach …` itself. */
  readonly instead?: string;
  /** Seen from the host's network, because what it reaches for is there. */
  readonly network?: "host";
}

const mebibyte = 1024 ** 2;
const big = 500 * mebibyte;

const exhaustion: readonly Probe[] = [
  bomb("fork-bomb", "fork bomb"),
  bomb("thread-bomb", "thread bomb"),
  bomb("memory-bomb", "memory bomb", { bytes: big }),
  bomb("memory-files", "memory filled through /tmp, /dev/shm and the socket's folder", {
    bytes: big,
  }),
  bomb("disk-fill", "disk filled", { bytes: 100 * mebibyte }, { directory: "/tmp" }),
  bomb("inode-fill", "disk filled with empty files", { count: 60_000 }, { directory: "/tmp" }),
  bomb("open-files", "open files used up", { count: 10_000 }),
  bomb("cpu-spin", "every core kept busy", { cores: 1.3 }, { cores: 0.3 }),
  {
    ...bomb("log-flood", "log flood", { bytes: 2 ** 40 }),
    control: {
      instead:
        `$PROBE run log-flood bytes=${big} hold=9 > /tmp/log; ` +
        `[ $(stat -c %s /tmp/log) -ge ${big} ] && echo "breach the log has it all"`,
    },
  },
  bomb("kernel-objects", "terminals, inotify instances and ports used up", { count: 3100 }),
];

const escapes: readonly Probe[] = [
  simple("escape", "mount", "mount(2), bind mounts, remounts"),
  simple("escape", "new-mount", "the new mount API"),
  simple("escape", "namespaces", "unshare, clone and setns into namespaces"),
  simple("escape", "clone3", "clone3 into namespaces"),
  simple("escape", "roots", "chroot and pivot_root"),
  simple("escape", "core-pattern", "core_pattern and other settings of the kernel"),
  simple("escape", "kernel-code", "kernel modules and sysrq"),
  {
    ...simple("escape", "setuid-file", "a setuid-root file in its folder"),
    arguments: () => ({ file: "/data/setuid" }),
    control: {
      before: "cp $PROBE /mnt/setuid; chmod 4755 /mnt/setuid",
      instead:
        "setpriv --reuid 65534 --regid 65534 --clear-groups " +
        "$PROBE run setuid-file file=/mnt/setuid",
    },
  },
  simple("escape", "launcher", "the launcher overwritten through /proc/self/exe"),
  {
    ...simple("escape", "planted-link", "links planted for the next start"),
    arguments: ({ canaryFile }) => ({ target: canaryFile }),
    control: {
      instead:
        "echo intact > /tmp/canary; $PROBE run planted-link target=/tmp/canary directory=/tmp; " +
        "echo started > /tmp/http.sock; grep -q intact /tmp/canary || echo breach overwritten",
    },
  },
  simple("escape", "release-agent", "a cgroup's release_agent"),
  {
    ...simple("escape", "devices", "device nodes and files by handle"),
    control: { arguments: () => ({ directory: "/tmp" }) },
  },
];

const peek: readonly Probe[] = [
  simple("peek and reach", "tracing", "ptrace, process_vm_readv, pidfd_getfd"),
  {
    ...simple("peek and reach", "killing", "signals to processes of the host"),
    arguments: ({ canaryPid }) => ({ pid: canaryPid }),
    control: { instead: "sleep 60 & $PROBE run killing pid=$!" },
  },
  {
    ...simple("peek and reach", "others", "files and environment of others"),
    arguments: ({ secretPaths }) => ({ paths: secretPaths.join(",") }),
    control: {
      before: "echo x > /tmp/secret; CANARY_SECRET=x sleep 60 &",
      arguments: () => ({ paths: "/tmp/secret" }),
    },
  },
  simple("peek and reach", "kernel-files", "kcore, kallsyms, keys, devices, the kernel's log"),
  {
    ...simple("peek and reach", "descriptors", "inherited descriptors"),
    control: { instead: "$PROBE run descriptors 9< /var" },
  },
  simple("peek and reach", "terminal", "TIOCSTI and TIOCLINUX, also with high bits"),
  simple("peek and reach", "keys", "keyctl, add_key, request_key"),
  simple("peek and reach", "bpf", "bpf(2)"),
  simple("peek and reach", "userfaultfd", "userfaultfd(2)"),
  simple("peek and reach", "io-uring", "io_uring"),
  simple("peek and reach", "perf", "perf_event_open(2)"),
];

const metadataPort = 8081;

const network: readonly Probe[] = [
  simple("network", "sockets", "raw, packet, AF_ALG, VSOCK and netlink sockets"),
  {
    ...simple("network", "abstract", "abstract sockets and socket files of the host"),
    arguments: ({ abstractName, socketPath }) => ({ name: abstractName, path: socketPath }),
    control: { network: "host" },
  },
  {
    ...simple("network", "lode-ports", "ports of lode, of the host and of other apps"),
    arguments: ({ ports }) => ({ targets: ports.join(",") }),
    control: { network: "host" },
  },
  {
    ...simple("network", "metadata", "the metadata address, in every form and by rebinding"),
    control: {
      before:
        "ip addr add 169.254.169.254/32 dev lo; ip addr add fd00:ec2::254/128 dev lo; " +
        `$PROBE listen 169.254.169.254 ${metadataPort} & ` +
        `$PROBE listen fd00:ec2::254 ${metadataPort} & sleep 0.3`,
      arguments: () => ({ port: metadataPort }),
    },
  },
  {
    ...simple("network", "spoofing", "false source addresses, ports of the host"),
    arguments: ({ otherAddress, gatewayAddress, freePort }) => ({
      ...{ source: otherAddress, target: gatewayAddress, listen: freePort },
    }),
    control: { arguments: () => ({ source: "10.99.99.99", target: "127.0.0.1" }) },
  },
];

/** Hostile uploads and builds: `supply.ts` runs these. */
const supply: readonly Probe[] = [
  {
    ...simple("supply", "archives", "archives with .., absolute names, links, devices, setuid"),
    control: {
      instead:
        "mkdir /tmp/out /tmp/in; cd /tmp/in; /usr/bin/python3 $ARCHIVE /tmp/out; " +
        "tar -xPf evil.tar; [ -c device ] && [ -u setuid ] && " +
        "[ -e ../above ] && [ -e ../out/absolute ] && echo breach unpacked with all its tricks",
    },
  },
  {
    ...simple("supply", "swollen", "bombs and a million entries"),
    control: { instead: `fallocate -l ${big} /tmp/bomb && echo breach the bomb unpacked` },
  },
];

export const probes: readonly Probe[] = [...exhaustion, ...escapes, ...peek, ...network, ...supply];

function simple(group: Group, id: string, title: string): Probe {
  return { group, id, title, control: {} };
}

function bomb(id: string, title: string, some: Arguments = {}, alone: Arguments = {}): Probe {
  return {
    ...{ group: "exhaustion", id, title, bomb: true },
    arguments: () => some,
    control: { arguments: () => ({ ...some, ...alone }) },
  };
}
