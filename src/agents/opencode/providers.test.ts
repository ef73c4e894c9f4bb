import { afterEach, beforeEach, expect, test } from "bun:test"
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { configuredProviders } from "./providers.ts"

let home: string
const write = async (path: string, value: unknown): Promise<void> =>
  await writeFile(join(home, path), typeof value === "string" ? value : JSON.stringify(value))

beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), "decamp-test-"))
  await mkdir(join(home, ".config/opencode"), { recursive: true })
  await mkdir(join(home, ".local/share/opencode"), { recursive: true })
})
afterEach(async () => await rm(home, { recursive: true, force: true }))

test("providers come from the configuration and from logins; opencode's own is always there", async () => {
  expect(await configuredProviders({ HOME: home })).toEqual(["opencode"])
  await write(".config/opencode/opencode.json", { provider: { fake: {} } })
  await write(".local/share/opencode/auth.json", { anthropic: { type: "api", key: "secret" } })
  expect(await configuredProviders({ HOME: home })).toEqual(["anthropic", "fake", "opencode"])
})

test("what can't be told is not guessed", async () => {
  expect(await configuredProviders({ HOME: home, OPENAI_API_KEY: "x" })).toBe(null)
  await write(".config/opencode/opencode.json", "{ // a comment\n}")
  expect(await configuredProviders({ HOME: home })).toBe(null)
})
