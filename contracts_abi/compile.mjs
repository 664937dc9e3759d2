// Compiles sources/*.sol into artifacts/*.json. `node compile.mjs [directory]` writes elsewhere, for comparison.
// The same solc and settings give the same bytes on every machine: no metadata hash, no paths in the output.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import solc from "solc";

const here = dirname(fileURLToPath(import.meta.url));
const target = process.argv[2] ?? join(here, "artifacts");
const names = readdirSync(join(here, "sources")).filter((file) => file.endsWith(".sol")).sort();
const sources = Object.fromEntries(names.map((file) => [file, readFileSync(join(here, "sources", file), "utf8")]));

const settings = {
  // The oldest EVM that knows all opcodes used: the code runs on any chain.
  evmVersion: "paris",
  optimizer: { enabled: true, runs: 200 },
  metadata: { bytecodeHash: "none", appendCBOR: false },
};
const input = {
  language: "Solidity",
  sources: Object.fromEntries(Object.entries(sources).map(([file, content]) => [file, { content }])),
  settings: { ...settings, outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
};
const output = JSON.parse(solc.compile(JSON.stringify(input)));
for (const problem of output.errors ?? []) process.stderr.write(problem.formattedMessage + "\n");
if ((output.errors ?? []).length > 0) process.exit(1);

mkdirSync(target, { recursive: true });
for (const file of names) {
  const name = file.replace(/\.sol$/, "");
  const { abi, evm } = output.contracts[file][name];
  const artifact = {
    contract: name,
    compiler: { name: "solc", version: solc.version(), settings },
    source: { file: `sources/${file}`, sha256: createHash("sha256").update(sources[file]).digest("hex") },
    abi,
    bytecode: "0x" + evm.bytecode.object,
  };
  writeFileSync(join(target, `${name}.json`), JSON.stringify(artifact, null, 2) + "\n");
}

if (process.argv[2] === undefined) {
  const list = join(here, "SOURCES.toml");
  const renewed = readFileSync(list, "utf8").replace(/path = "(.*)"\nsha256 = ".*"/g, (_, path) => {
    const sha256 = createHash("sha256").update(readFileSync(join(here, path))).digest("hex");
    return `path = "${path}"\nsha256 = "${sha256}"`;
  });
  writeFileSync(list, renewed);
}
