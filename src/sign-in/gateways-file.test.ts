/** The list of gateways, which one is in use, and where tokens may go. */
import { afterEach, beforeEach, describe, expect, test } from "bun:test"
import { mkdir, mkdtemp, readFile, rm, stat, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { readCredentials, saveCredentials } from "./credentials.ts"
import { gatewayUrlOf } from "./gateway-url.ts"
import { changeGateways, chosenGateway, gatewayNameOf, placeOfGateway, readGateways } from "./gateways-file.ts"

let home: string
let env: Record<string, string>
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "gateways-"))
  env = { HOME: home }
})
afterEach(async () => await rm(home, { recursive: true, force: true }))

const TEAM = { name: "team", url: "https://decamp.example.com", storeUrl: null }

describe("the address of a gateway", () => {
  test("is kept in one form", () => {
    expect(gatewayUrlOf("https://Decamp.Example.com/")).toBe("https://decamp.example.com")
    expect(gatewayUrlOf("https://example.com:443/decamp//")).toBe("https://example.com/decamp")
    expect(gatewayUrlOf("http://127.0.0.1:7878")).toBe("http://127.0.0.1:7878")
    expect(gatewayUrlOf("http://[::1]:7878/")).toBe("http://[::1]:7878")
  })

  for (const address of [
    "http://decamp.example.com",
    "http://127.0.0.1.example.com",
    "http://localhost.example.com",
    "http://10.0.0.1",
  ]) {
    test(`${address} is another machine in clear text, and refused`, () => {
      expect(() => gatewayUrlOf(address)).toThrow(expect.objectContaining({ code: "not_allowed" }))
    })
  }

  for (const address of ["decamp.example.com", "ftp://x", "https://a:b@x", "https://x/?y", "https://x/#y", ""]) {
    test(`${JSON.stringify(address)} is none`, () => {
      expect(() => gatewayUrlOf(address)).toThrow(expect.objectContaining({ code: "usage" }))
    })
  }
})

describe("which gateway is in use", () => {
  test("is the embedded one while nothing was chosen", async () => {
    expect(await chosenGateway(env, "/")).toEqual({ kind: "embedded" })
  })

  test("is the one that was chosen, unless DECAMP_GATEWAY names another", async () => {
    await changeGateways(env, (now) => ({ ...now, use: "team", gateways: [TEAM] }))
    const team = { kind: "server", ...TEAM } as const
    expect(await chosenGateway(env, "/")).toEqual(team)
    expect(await chosenGateway({ ...env, DECAMP_GATEWAY: "local" }, "/")).toEqual({ kind: "embedded" })
    expect(await chosenGateway({ ...env, DECAMP_GATEWAY: "run/user.sock" }, "/srv")).toEqual({
      kind: "socket",
      socket: "/srv/run/user.sock",
    })
    await changeGateways(env, (now) => ({ ...now, use: "local" }))
    expect(await chosenGateway({ ...env, DECAMP_GATEWAY: "team" }, "/")).toEqual(team)
    expect(await chosenGateway({ ...env, DECAMP_GATEWAY: "https://decamp.example.com/" }, "/")).toEqual(team)
    expect(placeOfGateway(team)).toBe(TEAM.url)
  })

  test("an unknown name is said with those that there are", async () => {
    await changeGateways(env, (now) => ({ ...now, gateways: [TEAM] }))
    const failure = await chosenGateway({ ...env, DECAMP_GATEWAY: "taem" }, "/").catch((error: unknown) => error)
    expect(failure).toMatchObject({ code: "not_found", message: "there is no gateway named taem (local, team)" })
    const unlisted = await chosenGateway({ ...env, DECAMP_GATEWAY: "https://other" }, "/").catch((e: unknown) => e)
    expect(unlisted).toMatchObject({ code: "not_found", hint: "decamp gateway add NAME https://other" })
  })

  test("a file that was damaged, or edited to an address in clear text, is named and nothing is guessed", async () => {
    const path = join(home, ".config/decamp/gateways.json")
    await mkdir(join(home, ".config/decamp"), { recursive: true })
    const clear = { schema: 1, use: "team", gateways: [{ ...TEAM, url: "http://decamp.example.com" }] }
    for (const text of ["{", JSON.stringify(clear)]) {
      await writeFile(path, text)
      const failure = await chosenGateway(env, "/").catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: "damaged_data", message: `${path} can't be read` })
    }
  })

  test("ten changes at once are all kept", async () => {
    const names = Array.from({ length: 10 }, (_, n) => `g${n}`)
    await Promise.all(
      names.map(async (name) =>
        changeGateways(env, (now) => ({
          ...now,
          gateways: [...now.gateways, { name, url: `https://${name}.example.com`, storeUrl: null }],
        })),
      ),
    )
    expect((await readGateways(env)).gateways.map(({ name }) => name).toSorted()).toEqual(names)
  })

  test("local and words that look like paths are no names", () => {
    for (const name of ["local", "", "A", "a/b", "-x", "x".repeat(65)]) {
      expect(() => gatewayNameOf(name)).toThrow(expect.objectContaining({ code: "usage" }))
    }
    expect(gatewayNameOf("team-1.example_x")).toBe("team-1.example_x")
  })
})

describe("what a user signed in with", () => {
  const url = TEAM.url

  test("is readable by its owner only, and is not in the list of gateways", async () => {
    await changeGateways(env, (now) => ({ ...now, gateways: [TEAM] }))
    await saveCredentials(env, { kind: "token", url, token: "canary-1" })
    const folder = join(home, ".local/state/decamp/credentials")
    const [name = ""] = [...new Bun.Glob("*.json").scanSync(folder)]
    expect((await stat(join(folder, name))).mode & 0o777).toBe(0o600)
    expect((await stat(folder)).mode & 0o777).toBe(0o700)
    expect(await readFile(join(home, ".config/decamp/gateways.json"), "utf8")).not.toContain("canary-1")
    expect(await readCredentials(env, url)).toEqual({ kind: "token", url, token: "canary-1" })
    expect(await readCredentials(env, `${url}/other`)).toBeNull()
  })

  test("a file of it that was moved to another address is not shown there, and its text is in no error", async () => {
    const [mine, other] = [url, "https://other.example.com"]
    await saveCredentials(env, { kind: "token", url: mine, token: "canary-2" })
    await saveCredentials(env, { kind: "token", url: other, token: "canary-3" })
    const folder = join(home, ".local/state/decamp/credentials")
    const files = [...new Bun.Glob("*.json").scanSync(folder)].map((name) => join(folder, name))
    const texts = await Promise.all(files.map(async (path) => await readFile(path, "utf8")))
    await Promise.all(files.map(async (path, n) => await writeFile(path, texts[1 - n] ?? "")))
    for (const at of [mine, other]) {
      const failure = await readCredentials(env, at).catch((error: unknown) => error)
      expect(failure).toMatchObject({ code: "damaged_data", hint: "decamp login" })
      expect(Bun.inspect(failure)).not.toContain("canary")
    }
  })
})
