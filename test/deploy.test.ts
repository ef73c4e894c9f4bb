/** What lies in deploy/, as far as a machine without a container engine can tell: it is parsed, and its settings are given to the gateway. */
import { afterAll, expect, test } from "bun:test"
import { existsSync } from "node:fs"
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { z } from "zod"
import { readSettings } from "../src/gateway/settings.ts"

const ROOT = join(import.meta.dir, "..")
const folder = await mkdtemp(join(tmpdir(), "decamp-deploy-"))
afterAll(async () => await rm(folder, { recursive: true, force: true }))

const textOf = async (path: string): Promise<string> => await readFile(join(ROOT, path), "utf8")

const serviceSchema = z.looseObject({
  image: z.string().optional(),
  build: z.object({ context: z.string(), dockerfile: z.string() }).optional(),
  network_mode: z.string(),
  environment: z.record(z.string(), z.string()).default({}),
  volumes: z.array(z.string()).default([]),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).default({}),
  healthcheck: z.unknown().optional(),
})
const composeSchema = z.object({
  name: z.string(),
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.null()),
})

test("the compose file names only what is there, and its gateway takes its settings", async () => {
  const { services, volumes } = composeSchema.parse(Bun.YAML.parse(await textOf("deploy/compose.yaml")))
  for (const [name, { image, build, volumes: used, depends_on: needs }] of Object.entries(services)) {
    // An image without a version is another one tomorrow.
    expect([name, image === undefined || /:(?!latest)[^/]+$/.test(image)]).toEqual([name, true])
    if (build !== undefined) expect(existsSync(join(ROOT, "deploy", build.context, build.dockerfile))).toBe(true)
    for (const volume of used) {
      const [source = ""] = volume.split(":")
      expect([volume, source.startsWith("./") ? existsSync(join(ROOT, "deploy", source)) : source in volumes]).toEqual([
        volume,
        true,
      ])
    }
    for (const [other, { condition }] of Object.entries(needs)) {
      expect(Object.keys(services)).toContain(other)
      if (condition === "service_healthy") expect(services[other]?.healthcheck).toBeDefined()
    }
  }
  const settings = await readSettings(null, services["gateway"]?.environment ?? {})
  expect(settings).toMatchObject({ listen: { host: "127.0.0.1" }, signIn: { kind: "oidc" }, hosts: [] })
  const dex = z
    .looseObject({ issuer: z.string(), staticClients: z.array(z.looseObject({ id: z.string() })) })
    .parse(Bun.YAML.parse(await textOf("deploy/dex.yaml")))
  expect(settings.signIn).toMatchObject({ issuer: dex.issuer, clientId: dex.staticClients[0]?.id ?? "" })
})

test("the settings to begin with are settings, and the docs name every one and no other", async () => {
  for (const name of ["s3-key-id", "s3-key"]) await writeFile(join(folder, name), "a-secret\n")
  await writeFile(join(folder, "database"), "postgres://decamp:a-secret@db/decamp\n")
  await writeFile(join(folder, "metrics-token"), "t".repeat(40))
  const file = join(folder, "gateway.toml")
  await writeFile(file, (await textOf("deploy/gateway.toml")).replaceAll("/etc/decamp", folder))
  expect(await readSettings(file, {})).toMatchObject({ s3: { bucket: "decamp" }, metricsToken: "t".repeat(40) })
  const schema = /strictObject\(\{([\s\S]*?)\n\}\)/.exec(await textOf("src/gateway/settings.ts"))?.[1] ?? ""
  const keys = [...schema.matchAll(/^ {2}(\w+): /gm)].map(([, key]) => key ?? "")
  const table = (await textOf("docs/gateway.md")).split("## Settings")[1]?.split("\n## ")[0] ?? ""
  const named = [...table.matchAll(/^\| (.*?) \|/gm)].flatMap(([, cell]) =>
    [...(cell ?? "").matchAll(/`(\w+)`/g)].map(([, key]) => key ?? ""),
  )
  expect(named.toSorted()).toEqual(keys.toSorted())
  expect(keys.length).toBeGreaterThan(25)
})

const INSTRUCTION = /^(FROM|WORKDIR|COPY|RUN|USER|ENV|VOLUME|EXPOSE|HEALTHCHECK|STOPSIGNAL|ENTRYPOINT) /

test("the Dockerfile copies what is there, and what it makes does not run as root", async () => {
  const text = (await textOf("deploy/Dockerfile")).replaceAll(/\\\n/g, " ")
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"))
  expect(lines.filter((line) => !INSTRUCTION.test(line))).toEqual([])
  const sources = lines
    .filter((line) => line.startsWith("COPY ") && !line.includes("--from="))
    .flatMap((line) => line.split(" ").slice(1, -1))
  expect(sources.filter((path) => !existsSync(join(ROOT, path)))).toEqual([])
  const last = lines.slice(lines.findLastIndex((line) => line.startsWith("FROM ")))
  expect(last.filter((line) => line.startsWith("USER "))).toEqual(["USER decamp"])
  const argv: unknown = JSON.parse(
    last.find((line) => line.startsWith("ENTRYPOINT "))?.slice("ENTRYPOINT ".length) ?? "",
  )
  expect(argv).toEqual(["/usr/local/bin/decamp", "gateway", "serve"])
  const check: unknown = JSON.parse(/CMD (\[.*\])$/m.exec(text)?.[1] ?? "")
  expect(check).toEqual(["/bin/sh", "-c", expect.stringContaining("/readyz")])
})

test("systemd takes the unit", async () => {
  if (Bun.which("systemd-analyze") === null) {
    process.stderr.write("no systemd-analyze: the unit is not checked\n")
    return
  }
  const unit = join(folder, "decamp-gateway.service")
  const text = await textOf("deploy/decamp-gateway.service")
  // Program and user of another machine; everything else as it is.
  await writeFile(unit, text.replaceAll("/usr/local/bin/decamp", "/bin/true").replaceAll("=decamp\n", "=root\n"))
  const child = Bun.spawn(["systemd-analyze", "verify", "--man=no", unit], { stdout: "pipe", stderr: "pipe" })
  expect([await new Response(child.stderr).text(), await child.exited]).toEqual(["", 0])
})

test("the reset script is a script, and asks before it removes anything", async () => {
  const script = join(ROOT, "deploy/reset.sh")
  const child = Bun.spawn(["sh", script], { stdin: new Blob(["no\n"]), stdout: "pipe", env: { PATH: "/usr/bin:/bin" } })
  expect([await new Response(child.stdout).text(), await child.exited]).toEqual([
    expect.stringContaining("nothing was changed"),
    1,
  ])
})
