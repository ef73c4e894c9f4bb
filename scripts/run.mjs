#!/usr/bin/env node
// demo | test | ssh | services | build | check | bench | torture | soak | large | load | versions: installs what is missing, then runs it with the pinned Bun. Plain Node >= 20.
import { spawn, spawnSync } from "node:child_process"
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"
import { crossBuild } from "./cross-build.mjs"

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..")
const BIN = join(ROOT, "node_modules/.bin")
const BUN = join(BIN, "bun")
const BINARY = join(ROOT, "dist/decamp")
const IS_CI = process.env.CI === "true"
/** `npm test`, and the suites that only CI runs. */
const TEST_LIMIT_S = 600
const MATRIX_LIMIT_S = 1800
const TEST_TIMEOUT_MS = 180_000
const COMPILE = [
  "--compile",
  "--bytecode",
  "--format=esm",
  "--minify-syntax",
  "--minify-whitespace",
  "--no-compile-autoload-dotenv",
  "--no-compile-autoload-bunfig",
]

const ACTIONS = {
  build: async (args) => await buildAll(args),
  test: async (args) => await testAll(args, ["unit", "e2e", "fault"], TEST_LIMIT_S),
  agents: async (args) => await testAll(args, ["agent", "agents e2e"], MATRIX_LIMIT_S),
  matrix: async (args) => await testAll(args, ["matrix", "large", "round trips"], MATRIX_LIMIT_S),
  versions: async (args) => await testAll(args, ["versions"], MATRIX_LIMIT_S),
  ssh: async (args) => await testAll(args, ["ssh"], MATRIX_LIMIT_S),
  services: async (args) => await testAll(args, ["services"], MATRIX_LIMIT_S),
  check: async () => await checkAll(),
  demo: async (args) => await withBinary("test/demo/demo.ts", args),
  bench: async (args) => await withBinary("test/bench/bench.ts", args),
  torture: async (args) => await script("test/model/torture.ts", args),
  soak: async (args) => await script("test/round-trip/soak.ts", args),
  large: async (args) => await script("test/large/large.ts", args),
  load: async (args) => await script("test/bench/load.ts", args),
}

/** Starts a program with our terminal and answers its exit code; 128 + n after a signal, as a shell does. */
async function start(command, args, options = {}) {
  const child = spawn(command, args, { cwd: ROOT, stdio: "inherit", ...options })
  return await new Promise((resolve, reject) => {
    child.on("error", reject)
    child.on("close", (code, signal) => resolve(code ?? (signal === "SIGINT" ? 130 : 1)))
  })
}

function fail(message) {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}

function requireMachine() {
  if (process.platform === "win32") fail("decamp does not run on Windows; use it inside WSL 2")
  const [major] = process.versions.node.split(".")
  if (Number(major) < 20) fail(`node ${process.versions.node} is too old: 20 or newer is needed`)
  const git = spawnSync("git", ["--version"], { stdio: "ignore" })
  if (git.error !== undefined || git.status !== 0) fail("git is missing: install it (Debian: apt-get install git)")
}

/** Packages of the lock file that are not installed in the version it names. Optional ones belong to other platforms. */
function isInstalled(folder) {
  const lock = join(folder, "package-lock.json")
  const hidden = join(folder, "node_modules/.package-lock.json")
  if (!existsSync(hidden)) return false
  if (statSync(hidden).mtimeMs >= statSync(lock).mtimeMs) return true
  const wanted = JSON.parse(readFileSync(lock, "utf8")).packages
  const have = JSON.parse(readFileSync(hidden, "utf8")).packages
  return Object.entries(wanted).every(
    ([name, { version, optional, peer }]) => name === "" || optional || peer || have[name]?.version === version,
  )
}

