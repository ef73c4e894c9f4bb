/** A registry of npm packages on loopback, for the real npm: `npm_config_registry` leads there. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"

export interface TestPackage {
  readonly name: string
  readonly version: string
  readonly program: string
  /** What runs as the program: a shell script's body. */
  readonly script: string
  /** Operating systems, as in package.json. */
  readonly os?: readonly string[]
}

export interface Registry extends AsyncDisposable {
  readonly url: string
  /** Paths that were asked for. */
  readonly asked: string[]
  /** Adds or replaces the one version that a package has. */
  publish(each: TestPackage): Promise<void>
}

export async function startRegistry(): Promise<Registry> {
  const folder = await mkdtemp(join(tmpdir(), "decamp-npm-"))
  const asked: string[] = []
  const packages = new Map<string, { readonly facts: object; readonly tarball: Uint8Array }>()
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch(request) {
      const path = decodeURIComponent(new URL(request.url).pathname.slice(1))
      asked.push(path)
      const known = packages.get(path.replace(/\.tgz$/, ""))
      if (known === undefined) return Response.json({ error: "Not found" }, { status: 404 })
      return path.endsWith(".tgz") ? new Response(known.tarball) : Response.json(known.facts)
    },
  })
  const url = `http://127.0.0.1:${server.port}`
  return {
    url,
    asked,
    async publish({ name, version, program, script, os }) {
      const tarball = await packed(folder, { name, version, program, script, ...(os === undefined ? {} : { os }) })
      const integrity = `sha512-${new Bun.CryptoHasher("sha512").update(tarball).digest("base64")}`
      const dist = { tarball: `${url}/${encodeURIComponent(name)}.tgz`, integrity }
      const manifest = { name, version, bin: { [program]: "run.sh" }, dist, ...(os === undefined ? {} : { os }) }
      packages.set(name, {
        tarball,
        facts: { name, "dist-tags": { latest: version }, versions: { [version]: manifest } },
      })
    },
    async [Symbol.asyncDispose]() {
      await server.stop(true)
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function packed(folder: string, each: TestPackage): Promise<Uint8Array> {
  const { name, version, program, script, os } = each
  const source = join(folder, crypto.randomUUID(), "package")
  await mkdir(source, { recursive: true })
  const manifest = { name, version, bin: { [program]: "run.sh" }, ...(os === undefined ? {} : { os }) }
  await writeFile(join(source, "package.json"), JSON.stringify(manifest))
  await writeFile(join(source, "run.sh"), `#!/bin/sh\n${script}\n`, { mode: 0o755 })
  const file = join(source, "..", "it.tgz")
  // npm dates every file alike.
  const made = Bun.spawnSync(["tar", "-czf", file, "--mtime=@499162500", "-C", join(source, ".."), "package"])
  if (!made.success) throw new Error(made.stderr.toString())
  return await Bun.file(file).bytes()
}
