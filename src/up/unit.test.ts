import { expect, test } from "bun:test";
import { systemdUnit } from "./unit.ts";

const options = {
  dataDirectory: "/srv/my lode",
  httpPort: 80,
  httpsPort: 443,
  apiPort: 4600,
  domain: "apps.example.org",
  releasesKept: 10,
  readyMax: 16,
  demo: false,
};

test("the unit starts lode with every option and leaves apps alone on stop", () => {
  const unit = systemdUnit("/usr/local/bin/lode", options);
  expect(unit).toContain(
    'ExecStart=/usr/local/bin/lode up --data-dir "/srv/my lode" --http-port 80 ' +
      "--https-port 443 --api-port 4600 --domain apps.example.org --keep-releases 10 --ready 16\n",
  );
  expect(unit).toContain("KillMode=process\n");
});

test("specifiers of systemd are escaped", () => {
  const unit = systemdUnit("/opt/50%/lo$de", options);
  expect(unit).toContain("ExecStart=/opt/50%%/lo$$de up");
});