async function install(folder) {
  if (isInstalled(folder)) return
  const where = relative(ROOT, folder) || "."
  process.stderr.write(`installing the packages of ${where} (npm install)\n`)
  // Not `npm ci`: it refuses a lock file without the optional packages of other platforms, and a registry mirror that has none
  // of them makes only such lock files. `--no-save` installs what the lock file says and leaves it as it is.
  const code = await start("npm", ["install", "--no-save", "--no-audit", "--no-fund"], { cwd: folder })
  if (code !== 0) fail(`npm install in ${where} ended with ${code}: see above; it needs the npm registry`)
}

function filesBelow(folder) {
  if (!existsSync(join(ROOT, folder))) return []
  return readdirSync(join(ROOT, folder), { withFileTypes: true }).flatMap((entry) => {
    const path = `${folder}/${entry.name}`
    if (entry.isDirectory()) return entry.name === "node_modules" ? [] : filesBelow(path)
    return [path]
  })
}

function isBuilt() {
  if (!existsSync(BINARY)) return false
  const builtAtMs = statSync(BINARY).mtimeMs
  const sources = [...filesBelow("src"), "package-lock.json", "tsconfig.json", "scripts/run.mjs"]
  return sources
    .filter((path) => !/\.(test|contract)\.ts$/.test(path))
    .every((path) => statSync(join(ROOT, path)).mtimeMs <= builtAtMs)
}

async function build() {
  if (isBuilt()) {
    process.stderr.write("dist/decamp is up to date\n")
    return 0
  }
  return await start(BUN, ["build", ...COMPILE, "src/main.ts", "--outfile", "dist/decamp"])
}

/** `--all`: also the programs of the other machines that a host over SSH may be. */
async function buildAll(args) {
  if (args.some((word) => word !== "--all")) fail("usage: npm run build [-- --all]")
  const code = await build()
  return code === 0 && args.includes("--all") ? crossBuild({ root: ROOT, bun: BUN, options: COMPILE }) : code
}

async function script(path, args) {
  if (!existsSync(join(ROOT, path))) fail(`${path} is missing`)
  return await start(BUN, [path, ...args])
}

async function withBinary(path, args) {
  const code = await build()
  return code === 0 ? await script(path, args) : code
}

/** What one group needs and where it lies; they run one after another, the cheap ones first. */
function testGroups(names) {
  const files = [...filesBelow("src"), ...filesBelow("test")].filter((path) => path.endsWith(".test.ts"))
  const groupOf = (path) => {
    if (/^test\/round-trip\/|\/round-trip\.e2e\.test\.ts$/.test(path)) return "round trips"
    if (/^test\/e2e\/(agents-|one-writer|going-on|session-moves|history-sessions)/.test(path)) return "agents e2e"
    // Whatever starts a real sshd.
    if (/^test\/e2e\/ssh|^src\/provision\/(tunnel|install-binary)\./.test(path)) return "ssh"
    // Whatever starts an S3 server, a Postgres, a sign-in server or a browser.
    if (path.endsWith(".service.test.ts")) return "services"
    if (path.startsWith("test/e2e/")) return "e2e"
    if (path.startsWith("test/fault/")) return "fault"
    if (path.startsWith("test/matrix/")) return "matrix"
    if (path.startsWith("test/large/")) return "large"
    if (path.startsWith("test/versions/")) return "versions"
    return path.endsWith(".agent.test.ts") ? "agent" : "unit"
  }
  return names
    .map((name) => ({ name, files: files.filter((path) => groupOf(path) === name) }))
    .filter((group) => group.files.length > 0)
}

/** Sums of one junit report. A report that is missing means that the run itself broke: one failure. */
function sumsOf(report, exitCode) {
  const head = existsSync(report) ? /<testsuites\b[^>]*>/.exec(readFileSync(report, "utf8"))?.[0] : undefined
  if (head === undefined) return { passed: 0, failed: 1, skipped: 0 }
  const count = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0)
  const failed = count("failures") + count("errors")
  const skipped = count("skipped")
  // A file that can't be loaded ends the run with an error that no test carries.
  return { passed: count("tests") - failed - skipped, failed: failed === 0 && exitCode !== 0 ? 1 : failed, skipped }
}

