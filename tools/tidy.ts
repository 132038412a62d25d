/** Taste that neither Biome nor the compiler knows. Each rule says what to do instead. */
interface Rule {
  readonly name: string;
  readonly applies: (path: string) => boolean;
  /** What is wrong with a line, or null. */
  readonly fault: (line: string, path: string) => string | null;
}

/** Where a rule does not hold, and why. Paths are exact. */
export const exceptions: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  "line-length": {},
  leftover: {
    "tools/tidy.ts": "names what it looks for",
    "tools/tidy.test.ts": "shows each fault once",
  },
  "machine-path": {
    "tools/tidy.ts": "names what it looks for",
    "tools/tidy.test.ts": "shows each fault once",
  },
};

const lineLengthMax = 100;

const literals =
  /"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`(?:\\.|[^`\\])*`|\/(?![/*])(?:\\.|[^/\\])+\//g;

const isCode = (path: string) =>
  /\.(?:[cm]?[jt]s|tsx|css|sh)$/.test(path) || /^(?:lode|tools\/bun|\.ci\/run)$/.test(path);

const isText = (path: string) =>
  isCode(path) || /(?:\.(?:md|json|toml|py|html|txt|yaml|yml)|Procfile|LICENSE)$/.test(path);

export const rules: readonly Rule[] = [
  {
    name: "line-length",
    applies: isCode,
    fault: (line, path) => {
      // A lone long word (an address, a pattern) cannot be broken, and what a test feeds in or
      // expects reads best in one piece.
      const counted = /\.test\.ts$/.test(path) ? line.replace(literals, '""') : line;
      if ([...counted].length <= lineLengthMax || !/\s\S/.test(line.trim())) return null;
      return `longer than ${lineLengthMax} characters: break it where a reader would pause`;
    },
  },
  {
    name: "leftover",
    applies: isText,
    fault: (line) => {
      const mark = /\b(?:FIXME|TODO|XXX|HACK)\b/.exec(line)?.[0];
      return mark === undefined ? null : `${mark}: do it, or open an issue and remove the mark`;
    },
  },
  {
    name: "machine-path",
    applies: isText,
    fault: (line) => {
      const paths = /(?:^|[\s"'`(=:])\/(?:work|home\/[a-z]+|root|Users\/[a-z]+)\//i.exec(line);
      const hosts = /\bregistry\.(?:npmjs|yarnpkg)\.|"resolved": "https?:/.exec(line);
      const found = paths?.[0] ?? hosts?.[0];
      if (found === undefined) return null;
      return `"${found.trim()}" exists on one machine: derive it, or take it as an argument`;
    },
  },
];

/** `path:line rule: what is wrong`, for each fault. */
export function tidyFaults(path: string, text: string): readonly string[] {
  const applying = rules.filter(
    (rule) => rule.applies(path) && exceptions[rule.name]?.[path] === undefined,
  );
  if (applying.length === 0) return [];
  return text.split("\n").flatMap((line, index) =>
    applying.flatMap((rule) => {
      const fault = rule.fault(line, path);
      return fault === null ? [] : [`${path}:${index + 1} ${rule.name}: ${fault}`];
    }),
  );
}
