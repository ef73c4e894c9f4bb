// Installs what a task needs and runs it: node scripts/run.mjs demo|test|build|check|bench|torture [arguments]
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join, relative } from "node:path"
import { fileURLToPath } from "node:url"

const root = join(dirname(fileURLToPath(import.meta.url)), "..")
const bun = join(root, "node_modules/.bin/bun")
const binary = join(root, "dist/decamp")
const [task, ...args] = process.argv.slice(2)

function fail(message) {
  console.error(message)
  process.exit(2)
}

function call(command, argv, options = {}) {
  const result = spawnSync(command, argv, { cwd: root, stdio: "inherit", ...options })
  if (result.error) fail(`${command} could not be started: ${result.error.message}`)
  return result.status ?? 1
}

/** `npm ci`, when node_modules is missing or older than its lock file. */
function install(folder) {
  const stamp = join(folder, "node_modules/.package-lock.json")
  const lock = join(folder, "package-lock.json")
  if (existsSync(stamp) && statSync(stamp).mtimeMs >= statSync(lock).mtimeMs) return
  console.error(`installing ${relative(root, folder) || "packages"} (npm ci)`)
  const status = call("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { cwd: folder })
  if (status !== 0) fail(`npm ci failed in ${folder}`)
}

function newest(folder) {
  let latest = 0
  for (const entry of readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) latest = Math.max(latest, statSync(join(entry.parentPath ?? entry.path, entry.name)).mtimeMs)
  }
  return latest
}

/** One file, src/main.ts with everything it imports. A binary that is newer than all its sources is kept. */
function build() {
  const sources = Math.max(newest(join(root, "src")), statSync(join(root, "package-lock.json")).mtimeMs)
  if (existsSync(binary) && statSync(binary).mtimeMs > sources) return 0
  mkdirSync(join(root, "dist"), { recursive: true })
  const options = [
    "--compile",
    "--minify",
    "--bytecode",
    "--no-compile-autoload-dotenv",
    "--no-compile-autoload-bunfig",
  ]
  return call(bun, ["build", ...options, "src/main.ts", "--outfile", binary])
}

const CHECKS = {
  format: ["node_modules/.bin/oxfmt", "--check", "."],
  lint: ["node_modules/.bin/oxlint", "--type-aware", "--deny-warnings"],
  types: ["node_modules/.bin/tsc", "--noEmit"],
  "dead code": ["node_modules/.bin/knip"],
  architecture: [bun, "test", "test/architecture.test.ts"],
}

function check() {
  let passed = 0
  const failed = []
  for (const [name, [command, ...argv]] of Object.entries(CHECKS)) {
    const startedAt = Date.now()
    const isGood = call(command, argv) === 0
    console.log(`${isGood ? "ok  " : "FAIL"} ${name} (${((Date.now() - startedAt) / 1000).toFixed(1)} s)`)
    if (isGood) passed += 1
    else failed.push(name)
  }
  if (failed.length > 0) console.log(`failed: ${failed.join(", ")}`)
  console.log(`checks: ${passed} passed, ${failed.length} failed`)
  return failed.length === 0 ? 0 : 1
}

function testFiles() {
  const found = []
  for (const folder of ["src", "test"]) {
    for (const entry of readdirSync(join(root, folder), { recursive: true })) {
      const path = join(folder, entry)
      if (path.endsWith(".test.ts") && !path.includes("node_modules")) found.push(path)
    }
  }
  const isSlow = (path) => /\.(agent|e2e)\.test\.ts$/.test(path) || /^test\/(e2e|fault)\//.test(path)
  const isModel = (path) => path.startsWith("test/model/")
  return {
    unit: found.filter((path) => !isSlow(path) && !isModel(path)).sort(),
    "hand-off checker": found.filter(isModel).sort(),
    "real agents": found.filter((path) => path.endsWith(".agent.test.ts")).sort(),
    "end to end": found.filter((path) => isSlow(path) && !path.endsWith(".agent.test.ts")).sort(),
  }
}

/** Counts of one junit report: Bun writes them on its outer element. */
function countsOf(report) {
  if (!existsSync(report)) return { tests: 0, failures: 0, skipped: 0 }
  const outer = /<testsuites[^>]*>/.exec(readFileSync(report, "utf8"))?.[0] ?? ""
  const number = (name) => Number(new RegExp(` ${name}="(\\d+)"`).exec(outer)?.[1] ?? 0)
  return { tests: number("tests"), failures: number("failures"), skipped: number("skipped") }
}

function test() {
  if (args.length > 0) return call(bun, ["test", "--timeout", "300000", ...args])
  const total = { passed: 0, failed: 0, skipped: 0 }
  const reports = join(tmpdir(), `decamp-reports-${process.pid}`)
  mkdirSync(reports, { recursive: true })
  for (const [name, files] of Object.entries(testFiles())) {
    if (files.length === 0) continue
    const startedAt = Date.now()
    const report = join(reports, `${name}.xml`)
    const timeout = name === "unit" ? "120000" : "300000"
    const reporter = ["--reporter=junit", `--reporter-outfile=${report}`]
    const status = call(bun, ["test", "--timeout", timeout, ...reporter, ...files.map((file) => `./${file}`)])
    const { tests, failures, skipped } = countsOf(report)
    const failed = status !== 0 && failures === 0 ? 1 : failures
    total.passed += tests - failures - skipped
    total.failed += failed
    total.skipped += skipped
    console.log(
      `suite ${name}: ${tests - failures - skipped} passed, ${failed} failed, ${skipped} skipped in ${((Date.now() - startedAt) / 1000).toFixed(0)} s`,
    )
  }
  rmSync(reports, { recursive: true, force: true })
  const line = `${total.passed} passed, ${total.failed} failed${total.skipped > 0 ? `, ${total.skipped} skipped` : ""}`
  if (process.env.DECAMP_COUNTS)
    writeFileSync(process.env.DECAMP_COUNTS, `${total.passed} ${total.failed} ${total.skipped}\n`)
  console.log(line)
  const isSkippedInCi = process.env.CI === "true" && total.skipped > 0
  if (isSkippedInCi) console.log("a skipped test counts as a failure in CI")
  return total.failed > 0 || total.passed === 0 || isSkippedInCi ? 1 : 0
}

const TASKS = {
  build,
  check,
  test,
  demo: () => call(bun, ["test/demo/demo.ts", ...args]),
  bench: () => call(bun, ["test/bench/bench.ts", ...args]),
  torture: () => call(bun, ["test/model/torture.ts", ...args]),
}

if (process.platform === "win32") fail("decamp does not run on Windows; use it inside WSL 2")
if (!Object.hasOwn(TASKS, task ?? "")) fail("usage: node scripts/run.mjs demo|test|build|check|bench|torture")
if (spawnSync("git", ["--version"]).status !== 0) fail("git is missing: install it (Debian: apt-get install git)")
install(root)
if (task === "test" || task === "demo" || task === "bench") {
  install(join(root, "test/agents"))
  const built = build()
  if (built !== 0) process.exit(built)
}
process.exit(TASKS[task]())
