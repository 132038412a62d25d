import type { UpOptions } from "./options.ts";

/**
 * A systemd unit for `lode up`. KillMode=process and a SIGTERM on stop leave apps and gateways
 * serving over a restart or an upgrade; Delegate keeps systemd off Lode's cgroups.
 */
export function systemdUnit(command: string, options: UpOptions): string {
  const https = options.httpsPort === null ? [] : ["--https-port", String(options.httpsPort)];
  const start = [
    command,
    "up",
    ...["--data-dir", options.dataDirectory],
    ...["--http-port", String(options.httpPort)],
    ...https,
    ...["--api-port", String(options.apiPort)],
    ...["--domain", options.domain],
    ...["--keep-releases", String(options.releasesKept)],
    ...["--ready", String(options.readyMax)],
  ];
  return `[Unit]
Description=Lode, a Cloud OS
After=network-online.target
Wants=network-online.target

[Service]
Type=exec
ExecStart=${start.map(quoted).join(" ")}
# SIGTERM stops lode alone; its apps and gateways serve on and are adopted by the next start.
# "lode down" ends them too.
KillMode=process
KillSignal=SIGTERM
Restart=always
RestartSec=200ms
Delegate=yes
LimitNOFILE=1048576
TasksMax=infinity
OOMScoreAdjust=-900

[Install]
WantedBy=multi-user.target
`;
}

/** Quotes as systemd.service(5) has it: `%` and `$` doubled, the rest in double quotes. */
function quoted(word: string): string {
  const escaped = word.replaceAll("%", "%%").replaceAll("$", "$$$$");
  return /^[\w./:@%$=-]+$/.test(escaped)
    ? escaped
    : `"${escaped.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
