import { afterAll, afterEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, readdir, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { hostHelloSchema, type HostHello } from "../protocol/gateway-api.ts"
import { newHostId } from "../protocol/ids.ts"
import { newToken } from "./daemon.ts"
import { hostEnvironment, localProvisioner } from "./local.ts"
import type { HostConnection, HostPlace, Provisioner } from "./provisioner.ts"

const base = await mkdtemp(join(tmpdir(), "decamp-local-"))
const SELF = [process.execPath, join(import.meta.dir, "../main.ts")]
const made: { provisioner: Provisioner; place: HostPlace }[] = []
afterEach(async () => {
  for (const { provisioner, place } of made.splice(0)) await provisioner.destroy(place)
})
afterAll(async () => await rm(base, { recursive: true, force: true }))

/** Asks the daemon who it is; null when it refuses the token. */
async function hello({ socket, token }: HostConnection): Promise<HostHello | null> {
  const headers = { authorization: `Bearer ${token}` }
  const response = await fetch("http://decamp/hello", { unix: socket, headers })
  return response.status === 401 ? null : hostHelloSchema.parse(await response.json())
}

const provisionerOf = (selfArgv: readonly string[] = SELF, gatewaySocket = join(base, "gw.sock")): Provisioner =>
  localProvisioner({
    selfArgv,
    gatewaySocket,
    gatewayUrl: null,
    storeUrl: null,
    env: { ...process.env, OPENCODE_DB: "/caller", GIT_DIR: "/caller" },
  })

async function create(provisioner: Provisioner, root: string, name = "box") {
  const spec = { host: newHostId(), name, root, token: newToken(), adopt: false, isKnown: false, tell: () => {} }
  const place = { host: spec.host, name, root }
  const id = await provisioner.create(spec)
  made.push({ provisioner, place })
  return { id, spec, place }
}

test("a host is made, started, asked, stopped and started again as the same host", async () => {
  const root = join(base, "one")
  const provisioner = provisionerOf()
  const { id, place } = await create(provisioner, root)
  expect(await provisioner.status(place)).toBe("stopped")
  const connection = await provisioner.connect(place)
  const first = await hello(connection)
  expect(first?.host).toBe(id)
  expect(await hello({ ...connection, token: newToken() })).toBeNull()
  expect(await provisioner.status(place)).toBe("running")
  expect(await provisioner.stop(place)).toBe(true)
  expect(await provisioner.status(place)).toBe("stopped")
  expect(await provisioner.stop(place)).toBe(false)
  await expect(hello(connection)).rejects.toThrow()
  expect((await hello(await provisioner.connect(place)))?.incarnation).toBe(first?.incarnation)
}, 30_000)

test("two that connect at once start one daemon; a daemon that was killed is started again", async () => {
  const provisioner = provisionerOf()
  const { place } = await create(provisioner, join(base, "twice"))
  await Promise.all([provisioner.connect(place), provisioner.connect(place), provisionerOf().connect(place)])
  expect(await provisioner.stop(place)).toBe(true)
  expect(await provisioner.status(place)).toBe("stopped")
  await provisioner.connect(place)
  process.kill(Number(await Bun.file(join(place.root, "state", "daemon.pid")).text()), "SIGKILL")
  while ((await provisioner.status(place)) === "running") await Bun.sleep(10)
  expect((await hello(await provisioner.connect(place)))?.protocol).toBe(1)
}, 30_000)

test("its folders and files are private, and a root that is made again keeps its id", async () => {
  const root = join(base, "private")
  const provisioner = provisionerOf()
  const first = await create(provisioner, root)
  for (const folder of ["", "home", "work", "state"]) expect((await stat(join(root, folder))).mode & 0o777).toBe(0o700)
  expect((await stat(join(root, "state", "host.json"))).mode & 0o777).toBe(0o600)
  expect((await create(provisioner, root, "renamed")).id).toBe(first.id)
})

test.each([
  ["a folder with something in it", "full"],
  ["a file", "file"],
  ["the root of another gateway's host", "foreign"],
  ["a relative path", "../relative"],
  ["a path with dots", "a/../b"],
  ["the whole machine", "/"],
])("%s does not become a root, and nothing in it changes", async (_, name) => {
  const root = name === "/" ? "/" : name.startsWith("..") ? name : `${base}/${name}`
  if (name === "full") {
    await mkdir(root)
    await writeFile(join(root, "mine"), "x")
  }
  if (name === "file") await writeFile(root, "x")
  if (name === "foreign") await create(provisionerOf(SELF, join(base, "other.sock")), root)
  const before = name === "full" ? await readdir(root) : []
  const spec = { host: newHostId(), name: "box", root, token: newToken(), adopt: false, isKnown: false, tell: () => {} }
  await expect(provisionerOf().create(spec)).rejects.toMatchObject({ code: "usage" })
  if (name === "full") expect(await readdir(root)).toEqual(before)
})

test("a daemon that can't start is unreachable, and the message says where to look", async () => {
  const provisioner = provisionerOf(["/bin/false"])
  const { place } = await create(provisioner, join(base, "broken"))
  const failure = provisioner.connect(place)
  await expect(failure).rejects.toMatchObject({ code: "unreachable", hint: expect.stringContaining("daemon.log") })
})

test("a root that was deleted is gone", async () => {
  const provisioner = provisionerOf()
  const { place } = await create(provisioner, join(base, "deleted"))
  await rm(place.root, { recursive: true })
  expect(await provisioner.status(place)).toBe("gone")
  await expect(provisioner.connect(place)).rejects.toMatchObject({ code: "unreachable" })
})

test("a process that only has the daemon's old id is left alone", async () => {
  const provisioner = provisionerOf()
  const { place } = await create(provisioner, join(base, "reused"))
  const other = Bun.spawn(["sleep", "30"])
  await writeFile(join(place.root, "state", "daemon.pid"), String(other.pid))
  expect(await provisioner.stop(place)).toBe(false)
  expect(other.exitCode).toBeNull()
  other.kill()
})

test("of the caller's environment a host gets what is on the list, and a HOME of its own", () => {
  const env = hostEnvironment(
    {
      PATH: "/bin",
      LANG: "C",
      LC_ALL: "C",
      TZ: "UTC",
      TMPDIR: "/t",
      https_proxy: "p",
      HOME: "/me",
      XDG_DATA_HOME: "/x",
      SSH_AUTH_SOCK: "/s",
      GIT_DIR: "/g",
      CLAUDE_CONFIG_DIR: "/c",
      CODEX_HOME: "/c",
      LD_PRELOAD: "/l",
    },
    "/root-of-it",
  )
  expect(env).toEqual({
    PATH: "/bin",
    LANG: "C",
    LC_ALL: "C",
    TZ: "UTC",
    TMPDIR: "/t",
    https_proxy: "p",
    HOME: "/root-of-it/home",
  })
})