async function testAll(args, groups, limitS) {
  if ((await build()) !== 0) {
    process.stdout.write("0 passed, 1 failed\n")
    return 1
  }
  const folder = mkdtempSync(join(tmpdir(), "decamp-junit-"))
  const total = { passed: 0, failed: 0, skipped: 0 }
  const startedAtMs = Date.now()
  const times = []
  for (const { name, files } of testGroups(groups)) {
    const groupAtMs = Date.now()
    if (name === "ssh" && !existsSync("/usr/sbin/sshd")) {
      process.stdout.write(
        `\n--- ssh: ${files.length} files skipped: there is no sshd (apt-get install openssh-server)\n`,
      )
      total.skipped += files.length
      continue
    }
    const report = join(folder, `${name}.xml`)
    const paths = files.map((path) => `./${path}`)
    const reporter = ["--reporter=junit", `--reporter-outfile=${report}`]
    process.stdout.write(`\n--- ${name}: ${files.length} files\n`)
    const exitCode = await start(BUN, ["test", `--timeout=${TEST_TIMEOUT_MS}`, ...reporter, ...args, ...paths])
    const sums = sumsOf(report, exitCode)
    for (const key of Object.keys(total)) total[key] += sums[key]
    times.push(`${name} ${closing(sums)} (${seconds(groupAtMs)} s)`)
  }
  rmSync(folder, { recursive: true, force: true })
  return report(total, times, startedAtMs, limitS)
}

function report(total, times, startedAtMs, limitS) {
  const tookS = Number(seconds(startedAtMs))
  const isTooLong = tookS > limitS
  process.stdout.write(`\n${times.join("\n")}\ntests took ${tookS} s (limit ${limitS} s)\n`)
  if (isTooLong) process.stdout.write("the suite took too long\n")
  if (total.skipped > 0 && IS_CI) process.stdout.write("skipped tests fail in CI\n")
  process.stdout.write(`${closing(total)}\n`)
  const isNothing = total.passed === 0 && total.skipped === 0
  const isBad = total.failed > 0 || isNothing || (IS_CI && (total.skipped > 0 || isTooLong))
  return isBad ? 1 : 0
}

function seconds(sinceMs) {
  return ((Date.now() - sinceMs) / 1000).toFixed(1)
}

function closing({ passed, failed, skipped }) {
  return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`
}

async function checkAll() {
  const checks = [
    ["format", join(BIN, "oxfmt"), ["--check", "."]],
    ["lint", join(BIN, "oxlint"), ["--type-aware", "--deny-warnings"]],
    ["types", join(BIN, "tsc"), ["--noEmit"]],
    ["dead code", join(BIN, "knip"), ["--no-progress"]],
    ["architecture", BUN, ["test", "./test/architecture.test.ts"]],
  ]
  let failed = 0
  for (const [name, command, args] of checks) {
    const startedAtMs = Date.now()
    const isGood = (await start(command, args)) === 0
    if (!isGood) failed += 1
    process.stdout.write(`${isGood ? "ok  " : "FAIL"} ${name} (${seconds(startedAtMs)} s)\n`)
  }
  process.stdout.write(`${closing({ passed: checks.length - failed, failed, skipped: 0 })}\n`)
  return failed === 0 ? 0 : 1
}

async function main() {
  const [name = "", ...args] = process.argv.slice(2)
  const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined
  if (action === undefined) fail(`usage: node scripts/run.mjs ${Object.keys(ACTIONS).join("|")}`)
  requireMachine()
  await install(ROOT)
  if (["test", "agents", "ssh", "demo", "bench", "versions", "services"].includes(name)) {
    await install(join(ROOT, "test/agents"))
  }
  if (["services", "check", "load"].includes(name) || args.includes("--team"))
    await install(join(ROOT, "test/services"))
  return await action(args)
}

// Ctrl-C reaches the child too; it decides how to end, and its exit code is ours.
process.on("SIGINT", () => {})
process.exitCode = await main()
