// The programs that other machines get: compiled here from the runtimes that npm has for them. Never run here.
import { spawnSync } from "node:child_process"
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync } from "node:fs"
import { join } from "node:path"

/** File beside dist/decamp, Bun's name of the target, npm's package of its runtime. */
const TARGETS = [
  ["decamp-linux-x64-baseline", "bun-linux-x64-baseline", "@oven/bun-linux-x64-baseline"],
  ["decamp-linux-arm64", "bun-linux-arm64", "@oven/bun-linux-aarch64"],
  ["decamp-darwin-arm64", "bun-darwin-arm64", "@oven/bun-darwin-aarch64"],
]

function run(command, args, cwd) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 2 ** 26 })
  if (error === undefined && status === 0) return stdout
  throw new Error(`${command} ${args.join(" ")} ended with ${status ?? error?.message}\n${stderr ?? ""}`)
}

/** The runtime of the pinned version for another machine; npm checks its digest. */
function runtimeOf(root, packageName, version) {
  const cache = join(root, "node_modules/.cache/decamp-runtimes")
  const runtime = join(cache, `${packageName.replace("@oven/", "")}-${version}`)
  if (existsSync(runtime)) return runtime
  mkdirSync(cache, { recursive: true })
  const folder = mkdtempSync(join(cache, "new-"))
  try {
    const [{ filename }] = JSON.parse(run("npm", ["pack", `${packageName}@${version}`, "--json", "--silent"], folder))
    run("tar", ["-xzf", filename, "package/bin/bun"], folder)
    renameSync(join(folder, "package/bin/bun"), runtime)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
  return runtime
}

/** What `file`(1) would say of the first bytes: ELF's machine (offset 18), Mach-O's cpu type (offset 4). */
function kindOf(path) {
  const head = readFileSync(path).subarray(0, 20)
  if (head.readUInt32BE(0) === 0x7f454c46) return { 0x3e: "ELF x86-64", 0xb7: "ELF aarch64" }[head.readUInt16LE(18)]
  if (head.readUInt32LE(0) === 0xfeedfacf && head.readUInt32LE(4) === 0x0100000c) return "Mach-O arm64"
  return undefined
}

const KINDS = { "linux-x64-baseline": "ELF x86-64", "linux-arm64": "ELF aarch64", "darwin-arm64": "Mach-O arm64" }

/** Compiles every target beside dist/decamp. Answers the exit code. */
export function crossBuild({ root, bun, options }) {
  const { version } = JSON.parse(readFileSync(join(root, "node_modules/bun/package.json"), "utf8"))
  for (const [name, target, packageName] of TARGETS) {
    const runtime = runtimeOf(root, packageName, version)
    const outfile = join("dist", name)
    const where = [`--target=${target}`, `--compile-executable-path=${runtime}`]
    run(bun, ["build", ...options, ...where, "src/main.ts", "--outfile", outfile], root)
    const kind = kindOf(join(root, outfile))
    if (kind !== KINDS[name.replace("decamp-", "")]) throw new Error(`${outfile} is ${kind ?? "no program"}`)
    const megabytes = (statSync(join(root, outfile)).size / 1e6).toFixed(1)
    process.stdout.write(`${outfile}: ${kind}, ${megabytes} MB, made from ${packageName} ${version}, not run here\n`)
  }
  return 0
}
