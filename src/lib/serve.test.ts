import { afterAll, expect, test } from "bun:test"
import { mkdtemp, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { AppError } from "../protocol/errors.ts"
import { socketPath } from "./platform.ts"
import { serveUnix } from "./serve.ts"

const root = await mkdtemp(join(tmpdir(), "decamp-unix-"))
afterAll(async () => await rm(root, { recursive: true, force: true }))

test("a request that is silent for longer than Bun's 10 s is answered", async () => {
  const path = join(root, "slow.sock")
  const server = await serveUnix(path, async () => {
    await Bun.sleep(13_000)
    return new Response("at last")
  })
  expect(await (await fetch("http://decamp/", { unix: path })).text()).toBe("at last")
  await server.stop(true)
}, 20_000)

test("a socket whose path is too long moves to a private folder, the same for both sides", async () => {
  const folder = join(root, "a-folder-with-a-rather-long-name".repeat(4))
  const path = socketPath(folder, "x.sock")
  expect(Buffer.byteLength(path)).toBeLessThanOrEqual(100)
  expect(socketPath(folder, "x.sock")).toBe(path)
  expect(socketPath(`${folder}2`, "x.sock")).not.toBe(path)
  const server = await serveUnix(path, async () => new Response("here"))
  expect(await (await fetch("http://decamp/", { unix: path })).text()).toBe("here")
  expect((await stat(path)).mode & 0o777).toBe(0o600)
  expect((await stat(join(path, ".."))).mode & 0o777).toBe(0o700)
  await server.stop(true)
  await rm(join(path, ".."), { recursive: true })
})

test("a handler's failure is answered as an error body", async () => {
  const path = join(root, "failing.sock")
  const server = await serveUnix(path, async () => {
    throw new AppError("busy", "not now")
  })
  const answer = await fetch("http://decamp/", { unix: path })
  expect([answer.status, await answer.json()]).toEqual([409, { error: { code: "busy", message: "not now" } }])
  await server.stop(true)
})
