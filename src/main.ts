/** Picks the role: CLI, host daemon or gateway. The only file that joins roles; each is loaded only when it runs. */
import { join } from "node:path"

const argv = process.argv.slice(2)

/** How this program starts itself again: the compiled binary alone, or Bun with this file. */
const selfArgv: readonly [string, ...string[]] = import.meta.path.startsWith("/$bunfs/")
  ? [process.execPath]
  : [process.execPath, import.meta.path]

async function main(): Promise<number> {
  if (process.platform === "win32") {
    process.stderr.write("decamp does not run on Windows; use it inside WSL 2\n")
    return 2
  }
  if (argv[0] === "host" && argv[1] === "serve") return leave(await serveHostRole())
  if (argv[0] === "host" && argv[1] !== undefined) {
    const { execRole, hostVerbRole, isHostVerb } = await import("./provision/start.ts")
    if (argv[1] === "exec") return await execRole(argv.slice(2))
    if (isHostVerb(argv[1])) return await hostVerbRole(argv[1], { selfArgv })
  }
  if (argv[0] === "gateway" && argv[1] === "serve") {
    const { gatewayRole } = await import("./gateway/serve.ts")
    return leave(await gatewayRole(argv.slice(2), { selfArgv }))
  }
  if (argv[0] === "hook") {
    const { runHook } = await import("./hook/start.ts")
    return await runHook(argv.slice(1))
  }
  const { runCli } = await import("./cli/start.ts")
  const exitCode = await runCli(argv, { selfArgv })
  if (exitCode !== 130) return exitCode
  // Who pressed Ctrl-C is not kept by a timer of somebody's library.
  for (const stream of [process.stdout, process.stderr]) await new Promise((resolve) => stream.write("", resolve))
  return leave(exitCode)
}

/** A daemon that has closed everything ends at once: idle connections of its clients must not keep it. */
function leave(exitCode: number): never {
  process.exit(exitCode)
}

/** A laptop without a configured gateway carries the gateway in the same process; they talk in-process. */
async function serveHostRole(): Promise<number> {
  const { hostOptions, serveHost } = await import("./host/start.ts")
  const options = await hostOptions(argv.slice(2), process.env)
  if (options.kind === "local" || options.gateway.kind !== "embedded") return await serveHost(options, null, selfArgv)
  const { startEmbeddedGateway } = await import("./gateway/start.ts")
  const gateway = await startEmbeddedGateway({ stateDir: join(options.stateFolder, "gateway"), selfArgv })
  return await serveHost(options, gateway, selfArgv)
}

process.exitCode = await main().catch((error: unknown) => {
  // The CLI says its own errors; this is a daemon that could not start, and its starter reads the log.
  process.stderr.write(`decamp: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`)
  return 1
})
